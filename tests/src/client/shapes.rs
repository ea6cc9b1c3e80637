//! The shapes of the API's requests and answers, as far as these tests look into them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The host refused, with its problem details.
    #[error("{}: {} ({}){}", .0.status, .0.title, .0.detail, .0.fields())]
    Refused(Box<Problem>),
    /// No answer, or none that is understood.
    #[error(transparent)]
    Broken(#[from] anyhow::Error),
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl CallError {
    /// The problem, when the host answered one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Broken(_) => None,
        }
    }
}

/// Problem details (RFC 9457) with this API's additions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Problem {
    /// `urn:sgen:problem:SLUG`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence.
    pub detail: String,
    /// Who must act: `sender`, `operator`, `downstream` or `platform`.
    pub fault: String,
    /// The fields at fault.
    #[serde(default)]
    pub problems: Vec<FieldProblem>,
    /// The `Retry-After` header, in seconds.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// Whether a field of this name is at fault.
    #[must_use]
    pub fn names(&self, field: &str) -> bool {
        self.problems.iter().any(|problem| problem.field == field)
    }

    fn fields(&self) -> String {
        self.problems.iter().map(|p| format!("; {}: {}", p.field, p.message)).collect()
    }
}

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldProblem {
    /// Where.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// The answer to posted events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Receipts {
    /// How many were new.
    pub accepted: u64,
    /// How many were known.
    pub duplicates: u64,
    /// One per event, in order.
    pub events: Vec<Receipt>,
}

/// The answer to one posted event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// The event's id.
    pub id: String,
    /// Its position in the log.
    pub sequence: u64,
    /// `accepted` or `duplicate`.
    pub status: String,
}

/// An instance to be configured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewInstance {
    /// Its id; chosen by the host when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The catalog entry.
    pub connector: String,
    /// Its title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its settings.
    pub settings: Value,
    /// Its mapping.
    pub mapping: Value,
    /// Its scope; the connector's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<String>>,
    /// The secret of each slot.
    pub credentials: Value,
}

/// What an instance is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(pub Value);

impl Status {
    /// `active`, `paused` or `disabled`.
    #[must_use]
    pub fn state(&self) -> &str {
        let state = self.0.get("state");
        state.and_then(|s| s.as_str().or_else(|| s.get("state").and_then(Value::as_str))).unwrap_or("unknown")
    }

    /// A count: `pending`, `retrying`, `delivered`, `dead_lettered`, `skipped`.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let jobs = self.0.get("jobs").and_then(Value::as_array);
        self.count("pending") == 0 && self.count("retrying") == 0 && jobs.is_none_or(Vec::is_empty)
    }
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DeadLetter {
    /// The event's position.
    pub sequence: u64,
    /// The event.
    pub event_id: String,
    /// Its surface.
    pub surface: String,
    /// How often it was tried.
    pub attempts: u64,
    /// Why it was given up: `class`, `status`, `code`, `message`, `field`.
    pub failure: Value,
}

impl DeadLetter {
    /// The class of its failure.
    #[must_use]
    pub fn class(&self) -> &str {
        self.failure.get("class").and_then(Value::as_str).unwrap_or("unknown")
    }

    /// The cause as an operator reads it: the class, the field or code at fault, the message.
    #[must_use]
    pub fn cause(&self) -> String {
        let text = |name: &str| self.failure.get(name).and_then(Value::as_str);
        let place = text("field").or_else(|| text("code"));
        let place = place.map(|place| format!("/{place}")).unwrap_or_default();
        format!("{}{place}", self.class())
    }

    /// The message of its failure.
    #[must_use]
    pub fn message(&self) -> &str {
        self.failure.get("message").and_then(Value::as_str).unwrap_or_default()
    }
}

/// One captured event as the host keeps it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Capture {
    /// Its position.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// Its surface.
    pub surface: String,
    /// Its fields.
    #[serde(default)]
    pub fields: Value,
}

/// The result of an audit verification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verification {
    /// How many records there are.
    pub records: u64,
    /// The tree's root.
    pub root_hash: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_read_whether_its_state_is_a_word_or_an_object() {
        let flat = Status(json!({ "state": "active", "pending": 2 }));
        assert_eq!((flat.state(), flat.count("pending"), flat.is_settled()), ("active", 2, false));
        let nested = Status(json!({ "state": { "state": "paused", "failure": {} } }));
        assert_eq!((nested.state(), nested.is_settled()), ("paused", true));
    }

    #[test]
    fn a_refusal_is_shown_with_its_fields() {
        let problem: Problem = serde_json::from_value(json!({
            "type": "urn:sgen:problem:invalid", "title": "Invalid content", "status": 422, "detail": "no",
            "fault": "sender", "problems": [{ "field": "events[0].id", "message": "is missing" }],
        }))
        .unwrap();
        assert!(problem.names("events[0].id"));
        let text = CallError::Refused(Box::new(problem)).to_string();
        assert_eq!(text, "422: Invalid content (no); events[0].id: is missing");
    }
}
