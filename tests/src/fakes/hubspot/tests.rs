//! The fake is as strict as the vendor: each refusal has its case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

const TOKEN: &str = "pat-eu1-correct-horse";
const UPSERT: &str = "/crm/v3/objects/contacts/batch/upsert";

struct Call {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

async fn call(fake: &HubspotFake, method: &str, path: &str, body: Option<Value>) -> Call {
    let method = method.parse().unwrap();
    let mut request = reqwest::Client::new().request(method, fake.url() + path).bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(&body);
    }
    finish(request).await
}

async fn finish(request: reqwest::RequestBuilder) -> Call {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Call { status, headers, body }
}

fn input(email: &str, trace: &str) -> Value {
    json!({
        "id": email, "idProperty": "email", "objectWriteTraceId": trace,
        "properties": { "email": email, "firstname": "Zoë" },
    })
}

async fn fake() -> HubspotFake {
    HubspotFake::start(TOKEN, 0).await.unwrap()
}

#[tokio::test]
async fn an_upsert_creates_then_updates_and_counts_by_trace_id() {
    let fake = fake().await;
    let first = call(&fake, "POST", UPSERT, Some(json!({ "inputs": [input("Ada@example.org", "t1")] }))).await;
    assert_eq!((first.status, &first.body["status"]), (200, &json!("COMPLETE")));
    assert_eq!(first.body["results"][0]["new"], true);
    assert_eq!(first.body["results"][0]["objectWriteTraceId"], "t1");
    let second = call(&fake, "POST", UPSERT, Some(json!({ "inputs": [input("ada@example.org", "t2")] }))).await;
    assert_eq!(second.body["results"][0]["new"], false);
    assert_eq!(second.body["results"][0]["id"], first.body["results"][0]["id"]);
    let contact = fake.contact("ADA@example.org").unwrap();
    assert_eq!((contact.writes, contact.properties["firstname"].as_str()), (2, "Zoë"));
    assert_eq!(fake.trace("t1"), Trace { written: 1, refused: 0 });
    assert_eq!(fake.trace("never"), Trace::default());
    assert_eq!(fake.summary(), Summary { contacts: 1, written: 2, refused: 0, repeated: 0, requests: 2 });
}

#[tokio::test]
async fn a_bad_record_is_named_by_its_trace_id_in_a_207_and_the_others_are_written() {
    let fake = fake().await;
    let inputs = json!({ "inputs": [input("ada@example.org", "good"), input("ada..l@example.org", "bad")] });
    let answer = call(&fake, "POST", UPSERT, Some(inputs)).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.body["numErrors"], 1);
    let error = &answer.body["errors"][0];
    assert_eq!(error["context"]["objectWriteTraceId"], json!(["bad"]));
    assert_eq!(error["category"], "VALIDATION_ERROR");
    assert!(error["message"].as_str().unwrap().contains("INVALID_EMAIL"));
    assert_eq!(fake.trace("good").written, 1);
    assert_eq!(fake.trace("bad"), Trace { written: 0, refused: 1 });
}

#[tokio::test]
async fn a_whole_batch_is_refused_for_what_hubspot_refuses_whole() {
    let fake = fake().await;
    let with = |change: fn(&mut Value)| {
        let mut body = json!({ "inputs": [input("ada@example.org", "t1")] });
        change(&mut body);
        body
    };
    let too_many: Vec<Value> = (0..101).map(|i| input(&format!("p{i}@example.org"), &format!("t{i}"))).collect();
    let cases: Vec<(Value, &str)> = vec![
        (json!({ "inputs": too_many }), "exceeds the maximum of 100"),
        (json!({ "inputs": [] }), "must not be empty"),
        (json!({ "inputs": [input("a@example.org", "1"), input("A@example.org", "2")] }), "Duplicate IDs"),
        (json!({ "inputs": [input("a@example.org", "1"), input("b@example.org", "1")] }), "objectWriteTraceId"),
        (with(|b| b["extra"] = json!(1)), "unknown field `extra`"),
        (with(|b| b["inputs"][0]["extra"] = json!(1)), "unknown field `extra`"),
        (with(|b| b["inputs"][0]["properties"]["shoe_size"] = json!("44")), "PROPERTY_DOESNT_EXIST"),
        (with(|b| b["inputs"][0]["properties"]["firstname"] = json!({ "a": 1 })), "Invalid input JSON"),
        (with(|b| b["inputs"][0]["properties"]["firstname"] = Value::Null), "Invalid input JSON"),
        (with(|b| b["inputs"][0]["idProperty"] = json!("phone")), "non-unique"),
        (with(|b| b["inputs"][0]["idProperty"] = Value::Null), "idProperty is required"),
        (
            with(|b| {
                b["inputs"][0]["id"] = json!("nobody");
                b["inputs"][0]["objectWriteTraceId"] = Value::Null;
            }),
            "INVALID_EMAIL",
        ),
    ];
    for (body, part) in cases {
        let answer = call(&fake, "POST", UPSERT, Some(body)).await;
        assert_eq!((answer.status, &answer.body["category"]), (400, &json!("VALIDATION_ERROR")), "{part}");
        assert!(answer.body["message"].as_str().unwrap().contains(part), "{part}: {}", answer.body);
    }
    assert!(fake.contacts().is_empty(), "nothing of a refused batch is written");
}

#[tokio::test]
async fn who_may_not_is_told_so_as_hubspot_tells_it() {
    let fake = fake().await;
    let body = json!({ "inputs": [input("ada@example.org", "t")] });
    let client = reqwest::Client::new();
    let url = fake.url() + UPSERT;
    let none = finish(client.post(&url).json(&body)).await;
    let wrong = finish(client.post(&url).bearer_auth("stolen").json(&body)).await;
    for answer in [none, wrong] {
        assert_eq!((answer.status, &answer.body["category"]), (401, &json!("INVALID_AUTHENTICATION")));
        assert!(answer.headers.contains_key("x-hubspot-correlation-id"));
    }
    fake.set_lacks_scope(true);
    let answer = call(&fake, "POST", UPSERT, Some(body.clone())).await;
    assert_eq!((answer.status, &answer.body["category"]), (403, &json!("MISSING_SCOPES")));
    fake.set_lacks_scope(false);
    let text = finish(client.post(&url).bearer_auth(TOKEN).header("content-type", "text/plain").body("{}")).await;
    assert_eq!(text.status, 415);
    fake.set_tokens(["pat-new"]);
    assert_eq!(call(&fake, "POST", UPSERT, Some(body)).await.status, 401);
    assert_eq!(call(&fake, "GET", "/nowhere", None).await.status, 401);
}

#[tokio::test]
async fn beyond_the_rate_a_request_gets_429_with_retry_after() {
    let fake = fake().await;
    fake.set_rate(Some(RateLimit { requests: 2, per: Duration::from_secs(600), retry_after: 7 }));
    for expected in [200, 200, 429] {
        let answer = call(&fake, "GET", "/account-info/v3/details", None).await;
        assert_eq!(answer.status, expected);
        if expected == 429 {
            assert_eq!(answer.headers["retry-after"], "7");
            assert_eq!(answer.body["policyName"], "TEN_SECONDLY_ROLLING");
        }
    }
}

#[tokio::test]
async fn account_properties_and_lists_are_told() {
    let fake = fake().await;
    let account = call(&fake, "GET", "/account-info/v3/details", None).await.body;
    assert_eq!((&account["portalId"], &account["accountType"]), (&json!(PORTAL_ID), &json!("STANDARD")));
    fake.set_sandbox(true);
    let account = call(&fake, "GET", "/account-info/v3/details", None).await.body;
    assert_eq!(account["accountType"], "DEVELOPER_TEST");
    let listing = call(&fake, "GET", "/crm/v3/properties/contacts", None).await.body;
    assert!(listing["results"].as_array().unwrap().iter().any(|p| p["name"] == "lifecyclestage"));
    let search = json!({ "query": "lea", "processingTypes": ["MANUAL"], "count": 10, "offset": 0 });
    let found = call(&fake, "POST", "/crm/v3/lists/search", Some(search)).await.body;
    assert_eq!((&found["lists"][0]["listId"], &found["hasMore"]), (&json!("2"), &json!(false)));
    assert_eq!(call(&fake, "POST", "/crm/v3/lists/search", Some(json!({ "q": 1 }))).await.status, 400);
    assert_eq!(call(&fake, "GET", "/crm/v3/lists/1", None).await.body["list"]["name"], "Newsletter");
    assert_eq!(call(&fake, "GET", "/crm/v3/lists/99", None).await.status, 404);
    assert_eq!(call(&fake, "GET", "/crm/v3/contacts", None).await.status, 404);
}

#[tokio::test]
async fn known_contacts_join_a_static_list_and_are_erased_with_it() {
    let fake = fake().await;
    let written = call(&fake, "POST", UPSERT, Some(json!({ "inputs": [input("ada@example.org", "t")] }))).await;
    let id = written.body["results"][0]["id"].as_str().unwrap().to_owned();
    let added = call(&fake, "PUT", "/crm/v3/lists/1/memberships/add", Some(json!([id, "999"]))).await;
    assert_eq!((added.status, &added.body["recordsIdsAdded"]), (200, &json!([id])));
    assert_eq!(added.body["recordIdsMissing"], json!(["999"]));
    assert_eq!(fake.list_members(1).len(), 1);
    assert_eq!(call(&fake, "PUT", "/crm/v3/lists/3/memberships/add", Some(json!([id]))).await.status, 400);
    assert_eq!(call(&fake, "PUT", "/crm/v3/lists/9/memberships/add", Some(json!([id]))).await.status, 404);
    let erase = json!({ "objectId": "ada@example.org", "idProperty": "email" });
    let erased = call(&fake, "POST", "/crm/v3/objects/contacts/gdpr-delete", Some(erase)).await;
    assert_eq!(erased.status, 204);
    assert!(fake.contacts().is_empty() && fake.list_members(1).is_empty());
    assert_eq!(fake.erased(), ["ada@example.org"]);
}
