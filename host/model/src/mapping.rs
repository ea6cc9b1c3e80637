//! Field mapping as an operator configures it. How it is applied is delivery's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From target field (as the connector's manifest names it) to where its value comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldMapping(pub BTreeMap<String, MappingSource>);

impl FieldMapping {
    /// The most targets in one mapping.
    pub const LIMIT: usize = 500;
}

/// Where one target's value comes from: exactly one of `from`, `value` and `template`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingSource {
    /// A path into the capture record: `fields.email`, `context.page.url`, `surface`, `id`, `captured_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// A text with paths in braces: `{fields.first} {fields.last}`; `{{` and `}}` stand for braces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What to take when `from` or `template` finds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}
