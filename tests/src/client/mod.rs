//! A client of the host's HTTP API, as a site's or an operator's program would have one.
//!
//! It knows the API only from its documentation: shapes that it does not need stay JSON.

mod shapes;

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use shapes::{
    CallError, Capture, DeadLetter, FieldProblem, NewInstance, Problem, Receipt, Receipts, Status, Verification,
};

/// A caller with one token. Cloning it shares its connections.
#[derive(Clone)]
pub struct Client {
    base: String,
    token: String,
    http: reqwest::Client,
}

/// A site's environment in a path.
fn place(site: &str, environment: &str) -> String {
    format!("/v1/sites/{site}/environments/{environment}")
}

impl Client {
    /// A caller of the host at `base` (`http://ADDRESS`) with a token.
    ///
    /// # Errors
    /// When the TLS-free client cannot be made.
    pub fn new(base: &str, token: &str) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
        Ok(Self { base: base.to_owned(), token: token.to_owned(), http })
    }

    /// The same connections with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// A request with the token, for what the methods below do not cover.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// [`CallError::Refused`] for any status from 400.
    pub async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CallError> {
        let answer = request.send().await?;
        let status = answer.status();
        let retry_after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let body = answer.bytes().await?;
        let text = || String::from_utf8_lossy(&body).into_owned();
        if status.is_client_error() || status.is_server_error() {
            let problem: Problem = serde_json::from_slice(&body)
                .with_context(|| format!("{status} without problem details: {}", text()))?;
            return Err(CallError::Refused(Box::new(Problem { retry_after, ..problem })));
        }
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        Ok(serde_json::from_slice(body)
            .with_context(|| format!("{status} with an answer of another shape: {}", text()))?)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.send(self.request(Method::GET, path)).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: &Value) -> Result<T, CallError> {
        self.send(self.request(method, path).json(body)).await
    }

    /// Any `GET`, as JSON.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get_json(&self, path: &str) -> Result<Value, CallError> {
        self.get(path).await
    }

    /// Registers a site (platform).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn register_site(&self, account: &str, site: &str) -> Result<(), CallError> {
        self.call(Method::PUT, &format!("/v1/accounts/{account}/sites/{site}"), &json!({})).await.map(|_: Value| ())
    }

    /// Adds an operator (platform) and answers the operator's token.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn add_operator(&self, account: &str, id: &str) -> Result<String, CallError> {
        #[derive(Deserialize)]
        struct Added {
            token: String,
        }
        let path = format!("/v1/accounts/{account}/operators");
        Ok(self.call::<Added>(Method::POST, &path, &json!({ "id": id })).await?.token)
    }

    /// Issues an ingest key; answers its id and the key.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn issue_ingest_key(&self, site: &str, environment: &str) -> Result<(String, String), CallError> {
        #[derive(Deserialize)]
        struct Issued {
            id: String,
            key: String,
        }
        let path = format!("{}/ingest-keys", place(site, environment));
        let issued: Issued = self.call(Method::POST, &path, &json!({})).await?;
        Ok((issued.id, issued.key))
    }

    /// Revokes an ingest key.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn revoke_ingest_key(&self, site: &str, environment: &str, id: &str) -> Result<(), CallError> {
        let path = format!("{}/ingest-keys/{id}", place(site, environment));
        self.send(self.request(Method::DELETE, &path)).await.map(|_: Value| ())
    }

    /// Posts events: an object or an array.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post_events(&self, site: &str, environment: &str, events: &Value) -> Result<Receipts, CallError> {
        self.call(Method::POST, &format!("{}/events", place(site, environment)), events).await
    }

    /// Posts a body of events with this content type.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post_body(
        &self,
        site: &str,
        environment: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Receipts, CallError> {
        let path = format!("{}/events", place(site, environment));
        self.send(self.request(Method::POST, &path).header("content-type", content_type).body(body)).await
    }

    /// Configures an instance; answers it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn configure(&self, site: &str, environment: &str, new: &NewInstance) -> Result<Value, CallError> {
        let path = format!("{}/instances", place(site, environment));
        self.send(self.request(Method::POST, &path).json(new)).await
    }

    /// An instance with its status.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn instance(&self, id: &str) -> Result<Value, CallError> {
        self.get(&format!("/v1/instances/{id}")).await
    }

    /// What an instance is doing.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn status(&self, id: &str) -> Result<Status, CallError> {
        let instance = self.instance(id).await?;
        Ok(Status(instance.get("status").cloned().unwrap_or(Value::Null)))
    }

    /// Changes an instance.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn change(&self, id: &str, change: &Value) -> Result<Value, CallError> {
        self.call(Method::PATCH, &format!("/v1/instances/{id}"), change).await
    }

    /// Changes an instance if it has this revision.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn change_revision(&self, id: &str, revision: u64, change: &Value) -> Result<Value, CallError> {
        let request = self.request(Method::PATCH, &format!("/v1/instances/{id}"));
        self.send(request.header("if-match", format!("\"{revision}\"")).json(change)).await
    }

    /// Enables an instance, from `newest` or `meanwhile`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn enable(&self, id: &str, from: &str) -> Result<Value, CallError> {
        self.call(Method::POST, &format!("/v1/instances/{id}/enable"), &json!({ "from": from })).await
    }

    /// Disables an instance.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn disable(&self, id: &str, reason: &str) -> Result<Value, CallError> {
        self.call(Method::POST, &format!("/v1/instances/{id}/disable"), &json!({ "reason": reason })).await
    }

    /// Gives a slot a new secret.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn rotate(&self, id: &str, slot: &str, secret: &str) -> Result<Value, CallError> {
        let path = format!("/v1/instances/{id}/credentials/{slot}");
        self.call(Method::PUT, &path, &json!({ "secret": secret })).await
    }

    /// Checks an instance's health.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn check(&self, id: &str) -> Result<Value, CallError> {
        self.call(Method::POST, &format!("/v1/instances/{id}/check"), &json!({})).await
    }

    /// Live choices of a source: values with labels.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn options(&self, id: &str, source: &str, search: &str) -> Result<Vec<(String, String)>, CallError> {
        #[derive(Deserialize)]
        struct Choice {
            value: String,
            label: String,
        }
        #[derive(Deserialize)]
        struct Choices {
            choices: Vec<Choice>,
        }
        let found: Choices = self.get(&format!("/v1/instances/{id}/options?source={source}&search={search}")).await?;
        Ok(found.choices.into_iter().map(|c| (c.value, c.label)).collect())
    }

    /// Every dead letter of an instance, newest first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn dead_letters(&self, id: &str) -> Result<Vec<DeadLetter>, CallError> {
        self.all(&format!("/v1/instances/{id}/dead-letters?limit=1000"), "dead_letters").await
    }

    /// Begins a replay of dead letters: `selection` is `{"all": true}`, or a cause, a class, a position or a time.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn replay(&self, id: &str, selection: &Value) -> Result<Value, CallError> {
        let path = format!("/v1/instances/{id}/dead-letters/replay");
        self.send(self.request(Method::POST, &path).json(selection)).await
    }

    /// The newest entries of an instance's integration log.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn log(&self, id: &str, limit: usize) -> Result<Vec<Value>, CallError> {
        #[derive(Deserialize)]
        struct Log {
            entries: Vec<Value>,
        }
        Ok(self.get::<Log>(&format!("/v1/instances/{id}/log?limit={limit}")).await?.entries)
    }

    /// Every captured event of an environment, newest first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn captures(&self, site: &str, environment: &str) -> Result<Vec<Capture>, CallError> {
        self.all(&format!("{}/captures?limit=1000", place(site, environment)), "captures").await
    }

    /// What became of an event, per instance.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn trace(&self, site: &str, environment: &str, event: &str) -> Result<Value, CallError> {
        self.get(&format!("{}/captures/{event}/trace", place(site, environment))).await
    }

    /// Every audit record of a site that a query (`event=…&instance=…`) selects, newest first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn audit(&self, site: &str, query: &str) -> Result<Vec<Value>, CallError> {
        self.all(&format!("/v1/sites/{site}/audit?limit=1000&{query}"), "records").await
    }

    /// Verifies a site's audit log.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn verify_audit(&self, site: &str) -> Result<Verification, CallError> {
        self.get(&format!("/v1/sites/{site}/audit/verify")).await
    }

    /// Follows a paged list to its end.
    async fn all<T: DeserializeOwned>(&self, path: &str, name: &str) -> Result<Vec<T>, CallError> {
        let mut all = Vec::new();
        let mut before = String::new();
        loop {
            let mut page: Value = self.get(&format!("{}{before}", path.trim_end_matches('&'))).await?;
            let items = page.get_mut(name).map(Value::take).with_context(|| format!("the page has no {name}"))?;
            let items: Vec<T> = serde_json::from_value(items).with_context(|| format!("{name} have another shape"))?;
            all.extend(items);
            match page.get("next").and_then(Value::as_u64) {
                Some(next) => before = format!("&before={next}"),
                None => return Ok(all),
            }
        }
    }
}
