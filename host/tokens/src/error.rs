//! What can go wrong with tokens, and whose it is. No message holds a secret.

use sgen_audit::AuditError;
use sgen_model::EntropyError;
use sgen_store::StoreError;
use sgen_vault::VaultError;

/// Why there is no token, or no change of a grant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The vendor refuses, or something is missing: the operator must act.
    #[error("{0}")]
    Refused(String),
    /// The token endpoint gives no usable answer now: it is tried again.
    #[error("{0}")]
    Unavailable(String),
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Randomness failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A record in the store cannot be understood.
    #[error("the grant in slot {slot} cannot be read from the store: {reason}; the operator must authorise it again")]
    Record {
        /// The slot.
        slot: String,
        /// The parser's message, which quotes nothing.
        reason: String,
    },
    /// The host is stopping.
    #[error("the host is stopping")]
    Stopping,
}
