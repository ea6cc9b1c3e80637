//! What can go wrong with the audit log.

use sgen_store::StoreError;

/// A failure of the audit log. The platform's.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record, a hash or a head does not fit the others.
    #[error(
        "the audit log of site {site} has been altered or damaged: {reason}. Keep a copy of the store and compare with an export"
    )]
    Altered {
        /// The site.
        site: String,
        /// What does not fit.
        reason: String,
    },
    /// A record cannot be written as JSON.
    #[error("an audit record cannot be written: {0}")]
    Encode(String),
    /// The sink of an export failed.
    #[error("the audit export cannot be written: {0}")]
    Export(String),
}
