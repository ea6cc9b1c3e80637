//! What is dialled is what was judged.

use std::sync::Arc;
use std::time::Duration;

use sgen_egress::{Gate, GateConfig, GateError, Limits, SendErrorKind, TlsTrust};
use url::Url;

use crate::kit::*;

/// A gate whose resolver answers in turn, to `https://downstream.example:8443`. Everything dialled ends at a closed port:
/// these tests are about the addresses.
async fn reach(answers: &[&[&str]]) -> (Arc<RecordingDialer>, Arc<ScriptedResolver>, Arc<sgen_egress::Endpoint>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let (dialer, resolver) = (RecordingDialer::to(closed), ScriptedResolver::new(answers));
    let gate = gate_with(&[], dialer.clone(), resolver.clone(), Limits::default(), Vec::new());
    let spec = open_spec("https://downstream.example:8443", None);
    let grant = gate.grant(&instance("a"), vec![spec], credentials(&[])).unwrap();
    (dialer, resolver, opened(&grant))
}

#[tokio::test]
async fn exactly_the_judged_address_is_dialled_at_the_configured_port() {
    let (dialer, resolver, endpoint) = reach(&[&["93.184.216.34"]]).await;
    assert_eq!(endpoint.send(get("/")).await.unwrap_err().kind, SendErrorKind::Connect);
    assert_eq!(*dialer.dialled.lock().unwrap(), ["93.184.216.34:8443".parse().unwrap()]);
    assert_eq!(*resolver.asked.lock().unwrap(), [("downstream.example".to_owned(), 8443)], "resolved once");
}

#[tokio::test]
async fn a_name_that_is_rebound_to_a_private_address_is_judged_again() {
    let (dialer, _, endpoint) = reach(&[&["93.184.216.34"], &["127.0.0.1"]]).await;
    assert_eq!(endpoint.send(get("/")).await.unwrap_err().kind, SendErrorKind::Connect);
    let error = endpoint.send(get("/")).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Denied, "{error}");
    assert!(error.message.contains("loopback") && !error.message.contains("127.0.0.1"), "{error}");
    assert_eq!(*dialer.dialled.lock().unwrap(), ["93.184.216.34:8443".parse().unwrap()]);
}

#[tokio::test]
async fn one_forbidden_answer_among_public_ones_refuses_all() {
    for private in
        ["10.0.0.1", "169.254.169.254", "::1", "::ffff:192.168.0.1", "fd00:ec2::254", "64:ff9b::7f00:1", "100.64.0.1"]
    {
        for answers in [[private, "93.184.216.34"], ["93.184.216.34", private]] {
            let (dialer, _, endpoint) = reach(&[&answers]).await;
            assert_eq!(endpoint.send(get("/")).await.unwrap_err().kind, SendErrorKind::Denied, "{private}");
            assert_eq!(dialer.dials(), 0, "{private}");
        }
    }
}

#[tokio::test]
async fn every_judged_address_is_tried_before_giving_up() {
    let (dialer, _, endpoint) = reach(&[&["93.184.216.34", "2606:4700:4700::1111", "8.8.8.8"]]).await;
    assert_eq!(endpoint.send(get("/")).await.unwrap_err().kind, SendErrorKind::Connect);
    assert_eq!(dialer.dials(), 3);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_connect_error() {
    for answers in [&[][..], &[&[][..]]] {
        let (dialer, _, endpoint) = reach(answers).await;
        let error = endpoint.send(get("/")).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Connect, "{error}");
        assert_eq!(dialer.dials(), 0);
    }
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = RecordingDialer::to(silent.local_addr().unwrap());
    let limits = Limits { connect: Duration::from_millis(200), ..Limits::default() };
    let gate = gate_with(&[], dialer, ScriptedResolver::new(&[&["93.184.216.34"]]), limits, Vec::new());
    let spec = open_spec("https://downstream.example", None);
    let grant = gate.grant(&instance("a"), vec![spec], credentials(&[])).unwrap();
    // The TLS handshake is never answered.
    let error = opened(&grant).send(get("/")).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Connect, "{error}");
    assert!(error.message.contains("200ms"), "{error}");
}

#[tokio::test]
async fn a_base_url_that_no_connector_may_reach_is_not_granted() {
    let gate = gate(&["127.0.0.1:4010".parse().unwrap()], Arc::default());
    for (base, granted) in [
        ("https://api.example.com/", true),
        ("http://127.0.0.1:4010/", true),
        ("http://api.example.com/", false),
        ("https://127.0.0.1/", false),
        ("https://0x7f.1/", false),
        ("https://[::ffff:10.0.0.1]/", false),
        ("https://localhost/", false),
        ("https://metadata.google.internal/", false),
        ("https://user:password@api.example.com/", false),
    ] {
        let spec = open_spec(base, None);
        let result = gate.grant(&instance("a"), vec![spec], credentials(&[]));
        assert_eq!(result.is_ok(), granted, "{base}");
        assert!(granted || matches!(result, Err(GateError::Endpoint { base: true, .. })), "{base}");
    }
    let twice = ["https://a.example", "https://b.example"].map(|base| open_spec(base, None));
    assert!(gate.grant(&instance("a"), twice.into(), credentials(&[])).is_err());
    assert!(Url::parse("https://[::1%25lo]/").is_err(), "zone ids never get this far");
}

#[test]
fn a_gate_can_stand_on_the_systems_roots() {
    let config = GateConfig { tls: TlsTrust::System, ..GateConfig::default() };
    let gate =
        Gate::new(config, ScriptedResolver::new(&[]), Arc::new(RecordingDialer::default()), Arc::new(FixedClock));
    // A machine without CA certificates is told so; any other has a gate.
    assert!(matches!(gate, Ok(_) | Err(GateError::Trust(_))));
}
