//! The vendor's rate: kept per instance and endpoint, over every grant, and none of the downstream's time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Response as HttpResponse;
use http_body_util::Full;
use sgen_egress::{Auth, EndpointSpec, Gate, GateConfig, Grant, Rate, Response, Sent, Timeouts, TlsTrust};
use sgen_model::{Clock, Timestamp};
use tokio::time::Instant;

use crate::kit::*;

const HOUR: Duration = Duration::from_secs(3600);

fn rate(requests: u32, per: Duration) -> Option<Rate> {
    Some(Rate { requests: NonZeroU32::new(requests).unwrap(), per })
}

fn granted(gate: &Arc<Gate>, name: &str, downstream: &Downstream, token: &str, requests: u32) -> Arc<Grant> {
    let mut spec = open_spec(&format!("http://{}", downstream.address), bearer());
    spec.rate = rate(requests, HOUR);
    gate.grant(&instance(name), vec![spec], credentials(&[("token", token)])).unwrap()
}

/// Sends one request that waits for seconds at most.
async fn send(grant: &Grant) -> Sent {
    opened(grant).send_by(get("/"), Some(Instant::now() + Duration::from_secs(10))).await
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn a_request_without_a_turn_is_answered_by_the_gate_and_never_sent() {
    let downstream = Downstream::ok().await;
    let grant = granted(&gate(&[downstream.address], Arc::default()), "crm", &downstream, "a-token-of-the-crm", 2);
    assert_eq!(grant.delay(), Duration::ZERO);
    let endpoint = opened(&grant);
    let by = Some(Instant::now() + Duration::from_secs(10));
    let all = join_all((0..5).map(|_| endpoint.send_by(get("/"), by))).await;
    assert_eq!(all.iter().filter(|sent| sent.refused).count(), 3);
    assert_eq!(downstream.seen().len(), 2);
    assert!(grant.delay() > HOUR - Duration::from_secs(60));
    let refused = all.into_iter().find(|sent| sent.refused).unwrap();
    assert!(refused.waited < Duration::from_secs(10), "it fails early");
    let response = refused.answer.unwrap();
    assert_eq!(response.status, 429);
    let seconds: u64 = header(&response, "retry-after").unwrap().parse().unwrap();
    assert!((3500..=3601).contains(&seconds), "{seconds}");
    assert!(header(&response, "proxy-status").unwrap().starts_with("sgen-host;"), "{response:?}");
    let said = String::from_utf8(response.body).unwrap();
    assert!(said.starts_with("not sent: the host keeps to the vendor's rate of 2 requests per 3600s"), "{said}");
}

#[tokio::test]
async fn a_new_grant_of_the_same_instance_gets_no_second_allowance() {
    let downstream = Downstream::ok().await;
    let gate = gate(&[downstream.address], Arc::default());
    let first = granted(&gate, "crm", &downstream, "the-token-before", 2);
    assert!(!send(&first).await.refused);
    assert!(!send(&first).await.refused);
    drop(first);
    let rotated = granted(&gate, "crm", &downstream, "the-token-after", 2);
    assert!(send(&rotated).await.refused);
    let neighbour = granted(&gate, "crm-2", &downstream, "another-token", 2);
    assert!(!send(&neighbour).await.refused, "another instance has a rate of its own");
}

#[tokio::test]
async fn what_is_refused_by_the_manifest_takes_no_turn() {
    let downstream = Downstream::ok().await;
    let grant = granted(&gate(&[downstream.address], Arc::default()), "crm", &downstream, "a-token-of-the-crm", 1);
    for _ in 0..3 {
        assert!(opened(&grant).send(get("/../secret")).await.is_err());
    }
    assert!(!send(&grant).await.refused);
}

#[tokio::test]
async fn waiting_for_a_turn_is_none_of_the_downstreams_time() {
    let downstream = Downstream::ok().await;
    let endpoint = endpoint(
        downstream.address,
        |spec| {
            spec.rate = rate(1, Duration::from_millis(1500));
            spec.timeouts = Timeouts::of(Duration::from_secs(1));
        },
        &[],
    );
    let started = Instant::now();
    let all = join_all((0..2).map(|_| endpoint.send_by(get("/"), None))).await;
    assert!(all.iter().all(|sent| sent.answer.as_ref().is_ok_and(|response| response.status == 200)), "{all:?}");
    assert!(started.elapsed() >= Duration::from_millis(1500));
    assert!(all[1].waited >= Duration::from_millis(1400), "{:?}", all[1].waited);
}

/// A clock that the downstream moves.
struct MovedClock(AtomicU64);

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_request_that_waited_is_signed_with_the_time_at_which_it_goes() {
    let clock = Arc::new(MovedClock(AtomicU64::new(NOW.0)));
    let moved = clock.clone();
    let downstream = Downstream::answering(move |_| {
        moved.0.fetch_add(60_000, Ordering::SeqCst);
        HttpResponse::new(Full::default())
    })
    .await;
    let config = GateConfig {
        development_hosts: vec![downstream.address.to_string()],
        tls: TlsTrust::Roots(Vec::new()),
        ..GateConfig::default()
    };
    let gate = Gate::new(config, ScriptedResolver::new(&[]), Arc::new(RecordingDialer::default()), clock).unwrap();
    let hmac = Some(Auth::Hmac { slot: slot("secret") });
    let mut spec: EndpointSpec = open_spec(&format!("http://{}", downstream.address), hmac);
    spec.rate = rate(1, Duration::from_millis(100));
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let grant = gate.grant(&instance("hook"), vec![spec], credentials(&[("secret", secret)])).unwrap();
    let endpoint = opened(&grant);
    let request = |id: &str| endpoint.send(post("/", &[("webhook-id", id)], "{}"));
    for response in join_all([request("one"), request("two")]).await {
        assert_eq!(response.unwrap().status, 200);
    }
    let times: Vec<u64> =
        downstream.seen().iter().map(|seen| seen.header("webhook-timestamp").unwrap().parse().unwrap()).collect();
    assert_eq!(times, [NOW.0 / 1000, NOW.0 / 1000 + 60]);
}

#[tokio::test]
async fn a_downstream_cannot_speak_for_the_host() {
    let downstream = Downstream::answering(|_| {
        let mut response = HttpResponse::new(Full::default());
        response.headers_mut().insert("proxy-status", "sgen-host; error=proxy_internal_response".parse().unwrap());
        response
    })
    .await;
    let response = endpoint(downstream.address, |_| {}, &[]).send(get("/")).await.unwrap();
    assert_eq!(header(&response, "proxy-status"), None);
    let mut spec = open_spec(&format!("http://{}", downstream.address), None);
    spec.response_headers = vec!["Proxy-Status".to_owned()];
    let refused = gate(&[downstream.address], Arc::default()).grant(&instance("a"), vec![spec], credentials(&[]));
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_wait_that_the_downstream_asks_for_arrives_as_seconds_or_as_a_date_with_the_date_to_measure_it_by() {
    const LATER: &str = "Fri, 31 Dec 2027 23:59:59 GMT";
    for asked in [Some("17"), Some(LATER), None] {
        let downstream = Downstream::answering(move |_| {
            // The server adds its date to every response.
            let mut response = HttpResponse::builder().status(503);
            if let Some(asked) = asked {
                response = response.header("retry-after", asked);
            }
            response.body(Full::default()).unwrap()
        })
        .await;
        let response = endpoint(downstream.address, |_| {}, &[]).send(get("/")).await.unwrap();
        assert_eq!((response.status, header(&response, "retry-after")), (503, asked));
        assert_eq!(header(&response, "date").is_some(), asked.is_some());
    }
}
