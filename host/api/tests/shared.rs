//! Credentials that an account's sites share: given, referred to, rotated and revoked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use std::sync::Arc;

use http::Method;
use kit::{House, PLATFORM, release};
use serde_json::{Value, json};
use sgen_api::Limits;
use sgen_store::MemoryStore;

const SHARED: &str = "/v1/accounts/acme/credentials/crm-main";

fn referring(id: &str) -> Value {
    json!({"id": id, "connector": "crm", "settings": {"list": "1"}, "mapping": {"email": {"from": "fields.email"}},
        "shared": {"token": "crm-main"}})
}

fn instances(site: &str) -> String {
    format!("/v1/sites/{site}/environments/live/instances")
}

/// Two sites of one account, each with an instance that refers to the account's credential.
async fn account(store: &Arc<MemoryStore>) -> (House, String) {
    let house = House::on(store.clone(), Some(release()), Limits::default()).await;
    for site in ["shop", "blog"] {
        house.site("acme", site).await;
    }
    let operator = house.operator("acme", "ada").await;
    let secret = json!({"secret": "pat-0123456789abcdef"});
    assert_eq!(
        house.post(&instances("shop"), &operator, referring("crm-shop")).await.expect(422).fields(),
        ["shared.token"]
    );
    house.ask(Method::PUT, SHARED, &operator, secret).await.expect(200);
    for site in ["shop", "blog"] {
        house.post(&instances(site), &operator, referring(&format!("crm-{site}"))).await.expect(201);
    }
    (house, operator)
}

async fn token_of(house: &House, instance: &str) -> Value {
    let path = format!("/v1/instances/{instance}");
    house.get(&path, PLATFORM).await.expect(200).json()["credentials"]["token"].clone()
}

#[tokio::test]
async fn a_rotation_reaches_every_referring_instance_also_after_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let (house, operator) = account(&store).await;
    let rotated =
        house.ask(Method::PUT, SHARED, &operator, json!({"secret": "pat-fedcba9876543210"})).await.expect(200);
    assert!(!rotated.text.contains("fedcba"));
    assert_eq!(rotated.json()["version"], 2);
    assert_eq!(rotated.json()["referred_by"].as_array().unwrap().len(), 2);
    for site in ["shop", "blog"] {
        assert_eq!(token_of(&house, &format!("crm-{site}")).await["version"], 2);
        assert_eq!(house.audited(site).await[0], "credentials-rotated");
    }
    house.ask(Method::PUT, SHARED, &operator, json!({"secret": "short"})).await.expect(422);
    drop(house);
    let house = House::on(store, Some(release()), Limits::default()).await;
    assert_eq!(token_of(&house, "crm-shop").await["version"], 2);
    let listed = house.get("/v1/accounts/acme/credentials", &operator).await.expect(200).json();
    assert_eq!(listed["credentials"][0]["referred_by"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_revoked_reference_pauses_its_instance_only_until_it_has_a_credential_again() {
    let (house, operator) = account(&Arc::new(MemoryStore::new())).await;
    let reference = "/v1/instances/crm-shop/credentials/token/reference";
    let own = "/v1/instances/crm-shop/credentials/token";
    let secret = json!({"secret": "pat-of-the-shop-alone"});
    house.ask(Method::PUT, own, &operator, secret.clone()).await.expect(409);
    house.ask(Method::DELETE, SHARED, &operator, Value::Null).await.expect(409);
    house.ask(Method::DELETE, reference, &operator, Value::Null).await.expect(204);
    house.ask(Method::DELETE, reference, &operator, Value::Null).await.expect(404);
    assert_eq!(house.audited("shop").await.iter().filter(|event| *event == "reference-revoked").count(), 1);
    assert!(token_of(&house, "crm-shop").await.is_null());
    let failure = paused(&house, "crm-shop", 2_000).await.expect("the instance is not paused");
    assert!(failure.contains("crm-main") && failure.contains("revoked"), "{failure}");
    assert_eq!(paused(&house, "crm-blog", 100).await, None);

    house.ask(Method::PUT, reference, &operator, json!({"shared": "nothing"})).await.expect(404);
    house.ask(Method::PUT, reference, &operator, json!({"shared": "crm-main"})).await.expect(200);
    assert_eq!(token_of(&house, "crm-shop").await["shared"]["id"], "crm-main");
    assert_eq!(house.audited("shop").await.iter().filter(|event| *event == "reference-granted").count(), 1);
    house.ask(Method::DELETE, reference, &operator, Value::Null).await.expect(204);
    house.ask(Method::PUT, own, &operator, secret).await.expect(200);
    assert!(token_of(&house, "crm-shop").await["shared"].is_null());
}

/// What an instance is paused for, once its lane has taken note of its last change; nothing when so many looks do not show it.
async fn paused(house: &House, instance: &str, looks: usize) -> Option<String> {
    for _ in 0..looks {
        let status =
            house.get(&format!("/v1/instances/{instance}"), PLATFORM).await.expect(200).json()["status"].clone();
        if status["state"] == "paused" {
            return Some(status["failure"]["message"].as_str().unwrap().to_owned());
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    None
}

#[tokio::test]
async fn another_account_sees_and_uses_nothing_of_it() {
    let (house, operator) = account(&Arc::new(MemoryStore::new())).await;
    house.site("other", "elsewhere").await;
    let stranger = house.operator("other", "eve").await;
    house.get("/v1/accounts/acme/credentials", &stranger).await.expect(403);
    house.ask(Method::PUT, SHARED, &stranger, json!({"secret": "pat-of-a-stranger"})).await.expect(403);
    house.ask(Method::DELETE, SHARED, &stranger, Value::Null).await.expect(403);
    house.get("/v1/accounts/nobody/credentials", PLATFORM).await.expect(404);
    let theirs = house.post(&instances("elsewhere"), &stranger, referring("crm-9")).await.expect(422);
    assert_eq!(theirs.fields(), ["shared.token"]);
    house.get("/v1/accounts/acme/credentials", &operator).await.expect(200);
}
