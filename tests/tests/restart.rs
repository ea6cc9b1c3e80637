//! Stopping, killing and starting again: what was acknowledged stays, what was in flight is finished or repeated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use sgen_tests::events::{Generator, Sample};
use sgen_tests::fakes::Fault;
use sgen_tests::host;
use sgen_tests::scene::{LIVE, SITE, Scene, WEBHOOK};
use sgen_tests::wait::until;

const BOUND: Duration = Duration::from_secs(90);

async fn scene(folder: &tempfile::TempDir) -> Scene {
    let scene = Scene::start(folder.path()).await.unwrap();
    let operator = scene.operator().unwrap();
    operator.configure(SITE, LIVE, &scene.webhook_instance()).await.unwrap();
    scene
}

async fn post(scene: &Scene, prefix: &str, count: usize) -> BTreeSet<String> {
    let samples: Vec<Sample> = Generator::new(21, prefix).take(count).collect();
    for batch in samples.chunks(50) {
        let events: Vec<Value> = batch.iter().map(|sample| sample.event.clone()).collect();
        scene.post(&Value::from(events)).await.unwrap();
    }
    samples.into_iter().map(|sample| sample.id).collect()
}

fn received(scene: &Scene) -> BTreeSet<String> {
    scene.downstreams.webhook.by_field("event_id").into_keys().collect()
}

#[tokio::test]
async fn a_graceful_stop_finishes_what_is_in_flight_so_that_nothing_is_delivered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(&folder).await;
    scene.downstreams.webhook.set_latency(Duration::from_millis(700));
    let ids = post(&scene, "graceful", 120).await;
    // Requests are under way when the host is told to stop.
    until("the first request", BOUND, || !scene.downstreams.webhook.requests().is_empty()).await.unwrap();
    let mut host = scene.host.take().unwrap();
    host.ask_to_stop().unwrap();
    let status = host.wait_for_end(Duration::from_secs(60)).await.unwrap();
    assert!(status.success(), "{status}: {}", host.log().unwrap());
    let before = received(&scene);
    assert!(!before.is_empty(), "what was in flight has arrived");
    scene.downstreams.webhook.set_latency(Duration::ZERO);
    scene.start_host().await.unwrap();
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!(received(&scene), ids);
    assert_eq!(scene.downstreams.webhook.summary().repeated, 0, "{} were delivered before the stop", before.len());
}

#[tokio::test]
async fn after_a_kill_everything_acknowledged_is_captured_and_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(&folder).await;
    scene.downstreams.webhook.faults().next(3, Fault::Hang);
    let ids = post(&scene, "killed", 300).await;
    scene.kill_host().await.unwrap();
    scene.downstreams.webhook.faults().clear();
    scene.start_host().await.unwrap();
    let operator = scene.operator().unwrap();
    let captured: BTreeSet<String> =
        operator.captures(SITE, LIVE).await.unwrap().into_iter().map(|capture| capture.id).collect();
    assert_eq!(captured, ids);
    let status = scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!(received(&scene), ids, "{status:?}");
    operator.verify_audit(SITE).await.unwrap();
    assert!(scene.host.take().unwrap().stop().await.unwrap().success());
    let said = scene.folder.run(&["store", "check"]).await.unwrap().expect_success().unwrap();
    assert!(said.contains("the store is whole"), "{said}");
}

#[tokio::test]
async fn tokens_instances_and_credentials_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(&folder).await;
    let before = scene.operator().unwrap().instance(WEBHOOK).await.unwrap();
    assert!(scene.host.take().unwrap().stop().await.unwrap().success());
    scene.start_host().await.unwrap();
    let after = scene.operator().unwrap().instance(WEBHOOK).await.unwrap();
    for name in ["settings", "mapping", "scope", "credentials", "revision", "enabled", "title"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    let ids = post(&scene, "after", 5).await;
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!(received(&scene), ids);
}

#[tokio::test]
async fn a_wrong_vault_key_refuses_to_start_and_the_right_one_still_opens_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(&folder).await;
    assert!(scene.host.take().unwrap().stop().await.unwrap().success());
    let (key, kept) = (scene.folder.vault_key(), folder.path().join("kept.key"));
    std::fs::rename(&key, &kept).unwrap();
    let (status, log) = scene.folder.start_refused().await.unwrap();
    assert!(!status.success() && log.contains("vault.key"), "a missing key: {log}");
    host::run(&["keys", "generate", "--out", &key.to_string_lossy()]).await.unwrap().expect_success().unwrap();
    let (status, log) = scene.folder.start_refused().await.unwrap();
    assert!(!status.success() && log.contains("key"), "a wrong key: {log}");
    std::fs::rename(&kept, &key).unwrap();
    scene.start_host().await.unwrap();
    let ids = post(&scene, "right", 3).await;
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!(received(&scene), ids);
}

#[tokio::test]
async fn a_second_host_on_the_same_store_refuses_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let elsewhere = folder.path().join("second");
    let store = scene.folder.path().join("store");
    let second = scene.folder.with_empty_store(&elsewhere).unwrap();
    let second = second.with_environment("SGEN_STORE__PATH", &store.to_string_lossy());
    let (status, log) = second.start_refused().await.unwrap();
    assert!(!status.success() && log.contains("in use by another process"), "{log}");
    let ids = post(&scene, "first", 3).await;
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!(received(&scene), ids, "the first host is not disturbed");
}

#[tokio::test]
async fn a_configuration_with_an_unknown_key_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let host = sgen_tests::host::HostFolder::create(folder.path()).await.unwrap();
    let wrong = host.with_environment("SGEN_STORE__PAHT", "x");
    let (status, log) = wrong.start_refused().await.unwrap();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.to_lowercase().contains("paht"), "{log}");
}
