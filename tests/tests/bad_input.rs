//! Bad input: whatever is wrong is refused with the fields at fault, and nothing of it is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use reqwest::Method;
use serde_json::{Value, json};
use sgen_tests::client::{CallError, Client, NewInstance, Problem};
use sgen_tests::events::{Generator, Kind};
use sgen_tests::scene::{ACCOUNT, HUBSPOT, LIVE, SITE, Scene};

fn problem<T: std::fmt::Debug>(result: Result<T, CallError>) -> Problem {
    let error = result.expect_err("this was to be refused");
    error.problem().unwrap_or_else(|| panic!("{error}")).clone()
}

fn event(id: &str) -> Value {
    json!({ "id": id, "surface": "form:contact", "captured_at": "2026-11-23T10:00:00Z", "fields": { "a": 1 } })
}

async fn post(ingest: &Client, content_type: &str, body: impl Into<reqwest::Body>) -> Problem {
    problem(ingest.post_body(SITE, LIVE, content_type, body).await)
}

#[tokio::test]
async fn a_bad_body_of_events_is_refused_by_position_and_field_and_nothing_of_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let ingest = scene.ingest().unwrap();
    let json_type = "application/json";
    let with = |name: &str, value: Value| {
        let mut bad = event("bad");
        bad[name] = value;
        json!([event("good"), bad]).to_string()
    };
    let mut without_id = event("x");
    without_id.as_object_mut().unwrap().remove("id");
    let lines = format!("{}\n\n{}\n", event("l1"), json!({ "id": "l2", "surface": "form:x" }));
    let cases: Vec<(&str, String, u16, &str)> = vec![
        (json_type, "{".to_owned(), 400, ""),
        (json_type, "\"text\"".to_owned(), 422, ""),
        (json_type, "[]".to_owned(), 422, ""),
        (json_type, with("surface", json!("fax:x")), 422, "events[1].surface"),
        (json_type, with("captured_at", json!("yesterday")), 422, "events[1].captured_at"),
        (json_type, with("id", json!("a b")), 422, "events[1].id"),
        (json_type, with("fields", json!([])), 422, "events[1].fields"),
        (json_type, with("surprise", json!(1)), 422, "events[1].surprise"),
        (json_type, json!([event("good"), without_id]).to_string(), 422, "events[1].id"),
        ("application/x-ndjson", lines, 422, "lines[3].captured_at"),
        ("text/plain", event("good").to_string(), 415, ""),
        ("application/x-www-form-urlencoded", "a=b".to_owned(), 415, ""),
    ];
    for (content_type, body, status, field) in cases {
        let problem = post(&ingest, content_type, body.clone()).await;
        assert_eq!(problem.status, status, "{body}: {problem:?}");
        assert!(field.is_empty() || problem.names(field), "{field}: {problem:?}");
        assert_eq!(problem.fault, "sender", "{problem:?}");
    }

    let mut large = event("large");
    large["fields"] = json!({ "text": "x".repeat(256 * 1024) });
    let problem = post(&ingest, json_type, json!([event("good"), large]).to_string()).await;
    assert_eq!(problem.status, 413, "{problem:?}");
    assert!(problem.problems.iter().any(|p| p.field.starts_with("events[1]")), "{problem:?}");
    let many: Vec<Value> = (0..1001).map(|i| event(&format!("m{i}"))).collect();
    assert_eq!(post(&ingest, json_type, Value::from(many).to_string()).await.status, 413);
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!({ "a": deep });
    }
    assert_eq!(post(&ingest, json_type, with("fields", deep)).await.status, 422);

    assert!(scene.operator().unwrap().captures(SITE, LIVE).await.unwrap().is_empty(), "all or nothing");
    scene.post(&event("good")).await.unwrap();
    let body = format!("{}\n\n{}", event("l1"), event("l2"));
    let receipts = ingest.post_body(SITE, LIVE, "application/x-ndjson", body).await.unwrap();
    assert_eq!(receipts.accepted, 2, "blank lines are ignored");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_while_it_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let body = vec![b' '; 8 * 1024 * 1024 + 1];
    match scene.ingest().unwrap().post_body(SITE, LIVE, "application/json", body).await {
        Err(CallError::Refused(problem)) => assert_eq!(problem.status, 413),
        // The host need not read on after it has refused: the client may then see a closed connection instead.
        Err(CallError::Broken(error)) => assert!(format!("{error:?}").contains("onnection"), "{error:?}"),
        Ok(receipts) => panic!("{receipts:?}"),
    }
    scene.post(&event("after")).await.unwrap();
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let (platform, operator, ingest) = (scene.platform().unwrap(), scene.operator().unwrap(), scene.ingest().unwrap());
    platform.register_site(ACCOUNT, "acme-shop").await.unwrap();
    let status = |result: Result<Value, CallError>| problem(result).status;
    let events = event("e");
    let receipts = |result: Result<_, CallError>| problem::<sgen_tests::client::Receipts>(result).status;

    assert_eq!(receipts(ingest.with_token("sgi_unknown").post_events(SITE, LIVE, &events).await), 401);
    assert_eq!(receipts(ingest.with_token("").post_events(SITE, LIVE, &events).await), 401);
    assert_eq!(receipts(operator.post_events(SITE, LIVE, &events).await), 403);
    assert_eq!(receipts(ingest.post_events("acme-shop", LIVE, &events).await), 404);
    assert_eq!(receipts(ingest.post_events("nowhere", LIVE, &events).await), 404);
    assert_eq!(receipts(ingest.post_events(SITE, "staging", &events).await), 404);
    assert_eq!(status(ingest.get_json(&format!("/v1/sites/{SITE}/audit")).await), 403);
    assert_eq!(status(operator.with_token("sgo_unknown").get_json("/v1/catalog").await), 401);
    assert_eq!(status(operator.get_json("/v1/sites/nowhere/audit").await), 404);
    assert_eq!(status(operator.get_json("/v1/instances/nothing").await), 404);
    assert_eq!(status(operator.trace(SITE, LIVE, "never").await), 404);
    let add =
        |client: &Client| client.request(Method::POST, "/v1/accounts/acme/operators").json(&json!({ "id": "eve" }));
    assert_eq!(status(operator.send(add(&operator)).await), 403);
    assert!(problem(platform.register_site(ACCOUNT, "platform").await).status >= 400, "the name is reserved");
    assert!(problem(platform.register_site(ACCOUNT, "Bad%20Name").await).status >= 400);

    let (id, key) = operator.issue_ingest_key(SITE, LIVE).await.unwrap();
    let second = ingest.with_token(&key);
    second.post_events(SITE, LIVE, &events).await.unwrap();
    operator.revoke_ingest_key(SITE, LIVE, &id).await.unwrap();
    assert_eq!(receipts(second.post_events(SITE, LIVE, &events).await), 401);
    assert_eq!(scene.operator().unwrap().captures(SITE, LIVE).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_bad_configuration_is_refused_with_every_field_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let operator = scene.operator().unwrap();
    let (hubspot, webhook) = (scene.hubspot_instance(), scene.webhook_instance());
    let cases: Vec<(NewInstance, &[&str])> = vec![
        (NewInstance { connector: "nothing".to_owned(), ..hubspot.clone() }, &["connector"]),
        (NewInstance { credentials: json!({}), ..hubspot.clone() }, &["credentials.token"]),
        (NewInstance { credentials: json!({ "key": "pat-12345678" }), ..hubspot.clone() }, &["credentials.key"]),
        (NewInstance { settings: json!({ "surprise": 1 }), ..hubspot.clone() }, &["settings"]),
        (NewInstance { settings: json!({ "list": 7 }), ..hubspot.clone() }, &["settings.list"]),
        (NewInstance { settings: json!({}), ..webhook.clone() }, &["settings"]),
        (NewInstance { settings: json!({ "url": "not a url" }), ..webhook.clone() }, &["settings.url"]),
        (NewInstance { settings: json!({ "url": "http://example.org/" }), ..webhook.clone() }, &["settings.url"]),
        (NewInstance { settings: json!({ "url": "https://a:b@example.org/" }), ..webhook.clone() }, &["settings.url"]),
        (
            NewInstance {
                mapping: json!({ "email": { "from": "nowhere.email" }, "firstname": {} , "company": { "from": "fields.a", "value": 1 } }),
                ..hubspot.clone()
            },
            &["mapping.email", "mapping.firstname", "mapping.company"],
        ),
        (NewInstance { mapping: json!({ "a": { "template": "{fields.a" } }), ..webhook.clone() }, &["mapping.a"]),
    ];
    for (instance, fields) in cases {
        let shown = serde_json::to_string(&instance).unwrap();
        let problem = problem(operator.configure(SITE, LIVE, &instance).await);
        assert_eq!((problem.status, problem.fault.as_str()), (422, "operator"), "{shown}: {problem:?}");
        for field in fields {
            let named = problem.problems.iter().any(|p| p.field == *field || p.field.starts_with(&format!("{field}.")));
            assert!(named, "{field} in {shown}: {problem:?}");
        }
    }
    let path = format!("/v1/sites/{SITE}/environments/{LIVE}/instances");
    for (body, field) in [
        (json!({ "connector": "webhook", "scope": ["fax:*"] }), "scope"),
        (json!({ "connector": "webhook", "surprise": 1 }), "surprise"),
        (json!({ "connector": "Not A Slug" }), "connector"),
        (json!({ "connector": "webhook", "mapping": { "a": { "form": "fields.a" } } }), "mapping.a"),
    ] {
        let refused = problem(operator.send::<Value>(operator.request(Method::POST, &path).json(&body)).await);
        assert_eq!(refused.status, 422, "{body}: {refused:?}");
        assert!(refused.problems.iter().any(|p| p.field.starts_with(field)), "{field}: {refused:?}");
    }
    let none = operator.get_json(&path).await.unwrap();
    assert_eq!(none["instances"], json!([]), "nothing of a refused configuration is kept");
    let configured = operator.audit(SITE, "event=connector-configured").await.unwrap();
    assert!(configured.is_empty(), "{configured:?}");
}

#[tokio::test]
async fn a_secret_of_the_wrong_form_is_refused_when_it_is_given_and_not_at_the_first_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let operator = scene.operator().unwrap();
    for secret in ["short", "long enough but no base64", "whsec_dG9vIHNob3J0"] {
        let instance = NewInstance { credentials: json!({ "secret": secret }), ..scene.webhook_instance() };
        let refused = problem(operator.configure(SITE, LIVE, &instance).await);
        assert_eq!((refused.status, refused.fault.as_str()), (422, "operator"), "{refused:?}");
        assert!(refused.names("credentials.secret"), "{refused:?}");
        assert!(!format!("{refused:?}").contains(secret), "a secret is not repeated: {refused:?}");
    }
}

#[tokio::test]
async fn a_change_based_on_an_old_revision_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let operator = scene.operator().unwrap();
    let first = operator.configure(SITE, LIVE, &scene.hubspot_instance()).await.unwrap();
    let revision = first["revision"].as_u64().unwrap();
    let title = |text: &str| json!({ "title": text });
    operator.change_revision(HUBSPOT, revision, &title("mine")).await.unwrap();
    let refused = problem(operator.change_revision(HUBSPOT, revision, &title("too late")).await);
    assert_eq!(refused.status, 412, "{refused:?}");
    assert_eq!(operator.instance(HUBSPOT).await.unwrap()["title"], "mine");
    let again = problem(operator.configure(SITE, LIVE, &scene.hubspot_instance()).await);
    assert_eq!(again.status, 409, "{again:?}");
    let bad = problem(operator.change(HUBSPOT, &json!({ "mapping": { "email": { "from": "nowhere" } } })).await);
    assert!(bad.names("mapping.email"), "{bad:?}");
    assert_eq!(problem(operator.rotate(HUBSPOT, "nothing", "pat-12345678").await).status, 404);
    scene.post(&Generator::new(1, "still").sample_of(Kind::Contact).event).await.unwrap();
    let status = scene.settled(HUBSPOT, std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(status.count("delivered"), 1, "what was refused has changed nothing");
}

#[tokio::test]
async fn every_route_is_described_and_an_unknown_one_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    let operator = scene.operator().unwrap();
    let description = operator.get_json("/openapi.json").await.unwrap();
    let paths = description["paths"].as_object().unwrap();
    for path in
        ["/v1/sites/{site}/environments/{environment}/events", "/v1/instances/{id}", "/v1/sites/{site}/audit/verify"]
    {
        assert!(paths.contains_key(path), "{path}");
    }
    assert_eq!(problem(operator.get_json("/v1/nothing").await).status, 404);
    assert_eq!(problem(operator.send::<Value>(operator.request(Method::DELETE, "/v1/catalog")).await).status, 405);
}
