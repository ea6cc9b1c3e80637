//! Grants: consent, rotation, restarts, revocations, and what is only taken for one.

use std::sync::Arc;

use sgen_egress::{SendErrorKind, TokenSource as _};
use sgen_store::{Commit, Store as _};
use sgen_tokens::Upstream;
use tokio::sync::Notify;

use crate::kit::*;

#[tokio::test]
async fn a_consent_is_exchanged_with_its_verifier_and_kept_sealed() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.grant();
    let error = source.token().await.err().unwrap();
    assert_eq!(error.kind, SendErrorKind::Credential);
    assert!(error.message.contains("nobody has consented"), "{error}");
    let source = host.connected(&vendor, tokens("access-token-1", Some("refresh-token-1"), 100)).await;
    let asked = vendor.asked().remove(0);
    assert_eq!((asked.form["grant_type"].as_str(), asked.form["code"].as_str()), ("authorization_code", "code-1"));
    assert_eq!(asked.form["redirect_uri"], "https://host.example/v1/oauth/callback");
    assert_eq!(asked.form["code_verifier"].len(), 43);
    source.token().await.unwrap();
    let again = host.restarted().await;
    again.grant().token().await.unwrap();
    assert_eq!(vendor.asked().len(), 1, "what is kept and fresh is used");
    let stored = host.stored();
    for secret in ["access-token-1", "refresh-token-1", &asked.form["code_verifier"]] {
        assert!(!stored.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let shown = again.grant().scrubber().text("access-token-1 refresh-token-1".into());
    assert_eq!(shown, "[redacted] [redacted]");
}

#[tokio::test]
async fn a_rotating_refresh_token_is_followed_over_restarts_and_every_renewal_is_audited() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    host.connected(&vendor, tokens("access-token-0", Some("refresh-token-0"), 5)).await;
    let mut host = host;
    for number in 1..=6 {
        host.clock.forward(5);
        vendor.will([tokens(&format!("access-token-{number}"), Some(&format!("refresh-token-{number}")), 5)]);
        host.grant().token().await.unwrap();
        let asked = vendor.asked().pop().unwrap();
        assert_eq!(asked.form["refresh_token"], format!("refresh-token-{}", number - 1));
        if number % 2 == 0 {
            host = host.restarted().await;
        }
    }
    assert_eq!(host.audited(), ["credentials-refreshed"; 6]);
    assert_eq!(vendor.asked().len(), 7);
    let records = String::from_utf8_lossy(&host.stored()).into_owned();
    assert!(!records.contains("refresh-token"), "a record has a fingerprint and no token");
}

#[tokio::test]
async fn a_vendor_that_does_not_rotate_is_asked_with_the_same_token() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.connected(&vendor, tokens("access-token-0", Some("refresh-token-0"), 5)).await;
    for number in 1..=3 {
        host.clock.forward(5);
        vendor.will([tokens(&format!("access-token-{number}"), None, 5)]);
        source.token().await.unwrap();
        assert_eq!(vendor.asked().pop().unwrap().form["refresh_token"], "refresh-token-0");
    }
}

#[tokio::test]
async fn a_revocation_is_told_from_a_busy_vendor_and_from_an_outage() {
    for (act, kind, says) in [
        (refuses("invalid_grant", "revoked by user"), SendErrorKind::Credential, "revoked the grant"),
        (refuses("invalid_client", ""), SendErrorKind::Credential, "refuses the client"),
        (refuses("invalid_grant", "token request is already being processed"), SendErrorKind::Connect, "tried again"),
        (refuses("invalid_grant", "expired authorization code"), SendErrorKind::Connect, "tried again"),
        (Act::Answer(500, "{\"error\":\"invalid_grant\"}".into()), SendErrorKind::Connect, "tried again"),
        (Act::Close, SendErrorKind::Connect, "tried again"),
    ] {
        let vendor = Vendor::start().await;
        let host = Host::new(&vendor).await;
        let source = host.connected(&vendor, tokens("access-token-0", Some("refresh-token-0"), 5)).await;
        host.clock.forward(5);
        vendor.will([act]);
        let error = source.token().await.err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
        // Whatever was said, the grant is still there, and what passes passes.
        host.clock.forward(60);
        vendor.will([tokens("access-token-1", Some("refresh-token-1"), 5)]);
        source.token().await.unwrap();
        assert_eq!(vendor.asked().pop().unwrap().form["refresh_token"], "refresh-token-0");
    }
}

#[tokio::test]
async fn a_rotation_that_was_lost_in_a_crash_is_explained_as_what_it_is() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.connected(&vendor, tokens("access-token-0", Some("refresh-token-0"), 5)).await;
    host.clock.forward(5);
    // The vendor is asked, rotates, and the host is gone before the answer.
    vendor.will([Act::Wait(Arc::new(Notify::new()), 200, String::new())]);
    let lost = tokio::spawn(async move { source.token().await.map(drop) });
    vendor.asked_times(2).await;
    let again = host.restarted().await;
    lost.abort();
    vendor.will([refuses("invalid_grant", "")]);
    let error = again.grant().token().await.err().unwrap();
    assert_eq!(error.kind, SendErrorKind::Credential);
    for part in ["begun at 2026-11-23T19:00:05.000Z never came to its end", "rotated", "authorise it again"] {
        assert!(error.message.contains(part), "{error}");
    }
    // The explanation stays until somebody consents anew.
    let later = again.restarted().await;
    vendor.will([refuses("invalid_grant", "")]);
    assert!(later.grant().token().await.err().unwrap().message.contains("never came to its end"));
    let source = later.connected(&vendor, tokens("access-token-9", Some("refresh-token-9"), 5)).await;
    later.clock.forward(5);
    vendor.will([refuses("invalid_grant", "")]);
    let error = source.token().await.err().unwrap();
    assert!(error.message.contains("has revoked the grant"), "{error}");
}

#[tokio::test]
async fn a_renewal_that_was_cut_off_before_the_vendor_acted_goes_on() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.connected(&vendor, tokens("access-token-0", Some("refresh-token-0"), 5)).await;
    host.clock.forward(5);
    vendor.will([Act::Close, tokens("access-token-1", Some("refresh-token-1"), 5)]);
    assert_eq!(source.token().await.err().unwrap().kind, SendErrorKind::Connect);
    let again = host.restarted().await;
    again.grant().token().await.unwrap();
    again.clock.forward(5);
    vendor.will([refuses("invalid_grant", "")]);
    let error = again.grant().token().await.err().unwrap();
    assert!(error.message.contains("has revoked the grant"), "the cut was made good: {error}");
}

#[tokio::test]
async fn a_grant_without_a_refresh_token_lasts_as_long_as_its_access_token() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.connected(&vendor, tokens("access-token-0", None, 100)).await;
    host.clock.forward(99);
    source.token().await.unwrap();
    host.clock.forward(1);
    let error = source.token().await.err().unwrap();
    assert_eq!(error.kind, SendErrorKind::Credential);
    assert!(error.message.contains("nothing to renew it with"), "{error}");
    assert_eq!(vendor.asked().len(), 1);
}

#[tokio::test]
async fn a_grant_is_given_back_to_its_vendor_and_deleted() {
    for (act, expected) in [
        (Act::Answer(200, String::new()), Upstream::Revoked),
        (Act::Answer(503, String::new()), Upstream::Failed("the vendor answered 503".into())),
    ] {
        let vendor = Vendor::start().await;
        let host = Host::new(&vendor).await;
        let source = host.connected(&vendor, tokens("access-token-0", Some("refresh-token-0"), 100)).await;
        vendor.will([act]);
        let mut change = source.change().await.unwrap();
        assert_eq!(change.revoke().await.unwrap(), expected);
        let asked = vendor.asked().pop().unwrap();
        assert_eq!((asked.path.as_str(), asked.form["token"].as_str()), ("/revoke", "refresh-token-0"));
        assert_eq!(asked.form["token_type_hint"], "refresh_token");
        assert!(asked.authorization.is_some());
        let mut commit = Commit::new();
        change.forget(&mut commit).unwrap();
        host.store.submit(commit).await.unwrap();
        change.done();
        let error = source.token().await.err().unwrap();
        assert!(error.message.contains("nobody has consented"), "{error}");
    }
}

#[tokio::test]
async fn a_code_that_is_refused_leaves_what_was_granted_before() {
    let vendor = Vendor::start().await;
    let host = Host::new(&vendor).await;
    let source = host.connected(&vendor, tokens("access-token-0", Some("refresh-token-0"), 100)).await;
    vendor.will([refuses("invalid_grant", "code expired")]);
    let error = source.connect(&host.pending(), "code-2").await.err().unwrap().to_string();
    assert!(error.contains("refuses the consent") && error.contains("code expired"), "{error}");
    source.token().await.unwrap();
}
