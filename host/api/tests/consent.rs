//! Consent over HTTP: begun by an operator, answered by a vendor's redirect, kept without a secret in any answer or record,
//! and given back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::Uri;
use http::{Method, StatusCode};
use kit::{House, PLATFORM};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const LIST: &str = "/v1/sites/shop/environments/live/instances";
const GRANT: &str = "/v1/instances/crm-1/credentials/grant";
const CLIENT: &str = "app-1:the-client-secret";

/// What a vendor was asked, path and form.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

async fn vendor() -> (SocketAddr, Asked) {
    async fn answer(State(asked): State<Asked>, uri: Uri, body: String) -> (StatusCode, String) {
        let refused = body.contains("code=stale");
        asked.lock().unwrap().push((uri.path().to_owned(), body));
        if refused {
            return (StatusCode::BAD_REQUEST, json!({ "error": "invalid_grant" }).to_string());
        }
        let tokens =
            json!({ "access_token": "the-access-token", "refresh_token": "the-refresh-token", "expires_in": 3600 });
        (StatusCode::OK, tokens.to_string())
    }
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&asked));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

async fn configured() -> (House, String, Asked) {
    let (address, asked) = vendor().await;
    let house = House::consenting(address).await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    let instance = json!({ "id": "crm-1", "connector": "granted", "mapping": { "email": { "from": "fields.email" } },
        "credentials": { "app": CLIENT } });
    house.post(LIST, &operator, instance).await.expect(201);
    (house, operator, asked)
}

/// Begins a consent and answers the parameters of its URL.
async fn begun(house: &House, operator: &str) -> Vec<(String, String)> {
    let answer = house.post(&format!("{GRANT}/authorize"), operator, Value::Null).await.expect(200).json();
    let url = url::Url::parse(answer["authorize_url"].as_str().unwrap()).unwrap();
    assert_eq!(url.path(), "/authorize");
    url.query_pairs().into_owned().collect()
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> &'a str {
    &query.iter().find(|(found, _)| found == name).unwrap().1
}

#[tokio::test]
async fn a_consent_is_begun_answered_kept_and_given_back() {
    let (house, operator, asked) = configured().await;
    let query = begun(&house, &operator).await;
    assert_eq!(parameter(&query, "redirect_uri"), "https://host.example/v1/oauth/callback");
    assert_eq!(parameter(&query, "client_id"), "app-1");
    assert_eq!(parameter(&query, "scope"), "contacts.write");
    let callback = format!("/v1/oauth/callback?code=the-code&state={}&iss=x", parameter(&query, "state"));
    let kept = house.get(&callback, "").await.expect(200);
    assert_eq!(kept.json()["instance"], "crm-1");
    assert_eq!(kept.json()["credential"]["version"], 1);
    let (path, form) = asked.lock().unwrap().pop().unwrap();
    assert_eq!(path, "/token");
    assert!(form.contains("code=the-code") && form.contains("code_verifier="), "{form}");
    house.get(&callback, "").await.expect(404);
    let shown = house.get("/v1/instances/crm-1", &operator).await.expect(200);
    assert_eq!(shown.json()["credentials"]["grant"]["version"], 1);
    let gone = house.ask(Method::DELETE, GRANT, &operator, Value::Null).await.expect(200);
    assert_eq!(gone.json(), json!({ "upstream": "revoked" }));
    let (path, form) = asked.lock().unwrap().pop().unwrap();
    assert_eq!(path, "/revoke");
    assert!(form.contains("token=the-refresh-token"), "{form}");
    house.ask(Method::DELETE, GRANT, &operator, Value::Null).await.expect(409);
    let mut audited = house.audited("shop").await;
    audited.retain(|event| event.starts_with("credentials-"));
    assert_eq!(audited, ["credentials-removed", "credentials-rotated"]);
    let records = house.get("/v1/sites/shop/audit", PLATFORM).await.expect(200);
    for answer in [&kept, &shown, &gone, &records] {
        for secret in ["the-access-token", "the-refresh-token", "the-client-secret", "the-code"] {
            assert!(!answer.text.contains(secret), "{secret}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_to_a_consent_changes_nothing() {
    let (house, operator, _) = configured().await;
    let query = begun(&house, &operator).await;
    let state = parameter(&query, "state");
    for (callback, status) in [
        ("/v1/oauth/callback?code=x".to_owned(), 400),
        ("/v1/oauth/callback?code=x&state=unknown".to_owned(), 404),
        (format!("/v1/oauth/callback?error=access_denied&state={state}"), 400),
        (format!("/v1/oauth/callback?code=stale&state={state}"), 502),
        (format!("/v1/oauth/callback?code=good&state={state}"), 404),
    ] {
        house.get(&callback, "").await.expect(status);
    }
    let shown = house.get("/v1/instances/crm-1", &operator).await.expect(200).json();
    assert!(shown["credentials"].get("grant").is_none());
    house.ask(Method::DELETE, GRANT, &operator, Value::Null).await.expect(409);
}

#[tokio::test]
async fn a_grant_is_neither_entered_nor_asked_for_by_others() {
    let (house, operator, _) = configured().await;
    let entered = house.ask(Method::PUT, GRANT, &operator, json!({ "secret": "the-refresh-token" })).await.expect(422);
    assert_eq!(entered.fields(), ["credentials.grant"]);
    let app = "/v1/instances/crm-1/credentials/app";
    house.post(&format!("{app}/authorize"), &operator, Value::Null).await.expect(404);
    house.ask(Method::DELETE, app, &operator, Value::Null).await.expect(404);
    let refused = house.ask(Method::PUT, app, &operator, json!({ "secret": "without-a-colon" })).await.expect(422);
    assert!(refused.text.contains("CLIENT_ID:CLIENT_SECRET"), "{}", refused.text);
    let stranger = house.operator("other", "eve").await;
    house.post(&format!("{GRANT}/authorize"), &stranger, Value::Null).await.expect(403);
    house.ask(Method::DELETE, GRANT, &stranger, Value::Null).await.expect(403);
}

#[tokio::test]
async fn without_a_public_url_nobody_can_consent_and_the_platform_is_told_so() {
    let house = House::with_catalog().await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    let instance = json!({ "id": "crm-1", "connector": "granted", "mapping": { "email": { "from": "fields.email" } },
        "credentials": { "app": CLIENT } });
    house.post(LIST, &operator, instance).await.expect(201);
    let problem = house.post(&format!("{GRANT}/authorize"), &operator, Value::Null).await.expect(409).json();
    assert_eq!(problem["fault"], "platform");
    assert!(problem["detail"].as_str().unwrap().contains("server.public_url"));
}
