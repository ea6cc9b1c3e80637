//! What the downstream reflects is scrubbed before the guest, the log or an error sees it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response as HttpResponse;
use http_body_util::Full;
use sgen_egress::Auth;

use crate::kit::*;

const SECRET: &str = "pat-na1-0123/45+67=\"é";

#[tokio::test]
async fn a_reflected_secret_reaches_the_guest_in_no_spelling() {
    let downstream = Downstream::answering(|seen| {
        let secret = SECRET;
        let body = format!(
            "{secret} {} {} {} {}",
            STANDARD.encode(secret),
            STANDARD.encode(format!("user:{secret}:x")),
            hex::encode(secret),
            seen.uri
        );
        HttpResponse::builder()
            .header("location", format!("https://evil.example{}", seen.uri))
            .header("x-request-id", STANDARD.encode(secret))
            .header("set-cookie", "session=1")
            .header("x-echo", "1")
            .header("X-Vendor-Trace", "trace-1")
            .header("content-type", "text/plain")
            .status(302)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    })
    .await;
    let endpoint = endpoint(
        downstream.address,
        |spec| {
            spec.auth = Some(Auth::Query { slot: slot("token"), name: "key".into() });
            spec.response_headers = vec!["x-vendor-trace".to_owned()];
        },
        &[("token", SECRET)],
    );
    let response = endpoint.send(get("/a?b=c")).await.unwrap();
    assert_eq!(response.status, 302, "a redirect is a response, and not followed");
    assert_eq!(downstream.seen().len(), 1);
    let body = String::from_utf8(response.body).unwrap();
    let fragments: Vec<_> = body.split(' ').collect();
    assert_eq!((fragments[0], fragments[1], fragments[3]), ("[redacted]", "[redacted]", "[redacted]"), "{body}");
    assert!(fragments[2].contains("[redacted]") && fragments[2].len() < 34, "{body}");
    assert_eq!(fragments[4], "/a?b=c&key=[redacted]");
    let mut names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "location", "x-request-id", "x-vendor-trace"]);
    let value = |name: &str| response.headers.iter().find(|(n, _)| n == name).unwrap().1.as_str();
    assert_eq!(value("location"), "https://evil.example/a?b=c&key=[redacted]");
    assert_eq!(value("x-request-id"), "[redacted]");
}

#[tokio::test]
async fn a_secret_of_another_slot_of_the_instance_is_scrubbed_too() {
    let downstream = Downstream::answering(|_| HttpResponse::new(Full::from("the-other-secret"))).await;
    let mut other = open_spec(&format!("http://{}", downstream.address), None);
    (other.name, other.auth) = ("other".to_owned(), Some(Auth::Bearer { slot: slot("other") }));
    let grant = gate(&[downstream.address], std::sync::Arc::default())
        .grant(
            &instance("crm-1"),
            vec![open_spec(&format!("http://{}", downstream.address), None), other],
            credentials(&[("other", "the-other-secret")]),
        )
        .unwrap();
    assert_eq!(opened(&grant).send(get("/")).await.unwrap().body, b"[redacted]");
}

#[tokio::test]
async fn no_error_message_holds_a_secret() {
    let address = raw_answer(format!("HTTP/1.1 200 OK\r\nbad header {SECRET}\r\n\r\n")).await;
    let endpoint = endpoint(address, |spec| spec.auth = bearer(), &[("token", "pat-na1-secret")]);
    for request in [get("/"), get("/pat-na1-secret#"), post("/", &[("pat-na1-secret:", "x")], "")] {
        let error = endpoint.send(request).await.unwrap_err();
        assert!(!error.message.contains("pat-na1-secret"), "{error}");
    }
}
