//! Sites, operators and ingest keys: registered once, recorded with their change, and there again after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use std::sync::Arc;

use http::Method;
use kit::{House, PLATFORM};
use serde_json::{Value, json};
use sgen_api::Limits;
use sgen_store::MemoryStore;

const EVENT: &str = r#"{"id":"e1","surface":"form:x","captured_at":1}"#;

#[tokio::test]
async fn registering_a_site_again_changes_nothing() {
    let house = House::bare().await;
    let put = async |path: &str| house.ask(Method::PUT, path, PLATFORM, Value::Null).await;
    let first = put("/v1/accounts/acme/sites/shop").await.expect(201);
    assert_eq!(first.json(), json!({"account": "acme", "site": "shop"}));
    put("/v1/accounts/acme/sites/shop").await.expect(200);
    put("/v1/accounts/other/sites/shop").await.expect(409);
    put("/v1/accounts/acme/sites/platform").await.expect(409);
    put("/v1/accounts/acme/sites/Shop").await.expect(400);
    assert_eq!(house.audited("shop").await, ["site-registered"]);
}

#[tokio::test]
async fn two_registrations_at_once_make_one_site() {
    let house = House::bare().await;
    let ask = |account: &str| {
        let path = format!("/v1/accounts/{account}/sites/shop");
        let house = &house;
        async move { house.ask(Method::PUT, &path, PLATFORM, Value::Null).await.status.as_u16() }
    };
    let (a, b, c) = tokio::join!(ask("acme"), ask("acme"), ask("other"));
    let mut statuses = [a, b, c];
    statuses.sort_unstable();
    assert!(statuses == [200, 201, 409] || statuses == [201, 409, 409], "{statuses:?}");
    assert_eq!(house.audited("shop").await, ["site-registered"]);
}

#[tokio::test]
async fn an_operator_gets_one_token_which_is_stored_nowhere() {
    let house = House::bare().await;
    house.site("acme", "shop").await;
    let token = house.operator("acme", "ada").await;
    house.post("/v1/accounts/acme/operators", PLATFORM, json!({"id": "ada"})).await.expect(409);
    house.post("/v1/accounts/acme/operators", PLATFORM, json!({"id": "bo", "admin": true})).await.expect(422);
    let (_, key) = house.ingest_key("shop").await;
    let mut dump = Vec::new();
    sgen_store::Store::export(house.store.as_ref(), &mut dump).unwrap();
    let dump = String::from_utf8(dump).unwrap();
    for secret in [token.as_str(), key.as_str(), PLATFORM] {
        assert!(!dump.contains(&hex::encode(secret)), "a token is in the store");
    }
    assert_eq!(house.audited("platform").await, ["operator-added"]);
}

#[tokio::test]
async fn a_revoked_key_captures_nothing_more() {
    let house = House::bare().await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    let (id, key) = house.ingest_key("shop").await;
    let (_, other) = house.ingest_key("shop").await;
    let path = "/v1/sites/shop/environments/live/events";
    house.capture(path, &key, "application/json", EVENT).await.expect(202);
    let key_path = |id: &str| format!("/v1/sites/shop/environments/live/ingest-keys/{id}");
    house.ask(Method::DELETE, &key_path(&id), &operator, Value::Null).await.expect(204);
    house.ask(Method::DELETE, &key_path(&id), &operator, Value::Null).await.expect(404);
    house.capture(path, &key, "application/json", EVENT).await.expect(401);
    house.capture(path, &other, "application/json", EVENT).await.expect(202);
    assert_eq!(
        house.audited("shop").await,
        ["ingest-key-revoked", "ingest-key-issued", "ingest-key-issued", "site-registered"]
    );
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let house = House::on(store.clone(), None, Limits::default()).await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    let (_, key) = house.ingest_key("shop").await;
    let (revoked, gone) = house.ingest_key("shop").await;
    let revoked = format!("/v1/sites/shop/environments/live/ingest-keys/{revoked}");
    house.ask(Method::DELETE, &revoked, &operator, Value::Null).await.expect(204);
    drop(house);
    let house = House::on(store, None, Limits::default()).await;
    let path = "/v1/sites/shop/environments/live/events";
    house.capture(path, &key, "application/json", EVENT).await.expect(202);
    house.capture(path, &gone, "application/json", EVENT).await.expect(401);
    house.get("/v1/sites/shop/audit/verify", &operator).await.expect(200);
    house.ask(Method::PUT, "/v1/accounts/acme/sites/shop", PLATFORM, Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_failed_store_issues_no_token() {
    let house = House::bare().await;
    house.store.fail("the disk is full");
    house.post("/v1/accounts/acme/operators", PLATFORM, json!({"id": "ada"})).await.expect(503);
    house.ask(Method::PUT, "/v1/accounts/acme/sites/shop", PLATFORM, Value::Null).await.expect(503);
    house.get("/v1/sites/shop/audit", PLATFORM).await.expect(404);
}
