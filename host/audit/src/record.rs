//! Audit records: the seed's five kinds and the platform's own.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sgen_model::{
    AccountId, ConnectorId, Environment, FailureClass, InstanceId, OperatorId, Scope, SharedId, SiteId, SlotName,
    Timestamp,
};

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "kebab-case")]
pub enum Actor {
    /// A site's operator.
    Operator(OperatorId),
    /// The platform, under its own identity.
    Platform,
}

/// One field's change, with the prior and the new value. Never a credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// A path: `settings.url`, `mapping.email`, `scope`.
    pub field: String,
    /// Before; null when there was none.
    pub prior: Value,
    /// After; null when it was removed.
    pub new: Value,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Action {
    /// A connector instance was configured.
    ConnectorConfigured {
        /// The connector's type (`crm`).
        connector_type: String,
        /// Its scope.
        scope: Scope,
        /// Always true: an instance starts enabled.
        enabled: bool,
    },
    /// Its configuration was changed.
    ConfigurationChanged {
        /// What changed.
        changes: Vec<FieldChange>,
    },
    /// A credential was rotated.
    CredentialsRotated {
        /// The slot.
        slot: SlotName,
        /// The new version.
        version: u32,
        /// The keyed fingerprint of the new credential.
        fingerprint: String,
    },
    /// The host renewed the tokens of a grant.
    CredentialsRefreshed {
        /// The slot.
        slot: SlotName,
        /// The version of the grant: how often somebody has consented.
        version: u32,
        /// Counts the renewals since then.
        renewal: u64,
        /// The keyed fingerprint of what renews it next.
        fingerprint: String,
    },
    /// A grant was given back.
    CredentialsRemoved {
        /// The slot.
        slot: SlotName,
        /// The version that is gone.
        version: u32,
        /// Its keyed fingerprint.
        fingerprint: String,
        /// What became of it at the vendor: `revoked`, `not-offered`, or `failed` with the reason.
        upstream: String,
    },
    /// It was enabled again.
    ConnectorEnabled {
        /// Where delivery starts: `newest` or `meanwhile`.
        from: String,
        /// Always true.
        enabled: bool,
    },
    /// It was disabled.
    ConnectorDisabled {
        /// Always false.
        enabled: bool,
        /// The operator's note.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A failure was surfaced for triage.
    FailureSurfaced {
        /// The failure's class.
        class: FailureClass,
        /// The downstream's response code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Class with code or field.
        cause: String,
        /// What was said.
        message: String,
    },
    /// The cause of a surfaced failure is gone.
    FailureResolved {
        /// Class with code or field.
        cause: String,
    },
    /// The instance's state changed: active, degraded, failing, paused, disabled.
    StateChanged {
        /// Before.
        from: String,
        /// After.
        to: String,
        /// The failure that is the reason, when there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// Dead letters are sent on their way again.
    DeadLettersReplayed {
        /// Which, as it was asked for.
        selection: Value,
        /// How many matched then.
        count: u64,
    },
    /// Dead letters are given up.
    DeadLettersDiscarded {
        /// Which, as it was asked for.
        selection: Value,
        /// How many matched then.
        count: u64,
    },
    /// A failure was handed to platform support.
    FailureEscalated {
        /// Class with code or field.
        cause: String,
        /// The bundle's id.
        bundle: String,
        /// What the operator wrote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Contents of captured events were erased. The value that was looked for is not recorded.
    EventsErased {
        /// The field that was looked at; absent when one event was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<String>,
        /// How many events.
        count: u64,
    },
    /// Events of the log were removed because their retention had ended.
    EventsExpired {
        /// How many events.
        count: u64,
        /// How many deliveries were not settled by then and became dead letters.
        dead_lettered: u64,
    },
    /// A platform release was activated.
    ReleaseActivated {
        /// The catalog version.
        version: String,
        /// Its sequence.
        sequence: u64,
    },
    /// A site was registered.
    SiteRegistered {
        /// Its account.
        account: AccountId,
    },
    /// An operator was given a token.
    OperatorAdded {
        /// The account.
        account: AccountId,
        /// The operator.
        operator: OperatorId,
    },
    /// An ingest key was issued.
    IngestKeyIssued {
        /// The key's id; never the key.
        key_id: String,
    },
    /// An ingest key was revoked.
    IngestKeyRevoked {
        /// The key's id.
        key_id: String,
    },
    /// A credential that an account's sites share was given or rotated.
    SharedCredentialSet {
        /// The account.
        account: AccountId,
        /// The credential.
        credential: SharedId,
        /// The new version.
        version: u32,
        /// The keyed fingerprint of the new secret.
        fingerprint: String,
    },
    /// A shared credential was deleted.
    SharedCredentialDeleted {
        /// The account.
        account: AccountId,
        /// The credential.
        credential: SharedId,
    },
    /// A slot refers to a shared credential from now on.
    ReferenceGranted {
        /// The slot.
        slot: SlotName,
        /// The shared credential.
        credential: SharedId,
        /// Its version.
        version: u32,
        /// The keyed fingerprint of its secret.
        fingerprint: String,
    },
    /// A slot refers to a shared credential no longer.
    ReferenceRevoked {
        /// The slot.
        slot: SlotName,
        /// The shared credential.
        credential: SharedId,
    },
    /// A credential, or an instance that a check looked at, was refused: its downstream account is used by an instance of
    /// another environment.
    AccountRefused {
        /// The keyed fingerprint of the account.
        fingerprint: String,
        /// What the downstream calls it.
        label: String,
        /// The other instance.
        other_instance: InstanceId,
        /// Its environment.
        other_environment: Environment,
    },
    /// An operator allowed a downstream account that an instance of another environment uses.
    AccountAllowed {
        /// The keyed fingerprint of the account.
        fingerprint: String,
        /// What the downstream calls it.
        label: String,
        /// The other instance.
        other_instance: InstanceId,
        /// Its environment.
        other_environment: Environment,
    },
    /// A site was erased: its keys were destroyed, so that nothing of it can be read, and its id is spent.
    SiteErased {
        /// Its account.
        account: AccountId,
        /// The connector instances that it had.
        instances: Vec<InstanceId>,
    },
    /// Another data key seals from now on.
    DataKeyRotated {
        /// The new key's id.
        key: String,
        /// The id of the one before it.
        previous: String,
        /// The account, when it is an account's key and not the site's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
    },
    /// Data keys under which no record was left were removed.
    DataKeysRemoved {
        /// Their ids.
        keys: Vec<String>,
        /// The account, when they are an account's keys and not the site's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
    },
    /// Data keys were wrapped under the present vault key.
    DataKeysRewrapped {
        /// The vault key's id.
        vault_key: String,
        /// How many sites and accounts had keys among them.
        owners: u64,
    },
    /// Nothing is wrapped under earlier vault keys any more.
    VaultKeyRetired {
        /// The present vault key's id.
        vault_key: String,
        /// The ids of the earlier ones.
        retired: Vec<String>,
    },
    /// Somebody was refused.
    AccessDenied {
        /// What was asked for.
        what: String,
    },
}

/// A record to be: everything but its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The environment concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Who.
    pub actor: Actor,
    /// The instance concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Its connector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<ConnectorId>,
    /// The catalog version in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_version: Option<String>,
    /// The component in force, as the hex SHA-256 of its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component_digest: Option<String>,
    /// What.
    pub action: Action,
}

/// A record in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its position in the site's log, from 0.
    pub index: u64,
    /// When.
    pub at: Timestamp,
    /// The site.
    pub site: SiteId,
    /// Everything else.
    #[serde(flatten)]
    pub draft: Draft,
}

impl AuditRecord {
    /// The name of its kind, as in JSON.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self.draft.action {
            Action::ConnectorConfigured { .. } => "connector-configured",
            Action::ConfigurationChanged { .. } => "configuration-changed",
            Action::CredentialsRotated { .. } => "credentials-rotated",
            Action::CredentialsRefreshed { .. } => "credentials-refreshed",
            Action::CredentialsRemoved { .. } => "credentials-removed",
            Action::ConnectorEnabled { .. } => "connector-enabled",
            Action::ConnectorDisabled { .. } => "connector-disabled",
            Action::FailureSurfaced { .. } => "failure-surfaced",
            Action::FailureResolved { .. } => "failure-resolved",
            Action::StateChanged { .. } => "state-changed",
            Action::DeadLettersReplayed { .. } => "dead-letters-replayed",
            Action::DeadLettersDiscarded { .. } => "dead-letters-discarded",
            Action::FailureEscalated { .. } => "failure-escalated",
            Action::EventsErased { .. } => "events-erased",
            Action::EventsExpired { .. } => "events-expired",
            Action::ReleaseActivated { .. } => "release-activated",
            Action::SiteRegistered { .. } => "site-registered",
            Action::OperatorAdded { .. } => "operator-added",
            Action::IngestKeyIssued { .. } => "ingest-key-issued",
            Action::IngestKeyRevoked { .. } => "ingest-key-revoked",
            Action::SharedCredentialSet { .. } => "shared-credential-set",
            Action::SharedCredentialDeleted { .. } => "shared-credential-deleted",
            Action::ReferenceGranted { .. } => "reference-granted",
            Action::ReferenceRevoked { .. } => "reference-revoked",
            Action::AccountRefused { .. } => "account-refused",
            Action::AccountAllowed { .. } => "account-allowed",
            Action::SiteErased { .. } => "site-erased",
            Action::DataKeyRotated { .. } => "data-key-rotated",
            Action::DataKeysRemoved { .. } => "data-keys-removed",
            Action::DataKeysRewrapped { .. } => "data-keys-rewrapped",
            Action::VaultKeyRetired { .. } => "vault-key-retired",
            Action::AccessDenied { .. } => "access-denied",
        }
    }
}
