//! The credential goes in last, where the manifest says, and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use sgen_egress::{Auth, SendErrorKind};
use sgen_model::{SecretBytes, Timestamp};
use sgen_vault::Credential;

use crate::kit::*;

#[tokio::test]
async fn each_scheme_arrives_as_the_vendor_expects_it() {
    let header =
        |name: &str, format: &str| Auth::Header { slot: slot("token"), name: name.into(), format: format.into() };
    for (auth, secret, name, expected, uri) in [
        (Auth::Bearer { slot: slot("token") }, "pat-secret", "authorization", "Bearer pat-secret", "/v1/x?a=b"),
        (
            Auth::Basic { slot: slot("token") },
            "user:password",
            "authorization",
            "Basic dXNlcjpwYXNzd29yZA==",
            "/v1/x?a=b",
        ),
        (header("X-Api-Key", "{secret}"), "key-secret", "x-api-key", "key-secret", "/v1/x?a=b"),
        (header("Authorization", "Token {secret}"), "key-secret", "authorization", "Token key-secret", "/v1/x?a=b"),
        (
            Auth::Query { slot: slot("token"), name: "key".into() },
            "a secret&",
            "user-agent",
            "",
            "/v1/x?a=b&key=a%20secret%26",
        ),
    ] {
        let downstream = Downstream::ok().await;
        let endpoint = endpoint(downstream.address, |spec| spec.auth = Some(auth.clone()), &[("token", secret)]);
        let response = endpoint.send(post("/v1/x?a=b", &[("content-type", "application/json")], "{}")).await.unwrap();
        assert_eq!(response.status, 200);
        let seen = downstream.seen().remove(0);
        assert_eq!(seen.uri, uri);
        assert!(seen.header(name).is_some_and(|value| expected.is_empty() || value == expected), "{auth:?} {seen:?}");
        assert_eq!(seen.body, b"{}");
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("content-length"), Some("2"));
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert!(seen.header("user-agent").unwrap().starts_with("sgen-connectors/"));
        assert_eq!(seen.header("host"), Some(downstream.address.to_string().as_str()));
    }
}

#[tokio::test]
async fn a_webhook_is_signed_with_both_secrets_while_they_rotate() {
    let downstream = Downstream::ok().await;
    let (new, old) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 24]));
    for (until, count) in [(Timestamp(NOW.0 + 1), 2), (NOW, 1)] {
        let credential = Credential::new(2, SecretBytes::from(format!("whsec_{new}")))
            .with_previous(SecretBytes::from(old.clone()), until);
        let mut spec = open_spec(&format!("http://{}/hook?token=x", downstream.address), None);
        spec.auth = Some(Auth::Hmac { slot: slot("secret") });
        let grant = gate(&[downstream.address], std::sync::Arc::default())
            .grant(&instance("hook-1"), vec![spec], [(slot("secret"), credential)].into_iter().collect())
            .unwrap();
        opened(&grant).send(post("", &[("webhook-id", "evt_1:2.3-4")], "{\"a\":1}")).await.unwrap();
        let seen = downstream.seen().pop().unwrap();
        assert_eq!(seen.uri, "/hook?token=x");
        assert_eq!(seen.header("webhook-id"), Some("evt_1:2.3-4"));
        assert_eq!(seen.header("webhook-timestamp"), Some("1795460400"));
        let signatures: Vec<_> = seen.header("webhook-signature").unwrap().split(' ').collect();
        assert_eq!(signatures.len(), count);
        for (signature, secret) in signatures.iter().zip([&[1_u8; 32][..], &[2; 24]]) {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let given = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            assert!(hmac::verify(&key, b"evt_1:2.3-4.1795460400.{\"a\":1}", &given).is_ok());
        }
    }
    let unsigned =
        endpoint(downstream.address, |spec| spec.auth = Some(Auth::Hmac { slot: slot("secret") }), &[("secret", &new)]);
    for headers in [&[][..], &[("webhook-id", "a b")], &[("webhook-id", "")]] {
        let error = unsigned.send(post("", headers, "x")).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Denied, "{error}");
    }
    assert_eq!(downstream.seen().len(), 2);
}

#[tokio::test]
async fn a_guest_can_neither_read_nor_replace_the_credential() {
    let downstream = Downstream::ok().await;
    let key = Auth::Header { slot: slot("token"), name: "X-Key".into(), format: "{secret}".into() };
    let query = Auth::Query { slot: slot("token"), name: "api_key".into() };
    for (auth, request) in [
        (key.clone(), post("/", &[("x-key", "mine")], "")),
        (key.clone(), post("/", &[("Authorization", "Bearer mine")], "")),
        (key.clone(), post("/", &[("Host", "evil.example")], "")),
        (key.clone(), post("/", &[(":authority", "evil.example")], "")),
        (key.clone(), post("/", &[("Transfer-Encoding", "chunked")], "")),
        (key.clone(), post("/", &[("Content-Length", "0"), ("content-length", "9")], "")),
        (key.clone(), post("/", &[("Upgrade", "h2c")], "")),
        (key.clone(), post("/", &[("x", "a\r\nauthorization: mine")], "")),
        (query.clone(), get("/?api_key=mine")),
        (query.clone(), get("/?%61pi_key=mine")),
        (query, get("/#")),
    ] {
        let endpoint = endpoint(downstream.address, |spec| spec.auth = Some(auth), &[("token", "the-secret")]);
        let error = endpoint.send(request.clone()).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Denied, "{request:?}: {error}");
        assert!(error.message.starts_with("endpoint api: "), "{error}");
        assert!(!error.message.contains("the-secret"), "{error}");
    }
    assert!(downstream.seen().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn only_granted_methods_and_paths_are_sent() {
    let downstream = Downstream::ok().await;
    let endpoint = endpoint(
        downstream.address,
        |spec| {
            spec.allow[0].methods = vec![http::Method::POST];
            spec.allow[0].paths = vec!["/v1/**".to_owned()];
        },
        &[],
    );
    endpoint.send(post("/v1/a/b?c=/../d", &[], "")).await.unwrap();
    for request in [
        get("/v1/a"),
        post("/v2/a", &[], ""),
        post("", &[], ""),
        post("/v1/../v2", &[], ""),
        post("//evil/v1", &[], ""),
    ] {
        let error = endpoint.send(request.clone()).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Denied, "{request:?}");
    }
    assert_eq!(downstream.seen().len(), 1);
}

#[tokio::test]
async fn a_missing_or_unusable_credential_is_the_operators_and_nothing_is_sent() {
    let downstream = Downstream::ok().await;
    for given in [&[][..], &[("other", "some-secret")], &[("token", "line\nbreak-secret")]] {
        let endpoint = endpoint(downstream.address, |spec| spec.auth = bearer(), given);
        let error = endpoint.send(get("/")).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Credential, "{error}");
        assert!(error.message.contains("operator"), "{error}");
    }
    assert!(downstream.seen().is_empty());
}

#[tokio::test]
async fn a_credential_goes_to_its_own_endpoint_only() {
    let (a, b) = (Downstream::ok().await, Downstream::ok().await);
    let mut first = open_spec(&format!("http://{}", a.address), bearer());
    first.name = "first".to_owned();
    let second = open_spec(&format!("http://{}", b.address), None);
    let grant = gate(&[a.address, b.address], std::sync::Arc::default())
        .grant(&instance("crm-1"), vec![first, second], credentials(&[("token", "the-secret")]))
        .unwrap();
    opened(&grant).send(get("/")).await.unwrap();
    assert_eq!(b.seen()[0].header("authorization"), None);
    let Err(error) = grant.open("third") else { panic!("an endpoint that was not granted opened") };
    assert_eq!(error.kind, SendErrorKind::Denied);
}
