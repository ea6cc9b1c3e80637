//! Connector instances: one connector, configured on one site and environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::id::{AccountId, ConnectorId, InstanceId, Place, SharedId, SlotName};
use crate::mapping::FieldMapping;
use crate::scope::Scope;
use crate::time::Timestamp;

/// A connector instance, as its operator configured it. What the runtime knows of it (cursor, pause) is kept apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectorInstance {
    /// Its id.
    pub id: InstanceId,
    /// The site and environment it belongs to, for good.
    pub place: Place,
    /// The account that owns the site.
    pub account: AccountId,
    /// The catalog entry.
    pub connector: ConnectorId,
    /// What the operator calls it.
    pub title: String,
    /// Valid against the manifest's settings.
    pub settings: Map<String, Value>,
    /// The field mapping.
    pub mapping: FieldMapping,
    /// The surfaces it takes.
    pub scope: Scope,
    /// In which order its events are delivered.
    #[serde(default, skip_serializing_if = "Order::is_none")]
    pub order: Order,
    /// Whether it takes events.
    pub enabled: bool,
    /// A reference per filled slot; never the secret.
    pub credentials: BTreeMap<SlotName, CredentialRef>,
    /// When it was configured.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Counts changes, for conditional updates.
    pub revision: u64,
}

/// In which order the events of an instance are delivered. Written `"none"` or `{"key": "email"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Each event as soon as it can be: a retry does not hold up what was captured after it.
    #[default]
    None,
    /// Events with the same value in this mapped field one after another, in capture order, retries included; others go
    /// on. An event without the field is not held.
    Key(String),
}

impl Order {
    /// Whether there is none to keep.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The mapped field by which events are kept in order.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Key(field) => Some(field),
        }
    }
}

/// What may be shown and audited of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRef {
    /// Counts rotations, from 1.
    pub version: u32,
    /// A keyed digest, so that equal credentials can be recognised and nothing else.
    pub fingerprint: String,
    /// When it was given.
    pub set_at: Timestamp,
    /// The account's credential that it is, when it is not the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedRef>,
}

/// Which shared credential of which account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SharedRef {
    /// The account.
    pub account: AccountId,
    /// The credential.
    pub id: SharedId,
}

/// What an instance is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum InstanceState {
    /// Takes and delivers events.
    Active,
    /// Delivers, but something waits for triage or the last health check found fault.
    Degraded(PauseCause),
    /// The downstream fails as a whole: single attempts are made until it answers again.
    Failing(PauseCause),
    /// Enabled, but delivery waits for the operator.
    Paused(PauseCause),
    /// Takes no events.
    Disabled,
}

impl InstanceState {
    /// The state as in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Degraded(_) => "degraded",
            Self::Failing(_) => "failing",
            Self::Paused(_) => "paused",
            Self::Disabled => "disabled",
        }
    }
}

/// Why an instance is not simply active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseCause {
    /// Since when.
    pub since: Timestamp,
    /// What has to be mended.
    pub failure: Failure,
}
