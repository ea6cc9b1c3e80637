//! When a token is obtained, how often, and what an outage does to it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use sgen_egress::{SendErrorKind, TokenSource as _};
use sgen_tokens::{Means, ServiceAccount};
use tokio::sync::Notify;

use crate::kit::*;

#[tokio::test]
async fn fifty_who_ask_at_once_share_one_request() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    vendor.will([tokens("access-token-1", None, 3600)]);
    let source = host.machine();
    let answers = join_all((0..50).map(|_| source.token())).await;
    let serials: Vec<_> = answers.into_iter().map(|token| token.unwrap().serial()).collect();
    assert!(serials.iter().all(|serial| *serial == serials[0]));
    let asked = vendor.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].form["grant_type"], "client_credentials");
    assert_eq!(asked[0].form["scope"], "a b");
    assert!(!asked[0].form.contains_key("client_secret"));
    let basic = format!("Basic {}", STANDARD.encode(CLIENT));
    assert_eq!(asked[0].authorization.as_deref(), Some(basic.as_str()));
    let shown = source.scrubber().text("access-token-1 client-secret-1".into());
    assert_eq!(shown, "[redacted] [redacted]");
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_expiry_and_an_outage_meanwhile_hurts_nobody() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    vendor.will([tokens("access-token-1", None, 100)]);
    let source = host.machine();
    let first = source.token().await.unwrap();
    host.clock.forward(79);
    assert_eq!(source.token().await.unwrap().serial(), first.serial());
    assert_eq!(vendor.asked().len(), 1, "nobody is asked while it is fresh");
    host.clock.forward(1);
    vendor.will([Act::Answer(503, String::new())]);
    assert_eq!(source.token().await.unwrap().serial(), first.serial(), "the token in force goes on");
    assert_eq!(source.token().await.unwrap().serial(), first.serial());
    assert_eq!(vendor.asked().len(), 2, "a vendor that fails is left alone for a moment");
    host.clock.forward(2);
    vendor.will([tokens("access-token-2", None, 100)]);
    assert_ne!(source.token().await.unwrap().serial(), first.serial());
}

#[tokio::test]
async fn an_outage_is_unavailable_and_passes() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.machine();
    for act in [Act::Answer(502, "<html>".into()), Act::Close, Act::Answer(404, String::new())] {
        vendor.will([act]);
        let error = source.token().await.err().unwrap();
        assert_eq!(error.kind, SendErrorKind::Connect, "{error}");
        assert!(error.message.contains("tried again"), "{error}");
        host.clock.forward(60);
    }
    vendor.will([tokens("access-token-1", None, 100)]);
    assert!(source.token().await.is_ok());
}

#[tokio::test]
async fn a_client_that_is_refused_is_the_operators_and_another_credential_is_tried_at_once() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.machine();
    vendor.will([refuses("invalid_client", "no client-secret-1 here")]);
    let error = source.token().await.err().unwrap();
    assert_eq!(error.kind, SendErrorKind::Credential, "{error}");
    assert!(error.message.contains("[redacted] here") && error.message.contains("operator"), "{error}");
    assert_eq!(source.token().await.err().unwrap(), error, "the vendor is not asked again at once");
    assert_eq!(vendor.asked().len(), 1);
    let mut setup = host.setup(Means::ClientCredentials(sgen_tokens::Client::parse(b"app-1:client-secret-2").unwrap()));
    setup.version = 2;
    vendor.will([tokens("access-token-1", None, 100)]);
    assert!(Arc::ptr_eq(&source, &host.sources.source(setup)), "one source per slot, whatever is configured");
    assert!(source.token().await.is_ok());
}

#[tokio::test]
async fn another_credential_displaces_a_token_that_was_obtained_with_the_former() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    vendor.will([tokens("access-token-1", None, 3600), tokens("access-token-2", None, 3600)]);
    let source = host.machine();
    let first = source.token().await.unwrap();
    assert_eq!(host.machine().token().await.unwrap().serial(), first.serial(), "the same setup changes nothing");
    let mut setup = host.setup(Means::ClientCredentials(sgen_tokens::Client::parse(CLIENT.as_bytes()).unwrap()));
    setup.version = 2;
    host.sources.source(setup);
    assert_ne!(source.token().await.unwrap().serial(), first.serial());
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_counts_as_revoked() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    vendor.will((1..=4).map(|number| tokens(&format!("access-token-{number}"), None, 3600)));
    let source = host.machine();
    let first = source.token().await.unwrap();
    let renewed = join_all((0..20).map(|_| source.refused(Arc::clone(&first)))).await;
    let second = renewed.into_iter().map(|token| token.unwrap().unwrap()).reduce(|one, other| {
        assert_eq!(one.serial(), other.serial(), "twenty refusals of one token are one renewal");
        one
    });
    let second = second.unwrap();
    assert!(source.refused(Arc::clone(&second)).await.unwrap().is_none());
    assert_eq!(vendor.asked().len(), 2);
    host.clock.forward(60);
    let third = source.refused(second).await.unwrap();
    assert!(third.is_some(), "later, one more is worth a try");
}

#[tokio::test]
async fn a_service_account_asks_with_an_assertion_that_nobody_gets_to_see() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let pem = crate::rsa::pem();
    let file = serde_json::json!({ "type": "service_account", "client_email": "robot@p", "private_key": pem });
    let account = Box::new(ServiceAccount::parse(file.to_string().as_bytes()).unwrap());
    let source = host.sources.source(host.setup(Means::ServiceAccount { account, audience: "https://aud".into() }));
    vendor.will([tokens("access-token-1", None, 3600)]);
    source.token().await.unwrap();
    let asked = vendor.asked().remove(0);
    assert_eq!(asked.form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(asked.form["assertion"].split('.').count(), 3);
    assert_eq!(asked.form.len(), 2);
    assert_eq!(asked.authorization, None);
    assert_eq!(source.scrubber().text(asked.form["assertion"].clone()), "[redacted]");
}

#[tokio::test]
async fn what_cannot_be_used_is_told_to_whoever_asks_and_nothing_is_sent() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.sources.source(host.setup(Means::Unusable("the credential app is missing".into())));
    let error = source.token().await.err().unwrap();
    assert_eq!((error.kind, error.message.as_str()), (SendErrorKind::Credential, "the credential app is missing"));
    assert!(vendor.asked().is_empty());
}

#[tokio::test]
async fn a_request_that_is_given_up_does_not_give_up_the_renewal() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let go = Arc::new(Notify::new());
    let answer = "{\"access_token\":\"access-token-1\",\"expires_in\":100}".to_owned();
    vendor.will([Act::Wait(Arc::clone(&go), 200, answer)]);
    let source = host.machine();
    let waiting = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.token().await.map(|token| token.serial()) }
    });
    vendor.asked_times(1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    go.notify_one();
    assert!(source.token().await.is_ok());
    assert_eq!(vendor.asked().len(), 1);
}
