//! The captured event as a connector receives it, and what it answers for one.

use std::borrow::Cow;

use serde::Deserialize;

use crate::{Failure, FailureClass, Response, timestamps};

/// One captured event, after the host applied scope and field mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The capture's id: unique per site and environment.
    pub id: String,
    /// Stable for this event and connector instance over every attempt and replay.
    pub idempotency_key: String,
    /// When it was captured: milliseconds since 1970-01-01T00:00:00Z.
    pub captured_at_ms: u64,
    /// Where it was captured: `form:contact`, `analytics:page-view`, `phone-tap:header`, `event:signup`.
    pub surface: String,
    /// The mapped fields as JSON text: an object from target name to value.
    pub fields: String,
}

impl Event {
    /// The mapped fields as JSON text, to be passed on as it is.
    pub fn fields_raw(&self) -> &str {
        &self.fields
    }

    /// The mapped fields, read into a type that may borrow from the event.
    ///
    /// # Errors
    /// `schema-mismatch` when a field has another shape than `T` asks for: the mapping is the operator's to correct.
    pub fn fields<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.fields).map_err(|error| {
            Failure::new(
                FailureClass::SchemaMismatch,
                format!("the mapped fields do not have the expected shape: {error}"),
            )
        })
    }

    /// When it was captured, as RFC 3339 in UTC with milliseconds (`2026-01-31T09:30:00.000Z`).
    pub fn captured_at(&self) -> String {
        timestamps::rfc3339(self.captured_at_ms)
    }
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The downstream has it. The text is the downstream's own id for the record, when it tells one.
    Delivered(Option<String>),
    /// Not delivered, for this reason.
    Failed(Failure),
}

impl Outcome {
    /// Delivered, under the downstream's own id.
    pub fn delivered_as(id: impl Into<Cow<'static, str>>) -> Self {
        Self::Delivered(Some(id.into().into_owned()))
    }

    /// Delivered for a 2xx, otherwise [`Failure::from_response`]: right where the status alone tells what became of the
    /// event.
    pub fn from_status(response: &Response) -> Self {
        match Failure::from_response(response) {
            None => Self::Delivered(None),
            Some(failure) => Self::Failed(failure),
        }
    }

    /// Whether the downstream has the event.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered(_))
    }

    /// Why it was not delivered.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Delivered(_) => None,
            Self::Failed(failure) => Some(failure),
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn event(fields: &str) -> Event {
        Event {
            id: "ev-1".into(),
            idempotency_key: "key-1".into(),
            captured_at_ms: 1_767_225_600_123,
            surface: "form:contact".into(),
            fields: fields.into(),
        }
    }

    #[test]
    fn fields_are_read_into_a_borrowing_type() {
        #[derive(Deserialize)]
        struct Fields<'a> {
            email: &'a str,
        }
        let event = event(r#"{"email":"ada@example.com","more":1}"#);
        assert_eq!(event.fields::<Fields<'_>>().unwrap().email, "ada@example.com");
        assert_eq!(event.fields_raw(), r#"{"email":"ada@example.com","more":1}"#);
    }

    #[test]
    fn fields_of_another_shape_are_a_schema_mismatch() {
        #[derive(Deserialize, Debug)]
        #[allow(dead_code)]
        struct Fields {
            email: String,
        }
        let failure = event(r#"{"email":7}"#).fields::<Fields>().unwrap_err();
        assert_eq!(failure.class, FailureClass::SchemaMismatch);
        assert!(failure.message.contains("invalid type"), "{}", failure.message);
    }

    #[test]
    fn the_capture_time_is_told_in_utc_with_milliseconds() {
        assert_eq!(event("{}").captured_at(), "2026-01-01T00:00:00.123Z");
    }
}
