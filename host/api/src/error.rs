//! Why the API cannot be built.

use sgen_store::StoreError;

/// The API cannot start. The platform's to mend.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry of the directory of sites and tokens cannot be understood.
    #[error(
        "an entry of the directory is damaged (keyspace {keyspace}, key {key}): {reason}; run `sgen-host store check` and restore from a backup"
    )]
    Directory {
        /// The keyspace.
        keyspace: &'static str,
        /// The key, as text.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The description of the API cannot be written.
    #[error("the OpenAPI document cannot be written: {0}; this is a defect of this version of the host")]
    Description(String),
}
