//! The platform's keys over HTTP, and the erasure of a site.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kit::{House, PLATFORM, release};
use serde_json::{Value, json};
use sgen_api::Limits;
use sgen_store::{Keyspace, MemoryStore, Store as _};

const EVENTS: &str = "/v1/sites/shop/environments/live/events";
const EVENT: &str = r#"{"id":"e1","surface":"form:x","captured_at":1,"fields":{"email":"ada@example.org"}}"#;

async fn until<F: Future<Output = bool>>(mut seen: impl FnMut() -> F) {
    for _ in 0..1_000 {
        if seen().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it was not seen in time");
}

fn instance() -> Value {
    json!({"id": "crm-1", "connector": "crm", "settings": {"list": "1"}, "mapping": {"email": {"from": "fields.email"}},
        "credentials": {"token": "pat-0123456789abcdef"}})
}

async fn records_under_older_keys(house: &House) -> Option<u64> {
    let keys = house.get("/v1/platform/keys?count=true", PLATFORM).await.expect(200).json();
    let shop = keys["owners"].as_array().unwrap().iter().find(|owner| owner["site"] == "shop").unwrap().clone();
    let older = shop["keys"].as_array().unwrap().iter().skip(1);
    older.map(|key| key["records"].as_u64()).sum()
}

#[tokio::test]
async fn rotated_keys_seal_everything_anew_and_the_next_start_removes_the_earlier_ones() {
    let store = Arc::new(MemoryStore::new());
    let house = House::on(store.clone(), Some(release()), Limits::default()).await;
    house.site("acme", "shop").await;
    let (_, key) = house.ingest_key("shop").await;
    house.post("/v1/sites/shop/environments/live/instances", PLATFORM, instance()).await.expect(201);
    house.capture(EVENTS, &key, "application/json", EVENT).await.expect(202);
    let rotated = house.post("/v1/platform/keys/rotate", PLATFORM, json!({"site": "shop"})).await.expect(200).json();
    assert_eq!(rotated["rotated"][0]["site"], "shop");
    until(async || records_under_older_keys(&house).await == Some(0)).await;
    house.get("/v1/sites/shop/environments/live/captures", PLATFORM).await.expect(200);
    drop(house);
    let house = House::on(store, Some(release()), Limits::default()).await;
    until(async || house.audited("shop").await.first().is_some_and(|event| event == "data-keys-removed")).await;
    let captures = house.get("/v1/sites/shop/environments/live/captures", PLATFORM).await.expect(200).json();
    assert_eq!(captures["captures"].as_array().unwrap().len(), 1);
    assert!(house.audited("shop").await.iter().any(|event| event == "data-key-rotated"));
}

#[tokio::test]
async fn only_the_platform_sees_and_rotates_keys() {
    let house = House::with_catalog().await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    house.get("/v1/platform/keys", &operator).await.expect(403);
    house.post("/v1/platform/keys/rotate", &operator, json!({})).await.expect(403);
    house.post("/v1/platform/keys/rotate", PLATFORM, json!({"site": "nowhere"})).await.expect(404);
    house.post("/v1/platform/keys/rotate", PLATFORM, json!({"sites": "shop"})).await.expect(422);
    let keys = house.get("/v1/platform/keys", PLATFORM).await.expect(200).json();
    assert!(keys["owners"][0]["keys"][0]["records"].is_null(), "records are counted only when that is asked for");
    let done = house.post("/v1/platform/keys/rewrap", PLATFORM, json!({})).await.expect(200).json();
    assert_eq!((&done["key"], &done["owners"], &done["retired"]), (&keys["outer_key"], &json!(0), &json!([])));
}

#[tokio::test]
async fn an_erased_site_is_gone_for_good_and_its_neighbour_is_not() {
    let store = Arc::new(MemoryStore::new());
    let house = House::on(store.clone(), Some(release()), Limits::default()).await;
    for site in ["shop", "shop-2"] {
        house.site("acme", site).await;
    }
    let operator = house.operator("acme", "ada").await;
    let (_, key) = house.ingest_key("shop").await;
    let (_, other_key) = house.ingest_key("shop-2").await;
    house.post("/v1/sites/shop/environments/live/instances", PLATFORM, instance()).await.expect(201);
    house.capture(EVENTS, &key, "application/json", EVENT).await.expect(202);
    let other = "/v1/sites/shop-2/environments/live/events";
    house.capture(other, &other_key, "application/json", EVENT).await.expect(202);

    let path = "/v1/accounts/acme/sites/shop";
    let erase = async |path: &str, token: &str, body: Value| house.ask(Method::DELETE, path, token, body).await;
    erase(path, &operator, json!({"confirm": "shop"})).await.expect(403);
    assert_eq!(erase(path, PLATFORM, json!({"confirm": "shop-2"})).await.expect(422).fields(), ["confirm"]);
    erase(path, PLATFORM, json!({})).await.expect(422);
    erase("/v1/accounts/other/sites/shop", PLATFORM, json!({"confirm": "shop"})).await.expect(404);
    house.capture(EVENTS, &key, "application/json", EVENT).await.expect(202);
    let erased = erase(path, PLATFORM, json!({"confirm": "shop"})).await.expect(200).json();
    assert_eq!(erased["instances"], json!(["crm-1"]));

    house.capture(EVENTS, &key, "application/json", EVENT).await.expect(401);
    house.get("/v1/instances/crm-1", PLATFORM).await.expect(404);
    house.get("/v1/sites/shop/audit", &operator).await.expect(404);
    erase(path, PLATFORM, json!({"confirm": "shop"})).await.expect(404);
    house.ask(Method::PUT, path, PLATFORM, Value::Null).await.expect(409);
    assert_eq!(house.audited("shop").await[0], "site-erased");
    let left = || {
        [Keyspace::Log, Keyspace::LogIndex, Keyspace::Credential, Keyspace::Instance, Keyspace::Lane]
            .iter()
            .flat_map(|keyspace| store.scan(*keyspace, b"", b"", 100).unwrap())
            .filter(|(key, _)| key.starts_with(b"shop/") || key.starts_with(b"crm-1"))
            .count()
    };
    until(async || left() == 0).await;
    drop(house);

    let house = House::on(store.clone(), Some(release()), Limits::default()).await;
    house.ask(Method::PUT, path, PLATFORM, Value::Null).await.expect(409);
    house.get("/v1/sites/shop/audit/verify", PLATFORM).await.expect(200);
    let captures = house.get("/v1/sites/shop-2/environments/live/captures", &operator).await.expect(200).json();
    assert_eq!(captures["captures"].as_array().unwrap().len(), 1);
}
