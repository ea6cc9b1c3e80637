//! Everything that a component can see (its memory, its log, its responses) holds no credential, raw or encoded, even
//! when the downstream sends the credential back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod kit;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::Full;
use kit::{Downstream, Seen, engine, events, grant, load};
use sgen_engine::{Invoker, Limits};

/// A token with characters that every encoding changes.
const TOKEN: &str = "tok/en+with?\"every\\kind~of=char%acter-7731";

fn encodings(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let percent = |upper: bool| -> String {
        bytes
            .iter()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*b).to_string(),
                b if upper => format!("%{b:02X}"),
                b => format!("%{b:02x}"),
            })
            .collect()
    };
    let json = serde_json::to_string(secret).unwrap();
    vec![
        ("raw", bytes.to_vec()),
        ("base64", STANDARD.encode(bytes).into()),
        ("base64 without padding", STANDARD_NO_PAD.encode(bytes).into()),
        ("base64url", URL_SAFE.encode(bytes).into()),
        ("base64url without padding", URL_SAFE_NO_PAD.encode(bytes).into()),
        ("hex", hex::encode(bytes).into()),
        ("upper hex", hex::encode_upper(bytes).into()),
        ("percent", percent(true).into()),
        ("lower percent", percent(false).into()),
        ("JSON", json[1..json.len() - 1].into()),
    ]
}

/// Sends the credential back in every encoding, in the body and in headers that a guest may see.
fn reflect(seen: &Seen) -> http::Response<Full<Bytes>> {
    let token = seen.authorization.strip_prefix("Bearer ").unwrap_or_default();
    let mut body = format!("you sent {:?}\n", seen.authorization).into_bytes();
    for (_, encoded) in encodings(token) {
        body.extend_from_slice(&encoded);
        body.push(b'\n');
    }
    http::Response::builder()
        .header("content-type", "text/plain")
        .header("x-request-id", token)
        .header("etag", format!("\"{}\"", STANDARD.encode(token)))
        .header("set-cookie", format!("token={token}"))
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

fn find(haystack: &[u8], place: &str) {
    for (name, needle) in encodings(TOKEN) {
        assert!(needle.len() >= 20);
        let at = haystack.windows(needle.len()).position(|window| window == needle);
        assert_eq!(at, None, "the credential, {name}, is in {place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_never_holds_the_credential_that_its_requests_carry() {
    let downstream = Downstream::start(reflect).await;
    let engine = engine(Limits { log_lines: 1000, log_bytes: 1 << 20, ..Limits::default() });
    let component = Invoker::new(load(&engine, "memory-dump"), grant(&downstream.base, TOKEN));
    let invocation = component.deliver("{}", &events(3)).await;
    assert_eq!(invocation.result.unwrap().len(), 3);

    let seen = downstream.seen();
    let sent: Vec<&Seen> = seen.iter().filter(|request| request.path == "/echo").collect();
    assert_eq!(sent.len(), 3);
    // The counterpart: the downstream did get the credential, so the search below could find it.
    assert!(sent.iter().all(|request| request.authorization == format!("Bearer {TOKEN}")));

    let mut memory = Vec::new();
    for piece in seen.iter().filter(|request| request.path == "/dump") {
        memory.extend_from_slice(&piece.body);
    }
    assert!(memory.len() > 1 << 20, "only {} bytes of memory", memory.len());
    // The counterpart: what the guest did hold is found in its memory.
    let known = b"you sent";
    assert!(memory.windows(known.len()).any(|window| window == known), "the response is not in the memory dump");

    find(&memory, "the component's memory");
    let log: String = invocation.log.iter().map(|line| format!("{}\n", line.text)).collect();
    assert!(log.contains("you sent") && log.contains("[redacted]"), "{log}");
    find(log.as_bytes(), "the component's log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_header_and_body_is_scrubbed() {
    let downstream = Downstream::start(reflect).await;
    let engine = engine(Limits { log_lines: 1000, log_bytes: 1 << 20, ..Limits::default() });
    let component = Invoker::new(load(&engine, "reflect"), grant(&downstream.base, TOKEN));
    let invocation = component.deliver("{}", &events(2)).await;
    let log: String = invocation.log.iter().map(|line| format!("{}\n", line.text)).collect();
    assert!(log.contains("x-request-id") && !log.contains("set-cookie"), "{log}");
    find(log.as_bytes(), "what a component was given");
}
