//! A downstream that resets, hangs, redirects, floods or refuses: each loses nothing, and says what happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod release;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sgen_tests::events::{Generator, Kind, Sample};
use sgen_tests::fakes::{Fault, Rule};
use sgen_tests::host::HostFolder;
use sgen_tests::scene::{Downstreams, HUBSPOT, HUBSPOT_TOKEN, LIVE, SITE, Scene, WEBHOOK};
use sgen_tests::wait::{eventually, until};

/// Long enough for several retries of the first, short waits.
const BOUND: Duration = Duration::from_secs(90);

/// A scene whose connectors wait two seconds for their downstreams.
async fn scene(folder: &tempfile::TempDir) -> Scene {
    let platform = release::Platform::create(folder.path());
    let catalog = folder.path().join("catalog");
    platform.release(&catalog, 1);
    let downstreams = Downstreams::start().await.unwrap();
    let host = HostFolder::create_on(&folder.path().join("host"), &catalog).await.unwrap();
    let scene = Scene::start_with_root(downstreams, host, platform.root()).await.unwrap();
    scene.configure_both().await.unwrap();
    scene
}

async fn post(scene: &Scene, kind: Kind) -> Sample {
    let prefix = format!("{kind:?}-{}", fastrand::u32(..)).to_lowercase();
    let sample = Generator::new(3, &prefix).sample_of(kind);
    scene.post(&sample.event).await.unwrap();
    sample
}

/// The failures in an instance's integration log, newest first.
async fn failures(scene: &Scene, instance: &str) -> Vec<Value> {
    let log = scene.operator().unwrap().log(instance, 100).await.unwrap();
    let failed = log.iter().flat_map(|entry| entry["failed"].as_array().cloned().unwrap_or_default());
    failed.map(|entry| entry["failure"].clone()).collect()
}

#[tokio::test]
async fn what_a_downstream_resets_cuts_off_or_leaves_unanswered_is_delivered_when_it_answers_again() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    for fault in [Fault::Reset, Fault::Truncate, Fault::Hang, Fault::status(503)] {
        scene.downstreams.webhook.faults().next(1, fault.clone());
        let sample = post(&scene, Kind::Custom).await;
        scene.settled(WEBHOOK, BOUND).await.unwrap();
        let received = scene.downstreams.webhook.by_field("event_id");
        assert_eq!(received.get(&sample.id), Some(&1), "{fault:?}");
        let failures = failures(&scene, WEBHOOK).await;
        assert_eq!(failures[0]["class"], "unavailable", "{fault:?}: {failures:?}");
    }
    let status = scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!((status.count("delivered"), status.count("dead_lettered")), (4, 0));
}

#[tokio::test]
async fn an_answer_of_ten_megabytes_is_cut_off_and_the_event_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    scene.downstreams.webhook.faults().next(1, Fault::Large { bytes: 10_000_000 });
    scene.downstreams.hubspot.faults().next(1, Fault::Large { bytes: 10_000_000 });
    let sample = post(&scene, Kind::Contact).await;
    for instance in [WEBHOOK, HUBSPOT] {
        let status = scene.settled(instance, BOUND).await.unwrap();
        assert_eq!((status.count("delivered"), status.count("dead_lettered")), (1, 0), "{instance}: {status:?}");
        let failures = failures(&scene, instance).await;
        let message = failures[0]["message"].as_str().unwrap();
        assert!(message.contains("65536") || message.contains("64 KiB") || message.contains("bytes"), "{message}");
    }
    assert_eq!(scene.downstreams.hubspot.trace(&sample.id).written, 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_event_is_a_dead_letter_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let elsewhere = format!("{}/elsewhere", scene.downstreams.hubspot.url());
    scene.downstreams.webhook.faults().next(1, Fault::Redirect { to: elsewhere });
    let sample = post(&scene, Kind::Custom).await;
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    let letters = scene.operator().unwrap().dead_letters(WEBHOOK).await.unwrap();
    assert_eq!((letters.len(), letters[0].event_id.as_str()), (1, sample.id.as_str()));
    assert_eq!((letters[0].class(), &letters[0].failure["status"]), ("rejected", &json!(302)));
    assert!(letters[0].message().contains("redirects are not followed"), "{}", letters[0].message());
    assert_eq!(scene.downstreams.hubspot.journal().under("/elsewhere").len(), 0, "nobody was asked elsewhere");
}

#[tokio::test]
async fn a_revoked_credential_pauses_delivery_and_its_rotation_drains_it_without_a_lost_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let hubspot = &scene.downstreams.hubspot;
    hubspot.set_tokens(["pat-eu1-the-next-token"]);
    let first = post(&scene, Kind::Contact).await;
    let status = scene.in_state(HUBSPOT, "paused", BOUND).await.unwrap();
    assert_eq!(status.0["failure"]["class"], "auth-revoked", "{status:?}");
    let asked = hubspot.journal().total();
    let second = post(&scene, Kind::Newsletter).await;
    // The other instance of the site goes on meanwhile.
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!(hubspot.journal().total(), asked, "a paused lane asks nobody");
    let operator = scene.operator().unwrap();
    let surfaced = operator.audit(SITE, &format!("event=failure-surfaced&instance={HUBSPOT}")).await.unwrap();
    assert_eq!(surfaced[0]["action"]["class"], "auth-revoked");

    operator.rotate(HUBSPOT, "token", "pat-eu1-the-next-token").await.unwrap();
    let status = scene.settled(HUBSPOT, BOUND).await.unwrap();
    assert_eq!((status.state(), status.count("delivered"), status.count("dead_lettered")), ("active", 2, 0));
    for sample in [first, second] {
        assert_eq!(hubspot.trace(&sample.id).written, 1);
    }
    let resolved = eventually("the resolution of the failure", BOUND, || async {
        let records = operator.audit(SITE, &format!("event=failure-resolved&instance={HUBSPOT}")).await?;
        Ok((!records.is_empty()).then_some(records))
    })
    .await
    .unwrap();
    assert_eq!(resolved[0]["action"]["cause"], surfaced[0]["action"]["cause"]);
}

#[tokio::test]
async fn a_credential_without_the_permission_pauses_delivery_until_it_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    scene.downstreams.hubspot.set_lacks_scope(true);
    post(&scene, Kind::Contact).await;
    let status = scene.in_state(HUBSPOT, "paused", BOUND).await.unwrap();
    assert_eq!(status.0["failure"]["class"], "permission-denied", "{status:?}");
    scene.downstreams.hubspot.set_lacks_scope(false);
    scene.operator().unwrap().rotate(HUBSPOT, "token", HUBSPOT_TOKEN).await.unwrap();
    assert_eq!(scene.settled(HUBSPOT, BOUND).await.unwrap().count("delivered"), 1);
}

#[tokio::test]
async fn retry_after_is_honoured_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    scene.downstreams.hubspot.faults().next(1, Fault::too_many(4));
    post(&scene, Kind::Contact).await;
    until("the refusal", BOUND, || !scene.downstreams.hubspot.journal().under("/crm/v3/objects").is_empty())
        .await
        .unwrap();
    let second = post(&scene, Kind::Newsletter).await;
    scene.settled(HUBSPOT, BOUND).await.unwrap();
    let asked = scene.downstreams.hubspot.journal().under("/crm/v3/objects");
    let (refused, next) = (&asked[0], &asked[1]);
    assert_eq!(refused.status, Some(429));
    let waited = next.at.duration_since(refused.at);
    assert!(waited >= Duration::from_secs(4), "the next request came after {waited:?}");
    assert_eq!(scene.downstreams.hubspot.trace(&second.id).written, 1);
    assert_eq!(scene.settled(HUBSPOT, BOUND).await.unwrap().count("dead_lettered"), 0);
}

#[tokio::test]
async fn a_hanging_downstream_does_not_slow_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    scene.downstreams.hubspot.faults().always(Fault::Hang);
    let began = Instant::now();
    let samples: Vec<Sample> = Generator::new(9, "busy").filter(|s| s.kind.is_form()).take(100).collect();
    for batch in samples.chunks(20) {
        let events: Vec<Value> = batch.iter().map(|sample| sample.event.clone()).collect();
        scene.post(&Value::from(events)).await.unwrap();
    }
    let status = scene.settled(WEBHOOK, Duration::from_secs(20)).await.unwrap();
    assert_eq!(status.count("delivered"), 100, "{status:?} after {:?}", began.elapsed());
    assert_eq!(scene.operator().unwrap().status(HUBSPOT).await.unwrap().count("delivered"), 0);
    scene.downstreams.hubspot.faults().clear();
    let status = scene.settled(HUBSPOT, BOUND).await.unwrap();
    assert_eq!(status.count("delivered") + status.count("dead_lettered"), 100, "{status:?}");
}

#[tokio::test]
async fn an_event_that_alone_is_too_large_for_the_downstream_is_a_dead_letter_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let too_large = Fault::Status { status: 413, headers: Vec::new(), body: "{}".to_owned() };
    scene.downstreams.webhook.faults().add(Rule { path: None, times: Some(1), fault: too_large });
    let refused = post(&scene, Kind::Custom).await;
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    let next = post(&scene, Kind::PhoneTap).await;
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    let letters = scene.operator().unwrap().dead_letters(WEBHOOK).await.unwrap();
    assert_eq!(
        (letters.len(), letters[0].event_id.as_str(), letters[0].class()),
        (1, refused.id.as_str(), "too-large")
    );
    assert!(scene.downstreams.webhook.by_field("event_id").contains_key(&next.id));
}

#[tokio::test]
async fn a_receiver_that_is_gone_pauses_delivery_until_the_operator_points_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    scene.downstreams.webhook.faults().add(Rule {
        path: Some("/hooks/captures".to_owned()),
        times: None,
        fault: Fault::status(410),
    });
    let sample = post(&scene, Kind::Custom).await;
    let status = scene.in_state(WEBHOOK, "paused", BOUND).await.unwrap();
    assert_eq!(status.0["failure"]["class"], "gone", "{status:?}");
    let url = format!("{}/elsewhere", scene.downstreams.webhook.url());
    scene.operator().unwrap().change(WEBHOOK, &json!({ "settings": { "url": url } })).await.unwrap();
    assert_eq!(scene.settled(WEBHOOK, BOUND).await.unwrap().count("delivered"), 1);
    assert_eq!(scene.downstreams.webhook.by_field("event_id").get(&sample.id), Some(&1));
    let trace = scene.operator().unwrap().trace(SITE, LIVE, &sample.id).await.unwrap();
    assert!(trace.to_string().contains("\"delivered\""));
}

#[tokio::test]
async fn a_refusal_that_arrives_after_the_operator_has_changed_something_strands_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let webhook = &scene.downstreams.webhook;
    webhook.set_latency(Duration::from_secs(1));
    webhook.faults().next(1, Fault::status(401));
    let sample = post(&scene, Kind::Custom).await;
    // The receiver has taken the request and answers it a second later: under the configuration of before.
    until("the request is under way", BOUND, || webhook.faults().is_empty()).await.unwrap();
    scene.operator().unwrap().change(WEBHOOK, &json!({ "title": "Renamed meanwhile" })).await.unwrap();
    webhook.set_latency(Duration::ZERO);
    let status = scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!((status.state(), status.count("delivered"), status.count("pending")), ("active", 1, 0), "{status:?}");
    assert_eq!(webhook.by_field("event_id").get(&sample.id), Some(&1));
}
