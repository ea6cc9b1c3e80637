//! What can go wrong in the vault, whose fault it is, and what to do. No message ever holds a secret.

use std::path::PathBuf;

use sgen_model::{AccountId, EntropyError, Fault, InstanceId, SharedId, SiteId, SlotName};
use sgen_store::StoreError;

/// A failure of the vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// No source gave an outer key.
    #[error(
        "no vault key was given: provide `sgen-key` in the service's credentials directory, a key file with mode 0600, or the key itself; `sgen-host keys generate --out FILE` makes one"
    )]
    NoKey,
    /// A key file cannot be read.
    #[error("the vault key {path} cannot be read: {reason}")]
    KeyUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// A key file that others can read.
    #[error(
        "the vault key {path} has mode {mode:04o}, so others may read it; run `chmod 600` on it, and rotate the key if others had access"
    )]
    KeyPermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file of someone else.
    #[error("the vault key {path} belongs to user {owner}, and this process runs as user {user}; change its owner")]
    KeyOwner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// This process's user id.
        user: u32,
    },
    /// Not 32 bytes, in no accepted form.
    #[error(
        "the vault key from {origin} is not 32 bytes, raw or written in hex or base64; `sgen-host keys generate --out FILE` makes one"
    )]
    KeyMalformed {
        /// Where it came from.
        origin: String,
    },
    /// A key file cannot be written; an existing one is never overwritten.
    #[error("the vault key {path} cannot be written: {reason}; nothing was overwritten")]
    KeyUnwritable {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// The store was sealed under another outer key.
    #[error(
        "the vault key is the wrong one: the store is sealed under key {expected}, the key given is {found}. Start the host with key {expected}; nothing was changed"
    )]
    WrongKey {
        /// The id of the key that sealed the store.
        expected: String,
        /// The id of the key that was given.
        found: String,
    },
    /// A second outer key is in use, and it was not given.
    #[error(
        "the store still has keys wrapped under vault key {missing}, and only {found} was given. Give key {missing} too, as vault.previous_key_file, until `sgen-host keys rewrap` has ended; nothing was changed"
    )]
    KeyMissing {
        /// The id of the key that is missing.
        missing: String,
        /// The ids of the keys that were given.
        found: String,
    },
    /// The store belongs to another deployment.
    #[error(
        "the store was sealed for deployment {expected:?}, and this host is configured as {found:?}. Correct `deployment`, or point the host at its own store"
    )]
    WrongDeployment {
        /// The deployment that sealed the store.
        expected: String,
        /// The deployment as configured.
        found: String,
    },
    /// Ciphertext without the value that proves the key.
    #[error(
        "the store holds sealed data but no key check, so the vault key cannot be verified and none is made. Restore the store from a backup"
    )]
    KeyCheckMissing,
    /// A vault record that does not open under the right key.
    #[error("{what} is damaged or was moved; restore the store from a backup")]
    Damaged {
        /// The record, for people.
        what: String,
    },
    /// A record that does not open in the place it was found.
    #[error(
        "{what} cannot be opened: it is damaged, was moved from another place, or was sealed under a key that is gone"
    )]
    Unopenable {
        /// The record, for people.
        what: String,
    },
    /// The site has no data key.
    #[error("site {site} has no data key; register the site first")]
    UnknownSite {
        /// The site.
        site: SiteId,
    },
    /// The account has no data key.
    #[error("account {account} has no data key: it has no shared credentials")]
    UnknownAccount {
        /// The account.
        account: AccountId,
    },
    /// So many data keys of one owner are kept that no other is begun.
    #[error(
        "{owner} has {count} data keys already: records under the older ones are still being sealed anew, or the host has to be started again so that they can be removed"
    )]
    TooManyKeys {
        /// Whose they are.
        owner: String,
        /// How many.
        count: usize,
    },
    /// A change of keys cannot be recorded in the audit log, so it was not made.
    #[error("the change of keys cannot be recorded: {0}")]
    Unrecorded(String),
    /// The site's data key was destroyed.
    #[error("site {site} was erased and its key destroyed; nothing of it can be read, and its id is not used again")]
    SiteDestroyed {
        /// The site.
        site: SiteId,
    },
    /// The instance refers to a credential that the store does not have.
    #[error("instance {instance} has no credential {slot} of version {version}; give the credential again")]
    CredentialMissing {
        /// The instance.
        instance: InstanceId,
        /// The slot.
        slot: SlotName,
        /// The version referred to.
        version: u32,
    },
    /// A credential that is too short to be told from ordinary text, or too long.
    #[error("the credential for slot {slot} has {length} bytes; {least} to {most} are accepted")]
    CredentialLength {
        /// The slot.
        slot: SlotName,
        /// Its bytes.
        length: usize,
        /// The fewest accepted.
        least: usize,
        /// The most accepted.
        most: usize,
    },
    /// There is no shared credential of that version.
    #[error("the account has no such shared credential of version {version}; give the credential again")]
    SharedMissing {
        /// The version referred to.
        version: u32,
    },
    /// A shared credential that is too short to be told from ordinary text, or too long.
    #[error("the shared credential {id} has {length} bytes; {least} to {most} are accepted")]
    SharedLength {
        /// The credential.
        id: SharedId,
        /// Its bytes.
        length: usize,
        /// The fewest accepted.
        least: usize,
        /// The most accepted.
        most: usize,
    },
    /// Versions count from 1.
    #[error("a credential's version counts from 1")]
    CredentialVersion,
    /// The system's source of randomness failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VaultError {
    /// Who has to act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::CredentialMissing { .. }
            | Self::CredentialLength { .. }
            | Self::SharedMissing { .. }
            | Self::SharedLength { .. } => Fault::Operator,
            _ => Fault::Platform,
        }
    }
}
