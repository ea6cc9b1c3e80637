//! Downstreams that hang, reset, flood and lie: each is a classified error, within its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response as HttpResponse;
use http_body_util::Full;
use sgen_egress::{Limits, SendErrorKind, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::*;

const SHORT: Duration = Duration::from_millis(300);

async fn kind_of(answer: impl Into<Vec<u8>>) -> Result<u16, SendErrorKind> {
    let address = raw_answer(answer).await;
    let endpoint = endpoint(address, |spec| spec.max_response = 1000, &[]);
    endpoint.send(get("/")).await.map(|response| response.status).map_err(|error| error.kind)
}

#[tokio::test]
async fn ten_megabytes_are_refused_at_the_cap_announced_or_not() {
    let downstream = Downstream::answering(|_| HttpResponse::new(Full::new(Bytes::from(vec![b'x'; 10_000_000])))).await;
    let announced = endpoint(downstream.address, |spec| spec.max_response = 1 << 20, &[]);
    let error = announced.send(get("/")).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::InvalidResponse);
    assert!(error.message.contains("1048576"), "the cap is named: {error}");
    let endless = raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    })
    .await;
    let error = endpoint(endless, |spec| spec.max_response = 1 << 20, &[]).send(get("/")).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::InvalidResponse);
    let exact = Downstream::answering(|_| HttpResponse::new(Full::new(Bytes::from(vec![b'x'; 1000])))).await;
    for (cap, fits) in [(1000, true), (999, false)] {
        let endpoint = endpoint(exact.address, |spec| spec.max_response = cap, &[]);
        assert_eq!(endpoint.send(get("/")).await.is_ok(), fits, "{cap}");
    }
}

#[tokio::test]
async fn a_downstream_that_hangs_or_trickles_times_out() {
    let silent = raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    // One byte at a time, for ever: each is progress, and still the whole takes too long.
    let trickling = raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let informing = raw(|mut stream| async move {
        while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let first_byte_only = Timeouts { first_byte: SHORT, total: Duration::from_secs(20) };
    for (address, timeouts) in [
        (silent, Timeouts::of(SHORT)),
        (silent, first_byte_only),
        (trickling, Timeouts::of(SHORT)),
        (informing, Timeouts::of(SHORT)),
        (informing, first_byte_only),
    ] {
        let started = Instant::now();
        let endpoint = endpoint(address, |spec| spec.timeouts = timeouts, &[]);
        let error = endpoint.send(get("/")).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Timeout, "{error}");
        assert!(error.message.contains("300ms") && error.message.contains("may have acted"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_broken_connection_is_a_reset_and_a_refused_one_is_not() {
    assert_eq!(kind_of("").await, Err(SendErrorKind::Reset));
    assert_eq!(kind_of("HTTP/1.1 200 OK\r\ncontent-le").await, Err(SendErrorKind::Reset));
    assert_eq!(kind_of("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc").await, Err(SendErrorKind::Reset));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let error = endpoint(closed, |_| {}, &[]).send(get("/")).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Connect, "{error}");
}

#[tokio::test]
async fn what_is_not_plain_http_is_an_invalid_response() {
    let many: String = (0..200).map(|n| format!("x-ratelimit-{n}: 1\r\n")).collect();
    let visible: String = (0..70).map(|n| format!("x-ratelimit-{n}: 1\r\n")).collect();
    let hidden: String = (0..70).map(|n| format!("x-hidden-{n}: 1\r\n")).collect();
    let head = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n");
    for (answer, expected) in [
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), Err(SendErrorKind::InvalidResponse)),
        ("HTTP/1.1 abc\r\n\r\n".to_owned(), Err(SendErrorKind::InvalidResponse)),
        (head("a b c\r\n"), Err(SendErrorKind::InvalidResponse)),
        (head(&many), Err(SendErrorKind::InvalidResponse)),
        (head(&visible), Err(SendErrorKind::InvalidResponse)),
        (head(&hidden), Ok(200)),
        (head(&format!("x-hidden: {}\r\n", "x".repeat(200_000))), Err(SendErrorKind::InvalidResponse)),
        (head(&format!("etag: {}\r\n", "x".repeat(20_000))), Err(SendErrorKind::InvalidResponse)),
        (head("content-length: 5\r\n"), Err(SendErrorKind::InvalidResponse)),
        (head("content-encoding: gzip\r\n"), Err(SendErrorKind::InvalidResponse)),
        (head("content-encoding: Identity\r\n"), Ok(200)),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
            Err(SendErrorKind::InvalidResponse),
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), Err(SendErrorKind::InvalidResponse)),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-trailer: 1\r\n\r\n".to_owned(),
            Ok(200),
        ),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_owned(), Ok(204)),
        (
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Ok(307),
        ),
    ] {
        let shown = answer.chars().take(60).collect::<String>();
        assert_eq!(kind_of(answer).await, expected, "{shown:?}");
    }
}

#[tokio::test]
async fn a_body_after_both_lengths_cannot_smuggle_a_second_response() {
    // RFC 9112, 6.3: transfer-encoding wins, and what follows belongs to no request.
    let address = raw_answer(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    )
    .await;
    let endpoint = endpoint(address, |_| {}, &[]);
    for _ in 0..2 {
        match endpoint.send(get("/")).await {
            Ok(response) => assert_eq!(response.body, b"a"),
            Err(error) => {
                assert!(matches!(error.kind, SendErrorKind::InvalidResponse | SendErrorKind::Reset), "{error}")
            }
        }
    }
}

#[tokio::test]
async fn a_head_request_announces_a_length_it_does_not_send() {
    let address = raw_answer("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").await;
    let endpoint = endpoint(address, |_| {}, &[]);
    let request = sgen_egress::Request { method: http::Method::HEAD, ..get("/") };
    assert_eq!(endpoint.send(request).await.unwrap().body, b"");
}

#[tokio::test]
async fn an_oversized_request_is_refused_before_it_is_sent() {
    let downstream = Downstream::ok().await;
    let limits = Limits { request_body: 10, ..Limits::default() };
    let gate = gate_with(&[downstream.address], Arc::default(), ScriptedResolver::new(&[]), limits, Vec::new());
    let spec = open_spec(&format!("http://{}", downstream.address), None);
    let grant = gate.grant(&instance("a"), vec![spec], credentials(&[])).unwrap();
    assert!(opened(&grant).send(post("/", &[], "0123456789")).await.is_ok());
    let error = opened(&grant).send(post("/", &[], "0123456789x")).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Denied);
    assert_eq!(downstream.seen().len(), 1);
}
