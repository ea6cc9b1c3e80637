//! Every answer of the API that could hold a secret, searched as it comes.

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};

use super::scene::{LIVE, SITE, Scene, instance};
use super::search::Places;
use crate::client::Client;

/// The kinds of answers, and whether the decoy belongs in one.
pub(super) const KINDS: [(&str, bool); 15] = [
    ("status", true),
    ("instances", true),
    ("integration log", true),
    ("dead letters", true),
    ("triage", true),
    ("escalations", false),
    ("traces", false),
    ("captures", true),
    ("checks", true),
    ("choices", true),
    ("audit answers", true),
    ("openapi", false),
    ("catalog", false),
    ("health answers", false),
    ("problems", false),
];

/// Asks for everything, as operator and as platform.
pub(super) async fn search(scene: &Scene, events: &[String], places: &mut Places<'_>) -> Result<()> {
    let (operator, platform) = (&scene.operator, &scene.platform);
    let place = format!("/v1/sites/{SITE}/environments/{LIVE}");
    for number in 0..scene.count() {
        let id = format!("/v1/instances/{}", instance(number));
        get(operator, "status", &id, places).await?;
        get(operator, "integration log", &format!("{id}/log?limit=1000"), places).await?;
        get(operator, "triage", &format!("{id}/triage"), places).await?;
        look(operator, Method::POST, "checks", &format!("{id}/check"), Some(&json!({})), places).await?;
        get(operator, "choices", &format!("{id}/options?source=echo&search="), places).await?;
        letters(operator, &id, places).await?;
        problems(scene, number, &id, places).await?;
    }
    escalate(scene, places).await?;
    for event in events {
        get(operator, "traces", &format!("{place}/captures/{event}/trace"), places).await?;
    }
    get(operator, "captures", &format!("{place}/captures?limit=1000"), places).await?;
    get(operator, "instances", &format!("{place}/instances"), places).await?;
    get(operator, "triage", &format!("{place}/triage"), places).await?;
    pages(operator, "audit answers", &format!("/v1/sites/{SITE}/audit?limit=1000"), places).await?;
    get(platform, "audit answers", &format!("/v1/sites/{SITE}/audit/verify"), places).await?;
    get(platform, "openapi", "/openapi.json", places).await?;
    get(platform, "catalog", "/v1/catalog", places).await?;
    for path in ["/healthz", "/readyz"] {
        look(platform, Method::GET, "health answers", path, None, places).await?;
    }
    Ok(())
}

async fn letters(operator: &Client, id: &str, places: &mut Places<'_>) -> Result<()> {
    let page = get(operator, "dead letters", &format!("{id}/dead-letters?limit=1000"), places).await?;
    let letters = page.get("dead_letters").and_then(Value::as_array).context("the page has no dead letters")?;
    for letter in letters {
        let sequence = letter.get("sequence").and_then(Value::as_u64).context("a dead letter without a position")?;
        get(operator, "dead letters", &format!("{id}/dead-letters/{sequence}"), places).await?;
    }
    Ok(())
}

/// Requests that are refused: with the secret in the wrong field, and in a form that no scheme takes.
async fn problems(scene: &Scene, number: usize, id: &str, places: &mut Places<'_>) -> Result<()> {
    let Some(secret) = scene.secret_of(number) else { return Ok(()) };
    let operator = &scene.operator;
    let broken = json!({ "secret": format!("{secret}\n\u{7}") });
    for (method, path, body) in [
        (Method::PUT, format!("{id}/credentials/token"), broken.clone()),
        (Method::PUT, format!("{id}/credentials/no-such-slot"), json!({ "secret": secret })),
        (Method::PUT, format!("{id}/credentials/token"), json!({ "token": secret })),
        (Method::PUT, format!("{id}/credentials/token"), json!({ "secret": [secret] })),
        (Method::PATCH, id.to_owned(), json!({ "settings": { "url": secret } })),
        (Method::PATCH, id.to_owned(), json!({ "scope": secret })),
    ] {
        look(operator, method, "problems", &path, Some(&body), places).await?;
    }
    Ok(())
}

/// Hands every item of some instances, one of each scheme, to platform support.
async fn escalate(scene: &Scene, places: &mut Places<'_>) -> Result<()> {
    for number in 0..scene.count().min(super::scheme::SCHEMES.len()) {
        let id = format!("/v1/instances/{}", instance(number));
        let found = scene.operator.get_json(&format!("{id}/triage")).await?;
        for item in found.get("items").and_then(Value::as_array).context("triage has no items")? {
            let body = json!({ "cause": item.get("cause"), "note": "please look" });
            look(&scene.operator, Method::POST, "escalations", &format!("{id}/escalate"), Some(&body), places).await?;
        }
    }
    get(&scene.platform, "escalations", "/v1/platform/escalations?limit=1000", places).await.map(drop)
}

async fn pages(client: &Client, kind: &'static str, path: &str, places: &mut Places<'_>) -> Result<()> {
    let mut page = get(client, kind, path, places).await?;
    while let Some(next) = page.get("next").and_then(Value::as_u64) {
        page = get(client, kind, &format!("{path}&before={next}"), places).await?;
    }
    Ok(())
}

/// Searches an answer that must be a good one; answers what it says.
async fn get(client: &Client, kind: &'static str, path: &str, places: &mut Places<'_>) -> Result<Value> {
    let answer = look(client, Method::GET, kind, path, None, places).await?;
    serde_json::from_slice(&answer).with_context(|| format!("{path} was not answered with JSON"))
}

async fn look(
    client: &Client,
    method: Method,
    kind: &'static str,
    path: &str,
    body: Option<&Value>,
    places: &mut Places<'_>,
) -> Result<Vec<u8>> {
    let name = format!("{method} {path}");
    let mut request = client.request(method, path);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.with_context(|| format!("{name} was not answered"))?;
    let refused = answer.status().is_client_error();
    // What is asked for as a problem must be one, and nothing else may be.
    anyhow::ensure!(refused == (kind == "problems"), "{name} was answered with {}", answer.status());
    let mut whole = format!("{:?}\n", answer.headers()).into_bytes();
    let bytes = answer.bytes().await?.to_vec();
    whole.extend_from_slice(&bytes);
    places.look(kind, &name, &whole);
    Ok(bytes)
}
