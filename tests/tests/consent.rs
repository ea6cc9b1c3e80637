//! A connector whose manifest asks for an OAuth consent instead of a token, with the same code: nothing is delivered before
//! somebody consents, a token that is revoked is renewed once, and what is given back is at an end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod release;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use http::{Method, StatusCode};
use release::Platform;
use serde_json::{Value, json};
use sgen_catalog::manifest::{Auth, ClientAuth, CredentialKind, CredentialSlot, OAuth, TokenGrant};
use sgen_tests::host::HostFolder;
use sgen_tests::scene::{Downstreams, HUBSPOT, LIVE, SITE, Scene};
use tokio::net::TcpListener;

const BOUND: Duration = Duration::from_secs(60);
const CLIENT: &str = "app-1:client-secret-7c9e2b54";

/// An OAuth vendor whose every answer rotates both tokens; it remembers what it was asked.
#[derive(Clone, Default)]
struct Vendor(Arc<Mutex<Vec<(String, String)>>>);

impl Vendor {
    async fn start(self) -> String {
        async fn answer(State(vendor): State<Vendor>, uri: Uri, form: String) -> (StatusCode, String) {
            let mut asked = vendor.0.lock().unwrap();
            asked.push((uri.path().to_owned(), form));
            let tokens = json!({
                "access_token": access(asked.len()), "refresh_token": format!("refresh-3f8d-{}", asked.len()),
                "token_type": "bearer", "expires_in": 1800,
            });
            (StatusCode::OK, tokens.to_string())
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = axum::Router::new().fallback(answer).with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// The access token of the vendor's answer of this number, from 1.
fn access(number: usize) -> String {
    format!("access-91ab-{number}")
}

/// HubSpot as it is, but for what authenticates it.
fn platform(folder: &std::path::Path) -> Platform {
    let mut platform = Platform::create(folder);
    platform.declare("hubspot", |manifest| {
        let url = |path: &str| format!("https://login.example.com{path}");
        let oauth = OAuth {
            token: url("/token"),
            authorize: Some(url("/authorize")),
            revoke: Some(url("/revoke")),
            scopes: vec!["crm.objects.contacts.write".to_owned()],
            client: Some("app".to_owned()),
            client_auth: ClientAuth::Form,
            audience: None,
            authorize_parameters: BTreeMap::new(),
            token_parameters: BTreeMap::new(),
        };
        let slot = |kind, oauth| CredentialSlot { title: "HubSpot".to_owned(), help: None, accepts: vec![kind], oauth };
        manifest.credentials = BTreeMap::from([
            ("grant".to_owned(), slot(CredentialKind::OAuthGrant, Some(oauth))),
            ("app".to_owned(), slot(CredentialKind::OAuthClient, None)),
        ]);
        for endpoint in manifest.endpoints.values_mut() {
            endpoint.auth = Some(Auth::Token { slot: "grant".to_owned(), grant: TokenGrant::AuthorizationCode });
        }
    });
    platform
}

async fn post(scene: &Scene, prefix: &str) {
    let event = |number: u32| {
        json!({ "id": format!("{prefix}-{number}"), "surface": "form:contact", "captured_at": "2026-11-25T10:00:00Z",
            "fields": { "email": format!("{prefix}-{number}@example.org"), "first_name": "Ada" } })
    };
    scene.post(&Value::from_iter((1..=3).map(event))).await.unwrap();
}

#[tokio::test]
async fn a_consent_opens_the_downstream_a_renewal_keeps_it_open_and_giving_it_back_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let platform = platform(folder.path());
    let catalog = folder.path().join("catalog");
    platform.release(&catalog, 1);
    let vendor = Vendor::default();
    let address = vendor.clone().start().await;
    let mut host = HostFolder::create_on(&folder.path().join("host"), &catalog)
        .await
        .unwrap()
        .with_development_host(&address)
        .with_environment("SGEN_SERVER__PUBLIC_URL", "https://host.example");
    for which in ["authorize", "token", "revoke"] {
        host = host.with_base(&format!("hubspot/grant:{which}"), &format!("http://{address}/{which}"));
    }
    let scene = Scene::start_with_root(Downstreams::start().await.unwrap(), host, platform.root()).await.unwrap();
    let operator = scene.operator().unwrap();
    let mut instance = scene.hubspot_instance();
    instance.credentials = json!({ "app": CLIENT });
    operator.configure(SITE, LIVE, &instance).await.unwrap();

    // Nobody has consented: what is captured waits.
    post(&scene, "before").await;
    scene.in_state(HUBSPOT, "paused", BOUND).await.unwrap();
    assert!(vendor.asked().is_empty());

    // The vendor's first answer opens the downstream, and what waited goes.
    scene.downstreams.hubspot.set_tokens([access(1).as_str()]);
    let path = format!("/v1/instances/{HUBSPOT}/credentials/grant");
    let begun: Value = operator.send(operator.request(Method::POST, &format!("{path}/authorize"))).await.unwrap();
    let url = reqwest::Url::parse(begun["authorize_url"].as_str().unwrap()).unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let callback = format!("{}/v1/oauth/callback?code=code-5d21&state={state}", scene.host().unwrap().url().unwrap());
    let answer = reqwest::get(callback).await.unwrap();
    assert_eq!(answer.status(), 200);
    let shown = answer.text().await.unwrap();
    let status = scene.settled(HUBSPOT, BOUND).await.unwrap();
    assert_eq!(status.count("delivered"), 3, "{status:?}");
    assert!(vendor.asked()[0].1.contains("grant_type=authorization_code"));

    // The downstream takes another token only: one renewal, and delivery goes on without anybody.
    scene.downstreams.hubspot.set_tokens([access(2).as_str()]);
    post(&scene, "after").await;
    let status = scene.settled(HUBSPOT, BOUND).await.unwrap();
    assert_eq!(status.count("delivered"), 6, "{status:?}");
    let asked = vendor.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].1.contains("refresh_token=refresh-3f8d-1"), "{}", asked[1].1);

    // Given back: at the vendor, and here.
    let gone: Value = operator.send(operator.request(Method::DELETE, &path)).await.unwrap();
    assert_eq!(gone, json!({ "upstream": "revoked" }));
    let (path, form) = vendor.asked().pop().unwrap();
    assert_eq!(path, "/revoke");
    assert!(form.contains("token=refresh-3f8d-2"), "{form}");
    post(&scene, "late").await;
    scene.in_state(HUBSPOT, "paused", BOUND).await.unwrap();

    let events: Vec<Value> = operator.audit(SITE, "").await.unwrap();
    for event in ["credentials-rotated", "credentials-refreshed", "credentials-removed"] {
        assert!(events.iter().any(|record| record["action"]["event"] == event), "{event}");
    }
    let told = [scene.folder.log().unwrap(), Value::from(events).to_string(), shown].concat();
    for secret in ["access-91ab", "refresh-3f8d", "code-5d21", "client-secret-7c9e2b54", state.as_str()] {
        assert!(!told.contains(secret), "{secret}");
    }
}
