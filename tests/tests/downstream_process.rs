//! The fakes in a process of their own: reachable, controlled over HTTP, and gone with whoever started them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use serde_json::json;
use sgen_tests::fakes::control::DownstreamProcess;
use sgen_tests::fakes::webhook::Secret;
use sgen_tests::fakes::{Fault, Rule};
use sgen_tests::wait::eventually;

#[tokio::test]
async fn both_fakes_serve_count_and_misbehave_on_demand() {
    let secret = Secret::from_seed(1);
    let process = DownstreamProcess::start("pat-of-the-process", &secret, false).await.unwrap();
    let hubspot = format!("http://{}", process.addresses().hubspot);
    let http = reqwest::Client::new();
    let upsert = || {
        let input = json!({
            "id": "ada@example.org", "idProperty": "email", "objectWriteTraceId": "t1",
            "properties": { "email": "ada@example.org" },
        });
        let request = http.post(format!("{hubspot}/crm/v3/objects/contacts/batch/upsert"));
        request.bearer_auth("pat-of-the-process").json(&json!({ "inputs": [input] })).send()
    };
    assert_eq!(upsert().await.unwrap().status(), 200);
    let rule = Rule { path: Some("/crm/".to_owned()), times: Some(1), fault: Fault::too_many(3) };
    process.add_fault("hubspot", &rule).await.unwrap();
    let refused = upsert().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "3"));
    process.add_fault("webhook", &Rule { path: None, times: None, fault: Fault::Reset }).await.unwrap();
    process.clear_faults("webhook").await.unwrap();
    process.set_latency("hubspot", Duration::from_millis(50)).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(upsert().await.unwrap().status(), 200);
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert!(process.clear_faults("nobody").await.is_err());
    let webhook = format!("http://{}/", process.addresses().webhook);
    assert_eq!(http.post(webhook).send().await.unwrap().status(), 401);
    let summary = process.summary().await.unwrap();
    assert_eq!((summary.hubspot.contacts, summary.hubspot.written, summary.hubspot.repeated), (1, 1, 1));
    assert_eq!((summary.webhook.delivered, summary.webhook.refused), (0, 1));

    let control = format!("http://{}/summary", process.addresses().control);
    drop(process);
    eventually("the end of the process", Duration::from_secs(20), || async {
        Ok(http.get(&control).send().await.is_err().then_some(()))
    })
    .await
    .unwrap();
}
