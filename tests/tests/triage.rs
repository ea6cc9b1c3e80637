//! Failures as an operator meets them: each is one item with what to do about it, and doing that mends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sgen_tests::client::{CallError, Client};
use sgen_tests::fakes::Fault;
use sgen_tests::fakes::webhook::Secret;
use sgen_tests::scene::{LIVE, SITE, Scene, WEBHOOK};
use sgen_tests::wait::eventually;

const BOUND: Duration = Duration::from_secs(90);

async fn scene(folder: &tempfile::TempDir) -> Scene {
    let scene = Scene::start(folder.path()).await.unwrap();
    scene.operator().unwrap().configure(SITE, LIVE, &scene.webhook_instance()).await.unwrap();
    scene
}

async fn call(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, CallError> {
    client.send(client.request(method, path).json(body)).await
}

/// Waits until something asked of the host holds.
async fn until<Fut: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    bound: Duration,
    mut holds: impl FnMut() -> Fut,
) -> anyhow::Result<()> {
    eventually(what, bound, || {
        let asked = holds();
        async { Ok(asked.await?.then_some(())) }
    })
    .await
}

async fn triage(scene: &Scene) -> Vec<Value> {
    let path = format!("/v1/sites/{SITE}/environments/{LIVE}/triage");
    scene.operator().unwrap().get_json(&path).await.unwrap()["items"].as_array().unwrap().clone()
}

fn event(id: &str, email: &str) -> Value {
    json!({ "id": id, "surface": "form:contact", "captured_at": "2026-11-25T10:00:00Z",
        "fields": { "email": email, "message": "hello" } })
}

/// The kinds of the site's audit records, oldest first.
async fn audited(scene: &Scene) -> Vec<String> {
    let records = scene.operator().unwrap().audit(SITE, &format!("instance={WEBHOOK}")).await.unwrap();
    records.iter().rev().map(|record| record["action"]["event"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A connector starts failing because its downstream revoked the credential; the failure surfaces with its type and the
/// downstream's response; the operator rotates the credential; the connector reconnects; both are in the audit trail.
#[tokio::test]
async fn a_revoked_credential_surfaces_once_and_its_rotation_drains_the_lane_with_both_in_the_audit_trail() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    scene.post(&event("before", "ada@example.com")).await.unwrap();
    scene.settled(WEBHOOK, BOUND).await.unwrap();

    // The receiver takes another secret from now on: what the host signs is refused with 401.
    let fresh = Secret::from_seed(99);
    scene.downstreams.webhook.set_secrets(vec![fresh.clone()]);
    let meanwhile: Vec<Value> = (0..30).map(|n| event(&format!("meanwhile-{n}"), "ada@example.com")).collect();
    scene.post(&Value::from(meanwhile)).await.unwrap();
    scene.in_state(WEBHOOK, "paused", BOUND).await.unwrap();
    let item = eventually("the item in triage", BOUND, || async { Ok(triage(&scene).await.first().cloned()) }).await;
    let item = item.unwrap();
    assert_eq!((item["class"].as_str(), item["sample"]["status"].as_u64()), (Some("auth-revoked"), Some(401)));
    assert_eq!(item["actions"][0], "rotate");
    assert!(item["suggestion"].as_str().unwrap().contains("rotate the credential"), "{item}");
    assert_eq!(triage(&scene).await.len(), 1, "one cause is one item");

    let requests = scene.downstreams.webhook.journal().total();
    scene.post(&event("while-paused", "ada@example.com")).await.unwrap();
    let status = operator.status(WEBHOOK).await.unwrap();
    assert_eq!((status.count("retrying"), status.count("dead_letters")), (0, 0), "no attempt is lost: {status:?}");
    assert_eq!(scene.downstreams.webhook.journal().total(), requests, "nothing is sent while it is paused");

    operator.rotate(WEBHOOK, "secret", fresh.text()).await.unwrap();
    let status = scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!((status.count("delivered"), status.count("dead_lettered")), (32, 0));
    scene.in_state(WEBHOOK, "active", BOUND).await.unwrap();
    until("the end of the item", BOUND, || async { Ok(triage(&scene).await.is_empty()) }).await.unwrap();

    let kinds = audited(&scene).await;
    let place =
        |kind: &str| kinds.iter().position(|known| known == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"));
    assert!(place("connector-configured") < place("failure-surfaced"));
    assert!(place("failure-surfaced") < place("credentials-rotated"));
    assert!(place("credentials-rotated") < place("failure-resolved"));
    let changes = operator.audit(SITE, "event=state-changed").await.unwrap();
    let steps: Vec<(&str, &str)> = changes
        .iter()
        .rev()
        .map(|c| (c["action"]["from"].as_str().unwrap(), c["action"]["to"].as_str().unwrap()))
        .collect();
    assert!(steps.contains(&("active", "paused")) && steps.last().is_some_and(|last| last.1 == "active"), "{steps:?}");
    operator.verify_audit(SITE).await.unwrap();
}

#[tokio::test]
async fn dead_letters_of_a_cause_are_counted_in_a_dry_run_and_replayed_and_their_item_is_resolved_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    scene.downstreams.webhook.faults().always(Fault::status(422));
    let events: Vec<Value> = (0..60).map(|n| event(&format!("refused-{n}"), "ada@example.com")).collect();
    scene.post(&Value::from(events)).await.unwrap();
    let status = scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!((status.count("dead_letters"), status.count("delivered")), (60, 0));
    let item = triage(&scene).await.remove(0);
    assert_eq!((item["dead_letters"].as_u64(), item["count"].as_u64()), (Some(60), Some(60)), "{item}");
    scene.in_state(WEBHOOK, "degraded", BOUND).await.unwrap();
    let cause = item["cause"].as_str().unwrap();

    let path = |what: &str| format!("/v1/instances/{WEBHOOK}/dead-letters{what}");
    let letter = operator.dead_letters(WEBHOOK).await.unwrap().remove(0);
    let detail = operator.get_json(&path(&format!("/{}", letter.sequence))).await.unwrap();
    assert_eq!(detail["tried"].as_array().unwrap().len(), 1, "{detail}");
    assert!(detail["fields"].as_str().unwrap().contains("ada@example.com"), "what was sent is shown: {detail}");

    let dry =
        call(&operator, Method::POST, &path("/replay"), &json!({ "cause": cause, "dry_run": true })).await.unwrap();
    assert_eq!((dry["matched"]["count"].as_u64(), dry.get("job")), (Some(60), None), "{dry}");
    assert_eq!(scene.settled(WEBHOOK, BOUND).await.unwrap().count("dead_letters"), 60, "a dry run changes nothing");

    // One is discarded by itself; the others are replayed once the downstream takes them.
    let one = json!({ "sequence": letter.sequence });
    call(&operator, Method::POST, &path("/discard"), &one).await.unwrap();
    until("the discard", BOUND, || async { Ok(operator.status(WEBHOOK).await?.count("discarded") == 1) })
        .await
        .unwrap();
    scene.downstreams.webhook.faults().clear();
    let begun = call(&operator, Method::POST, &path("/replay"), &json!({ "cause": cause })).await.unwrap();
    assert_eq!(begun["matched"]["count"], 59, "{begun}");
    until("the replay", BOUND, || async {
        let status = operator.status(WEBHOOK).await?;
        Ok(status.count("delivered") == 59 && status.count("dead_letters") == 0)
    })
    .await
    .unwrap();
    until("the end of the item", BOUND, || async { Ok(triage(&scene).await.is_empty()) }).await.unwrap();
    scene.in_state(WEBHOOK, "active", BOUND).await.unwrap();
    let received = scene.downstreams.webhook.by_field("event_id");
    assert_eq!(received.len(), 59);
    let trace = operator.trace(SITE, LIVE, &letter.event_id).await.unwrap();
    assert_eq!(trace["instances"][0]["outcome"], "discarded", "{trace}");
    let kinds = audited(&scene).await;
    for kind in ["dead-letters-replayed", "dead-letters-discarded", "failure-resolved"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind}: {kinds:?}");
    }
}

#[tokio::test]
async fn a_failing_mapping_is_mended_and_its_dead_letters_are_mapped_anew() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let operator = scene.operator().unwrap();
    let mut hubspot = scene.hubspot_instance();
    hubspot.mapping = json!({ "email": { "from": "fields.e_mail" } });
    operator.configure(SITE, LIVE, &hubspot).await.unwrap();
    let id = hubspot.id.clone().unwrap();
    scene.post(&event("unmapped", "ada@example.com")).await.unwrap();
    let status = scene.settled(&id, BOUND).await.unwrap();
    assert_eq!(status.count("dead_letters"), 1);
    let item = triage(&scene).await.remove(0);
    assert_eq!(
        (item["cause"].as_str(), item["actions"][0].as_str()),
        (Some("schema-mismatch/email"), Some("fix-mapping"))
    );

    operator.change(&id, &json!({ "mapping": { "email": { "from": "fields.email" } } })).await.unwrap();
    let path = format!("/v1/instances/{id}/dead-letters/replay");
    call(&operator, Method::POST, &path, &json!({ "all": true })).await.unwrap();
    until("the replay", BOUND, || async { Ok(operator.status(&id).await?.count("delivered") == 1) }).await.unwrap();
    assert_eq!(scene.downstreams.hubspot.trace("unmapped").written, 1);
}

#[tokio::test]
async fn platform_support_gets_the_facts_of_an_item_and_nothing_that_was_captured() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    scene.downstreams.webhook.faults().always(Fault::status(422));
    scene.post(&event("secretive", "very-private@example.com")).await.unwrap();
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    let cause = triage(&scene).await.remove(0)["cause"].as_str().unwrap().to_owned();
    let path = format!("/v1/instances/{WEBHOOK}/escalate");
    let bundle = call(&operator, Method::POST, &path, &json!({ "cause": cause, "note": "please look" })).await.unwrap();
    let text = bundle.to_string();
    assert!(!text.contains("very-private") && !text.contains(&scene.downstreams.webhook.hook_url()), "{text}");
    assert_eq!(bundle["failures"][0]["failed"][0]["failure"]["status"], 422, "{bundle}");
    let listed = scene.platform().unwrap().get_json("/v1/platform/escalations").await.unwrap();
    assert_eq!(listed["escalations"][0]["id"], bundle["id"]);
    let refused = operator.get_json("/v1/platform/escalations").await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 403);
    assert!(!triage(&scene).await[0]["escalated_at"].is_null());
    let unknown = call(&operator, Method::POST, &path, &json!({ "cause": "nothing/here" })).await.unwrap_err();
    assert_eq!(unknown.problem().unwrap().status, 404);
}

#[tokio::test]
async fn a_person_who_asks_to_be_forgotten_is_in_no_answer_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    scene.downstreams.webhook.faults().always(Fault::status(422));
    scene.post(&json!([event("hers", "Forget.Me@example.com"), event("his", "keep@example.com")])).await.unwrap();
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    scene.downstreams.webhook.faults().clear();
    let path = format!("/v1/sites/{SITE}/environments/{LIVE}/captures/erase");
    let body = json!({ "field": "fields.email", "value": "forget.me@example.com" });
    assert_eq!(call(&operator, Method::POST, &path, &body).await.unwrap()["erased"], 1);

    let captures = operator.get_json(&format!("/v1/sites/{SITE}/environments/{LIVE}/captures")).await.unwrap();
    let letters = operator.get_json(&format!("/v1/instances/{WEBHOOK}/dead-letters")).await.unwrap();
    let log = operator.get_json(&format!("/v1/instances/{WEBHOOK}/log")).await.unwrap();
    for answer in [&captures, &letters, &log] {
        assert!(!answer.to_string().to_lowercase().contains("forget.me"), "{answer}");
    }
    assert!(captures.to_string().contains("keep@example.com"));
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 1);
    let trace = operator.trace(SITE, LIVE, "hers").await.unwrap();
    assert_eq!(trace["instances"][0]["outcome"], "erased", "{trace}");
    let records = operator.audit(SITE, "event=events-erased").await.unwrap();
    assert_eq!(
        (records[0]["action"]["count"].as_u64(), records[0]["action"]["field"].as_str()),
        (Some(1), Some("fields.email"))
    );
}

#[tokio::test]
async fn captures_are_listed_by_surface_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    let tap =
        json!({ "id": "tap", "surface": "phone-tap:header", "captured_at": "2026-11-25T10:00:00Z", "fields": {} });
    scene.post(&json!([event("form", "ada@example.com"), tap])).await.unwrap();
    let path = |query: &str| format!("/v1/sites/{SITE}/environments/{LIVE}/captures?{query}");
    let ids = |answer: &Value| -> Vec<String> {
        answer["captures"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&operator.get_json(&path("surface=phone-tap:*")).await.unwrap()), ["tap"]);
    assert_eq!(ids(&operator.get_json(&path("surface=form:contact,phone-tap:*")).await.unwrap()), ["tap", "form"]);
    assert_eq!(ids(&operator.get_json(&path("since=2100-01-01T00:00:00Z")).await.unwrap()), Vec::<String>::new());
    assert_eq!(ids(&operator.get_json(&path("until=2100-01-01T00:00:00Z")).await.unwrap()).len(), 2);
    let refused = operator.get_json(&path("surface=nonsense")).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 400);
}

#[tokio::test]
async fn events_of_a_key_arrive_in_order_although_the_first_has_to_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let operator = scene.operator().unwrap();
    let mut webhook = serde_json::to_value(scene.webhook_instance()).unwrap();
    webhook["order"] = json!({ "key": "email" });
    let path = format!("/v1/sites/{SITE}/environments/{LIVE}/instances");
    call(&operator, Method::POST, &path, &webhook).await.unwrap();
    scene.downstreams.webhook.faults().next(1, Fault::status(503));
    let events: Vec<Value> = (0..12)
        .map(|n| event(&format!("ordered-{n:02}"), if n % 2 == 0 { "even@example.com" } else { "odd@example.com" }))
        .collect();
    scene.post(&Value::from(events)).await.unwrap();
    let status = scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!((status.count("delivered"), status.count("dead_lettered")), (12, 0));
    let mut arrived: Vec<String> = Vec::new();
    for request in scene.downstreams.webhook.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let id = body["data"]["event_id"].as_str().unwrap().to_owned();
        if !arrived.contains(&id) {
            arrived.push(id);
        }
    }
    for parity in 0..2 {
        let of_key: Vec<&String> = arrived.iter().filter(|id| id[8..].parse::<u32>().unwrap() % 2 == parity).collect();
        assert!(of_key.is_sorted() && of_key.len() == 6, "{arrived:?}");
    }
    let refused = operator.change(WEBHOOK, &json!({ "order": { "key": "nowhere" } })).await.unwrap_err();
    assert!(refused.problem().unwrap().names("order"));
}
