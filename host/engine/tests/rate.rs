//! A vendor's rate, as an invocation meets it: it waits for a while, is then told to come back, and no slot is kept longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod kit;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use http_body_util::Full;
use kit::{Downstream, engine, events, grant_with, load};
use sgen_egress::Rate;
use sgen_engine::{Invoker, Limits};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_becomes_more_requests_than_the_vendor_takes_is_told_so_request_by_request() {
    let downstream = Downstream::start(|_| http::Response::new(Full::default())).await;
    let hour = Duration::from_secs(3600);
    let grant = grant_with(&downstream.base, "a-token-that-nobody-reads", |spec| {
        spec.rate = Some(Rate { requests: NonZeroU32::new(4).unwrap(), per: hour });
    });
    let engine =
        engine(Limits { turns: Duration::from_secs(10), log_lines: 1000, log_bytes: 1 << 20, ..Limits::default() });
    let component = Invoker::new(load(&engine, "reflect"), grant);
    assert_eq!(component.delay(), Duration::ZERO);

    let started = Instant::now();
    let invocation = component.deliver("{}", &events(10)).await;
    assert!(started.elapsed() < Duration::from_secs(10), "what cannot come in time is not waited for");
    assert_eq!(invocation.result.unwrap().len(), 10);
    assert_eq!(downstream.seen().len(), 4);
    assert_eq!(invocation.held.refused, 6);
    assert!(component.delay() > hour / 2, "a lane sees it before the next batch");
    let log: String = invocation.log.iter().map(|line| format!("{}\n", line.text)).collect();
    assert_eq!(
        log.matches("not sent: the host keeps to the vendor's rate of 4 requests per 3600s").count(),
        6,
        "{log}"
    );
    assert_eq!(log.matches("retry-after").count(), 6, "{log}");
}
