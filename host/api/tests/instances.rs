//! Configuring connector instances over HTTP: what is answered, what is refused, and that no secret comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use http::{Method, Request};
use kit::{House, PLATFORM};
use serde_json::{Value, json};

const SECRET: &str = "pat-0123456789abcdef";
const LIST: &str = "/v1/sites/shop/environments/live/instances";

fn instance() -> Value {
    json!({"id": "crm-1", "connector": "crm", "settings": {"list": "1"}, "mapping": {"email": {"from": "fields.email"}},
        "credentials": {"token": SECRET}})
}

async fn shop() -> (House, String) {
    let house = House::with_catalog().await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    (house, operator)
}

#[tokio::test]
async fn an_instance_is_configured_shown_and_listed_without_its_secret() {
    let (house, operator) = shop().await;
    let made = house.post(LIST, &operator, instance()).await.expect(201);
    let shown = house.get("/v1/instances/crm-1", &operator).await.expect(200);
    let listed = house.get(LIST, &operator).await.expect(200);
    for answer in [&made, &shown, &listed] {
        assert!(!answer.text.contains(SECRET), "{}", answer.text);
    }
    let view = shown.json();
    assert_eq!(view["connector"], "crm");
    assert_eq!(view["scope"], json!(["form:*"]));
    assert_eq!(view["enabled"], true);
    assert_eq!(view["credentials"]["token"]["version"], 1);
    assert!(view["status"].is_object());
    assert_eq!(shown.headers["etag"], format!("\"{}\"", view["revision"]));
    assert_eq!(listed.json()["instances"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_named_field_by_field() {
    let (house, operator) = shop().await;
    let change = |key: &str, value: Value| {
        let mut body = instance();
        body[key] = value;
        body
    };
    for (body, field) in [
        (change("connector", json!("nothing")), "connector"),
        (change("settings", json!({})), "settings"),
        (change("settings", json!({"list": 7})), "settings"),
        (change("mapping", json!({"nothing": {"from": "fields.email"}})), "mapping"),
        (change("mapping", json!({"email": {"form": "x"}})), "mapping"),
        (change("scope", json!(["fax:*"])), "scope"),
        (change("credentials", json!({})), "credentials"),
        (change("credentials", json!({"token": 12_345_678})), "credentials.token"),
        (change("id", json!("A B")), "id"),
        (change("colour", json!("red")), "colour"),
    ] {
        let answer = house.post(LIST, &operator, body.clone()).await;
        assert_eq!(answer.status.as_u16(), 422, "{body}: {}", answer.text);
        assert!(answer.fields().iter().any(|it| it.starts_with(field)), "{body}: {}", answer.text);
        assert!(!answer.text.contains(SECRET) && !answer.text.contains("12345678"), "{}", answer.text);
    }
    assert_eq!(house.get(LIST, &operator).await.expect(200).json()["instances"], json!([]));
}

#[tokio::test]
async fn a_change_on_an_old_revision_is_refused() {
    let (house, operator) = shop().await;
    let made = house.post(LIST, &operator, instance()).await.expect(201);
    let revision = made.json()["revision"].as_u64().unwrap();
    let patch = |revision: u64, title: &str| {
        let request = Request::patch("/v1/instances/crm-1")
            .header("authorization", format!("Bearer {operator}"))
            .header("content-type", "application/json")
            .header("if-match", format!("\"{revision}\""))
            .body(axum::body::Body::from(json!({"title": title}).to_string()));
        house.send(request.unwrap())
    };
    let changed = patch(revision, "new").await.expect(200).json();
    assert_eq!(changed["title"], "new");
    assert!(changed["revision"].as_u64().unwrap() > revision);
    let answer = patch(revision, "newer").await.expect(412);
    assert_eq!(answer.json()["type"], "urn:sgen:problem:precondition-failed");
    house.post(LIST, &operator, instance()).await.expect(409);
}

#[tokio::test]
async fn disabling_enabling_and_rotating_are_answered_and_audited() {
    let (house, operator) = shop().await;
    house.post(LIST, &operator, instance()).await.expect(201);
    let disabled = house.post("/v1/instances/crm-1/disable", &operator, json!({"reason": "holiday"})).await.expect(200);
    assert_eq!(disabled.json()["enabled"], false);
    house.post("/v1/instances/crm-1/enable", &operator, json!({})).await.expect(422);
    house.post("/v1/instances/crm-1/enable", &operator, json!({"from": "oldest"})).await.expect(422);
    let enabled = house.post("/v1/instances/crm-1/enable", &operator, json!({"from": "newest"})).await.expect(200);
    assert_eq!(enabled.json()["enabled"], true);
    let path = "/v1/instances/crm-1/credentials/token";
    let rotated = house.ask(Method::PUT, path, &operator, json!({"secret": "pat-fedcba9876543210"})).await.expect(200);
    assert_eq!(rotated.json()["version"], 2);
    assert!(!rotated.text.contains("fedcba"));
    house.ask(Method::PUT, path, &operator, json!({"secret": "short"})).await.expect(422);
    let unknown = "/v1/instances/crm-1/credentials/nothing";
    house.ask(Method::PUT, unknown, &operator, json!({"secret": SECRET})).await.expect(404);
    let events = house.audited("shop").await;
    for event in ["connector-configured", "connector-disabled", "connector-enabled", "credentials-rotated"] {
        assert!(events.iter().any(|it| it == event), "{event} is not in {events:?}");
    }
    let audit = house.get("/v1/sites/shop/audit?event=connector-disabled&limit=1", &operator).await.expect(200);
    assert_eq!(audit.json()["records"][0]["actor"], json!({"kind": "operator", "id": "ada"}));
    assert!(!audit.text.contains(SECRET));
}

#[tokio::test]
async fn the_catalog_says_what_to_fill_in() {
    let (house, operator) = shop().await;
    let catalog = house.get("/v1/catalog", &operator).await.expect(200).json();
    assert_eq!(catalog["version"], "2026.11.0");
    let entry = &catalog["entries"][0];
    assert_eq!((&entry["id"], &entry["type"]), (&json!("crm"), &json!("crm")));
    assert_eq!(entry["settings"]["required"], json!(["list"]));
    assert_eq!(entry["credentials"]["token"]["accepts"], json!(["api-key"]));
    assert_eq!(entry["mapping"]["email"]["required"], true);
    assert_eq!(entry["scope"], json!(["form:*"]));
    let again = house.post("/v1/platform/releases/activate", PLATFORM, Value::Null).await.expect(200).json();
    assert_eq!(again["connectors"], 2);
    assert_eq!(house.get("/readyz", "").await.expect(200).json()["catalog"], "2026.11.0");
}

#[tokio::test]
async fn without_a_catalog_nothing_is_configured_and_nothing_is_ready() {
    let house = House::bare().await;
    house.site("acme", "shop").await;
    house.get("/v1/catalog", PLATFORM).await.expect(503);
    house.get("/readyz", "").await.expect(503);
    house.post(LIST, PLATFORM, instance()).await.expect(503);
    let refused = house.post("/v1/platform/releases/activate", PLATFORM, Value::Null).await.expect(409);
    assert_eq!(refused.json()["type"], "urn:sgen:problem:release-refused");
    assert_eq!(refused.json()["fault"], "platform");
}

#[tokio::test]
async fn unknown_things_are_not_found_and_bad_queries_are_named() {
    let (house, operator) = shop().await;
    for (path, status) in [
        ("/v1/instances/nothing", 404),
        ("/v1/sites/nowhere/audit", 404),
        ("/v1/sites/shop/environments/live/captures/e1/trace", 404),
        ("/v1/sites/shop/audit?limt=1", 400),
        ("/v1/sites/shop/audit?limit=0", 400),
        ("/v1/sites/shop/audit?limit=1001", 400),
        ("/v1/sites/shop/audit?since=yesterday", 400),
        ("/v1/sites/shop/audit?since=2026-11-23T00:00:00Z&until=1", 200),
        ("/v1/sites/shop/environments/live/captures?before=x", 400),
    ] {
        let answer = house.get(path, &operator).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_openapi_document_is_served() {
    let house = House::bare().await;
    let document = house.get("/openapi.json", "").await.expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/instances/{id}"]["patch"].is_object());
}
