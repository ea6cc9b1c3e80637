//! The vault: the only crate that sees plaintext secrets at rest.
//!
//! An [`OuterKey`] comes from outside the store ([`KeySource`]). It wraps one data key per site ([`SiteKey`]), and each
//! record is sealed under a single-use key derived from that, bound to the place it belongs to. Destroying a site's data
//! key makes everything that was ever sealed for that site unreadable.
//!
//! This crate reads no environment, opens no sockets, and has no call that prints, serialises or logs a secret.

mod credential;
mod envelope;
mod error;
mod key;
mod key_check;
mod site;
mod vault;

pub use credential::{Credential, Credentials, OVERLAP, Previous};
pub use error::VaultError;
pub use key::{KEY_BYTES, KeySource, OuterKey, generate_key_file};
pub use site::{SealContext, SiteKey};
pub use vault::{KeptGrant, Vault};
