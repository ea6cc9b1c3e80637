//! HubSpot's CRM as its documentation describes it, as far as a contacts connector uses it: batch upsert, account details,
//! properties, lists, erasure. Strict: an unknown route, field, property or content type is refused.

pub mod properties;
mod routes;
mod upsert;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::server::{Received, Server, Service};

pub use upsert::INPUTS_LIMIT;

/// The fake account's portal id.
pub const PORTAL_ID: u64 = 62_515;

/// A contact as the account keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// The record id.
    pub id: u64,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// Every value is text.
    pub properties: BTreeMap<String, String>,
    /// How often it was written.
    pub writes: u64,
}

/// What became of the inputs that carried one trace id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// How often it was written.
    pub written: u64,
    /// How often it was refused by a per-record error.
    pub refused: u64,
}

/// At most `requests` per `per`, as HubSpot's `TEN_SECONDLY_ROLLING` policy.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// Requests in a window.
    pub requests: usize,
    /// The window.
    pub per: Duration,
    /// What `Retry-After` says, in seconds.
    pub retry_after: u32,
}

/// A static list of the account.
#[derive(Debug, Clone, Default)]
struct List {
    name: String,
    dynamic: bool,
    members: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    tokens: BTreeSet<String>,
    lacks_scope: bool,
    sandbox: bool,
    rate: Option<RateLimit>,
    arrivals: Vec<Instant>,
    last_id: u64,
    contacts: BTreeMap<u64, Contact>,
    by_email: BTreeMap<String, u64>,
    traces: BTreeMap<String, Trace>,
    lists: BTreeMap<u64, List>,
    erased: Vec<String>,
}

/// Counts, for a demo, a bench or a control request.
#[derive(Debug, Clone, Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct Summary {
    /// Contacts in the account.
    pub contacts: u64,
    /// Trace ids written at least once.
    pub written: u64,
    /// Trace ids refused by a per-record error and never written.
    pub refused: u64,
    /// Writes beyond the first of a trace id.
    pub repeated: u64,
    /// Requests of every kind.
    pub requests: u64,
}

/// A whole-request refusal in HubSpot's error shape.
#[derive(Debug)]
struct Problem {
    status: u16,
    body: Value,
    retry_after: Option<u32>,
}

impl Problem {
    fn new(status: u16, category: &str, message: String) -> Self {
        let body = json!({
            "status": "error", "message": message, "correlationId": CORRELATION, "category": category,
        });
        Self { status, body, retry_after: None }
    }

    fn validation(message: String) -> Self {
        Self::new(400, "VALIDATION_ERROR", message)
    }
}

/// A constant stands for HubSpot's random correlation id: runs stay comparable.
const CORRELATION: &str = "4f2c1d0e-95ef-4a56-8f3e-0f1b6a6f0d11";

struct Hubspot(Mutex<State>);

impl Hubspot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Hubspot {
    fn answer(&self, request: &Received) -> Response<Bytes> {
        let outcome = routes::route(&mut self.state(), request);
        let (status, body, retry_after) = match outcome {
            Ok((status, body)) => (status, body, None),
            Err(problem) => (problem.status, problem.body, problem.retry_after),
        };
        let body = if status == 204 { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut answer = Response::new(body);
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = answer.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("application/json;charset=utf-8"));
        headers.insert("x-hubspot-correlation-id", http::HeaderValue::from_static(CORRELATION));
        if let Some(seconds) = retry_after {
            headers.insert("retry-after", http::HeaderValue::from(seconds));
        }
        answer
    }
}

/// A running fake HubSpot; also its [`Server`].
pub struct HubspotFake {
    server: Server,
    hubspot: Arc<Hubspot>,
}

impl Deref for HubspotFake {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

impl HubspotFake {
    /// Starts with one accepted token, two static lists (`1` Newsletter, `2` Leads) and one dynamic list (`3`).
    ///
    /// # Errors
    /// When the port is taken (0: any free one).
    pub async fn start(token: &str, port: u16) -> io::Result<Self> {
        let list = |name: &str, dynamic| List { name: name.to_owned(), dynamic, members: BTreeSet::new() };
        let state = State {
            tokens: BTreeSet::from([token.to_owned()]),
            last_id: 500,
            lists: BTreeMap::from([
                (1, list("Newsletter", false)),
                (2, list("Leads", false)),
                (3, list("All customers", true)),
            ]),
            ..State::default()
        };
        let hubspot = Arc::new(Hubspot(Mutex::new(state)));
        Ok(Self { server: Server::start(hubspot.clone(), port).await?, hubspot })
    }

    /// From now on only these tokens are accepted: an old one is revoked, a new one issued.
    pub fn set_tokens<'a>(&self, tokens: impl IntoIterator<Item = &'a str>) {
        self.hubspot.state().tokens = tokens.into_iter().map(str::to_owned).collect();
    }

    /// Whether the token lacks the scope to write contacts (403).
    pub fn set_lacks_scope(&self, lacks: bool) {
        self.hubspot.state().lacks_scope = lacks;
    }

    /// Whether the account is a developer's test account.
    pub fn set_sandbox(&self, sandbox: bool) {
        self.hubspot.state().sandbox = sandbox;
    }

    /// Limits the rate from now on.
    pub fn set_rate(&self, rate: Option<RateLimit>) {
        let mut state = self.hubspot.state();
        state.rate = rate;
        state.arrivals.clear();
    }

    /// The contact with this e-mail address.
    #[must_use]
    pub fn contact(&self, email: &str) -> Option<Contact> {
        let state = self.hubspot.state();
        let id = state.by_email.get(&email.to_lowercase())?;
        state.contacts.get(id).cloned()
    }

    /// Every contact, by record id.
    #[must_use]
    pub fn contacts(&self) -> Vec<Contact> {
        self.hubspot.state().contacts.values().cloned().collect()
    }

    /// What became of each trace id.
    #[must_use]
    pub fn traces(&self) -> BTreeMap<String, Trace> {
        self.hubspot.state().traces.clone()
    }

    /// What became of one trace id; zeros when it never came.
    #[must_use]
    pub fn trace(&self, id: &str) -> Trace {
        self.hubspot.state().traces.get(id).copied().unwrap_or_default()
    }

    /// The record ids on a list.
    #[must_use]
    pub fn list_members(&self, list: u64) -> BTreeSet<u64> {
        self.hubspot.state().lists.get(&list).map(|l| l.members.clone()).unwrap_or_default()
    }

    /// The e-mail addresses erased so far.
    #[must_use]
    pub fn erased(&self) -> Vec<String> {
        self.hubspot.state().erased.clone()
    }

    /// Counts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let state = self.hubspot.state();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Summary {
            contacts: count(state.contacts.len()),
            written: count(state.traces.values().filter(|t| t.written > 0).count()),
            refused: count(state.traces.values().filter(|t| t.written == 0 && t.refused > 0).count()),
            repeated: state.traces.values().map(|t| t.written.saturating_sub(1)).sum(),
            requests: self.server.journal().total(),
        }
    }
}

#[cfg(test)]
mod tests;
