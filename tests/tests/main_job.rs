//! The main job: a form that a person submits on a site reaches the downstreams through signed connectors, and everything
//! about it can be looked up afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};
use sgen_tests::events::{Fate, Generator, Kind};
use sgen_tests::fakes::Fault;
use sgen_tests::host::HostFolder;
use sgen_tests::page::CAPTURE_ID;
use sgen_tests::scene::{ACCOUNT, Downstreams, HUBSPOT, HUBSPOT_TOKEN, LIVE, OPERATOR, SITE, Scene, WEBHOOK};
use sgen_tests::wait::until;

const BOUND: Duration = Duration::from_secs(60);

async fn scene(folder: &tempfile::TempDir) -> Scene {
    let scene = Scene::start(folder.path()).await.unwrap();
    scene.configure_both().await.unwrap();
    scene
}

fn outcomes(trace: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = trace["instances"].as_array().unwrap();
    entries.iter().map(|entry| (text(&entry["instance"]), text(&entry["outcome"]))).collect()
}

#[tokio::test]
async fn a_form_submitted_on_the_page_reaches_hubspot_and_the_webhook_and_its_trace_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let page = scene.page("form", 0).await.unwrap();
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form = browser.get(page.url()).send().await.unwrap().text().await.unwrap();
    assert!(form.contains("<form") && form.contains("name=\"email\""));
    let fields = [
        ("first_name", "Zoë"),
        ("last_name", "O’Neill"),
        ("email", "Zoe.ONeill@Example.org"),
        ("phone", ""),
        ("company", "Acme & Söhne <GmbH>"),
        ("message", "line one\r\nline \"two\" 🙏"),
    ];
    let answer = browser.post(format!("{}contact", page.url())).form(&fields).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let id = answer.headers()[&CAPTURE_ID].to_str().unwrap().to_owned();

    for instance in [HUBSPOT, WEBHOOK] {
        let status = scene.settled(instance, BOUND).await.unwrap();
        assert_eq!((status.state(), status.count("delivered")), ("active", 1), "{instance}: {status:?}");
    }
    let contact = scene.downstreams.hubspot.contact("zoe.oneill@example.org").unwrap();
    let of = |name: &str| contact.properties.get(name).map(String::as_str);
    assert_eq!(of("firstname"), Some("Zoë"));
    assert_eq!(of("company"), Some("Acme & Söhne <GmbH>"));
    assert_eq!(of("lifecyclestage"), Some("lead"));
    assert_eq!(of("message"), Some("line one\r\nline \"two\" 🙏"));
    assert_eq!(of("phone"), None, "what was not filled in is not sent");
    assert_eq!(scene.downstreams.hubspot.trace(&id).written, 1);

    let deliveries = scene.downstreams.webhook.deliveries();
    let delivery = deliveries.values().next().unwrap();
    assert_eq!((deliveries.len(), delivery.times, delivery.kind.as_str()), (1, 1, "form:contact"));
    let names: BTreeSet<&str> = delivery.data.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        BTreeSet::from(["event_id", "surface", "email", "message", "page"]),
        "only what is mapped leaves"
    );
    assert_eq!(delivery.data["event_id"], id);
    assert!(scene.downstreams.webhook.refusals().is_empty());

    let operator = scene.operator().unwrap();
    let trace = operator.trace(SITE, LIVE, &id).await.unwrap();
    let delivered = |name: &str| (name.to_owned(), "delivered".to_owned());
    assert_eq!(outcomes(&trace), BTreeMap::from([delivered(HUBSPOT), delivered(WEBHOOK)]));
    let captures = operator.captures(SITE, LIVE).await.unwrap();
    assert_eq!((captures.len(), captures[0].id.as_str()), (1, id.as_str()));
    assert_eq!(captures[0].fields["company"], "Acme & Söhne <GmbH>");
    let shown = reqwest::get(format!("{}trace/{id}", page.url())).await.unwrap().text().await.unwrap();
    assert!(shown.contains("delivered") && shown.contains("&lt;GmbH&gt;") && !shown.contains("<GmbH>"));
}

#[tokio::test]
async fn each_kind_of_event_has_its_expected_fate_at_both_instances_and_the_reason_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let mut generator = Generator::new(11, "kind");
    let kinds = [
        Kind::Contact,
        Kind::ContactAgain,
        Kind::Newsletter,
        Kind::InvalidEmail,
        Kind::RefusedEmail,
        Kind::MissingEmail,
        Kind::Analytics,
        Kind::PhoneTap,
        Kind::Custom,
    ];
    let samples: Vec<_> = kinds.iter().cycle().take(90).map(|kind| generator.sample_of(*kind)).collect();
    let events: Vec<Value> = samples.iter().map(|sample| sample.event.clone()).collect();
    scene.post(&Value::from(events)).await.unwrap();
    scene.settled(HUBSPOT, BOUND).await.unwrap();
    scene.settled(WEBHOOK, BOUND).await.unwrap();

    let operator = scene.operator().unwrap();
    let dead = operator.dead_letters(HUBSPOT).await.unwrap();
    let received = scene.downstreams.webhook.by_field("event_id");
    for sample in &samples {
        let written = scene.downstreams.hubspot.trace(&sample.id).written;
        let letter = dead.iter().find(|letter| letter.event_id == sample.id);
        let expected = sample.kind.fate_as_contact();
        assert_eq!(written == 1, expected == Fate::Delivered, "{} {}", sample.kind, sample.id);
        assert_eq!(letter.is_some(), expected == Fate::DeadLettered, "{} {}", sample.kind, sample.id);
        assert_eq!(received.get(&sample.id), Some(&1), "{} {}", sample.kind, sample.id);
        if let Some(letter) = letter {
            assert_eq!(letter.class(), "schema-mismatch", "{} {letter:?}", sample.kind);
            assert_eq!(letter.failure["field"], "email", "{} {letter:?}", sample.kind);
        }
        let trace = outcomes(&operator.trace(SITE, LIVE, &sample.id).await.unwrap());
        let expected = match expected {
            Fate::Delivered => "delivered",
            Fate::DeadLettered => "dead-lettered",
            Fate::OutOfScope => "skipped",
        };
        assert_eq!((trace[HUBSPOT].as_str(), trace[WEBHOOK].as_str()), (expected, "delivered"), "{}", sample.kind);
    }
    let tap = samples.iter().find(|sample| sample.kind == Kind::PhoneTap).unwrap();
    let trace = operator.trace(SITE, LIVE, &tap.id).await.unwrap();
    let entry = trace["instances"].as_array().unwrap().iter().find(|entry| entry["instance"] == HUBSPOT).unwrap();
    assert!(entry["reason"].as_str().unwrap().contains("scope"), "{entry}");
}

#[tokio::test]
async fn an_event_posted_twice_is_answered_as_a_duplicate_and_delivered_once() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let sample = Generator::new(1, "twice").sample_of(Kind::Contact);
    let ingest = scene.ingest().unwrap();
    let first = ingest.post_events(SITE, LIVE, &sample.event).await.unwrap();
    assert_eq!((first.accepted, first.duplicates, first.events[0].status.as_str()), (1, 0, "accepted"));
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    let second = ingest.post_events(SITE, LIVE, &json!([sample.event, sample.event])).await.unwrap();
    assert_eq!((second.accepted, second.duplicates), (0, 2));
    assert!(second.events.iter().all(|e| e.status == "duplicate" && e.sequence == first.events[0].sequence));
    let other = Generator::new(1, "other").sample_of(Kind::Contact);
    scene.post(&other.event).await.unwrap();
    scene.settled(HUBSPOT, BOUND).await.unwrap();
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    assert_eq!(scene.downstreams.webhook.by_field("event_id")[&sample.id], 1);
    assert_eq!(scene.downstreams.hubspot.trace(&sample.id).written, 1);
    assert_eq!(scene.operator().unwrap().captures(SITE, LIVE).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_instance_tells_its_health_its_downstream_account_and_live_choices() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    let check = operator.check(HUBSPOT).await.unwrap();
    assert_eq!(check["verdict"]["reachable"], "yes", "{check}");
    assert_eq!(check["verdict"]["authorised"], "yes");
    assert_eq!(check["account"]["id"], sgen_tests::fakes::hubspot::PORTAL_ID.to_string());
    assert_eq!(operator.check(WEBHOOK).await.unwrap()["verdict"]["reachable"], "unverifiable");
    let lists = operator.options(HUBSPOT, "lists", "lea").await.unwrap();
    assert_eq!(lists, [("2".to_owned(), "Leads".to_owned())]);
    let properties = operator.options(HUBSPOT, "contact-properties", "").await.unwrap();
    assert!(properties.iter().any(|(value, _)| value == "lifecyclestage"));
    scene.downstreams.hubspot.set_tokens(["another"]);
    let check = operator.check(HUBSPOT).await.unwrap();
    assert_eq!((&check["verdict"]["reachable"], &check["verdict"]["authorised"]), (&json!("yes"), &json!("no")));
    assert_eq!(check["verdict"]["failure"]["class"], "auth-revoked");
}

#[tokio::test]
async fn a_setting_adds_delivered_contacts_to_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let mut instance = scene.hubspot_instance();
    instance.settings = json!({ "list": "2" });
    scene.operator().unwrap().configure(SITE, LIVE, &instance).await.unwrap();
    scene.post(&Generator::new(1, "list").sample_of(Kind::Contact).event).await.unwrap();
    assert_eq!(scene.settled(HUBSPOT, BOUND).await.unwrap().count("delivered"), 1);
    assert_eq!(scene.downstreams.hubspot.list_members(2).len(), 1);
}

#[tokio::test]
async fn every_change_leaves_its_audit_record_with_actor_versions_and_prior_and_new_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    operator.change(HUBSPOT, &json!({ "title": "Leads", "scope": ["form:contact"] })).await.unwrap();
    operator.rotate(HUBSPOT, "token", HUBSPOT_TOKEN).await.unwrap();
    operator.disable(HUBSPOT, "moving house").await.unwrap();
    operator.enable(HUBSPOT, "newest").await.unwrap();
    scene.post(&Generator::new(1, "bad").sample_of(Kind::InvalidEmail).event).await.unwrap();
    assert_eq!(scene.settled(HUBSPOT, BOUND).await.unwrap().count("dead_lettered"), 1);

    let version = operator.get_json("/v1/catalog").await.unwrap()["version"].as_str().unwrap().to_owned();
    for (event, actor) in [
        ("connector-configured", json!({ "kind": "operator", "id": OPERATOR })),
        ("configuration-changed", json!({ "kind": "operator", "id": OPERATOR })),
        ("credentials-rotated", json!({ "kind": "operator", "id": OPERATOR })),
        ("connector-disabled", json!({ "kind": "operator", "id": OPERATOR })),
        ("connector-enabled", json!({ "kind": "operator", "id": OPERATOR })),
        ("failure-surfaced", json!({ "kind": "platform" })),
    ] {
        let records = operator.audit(SITE, &format!("event={event}&instance={HUBSPOT}")).await.unwrap();
        assert_eq!(records.len(), 1, "{event}: {records:?}");
        let record = &records[0];
        assert_eq!((&record["actor"], &record["action"]["event"]), (&actor, &json!(event)), "{record}");
        assert_eq!((&record["site"], &record["environment"]), (&json!(SITE), &json!(LIVE)), "{record}");
        assert_eq!(
            (&record["connector"], &record["catalog_version"]),
            (&json!("hubspot"), &json!(version)),
            "{record}"
        );
        assert_eq!(record["component_digest"].as_str().unwrap().len(), 64, "{record}");
    }
    let of = |event: &str| format!("event={event}&instance={HUBSPOT}");
    let changed = &operator.audit(SITE, &of("configuration-changed")).await.unwrap()[0]["action"]["changes"];
    let change = |field: &str| changed.as_array().unwrap().iter().find(|c| c["field"] == field).unwrap().clone();
    assert_eq!(change("title"), json!({ "field": "title", "prior": "Contacts", "new": "Leads" }));
    assert_eq!(change("scope"), json!({ "field": "scope", "prior": ["form:*"], "new": ["form:contact"] }));
    let rotated = &operator.audit(SITE, &of("credentials-rotated")).await.unwrap()[0]["action"];
    assert_eq!((&rotated["slot"], &rotated["version"]), (&json!("token"), &json!(2)));
    let failure = &operator.audit(SITE, &of("failure-surfaced")).await.unwrap()[0]["action"];
    assert_eq!((&failure["class"], &failure["cause"]), (&json!("schema-mismatch"), &json!("schema-mismatch/email")));

    let verified = operator.verify_audit(SITE).await.unwrap();
    assert!(scene.host.take().unwrap().stop().await.unwrap().success());
    let exported = scene.folder.run(&["audit", "export", "--site", SITE]).await.unwrap().expect_success().unwrap();
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records = lines.iter().filter(|line| line.get("action").is_some()).count();
    assert_eq!(records as u64, verified.records);
    assert!(exported.contains(&verified.root_hash), "the export ends with the root that was verified");
}

#[tokio::test]
async fn a_credential_appears_in_no_answer_no_log_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let downstreams = Downstreams::start().await.unwrap();
    let host = HostFolder::create(folder.path()).await.unwrap();
    let host = downstreams.attach(host).with_log_filter("trace");
    let mut scene = Scene::start_with(downstreams, host).await.unwrap();
    scene.configure_both().await.unwrap();
    let operator = scene.operator().unwrap();
    let mut answers = String::new();
    // A downstream that repeats the credential in its answer.
    let basic = STANDARD.encode(format!("x:{HUBSPOT_TOKEN}"));
    let body = json!({
        "status": "error", "category": "VALIDATION_ERROR",
        "message": format!("the token {HUBSPOT_TOKEN} ({}) ({basic}) is odd", STANDARD.encode(HUBSPOT_TOKEN)),
    });
    let headers = vec![("x-hubspot-correlation-id".to_owned(), HUBSPOT_TOKEN.to_owned())];
    scene.downstreams.hubspot.faults().next(1, Fault::Status { status: 400, headers, body: body.to_string() });
    scene.post(&Generator::new(1, "odd").sample_of(Kind::Contact).event).await.unwrap();
    assert_eq!(scene.settled(HUBSPOT, BOUND).await.unwrap().count("dead_lettered"), 1);
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    let letters = operator.dead_letters(HUBSPOT).await.unwrap();
    assert!(letters[0].message().contains("[redacted]"), "{letters:?}");
    // A credential in the wrong place is refused without being repeated.
    let mut wrong = scene.hubspot_instance();
    wrong.id = None;
    wrong.settings = json!({ "token": HUBSPOT_TOKEN });
    answers += &operator.configure(SITE, LIVE, &wrong).await.unwrap_err().to_string();

    let place = format!("/v1/sites/{SITE}/environments/{LIVE}");
    let first = &operator.captures(SITE, LIVE).await.unwrap()[0].id;
    for path in [
        format!("{place}/instances"),
        format!("{place}/captures"),
        format!("{place}/captures/{first}/trace"),
        format!("/v1/instances/{HUBSPOT}"),
        format!("/v1/instances/{HUBSPOT}/dead-letters"),
        format!("/v1/instances/{HUBSPOT}/log"),
        format!("/v1/instances/{WEBHOOK}/log"),
        format!("/v1/sites/{SITE}/audit"),
        "/v1/catalog".to_owned(),
        "/openapi.json".to_owned(),
    ] {
        answers += &operator.get_json(&path).await.unwrap().to_string();
    }
    answers += &operator.check(HUBSPOT).await.unwrap().to_string();
    answers += &operator.rotate(HUBSPOT, "token", HUBSPOT_TOKEN).await.unwrap().to_string();
    assert!(scene.host.take().unwrap().stop().await.unwrap().success());

    let webhook_secret = scene.downstreams.secret.text().trim_start_matches("whsec_").to_owned();
    let webhook_bytes = STANDARD.decode(&webhook_secret).unwrap();
    let mut needles: Vec<Vec<u8>> = vec![webhook_bytes.clone(), hex::encode(&webhook_bytes).into_bytes()];
    for text in [HUBSPOT_TOKEN, &webhook_secret, &scene.operator_token, &scene.ingest_key] {
        needles.push(text.as_bytes().to_vec());
        needles.push(STANDARD.encode(text).trim_end_matches('=').as_bytes().to_vec());
        needles.push(URL_SAFE.encode(text).trim_end_matches('=').as_bytes().to_vec());
        needles.push(hex::encode(text).into_bytes());
    }
    let mut files = Vec::new();
    collect(&folder.path().join("store"), &mut files);
    collect(&folder.path().join("cache"), &mut files);
    files.push(("the host's log".to_owned(), scene.folder.log().unwrap().into_bytes()));
    files.push(("the API's answers".to_owned(), answers.into_bytes()));
    assert!(files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 10_000);
    for (name, bytes) in &files {
        for needle in &needles {
            let found = bytes.windows(needle.len()).any(|window| window == needle.as_slice());
            assert!(!found, "{name} holds {:?}", String::from_utf8_lossy(needle));
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test]
async fn what_was_captured_while_an_instance_was_disabled_is_delivered_or_left_out_as_the_operator_says() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let operator = scene.operator().unwrap();
    let mut generator = Generator::new(5, "gap");
    for (from, expected) in [("meanwhile", true), ("newest", false)] {
        operator.disable(WEBHOOK, "maintenance").await.unwrap();
        let sample = generator.sample_of(Kind::Custom);
        scene.post(&sample.event).await.unwrap();
        let trace = outcomes(&operator.trace(SITE, LIVE, &sample.id).await.unwrap());
        assert_ne!(trace[WEBHOOK], "delivered");
        operator.enable(WEBHOOK, from).await.unwrap();
        let after = generator.sample_of(Kind::Custom);
        scene.post(&after.event).await.unwrap();
        until("the delivery of what came after", BOUND, || {
            scene.downstreams.webhook.by_field("event_id").contains_key(&after.id)
        })
        .await
        .unwrap();
        scene.settled(WEBHOOK, BOUND).await.unwrap();
        let delivered = scene.downstreams.webhook.by_field("event_id").contains_key(&sample.id);
        assert_eq!(delivered, expected, "{from}");
        let trace = outcomes(&operator.trace(SITE, LIVE, &sample.id).await.unwrap());
        assert_eq!(trace[WEBHOOK], if expected { "delivered" } else { "skipped" }, "{from}");
    }
}

#[tokio::test]
async fn the_platform_names_what_runs_and_an_account_sees_only_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&folder).await;
    let platform = scene.platform().unwrap();
    let stranger = platform.with_token(&platform.add_operator("globex", "eve").await.unwrap());
    platform.register_site("globex", "globex-web").await.unwrap();
    for path in [
        format!("/v1/instances/{HUBSPOT}"),
        format!("/v1/sites/{SITE}/audit"),
        format!("/v1/sites/{SITE}/environments/{LIVE}/captures"),
        format!("/v1/sites/{SITE}/environments/{LIVE}/instances"),
    ] {
        let error = stranger.get_json(&path).await.unwrap_err();
        let status = error.problem().unwrap().status;
        assert!(matches!(status, 403 | 404), "{path}: {error}");
    }
    let taken = platform.register_site("globex", SITE).await.unwrap_err();
    assert_eq!(taken.problem().unwrap().status, 409);
    platform.register_site(ACCOUNT, SITE).await.unwrap();
    let catalog = stranger.get_json("/v1/catalog").await.unwrap();
    let ids: Vec<&str> = catalog["entries"].as_array().unwrap().iter().filter_map(|e| e["id"].as_str()).collect();
    assert_eq!(ids, ["hubspot", "webhook"]);
}
