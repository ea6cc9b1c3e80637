//! What can go wrong, and whose it is.

use serde::Serialize;
use sgen_audit::AuditError;
use sgen_engine::EngineError;
use sgen_model::{ConnectorId, Environment, EventId, Failure, Fault, InstanceId, SiteId, SlotName};
use sgen_store::StoreError;
use sgen_vault::VaultError;

/// One thing wrong with what an operator gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: `settings.url`, `mapping.email`, `credentials.token`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A failure of a request to the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// No such instance.
    #[error("there is no connector instance {0}")]
    UnknownInstance(InstanceId),
    /// No such catalog entry.
    #[error("the active catalog has no connector {0}; GET /v1/catalog lists what it has")]
    UnknownConnector(ConnectorId),
    /// The connector has no such credential slot.
    #[error("connector {connector} has no credential slot {slot}")]
    UnknownSlot {
        /// The connector.
        connector: ConnectorId,
        /// The slot asked for.
        slot: SlotName,
    },
    /// No release has been activated.
    #[error("no platform release is active yet: the platform has to activate one")]
    NoCatalog,
    /// What was given is not valid.
    #[error("{}", describe(.0))]
    Invalid(Vec<Problem>),
    /// It conflicts with what is there.
    #[error("{0}")]
    Conflict(String),
    /// The deployment lacks something that this needs.
    #[error("{0}")]
    NotConfigured(&'static str),
    /// No such site.
    #[error("there is no site {0}; the platform registers sites")]
    UnknownSite(SiteId),
    /// No such item in triage, or no such job.
    #[error("there is no {0}")]
    Unknown(String),
    /// No such event.
    #[error("no event {0} was captured here")]
    UnknownEvent(EventId),
    /// The downstream (or the connector) failed while it was being asked something.
    #[error("{0}")]
    Downstream(Failure),
    /// The release goes back behind one that was active.
    #[error(
        "release {version} has sequence {sequence}, behind {floor}, which was active here: the platform has to sign a release with a higher sequence"
    )]
    Rollback {
        /// The release.
        version: String,
        /// Its sequence.
        sequence: u64,
        /// The highest seen.
        floor: u64,
    },
    /// A component does not run.
    #[error("connector {connector}: {source}")]
    Component {
        /// The connector.
        connector: ConnectorId,
        /// Why.
        source: EngineError,
    },
    /// The credential's downstream account is used by an instance of another environment.
    #[error(
        "the credential belongs to account {label:?}, which instance {other} of environment {other_environment} uses, and this instance is of {environment}: give a credential of an account of its own; nothing was changed. To use it all the same, allow it with `other_environment: allowed`, which is audited"
    )]
    AccountElsewhere {
        /// What the downstream calls the account.
        label: String,
        /// The environment of the instance that was asked for.
        environment: Environment,
        /// The instance that uses the account.
        other: InstanceId,
        /// Its environment.
        other_environment: Environment,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A record in the store cannot be understood.
    #[error("a stored record cannot be read ({what}): {reason}; run `sgen-host store check`")]
    Record {
        /// Which kind.
        what: &'static str,
        /// The parser's message.
        reason: String,
    },
    /// The host is stopping.
    #[error("the host is stopping; try again in a moment")]
    Stopping,
}

impl DeliveryError {
    /// Whose it is to mend.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::UnknownInstance(_)
            | Self::UnknownConnector(_)
            | Self::UnknownSlot { .. }
            | Self::Invalid(_)
            | Self::Conflict(_)
            | Self::AccountElsewhere { .. }
            | Self::UnknownSite(_)
            | Self::Unknown(_)
            | Self::UnknownEvent(_) => Fault::Operator,
            Self::Downstream(failure) => failure.class.fault(),
            Self::Vault(error) => error.fault(),
            Self::NoCatalog
            | Self::NotConfigured(_)
            | Self::Rollback { .. }
            | Self::Component { .. }
            | Self::Store(_)
            | Self::Audit(_)
            | Self::Record { .. }
            | Self::Stopping => Fault::Platform,
        }
    }

    pub(crate) fn record(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Record { what, reason: reason.to_string() }
    }
}

fn describe(problems: &[Problem]) -> String {
    let said: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
    said.join("; ")
}
