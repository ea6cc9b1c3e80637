//! Requests that are signed as a whole, and requests with a token that is obtained and renewed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Response as HttpResponse, StatusCode};
use http_body_util::Full;
use sgen_egress::{AccessToken, Auth, LiveScrubber, SendError, SendErrorKind, TokenSource, Tokens};

use crate::kit::*;

const ACCESS_KEY: &str = "AKIDEXAMPLEAKIDX:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn aws() -> Option<Auth> {
    Some(Auth::AwsSigv4 { slot: slot("aws"), region: "eu-central-1".into(), service: "kinesis".into() })
}

#[tokio::test]
async fn an_aws_request_is_signed_over_what_arrives() {
    let downstream = Downstream::ok().await;
    let endpoint = endpoint(downstream.address, |spec| spec.auth = aws(), &[("aws", ACCESS_KEY)]);
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "Kinesis_20131202.PutRecords")];
    endpoint.send(post("/", &headers, "{}")).await.unwrap();
    let seen = downstream.seen().remove(0);
    assert_eq!(seen.header("x-amz-date"), Some("20261123T190000Z"));
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(seen.header("x-amz-content-sha256"), Some(hash));
    let signature = seen.header("authorization").unwrap();
    let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLEAKIDX/20261123/eu-central-1/kinesis/aws4_request, ";
    assert!(signature.starts_with(scope), "{signature}");
    let signed = "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target, ";
    assert!(signature.contains(signed), "{signature}");
}

#[tokio::test]
async fn a_guest_sets_no_part_of_an_aws_signature() {
    let downstream = Downstream::ok().await;
    let endpoint = endpoint(downstream.address, |spec| spec.auth = aws(), &[("aws", ACCESS_KEY)]);
    for request in [
        post("/", &[("X-Amz-Date", "20150830T123600Z")], ""),
        post("/", &[("x-amz-security-token", "mine")], ""),
        post("/", &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")], ""),
        get("/?a=b+c"),
    ] {
        let error = endpoint.send(request).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Denied, "{error}");
    }
    assert!(downstream.seen().is_empty());
}

/// Hands out what it is told to, in turn.
struct Scripted {
    tokens: Mutex<VecDeque<Result<&'static str, SendErrorKind>>>,
    refused: AtomicUsize,
    scrubber: LiveScrubber,
}

impl Scripted {
    fn new(tokens: &[Result<&'static str, SendErrorKind>]) -> Arc<Self> {
        let tokens = Mutex::new(tokens.iter().copied().collect());
        Arc::new(Self { tokens, refused: AtomicUsize::new(0), scrubber: LiveScrubber::default() })
    }

    fn next(&self) -> Option<Result<Arc<AccessToken>, SendError>> {
        let next = self.tokens.lock().unwrap().pop_front()?;
        Some(next.map_err(|kind| SendError::new(kind, "no token")).map(|text| {
            self.scrubber.learn(vec![text.as_bytes().to_vec().into()]).unwrap();
            Arc::new(AccessToken::new(text.as_bytes(), 1).unwrap())
        }))
    }
}

impl TokenSource for Scripted {
    fn token(&self) -> BoxFuture<'_, Result<Arc<AccessToken>, SendError>> {
        Box::pin(async { self.next().unwrap() })
    }

    fn refused(&self, _: Arc<AccessToken>) -> BoxFuture<'_, Result<Option<Arc<AccessToken>>, SendError>> {
        self.refused.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { self.next().transpose() })
    }

    fn scrubber(&self) -> &LiveScrubber {
        &self.scrubber
    }
}

/// A downstream that takes one token, and reflects what it is given.
async fn taking(token: &'static str) -> Downstream {
    Downstream::answering(move |seen| {
        let given = seen.header("authorization").unwrap_or_default().to_owned();
        let status = if given == format!("Bearer {token}") { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        let mut response = HttpResponse::new(Full::new(Bytes::from(given)));
        *response.status_mut() = status;
        response
    })
    .await
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_request_goes_again_as_it_was() {
    for (script, status, requests, refused) in [
        (vec![Ok("token-good")], 200, 1, 0),
        (vec![Ok("token-stale"), Ok("token-good")], 200, 2, 1),
        (vec![Ok("token-stale"), Ok("token-other"), Ok("token-good")], 401, 2, 1),
        (vec![Ok("token-stale")], 401, 1, 1),
    ] {
        let downstream = taking("token-good").await;
        let source = Scripted::new(&script);
        let tokens = Tokens(source.clone());
        let auth = Some(Auth::Token { slot: slot("grant"), tokens });
        let endpoint = endpoint(downstream.address, |spec| spec.auth = auth, &[]);
        let response = endpoint.send(post("/v1/x", &[("x-tag", "1")], "body")).await.unwrap();
        assert_eq!(response.status, status, "{script:?}");
        assert_eq!(response.body, b"Bearer [redacted]", "what was just obtained is scrubbed");
        let seen = downstream.seen();
        assert_eq!((seen.len(), source.refused.load(Ordering::SeqCst)), (requests, refused), "{script:?}");
        assert!(
            seen.iter().all(|seen| seen.body == b"body" && seen.header("x-tag") == Some("1") && seen.uri == "/v1/x")
        );
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_error_says_whose_it_is() {
    for kind in [SendErrorKind::Credential, SendErrorKind::Connect] {
        let downstream = taking("token-good").await;
        for (script, requests) in [(vec![Err(kind)], 0), (vec![Ok("token-stale"), Err(kind)], 1)] {
            let auth = Some(Auth::Token { slot: slot("grant"), tokens: Tokens(Scripted::new(&script)) });
            let endpoint = endpoint(downstream.address, |spec| spec.auth = auth, &[]);
            let error = endpoint.send(get("/")).await.unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (kind, "endpoint api: no token"));
            assert_eq!(downstream.seen().len(), requests);
        }
    }
}
