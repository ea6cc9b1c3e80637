//! Connections belong to one grant, and one grant cannot take them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use http::Response as HttpResponse;
use http_body_util::Full;
use sgen_egress::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::*;

#[tokio::test]
async fn a_grant_reuses_its_connection_and_never_anothers() {
    let downstream = Downstream::answering(|_| HttpResponse::new(Full::from("ok"))).await;
    let dialer = Arc::new(RecordingDialer::default());
    let gate = gate(&[downstream.address], dialer.clone());
    let spec = || vec![open_spec(&format!("http://{}", downstream.address), bearer())];
    let first = gate.grant(&instance("one"), spec(), credentials(&[("token", "secret-of-one")])).unwrap();
    let second = gate.grant(&instance("two"), spec(), credentials(&[("token", "secret-of-two")])).unwrap();
    for _ in 0..3 {
        opened(&first).send(get("/")).await.unwrap();
    }
    assert_eq!(dialer.dials(), 1);
    opened(&second).send(get("/")).await.unwrap();
    assert_eq!(dialer.dials(), 2, "the second grant has its own pool");
    let tokens: Vec<_> =
        downstream.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens[2..], ["Bearer secret-of-one", "Bearer secret-of-two"]);
}

#[tokio::test]
async fn a_grant_has_no_more_than_its_share_of_concurrent_requests() {
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (busy.clone(), most.clone());
    let address = raw(move |mut stream| {
        let (inside, peak) = (inside.clone(), peak.clone());
        async move {
            peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Give the others every chance to overtake.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            inside.fetch_sub(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    })
    .await;
    let limits = Limits { concurrent_requests: 3, ..Limits::default() };
    let gate = gate_with(&[address], Arc::default(), ScriptedResolver::new(&[]), limits, Vec::new());
    let spec = open_spec(&format!("http://{address}"), None);
    let grant = gate.grant(&instance("a"), vec![spec], credentials(&[])).unwrap();
    let endpoint = opened(&grant);
    let responses = join_all((0..20).map(|_| endpoint.send(get("/")))).await;
    assert!(responses.iter().all(|response| response.is_ok()));
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[tokio::test]
async fn a_request_can_be_sent_from_any_task() {
    let downstream = Downstream::ok().await;
    let endpoint = endpoint(downstream.address, |_| {}, &[]);
    let task = tokio::spawn(async move { endpoint.send(get("/")).await });
    assert!(task.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_the_downstream_closed_is_replaced() {
    let (closed, mut seen_closed) = tokio::sync::mpsc::unbounded_channel();
    let address = raw(move |mut stream| {
        let closed = closed.clone();
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
            // The gate closes its side once it has seen this one closed.
            let _ = stream.read(&mut [0; 64]).await;
            let _ = closed.send(());
        }
    })
    .await;
    let endpoint = endpoint(address, |_| {}, &[]);
    for _ in 0..3 {
        assert!(endpoint.send(get("/")).await.is_ok());
        let waited = tokio::time::timeout(std::time::Duration::from_secs(10), seen_closed.recv()).await;
        assert_eq!(waited, Ok(Some(())));
    }
}
