//! Who may ask what: every route against every kind of token.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use http::Method;
use kit::{House, PLATFORM};
use serde_json::{Value, json};

/// What a kind of token gets from a route: anything but 401 and 403 means that it was let through.
fn admitted(status: u16) -> bool {
    status != 401 && status != 403
}

#[tokio::test]
async fn every_route_admits_exactly_the_tokens_it_is_for() {
    let house = House::bare().await;
    house.site("acme", "shop").await;
    house.site("other", "blog").await;
    let operator = house.operator("acme", "ada").await;
    let stranger = house.operator("other", "eve").await;
    let (_, ingest) = house.ingest_key("shop").await;
    let place = "/v1/sites/shop/environments/live";
    // Method, path, whether the account's operator may, whether another account's operator may.
    let routes: Vec<(Method, String, bool, bool)> = vec![
        (Method::PUT, "/v1/accounts/acme/sites/shop".into(), false, false),
        (Method::POST, "/v1/accounts/acme/operators".into(), false, false),
        (Method::POST, "/v1/platform/releases/activate".into(), false, false),
        (Method::GET, "/v1/store/backup".into(), false, false),
        (Method::POST, format!("{place}/ingest-keys"), true, false),
        (Method::DELETE, format!("{place}/ingest-keys/key-0"), true, false),
        (Method::GET, "/v1/catalog".into(), true, true),
        (Method::GET, format!("{place}/instances"), true, false),
        (Method::GET, format!("{place}/captures"), true, false),
        (Method::GET, format!("{place}/captures/e1/trace"), true, false),
        (Method::GET, "/v1/sites/shop/audit".into(), true, false),
        (Method::GET, "/v1/sites/shop/audit/verify".into(), true, false),
    ];
    for (method, path, own, others) in routes {
        let ask = async |token: &str| house.ask(method.clone(), &path, token, Value::Null).await.status.as_u16();
        assert_eq!(ask("").await, 401, "{method} {path} without a token");
        assert_eq!(ask("sgo_unknown").await, 401, "{method} {path} with an unknown token");
        assert_eq!(ask(&ingest).await, 403, "{method} {path} with an ingest key");
        assert!(admitted(ask(PLATFORM).await), "{method} {path} with the platform's token");
        assert_eq!(admitted(ask(&operator).await), own, "{method} {path} with the account's operator");
        assert_eq!(admitted(ask(&stranger).await), others, "{method} {path} with another account's operator");
    }
}

#[tokio::test]
async fn an_instance_of_another_account_is_refused_on_every_route() {
    let house = House::with_catalog().await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    let stranger = house.operator("other", "eve").await;
    let body = json!({"id": "crm-1", "connector": "crm", "settings": {"list": "1"},
        "mapping": {"email": {"from": "fields.email"}}, "credentials": {"token": "pat-0123456789"}});
    house.post("/v1/sites/shop/environments/live/instances", &operator, body).await.expect(201);
    for (method, path, body) in [
        (Method::GET, "", Value::Null),
        (Method::PATCH, "", json!({"title": "x"})),
        (Method::POST, "/enable", json!({"from": "newest"})),
        (Method::POST, "/disable", Value::Null),
        (Method::PUT, "/credentials/token", json!({"secret": "pat-9876543210"})),
        (Method::DELETE, "/credentials/token", Value::Null),
        (Method::POST, "/credentials/token/authorize", Value::Null),
        (Method::POST, "/check", Value::Null),
        (Method::GET, "/options?source=lists", Value::Null),
        (Method::GET, "/dead-letters", Value::Null),
        (Method::GET, "/log", Value::Null),
    ] {
        let path = format!("/v1/instances/crm-1{path}");
        for (token, status) in [(stranger.as_str(), 403), ("", 401)] {
            house.ask(method.clone(), &path, token, body.clone()).await.expect(status);
        }
    }
    assert_eq!(house.get("/v1/instances/crm-1", &operator).await.expect(200).json()["title"], "A CRM");
}

#[tokio::test]
async fn events_are_taken_from_the_places_own_key_only() {
    let house = House::bare().await;
    house.site("acme", "shop").await;
    house.site("acme", "blog").await;
    let operator = house.operator("acme", "ada").await;
    let (_, key) = house.ingest_key("shop").await;
    let event = r#"{"id":"e1","surface":"form:x","captured_at":1}"#;
    for (path, token, status) in [
        ("/v1/sites/shop/environments/live/events", key.as_str(), 202),
        ("/v1/sites/shop/environments/staging/events", key.as_str(), 404),
        ("/v1/sites/blog/environments/live/events", key.as_str(), 404),
        ("/v1/sites/nowhere/environments/live/events", key.as_str(), 404),
        ("/v1/sites/shop/environments/live/events", operator.as_str(), 403),
        ("/v1/sites/shop/environments/live/events", PLATFORM, 403),
        ("/v1/sites/shop/environments/live/events", "sgi_unknown", 401),
    ] {
        house.capture(path, token, "application/json", event).await.expect(status);
    }
}

#[tokio::test]
async fn refusals_are_problems_that_say_whose_they_are_and_are_recorded_once() {
    let house = House::bare().await;
    house.site("acme", "shop").await;
    let stranger = house.operator("other", "eve").await;
    let answer = house.get("/v1/catalog", "").await.expect(401);
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.json()["type"], "urn:sgen:problem:unauthenticated");
    for _ in 0..3 {
        let answer = house.get("/v1/sites/shop/audit", &stranger).await.expect(403);
        assert_eq!(answer.json()["fault"], "sender");
    }
    let recorded = house.audited("platform").await;
    assert_eq!(recorded.iter().filter(|event| *event == "access-denied").count(), 1);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let house = House::bare().await;
    for (method, path, status) in [
        (Method::GET, "/v1/nothing", 404),
        (Method::DELETE, "/v1/catalog", 405),
        (Method::GET, "/v1/instances/A%20B", 400),
    ] {
        let answer = house.ask(method, path, PLATFORM, Value::Null).await.expect(status);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert_eq!(answer.json()["status"], status, "{path}");
        assert!(answer.headers.contains_key("x-request-id"), "{path}");
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_plain() {
    let house = House::bare().await;
    let asked = |id: &'static str| {
        let request = http::Request::get("/healthz").header("x-request-id", id);
        house.send(request.body(axum::body::Body::empty()).unwrap())
    };
    assert_eq!(asked("abc-1").await.headers["x-request-id"], "abc-1");
    assert_ne!(asked("a b").await.headers["x-request-id"], "a b");
}
