//! Captured events over HTTP: what is taken, what is refused, and that a refused request leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use std::sync::Arc;

use kit::{House, PLATFORM};
use serde_json::Value;
use sgen_api::Limits;
use sgen_store::MemoryStore;

const PATH: &str = "/v1/sites/shop/environments/live/events";

fn event(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","surface":"form:contact","captured_at":"2026-11-23T10:00:00Z","fields":{{"email":"a@b.c"}}}}"#
    )
}

async fn shop(limits: Limits) -> (House, String) {
    let house = House::on(Arc::new(MemoryStore::new()), None, limits).await;
    house.site("acme", "shop").await;
    let (_, key) = house.ingest_key("shop").await;
    (house, key)
}

async fn stored(house: &House) -> Vec<String> {
    let answer = house.get("/v1/sites/shop/environments/live/captures", PLATFORM).await.expect(200).json();
    let captures = answer["captures"].as_array().unwrap().clone();
    captures.iter().rev().map(|capture| capture["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_object_an_array_and_lines_are_stored_in_order_and_answered_with_their_positions() {
    let (house, key) = shop(Limits::default()).await;
    let array = format!("[{},{}]", event("b"), event("c"));
    let lines = format!("{}\n\n{}\n", event("d"), event("e"));
    for (content_type, body, count) in [
        ("application/json", event("a"), 1),
        ("application/json; charset=utf-8", array, 2),
        ("application/x-ndjson", lines, 2),
    ] {
        let answer = house.capture(PATH, &key, content_type, body).await.expect(202).json();
        assert_eq!(answer["accepted"], count);
        assert_eq!(answer["duplicates"], 0);
        assert!(answer["events"].as_array().unwrap().iter().all(|e| e["status"] == "accepted"));
    }
    assert_eq!(stored(&house).await, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn an_event_sent_again_is_answered_as_a_duplicate_with_its_first_position() {
    let (house, key) = shop(Limits::default()).await;
    let first = house.capture(PATH, &key, "application/json", event("a")).await.expect(202).json();
    let body = format!("[{},{},{}]", event("b"), event("a"), event("b"));
    let answer = house.capture(PATH, &key, "application/json", body).await.expect(202).json();
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&Value::from(1), &Value::from(2)));
    let statuses: Vec<&str> =
        answer["events"].as_array().unwrap().iter().map(|e| e["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["accepted", "duplicate", "duplicate"]);
    assert_eq!(answer["events"][1]["sequence"], first["events"][0]["sequence"]);
    assert_eq!(stored(&house).await, ["a", "b"]);
}

#[tokio::test]
async fn a_bad_request_is_refused_whole_and_leaves_nothing_behind() {
    let (house, key) = shop(Limits::default()).await;
    let good = event("good");
    let fax = r#"{"id":"x","surface":"fax:x","captured_at":1}"#;
    let unknown = r#"{"id":"x","surface":"form:x","captured_at":1,"colour":"red"}"#;
    let large = event(&"x".repeat(256 * 1024));
    let many = format!("[{}]", vec![good.as_str(); 1001].join(","));
    let cases: Vec<(&str, String, u16, Vec<&str>)> = vec![
        ("application/json", "{".into(), 400, vec![]),
        ("application/json", String::new(), 400, vec![]),
        ("application/json", format!("[{good},{good},{good},{fax}]"), 422, vec!["events[3].surface"]),
        ("application/json", unknown.into(), 422, vec!["events[0].colour"]),
        ("application/x-ndjson", format!("{good}\n{unknown}\nnope"), 422, vec!["lines[2].colour", "lines[3]"]),
        ("application/json", format!("[{good},{large}]"), 413, vec!["events[1]"]),
        ("application/json", many, 413, vec![]),
        ("application/json", " ".repeat((8 << 20) + 1), 413, vec![]),
        ("text/plain", good.clone(), 415, vec![]),
        ("", good.clone(), 415, vec![]),
    ];
    for (content_type, body, status, fields) in cases {
        let shown: String = body.chars().take(80).collect();
        let answer = house.capture(PATH, &key, content_type, body).await;
        assert_eq!(answer.status.as_u16(), status, "{shown}: {}", answer.text);
        assert_eq!(answer.fields(), fields, "{shown}");
        assert_eq!(answer.json()["fault"], "sender", "{shown}");
    }
    assert_eq!(stored(&house).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_such() {
    let (house, key) = shop(Limits::default()).await;
    let request = http::Request::post(PATH)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(axum::body::Body::from("x"));
    house.send(request.unwrap()).await.expect(415);
}

#[tokio::test]
async fn more_than_a_sites_share_in_flight_is_refused_with_a_time_to_come_back() {
    let (house, key) = shop(Limits { body: 1000, in_flight: 1000, in_flight_per_place: 50 }).await;
    let answer = house.capture(PATH, &key, "application/json", event("a")).await.expect(429);
    assert_eq!(answer.headers["retry-after"], "1");
    let (house, key) = shop(Limits { body: 1000, in_flight: 50, in_flight_per_place: 1000 }).await;
    let answer = house.capture(PATH, &key, "application/json", event("a")).await.expect(503);
    assert_eq!(answer.json()["fault"], "platform");
    assert_eq!(stored(&house).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_failed_store_is_answered_as_unavailable_and_never_as_accepted() {
    let (house, key) = shop(Limits::default()).await;
    house.store.fail("the disk is full");
    let answer = house.capture(PATH, &key, "application/json", event("a")).await.expect(503);
    assert!(answer.headers.contains_key("retry-after"));
    assert!(!answer.text.contains("disk is full"));
    house.get("/readyz", "").await.expect(503);
    house.get("/healthz", "").await.expect(200);
}

#[tokio::test]
async fn a_large_request_is_parsed_and_stored_whole() {
    let (house, key) = shop(Limits::default()).await;
    let body: Vec<String> = (0..1000).map(|i| event(&format!("e{i}"))).collect();
    let answer = house.capture(PATH, &key, "application/x-ndjson", body.join("\n")).await.expect(202).json();
    assert_eq!(answer["accepted"], 1000);
}
