//! The vault: the only crate that sees plaintext secrets at rest.
//!
//! An [`OuterKey`] comes from outside the store ([`KeySource`]). It wraps one data key per site and account ([`DataKey`]), and each
//! record is sealed under a single-use key derived from that, bound to the place it belongs to. Destroying a site's data
//! key makes everything that was ever sealed for that site unreadable.
//!
//! This crate reads no environment, opens no sockets, and has no call that prints, serialises or logs a secret.

mod credential;
mod credentials;
mod data_key;
mod envelope;
mod error;
mod fingerprint;
mod grants;
mod key;
mod key_check;
mod outer;
mod owner;
mod reseal;
mod ring;
mod rotation;
mod shared;
mod status;
mod vault;

pub use credential::{Credential, Credentials, OVERLAP, Previous};
pub use data_key::{DataKey, SealContext};
pub use error::VaultError;
pub use grants::KeptGrant;
pub use key::{KEY_BYTES, KeySource, OuterKey, generate_key_file};
pub use outer::OuterKeys;
pub use owner::KeyOwner;
pub use reseal::{Numbering, Resealed, Shelf};
pub use rotation::{Begun, KeyChange, KeyRecord, Rewrapped, Rotation};
pub use status::{DataKeyStatus, KeyStatus, OwnerKeys};
pub use vault::{KeyTurn, Vault};
