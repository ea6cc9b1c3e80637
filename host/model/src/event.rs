//! Capture events: what a site captured, as the platform keeps it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{EventId, IdError};
use crate::time::Timestamp;

/// The kinds of surface on which a site captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SurfaceKind {
    /// A form submission.
    Form,
    /// An analytics event.
    Analytics,
    /// A tap on a phone number.
    PhoneTap,
    /// A custom event.
    Event,
}

impl SurfaceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Form, Self::Analytics, Self::PhoneTap, Self::Event];

    /// The kind as in a surface's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Analytics => "analytics",
            Self::PhoneTap => "phone-tap",
            Self::Event => "event",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A capture surface: a kind and a name, written `form:contact`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Surface {
    /// The kind.
    pub kind: SurfaceKind,
    /// The name: letters, digits, `-`, `_`, `.`; at most 64 bytes.
    pub name: String,
}

/// What a surface's or scope's name may consist of.
pub(crate) fn is_surface_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl FromStr for Surface {
    type Err = EventError;
    fn from_str(text: &str) -> Result<Self, EventError> {
        let bad = || EventError::Surface { text: text.chars().take(80).collect() };
        let (kind, name) = text.split_once(':').ok_or_else(bad)?;
        let kind = SurfaceKind::parse(kind).ok_or_else(bad)?;
        if !is_surface_name(name) {
            return Err(bad());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl TryFrom<String> for Surface {
    type Error = EventError;
    fn try_from(text: String) -> Result<Self, EventError> {
        text.parse()
    }
}

impl From<Surface> for String {
    fn from(surface: Surface) -> Self {
        surface.to_string()
    }
}

impl fmt::Display for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.name)
    }
}

/// A captured event, as a site posts it and as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureEvent {
    /// Chosen by the capturing side; a second event with the same id is a duplicate.
    pub id: EventId,
    /// Where it was captured.
    pub surface: Surface,
    /// When it was captured.
    pub captured_at: Timestamp,
    /// What was captured: a form's fields, an event's properties.
    #[serde(default)]
    pub fields: Map<String, Value>,
    /// Circumstances: page, referrer, campaign.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
}

impl CaptureEvent {
    /// Its size, in bytes: of names and values, without the marks that JSON needs. What the retention by size counts.
    #[must_use]
    pub fn size(&self) -> u64 {
        fn size(value: &Value) -> usize {
            match value {
                Value::String(text) => text.len(),
                Value::Array(items) => items.iter().map(size).fold(0, usize::saturating_add),
                Value::Object(map) => members(map),
                Value::Null | Value::Bool(_) | Value::Number(_) => 8,
            }
        }
        fn members(map: &Map<String, Value>) -> usize {
            map.iter().map(|(name, value)| name.len().saturating_add(size(value))).fold(0, usize::saturating_add)
        }
        let own = self.id.as_str().len().saturating_add(self.surface.name.len()).saturating_add(16);
        own.saturating_add(members(&self.fields)).saturating_add(members(&self.context)) as u64
    }

    /// The largest event, in bytes of JSON.
    pub const SIZE_LIMIT: usize = 256 * 1024;
    /// The most fields (and context entries), counted at every depth.
    pub const VALUE_LIMIT: usize = 2_000;
    /// The deepest nesting.
    pub const DEPTH_LIMIT: usize = 16;

    /// Parses and checks one event from JSON.
    ///
    /// # Errors
    /// [`EventError`], which names what the sender must correct.
    pub fn from_json(json: &[u8]) -> Result<Self, EventError> {
        if json.len() > Self::SIZE_LIMIT {
            return Err(EventError::TooLarge { size: json.len(), limit: Self::SIZE_LIMIT });
        }
        let event: Self = serde_json::from_slice(json).map_err(|e| EventError::Json(e.to_string()))?;
        let mut values = 0;
        for value in event.fields.values().chain(event.context.values()) {
            measure(value, 1, &mut values)?;
        }
        Ok(event)
    }
}

fn measure(value: &Value, depth: usize, values: &mut usize) -> Result<(), EventError> {
    *values = values.saturating_add(1);
    if *values > CaptureEvent::VALUE_LIMIT {
        return Err(EventError::TooManyValues { limit: CaptureEvent::VALUE_LIMIT });
    }
    if depth > CaptureEvent::DEPTH_LIMIT {
        return Err(EventError::TooDeep { limit: CaptureEvent::DEPTH_LIMIT });
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|v| measure(v, depth.saturating_add(1), values)),
        Value::Object(map) => map.values().try_for_each(|v| measure(v, depth.saturating_add(1), values)),
        _ => Ok(()),
    }
}

/// Why an event is refused. The sender must correct it; nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not JSON, or not an event.
    #[error("not a capture event: {0}")]
    Json(String),
    /// No surface.
    #[error("surface {text:?} is not KIND:NAME with KIND one of form, analytics, phone-tap, event")]
    Surface {
        /// The text, cut.
        text: String,
    },
    /// A bad id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Too large.
    #[error("the event has {size} bytes; at most {limit} are taken")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// Too many values.
    #[error("the event has more than {limit} values")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// Nested too deeply.
    #[error("the event is nested more than {limit} levels deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_event_is_read_with_its_surface_and_times() {
        let event = CaptureEvent::from_json(
            br#"{"id":"e1","surface":"form:contact","captured_at":"2026-11-23T10:00:00Z","fields":{"email":"a@b.c"}}"#,
        )
        .unwrap();
        assert_eq!(event.surface.to_string(), "form:contact");
        assert_eq!(event.fields["email"], "a@b.c");
    }

    #[test]
    fn each_defect_is_named() {
        let cases: [(&str, &str); 6] = [
            ("{", "EOF"),
            (r#"{"id":"e","surface":"form:x","captured_at":"2026-11-23T10:00:00Z","extra":1}"#, "extra"),
            (r#"{"surface":"form:x","captured_at":"2026-11-23T10:00:00Z"}"#, "missing field `id`"),
            (r#"{"id":"e","surface":"fax:x","captured_at":"2026-11-23T10:00:00Z"}"#, "KIND:NAME"),
            (r#"{"id":"a b","surface":"form:x","captured_at":"2026-11-23T10:00:00Z"}"#, "event id contains ' '"),
            (r#"{"id":"e","surface":"form:x","captured_at":"soon"}"#, "RFC 3339"),
        ];
        for (json, part) in cases {
            let error = CaptureEvent::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn size_count_and_depth_are_bounded() {
        let head = r#"{"id":"e","surface":"form:x","captured_at":1,"fields":"#;
        let deep = format!("{head}{}1{}}}", "{\"a\":".repeat(20), "}".repeat(20));
        assert!(matches!(CaptureEvent::from_json(deep.as_bytes()), Err(EventError::TooDeep { .. })));
        let many: Vec<String> = (0..2001).map(|i| format!("\"k{i}\":1")).collect();
        let many = format!("{head}{{{}}}}}", many.join(","));
        assert!(matches!(CaptureEvent::from_json(many.as_bytes()), Err(EventError::TooManyValues { .. })));
        let large = format!("{head}{{\"a\":\"{}\"}}}}", "x".repeat(CaptureEvent::SIZE_LIMIT));
        assert!(matches!(CaptureEvent::from_json(large.as_bytes()), Err(EventError::TooLarge { .. })));
    }
}
