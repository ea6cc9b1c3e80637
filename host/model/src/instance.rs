//! Connector instances: one connector, configured on one site and environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::id::{AccountId, ConnectorId, InstanceId, Place, SlotName};
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

/// What may be shown and audited of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRef {
    /// Counts rotations, from 1.
    pub version: u32,
    /// A keyed digest, so that equal credentials can be recognised and nothing else.
    pub fingerprint: String,
    /// When it was given.
    pub set_at: Timestamp,
}

/// What an instance is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum InstanceState {
    /// Takes and delivers events.
    Active,
    /// Enabled, but delivery waits for the operator.
    Paused(PauseCause),
    /// Takes no events.
    Disabled,
}

/// Why a lane waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseCause {
    /// Since when.
    pub since: Timestamp,
    /// What has to be mended.
    pub failure: Failure,
}
