//! Signatures of real deliveries, verified by the independent `standardwebhooks` library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sgen_tests::events::Generator;
use sgen_tests::paths;
use sgen_tests::scene::{LIVE, SITE, Scene, WEBHOOK};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Reads requests, answers for each what the library says of it: as it came, tampered with, and 600 s old.
const SCRIPT: &str = r#"
import json, sys
from datetime import datetime, timedelta, timezone
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

task = json.load(sys.stdin)
hook = Webhook(task["secret"])

def verdict(body, headers):
    try:
        hook.verify(body, headers)
        return "accepted"
    except WebhookVerificationError as refused:
        return f"refused: {refused}"

answers = []
for request in task["requests"]:
    body, headers = request["body"], request["headers"]
    old = datetime.now(timezone.utc) - timedelta(seconds=600)
    signature = hook.sign(msg_id=headers["webhook-id"], timestamp=old, data=body)
    answers.append({
        "as_it_came": verdict(body, headers),
        "other_body": verdict(body + " ", headers),
        "other_id": verdict(body, {**headers, "webhook-id": headers["webhook-id"] + "x"}),
        "other_time": verdict(body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}),
        "old": verdict(body, {**headers, "webhook-timestamp": str(int(old.timestamp())), "webhook-signature": signature}),
    })
json.dump(answers, sys.stdout)
"#;

async fn ask_library(secret: &str, requests: &[Value]) -> Vec<Value> {
    let python = paths::python().unwrap();
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let task = json!({ "secret": secret, "requests": requests }).to_string();
    child.stdin.take().unwrap().write_all(task.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn the_library_accepts_what_the_host_sends_and_refuses_what_was_tampered_with_or_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await.unwrap();
    scene.operator().unwrap().configure(SITE, LIVE, &scene.webhook_instance()).await.unwrap();
    let events: Vec<Value> = Generator::new(8, "signed").take(40).map(|sample| sample.event).collect();
    scene.post(&Value::from(events)).await.unwrap();
    scene.settled(WEBHOOK, Duration::from_secs(60)).await.unwrap();
    let requests: Vec<Value> = scene
        .downstreams
        .webhook
        .requests()
        .iter()
        .map(|request| {
            let header = |name: &str| request.header(name).unwrap().to_owned();
            json!({
                "body": std::str::from_utf8(&request.body).unwrap(),
                "headers": {
                    "webhook-id": header("webhook-id"),
                    "webhook-timestamp": header("webhook-timestamp"),
                    "webhook-signature": header("webhook-signature"),
                },
            })
        })
        .collect();
    assert_eq!(requests.len(), 40);
    let answers = ask_library(scene.downstreams.secret.text(), &requests).await;
    assert_eq!(answers.len(), 40);
    for answer in &answers {
        assert_eq!(answer["as_it_came"], "accepted", "{answer}");
        for tampered in ["other_body", "other_id", "other_time"] {
            assert_eq!(answer[tampered], "refused: No matching signature found", "{tampered}: {answer}");
        }
        assert_eq!(answer["old"], "refused: Message timestamp too old", "{answer}");
    }
}

#[tokio::test]
async fn the_library_and_the_receiver_of_these_tests_agree_on_a_signature() {
    let secret = sgen_tests::fakes::webhook::Secret::from_seed(4);
    let now = jiff::Timestamp::now().as_second();
    let body = "{\"a\":\"ü\"}";
    let request = json!({
        "body": body,
        "headers": {
            "webhook-id": "msg_1", "webhook-timestamp": now.to_string(),
            "webhook-signature": secret.sign("msg_1", now, body.as_bytes()),
        },
    });
    let answers = ask_library(secret.text(), &[request]).await;
    assert_eq!(answers[0]["as_it_came"], "accepted", "{answers:?}");
}
