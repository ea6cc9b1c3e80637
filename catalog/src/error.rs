//! Why a release is not accepted: which file, what is wrong with it, and who must act.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::component::ComponentError;
use crate::digest::Digest;
use crate::dsse::DsseError;

/// Why a release is not accepted. What runs already goes on running; nothing of the refused release was used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file cannot be read.
    #[error("{} cannot be read: {problem}; whoever copies releases to this host must provide it", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What happened.
        problem: String,
    },
    /// A file is larger than is ever read.
    #[error("{} has {size} bytes, at most {cap} are read; the platform must release a smaller one", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The cap in bytes.
        cap: u64,
    },
    /// The envelope or its signatures.
    #[error("{} is not accepted: {source}; the platform must sign the release with its release keys", .file.display())]
    Signature {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: DsseError,
    },
    /// Signed, and yet no release.
    #[error("{} is signed but invalid: {problem}; the platform must release a corrected one", .file.display())]
    Document {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A later format, or a later host is needed.
    #[error("{} needs host {needed} or later, this is {found}; whoever runs this host must upgrade it", .file.display())]
    HostTooOld {
        /// The file.
        file: PathBuf,
        /// What the release asks for.
        needed: semver::Version,
        /// This version.
        found: semver::Version,
    },
    /// An older release than one seen before.
    #[error("{} has sequence {sequence}, but {seen} was accepted before; the platform must release the older content again under a new sequence", .file.display())]
    Rollback {
        /// The file.
        file: PathBuf,
        /// The sequence offered.
        sequence: u64,
        /// The highest sequence seen.
        seen: u64,
    },
    /// An older root document than one seen before.
    #[error(
        "the trust root has version {version}, but {seen} was in force before; whoever runs this host must restore the later one"
    )]
    RootRollback {
        /// The version offered.
        version: u64,
        /// The highest version seen.
        seen: u64,
    },
    /// The release is too old to be activated.
    #[error("{} expired at {expired} and it is {now}; the platform must provide a current release (or the host's clock must be set)", .file.display())]
    Expired {
        /// The file.
        file: PathBuf,
        /// When it expired.
        expired: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// The root document is too old for a new release to be accepted under it.
    #[error(
        "the trust root expired at {expired} and it is {now}; the platform must provide the next root document (or the host's clock must be set)"
    )]
    RootExpired {
        /// When it expired.
        expired: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// A component of another size than the one signed.
    #[error("{} has {found} bytes, the release says {signed}; whoever copies releases to this host must copy it again", .file.display())]
    Size {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The signed size in bytes.
        signed: u64,
    },
    /// A component with other bytes than the ones signed.
    #[error("{} hashes to {found}: it was changed after it was signed; whoever copies releases to this host must copy it again", .file.display())]
    Content {
        /// The file, named by the digest it should have.
        file: PathBuf,
        /// The digest it has.
        found: Digest,
    },
    /// A connector's manifest.
    #[error("{}: connector {connector}: {problem}; the platform must release a corrected manifest", .file.display())]
    Manifest {
        /// The release document.
        file: PathBuf,
        /// The connector's id.
        connector: String,
        /// What is wrong.
        problem: String,
    },
    /// A component that must not run.
    #[error("{}: connector {connector}: {source}; the platform must release a corrected component", .file.display())]
    Component {
        /// The file.
        file: PathBuf,
        /// The connector's id.
        connector: String,
        /// What is wrong.
        source: ComponentError,
    },
}
