//! Who may sign what: the root document with its two roles, and how one root document gives way to the next.
//!
//! The first root document reaches a host with its installation. Every later one is accepted only if the keys of the
//! one before it signed it, so a host can follow the platform's keys without being told again whom to trust.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dsse::{DsseError, Envelope};
use crate::folder::{DOCUMENT_CAP, ReadError, read_capped};
use crate::key::{KeyId, PublicKey, SigningKey};

/// The version of the document's shape.
const FORMAT: u32 = 1;
const MOST_KEYS: usize = 32;

/// What a key may be trusted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Signs root documents. Its keys are kept offline.
    Root,
    /// Signs platform releases.
    Release,
}

impl Role {
    /// The payload type of what the role signs.
    #[must_use]
    pub fn payload_type(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.sgen.root+json",
            Self::Release => "application/vnd.sgen.release+json",
        }
    }
}

/// The keys of one role and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKeys {
    /// How many distinct keys must sign; at least one, at most all.
    pub threshold: u32,
    /// The keys.
    pub keys: BTreeSet<PublicKey>,
}

/// What a root document says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootDocument {
    format: u32,
    /// Counts up by one with every root document.
    pub version: u64,
    /// When it was made.
    pub issued: Timestamp,
    /// After this no new release is accepted under it.
    pub expires: Timestamp,
    /// The keys that sign root documents.
    pub root: RoleKeys,
    /// The keys that sign releases. None of them is a root key.
    pub release: RoleKeys,
}

/// Why a root document is not accepted. The platform must act, unless the file is not the platform's at all: then the
/// operator of the host must, by restoring it from the installation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("the trust root {} cannot be read: {problem}; restore it from the installation", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What happened.
        problem: String,
    },
    /// The envelope, or its signatures.
    #[error("the root document is not accepted: {0}; the platform must sign it with the root keys")]
    Envelope(#[from] DsseError),
    /// The document contradicts itself.
    #[error("the root document is invalid: {0}; the platform must issue a corrected one")]
    Document(String),
    /// Another version than the next.
    #[error("the root document has version {found}, but after version {current} only {} is accepted; the platform must provide the documents in between", .current.saturating_add(1))]
    Version {
        /// The version in force.
        current: u64,
        /// The version offered.
        found: u64,
    },
}

impl RootDocument {
    /// A document of the current format.
    #[must_use]
    pub fn new(version: u64, issued: Timestamp, expires: Timestamp, root: RoleKeys, release: RoleKeys) -> Self {
        Self { format: FORMAT, version, issued, expires, root, release }
    }

    /// Signs the document; answers the bytes of a `root.dsse.json`.
    ///
    /// # Errors
    /// [`TrustError::Document`] when it contradicts itself: such a document is not signed.
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<Vec<u8>, TrustError> {
        self.check()?;
        let payload = serde_json::to_vec(self).map_err(|e| TrustError::Document(e.to_string()))?;
        Envelope::sign(Role::Root.payload_type(), payload, keys)
            .to_json()
            .map_err(|e| TrustError::Document(e.to_string()))
    }

    fn check(&self) -> Result<(), TrustError> {
        let fail = |what: &str| Err(TrustError::Document(what.to_owned()));
        if self.format != FORMAT {
            return Err(TrustError::Document(format!(
                "format {} is not known to this version, only {FORMAT}",
                self.format
            )));
        }
        if self.version == 0 {
            return fail("versions start at 1");
        }
        if self.issued >= self.expires {
            return fail("it expires before it is issued");
        }
        for (name, role) in [("root", &self.root), ("release", &self.release)] {
            let count = role.keys.len();
            if count > MOST_KEYS || role.threshold == 0 || usize::try_from(role.threshold).map_or(true, |t| t > count) {
                return Err(TrustError::Document(format!(
                    "role {name}: the threshold {} must be 1 to the number of its keys ({count}, at most {MOST_KEYS})",
                    role.threshold
                )));
            }
        }
        if !self.root.keys.is_disjoint(&self.release.keys) {
            return fail("a release key is also a root key; root keys stay offline");
        }
        Ok(())
    }

    fn keys(&self, role: Role) -> (BTreeMap<KeyId, PublicKey>, usize) {
        let role = match role {
            Role::Root => &self.root,
            Role::Release => &self.release,
        };
        // A threshold that does not fit is one that nobody reaches.
        (role.keys.iter().map(|key| (key.id(), *key)).collect(), usize::try_from(role.threshold).unwrap_or(usize::MAX))
    }

    fn verify<'a>(&self, role: Role, envelope: &'a Envelope) -> Result<&'a [u8], DsseError> {
        let (keys, threshold) = self.keys(role);
        envelope.verify(role.payload_type(), &keys, threshold)
    }
}

/// A root document that its own root keys signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRoot {
    document: RootDocument,
    bytes: Vec<u8>,
}

impl TrustRoot {
    /// Reads the root document that came with the installation.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn load(file: &Path) -> Result<Self, TrustError> {
        let bytes = read_capped(file, DOCUMENT_CAP)
            .map_err(|e: ReadError| TrustError::File { file: file.to_owned(), problem: e.to_string() })?;
        Self::parse(&bytes)
    }

    /// Takes a `root.dsse.json` as the first root. Its origin is trusted by the caller; what is checked is that its
    /// own root keys signed it, at their threshold.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope = Envelope::parse(bytes)?;
        let document: RootDocument =
            serde_json::from_slice(envelope.unverified_payload()).map_err(|e| TrustError::Document(e.to_string()))?;
        document.check()?;
        document.verify(Role::Root, &envelope)?;
        Ok(Self { document, bytes: bytes.to_owned() })
    }

    /// Takes the next root document: exactly one version later, signed at the threshold by this root's keys *and* by
    /// its own.
    ///
    /// # Errors
    /// [`TrustError`]; this root stays in force then.
    pub fn update(&self, bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope = Envelope::parse(bytes)?;
        // Nothing of the payload is looked at before the keys already trusted have vouched for it.
        self.document.verify(Role::Root, &envelope)?;
        let next = Self::parse(bytes)?;
        if self.document.version.checked_add(1) != Some(next.document.version) {
            return Err(TrustError::Version { current: self.document.version, found: next.document.version });
        }
        Ok(next)
    }

    /// The payload of an envelope that the keys of a role signed at their threshold.
    ///
    /// # Errors
    /// [`DsseError`].
    pub fn verify<'a>(&self, role: Role, envelope: &'a Envelope) -> Result<&'a [u8], DsseError> {
        self.document.verify(role, envelope)
    }

    /// Which version it is. The highest one seen is to be kept ([`crate::Floor::root_version`]).
    #[must_use]
    pub fn version(&self) -> u64 {
        self.document.version
    }

    /// After this no new release is accepted under it.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.document.expires
    }

    /// What it says.
    #[must_use]
    pub fn document(&self) -> &RootDocument {
        &self.document
    }

    /// The signed bytes, as they were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
