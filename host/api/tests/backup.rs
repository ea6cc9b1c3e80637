//! The backup of a running host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use std::sync::Arc;

use kit::{House, PLATFORM};
use serde_json::Value;
use sgen_api::Limits;
use sgen_store::{MemoryStore, verify_backup};

#[tokio::test]
async fn a_host_on_a_restored_store_knows_the_same_sites_tokens_captures_and_audit_log() {
    let house = House::bare().await;
    house.site("acme", "shop").await;
    let operator = house.operator("acme", "ada").await;
    let (_, key) = house.ingest_key("shop").await;
    let event = r#"{"id":"e1","surface":"form:x","captured_at":1,"fields":{"email":"ada@example.org"}}"#;
    house.capture("/v1/sites/shop/environments/live/events", &key, "application/json", event).await.expect(202);
    let answer = house.get("/v1/store/backup", PLATFORM).await.expect(200);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    assert!(!answer.text.contains(&hex::encode("ada@example.org")), "a captured field is not sealed");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.jsonl");
    std::fs::write(&file, &answer.text).unwrap();
    verify_backup(&file, &mut |_| ()).unwrap();

    let restored = House::on(Arc::new(MemoryStore::restored(&file).unwrap()), None, Limits::default()).await;
    for path in ["/v1/sites/shop/environments/live/captures", "/v1/sites/shop/audit", "/v1/sites/shop/audit/verify"] {
        let (before, after): (Value, Value) = (
            house.get(path, &operator).await.expect(200).json(),
            restored.get(path, &operator).await.expect(200).json(),
        );
        assert_eq!(before, after, "{path}");
    }
    let again = r#"{"id":"e1","surface":"form:x","captured_at":1}"#;
    restored.capture("/v1/sites/shop/environments/live/events", &key, "application/json", again).await.expect(202);
    let captures = restored.get("/v1/sites/shop/environments/live/captures", &operator).await.expect(200).json();
    assert_eq!(
        captures["captures"].as_array().unwrap().len(),
        1,
        "an event that was stored before the backup is known"
    );
}

#[tokio::test]
async fn a_failed_store_is_answered_as_a_problem_and_not_as_a_backup() {
    let house = House::bare().await;
    house.store.fail("no space left");
    let answer = house.get("/v1/store/backup", PLATFORM).await.expect(503);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}
