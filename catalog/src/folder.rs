//! A release as a folder: `release.dsse.json`, `root.dsse.json` and one `SHA256.wasm` per component.
//!
//! Opening trusts nothing in the folder: every file is read once, at most to its cap, checked, and what was checked is
//! what is handed out. Components are found by digest, so no name in a release can point outside its folder.

mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::component::{self, Interface};
use crate::digest::Digest;
use crate::dsse::Envelope;
use crate::error::CatalogError;
use crate::manifest::Manifest;
use crate::release::{Document, FORMAT, Header, Pinned};
use crate::trust::{Role, TrustRoot};
pub use write::{Draft, WriteError, previous_sequence, write};

/// The signed release document's file name.
pub const RELEASE: &str = "release.dsse.json";
/// The signed root document's file name.
pub const ROOT: &str = "root.dsse.json";
/// The largest component that is read, in bytes. Components made from Python have 18 MB.
pub const COMPONENT_CAP: u64 = 32 << 20;
/// The largest release or root document that is read, in bytes.
pub const DOCUMENT_CAP: u64 = 4 << 20;

/// The file name of the component with this digest.
#[must_use]
pub fn component_file(digest: &Digest) -> String {
    format!("{digest}.wasm")
}

/// The version of this host, which a release may ask a minimum of.
///
/// # Errors
/// Never for a version that cargo accepted; fallible by type.
pub fn host_version() -> Result<semver::Version, semver::Error> {
    semver::Version::parse(env!("CARGO_PKG_VERSION"))
}

/// What was accepted before, kept by the caller: nothing older is accepted again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// The highest sequence of a release that was activated.
    pub sequence: u64,
    /// The highest version of a root document that was in force.
    pub root_version: u64,
}

/// A verified release.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The platform version, such as `2026.11.0`.
    pub version: String,
    /// Its place in the order of releases.
    pub sequence: u64,
    /// When it was made.
    pub issued: Timestamp,
    /// After this it cannot be activated any more.
    pub expires: Timestamp,
    /// The digest of the signed release document.
    pub digest: Digest,
    /// The version of the root document it was verified under.
    pub root_version: u64,
    /// Its connectors by id.
    pub connectors: BTreeMap<String, Arc<Entry>>,
    /// Components that must not be dispatched to any more, whatever release they came with.
    pub revoked: BTreeSet<Digest>,
}

impl Catalog {
    /// Whether a component must not be dispatched to any more.
    #[must_use]
    pub fn is_revoked(&self, digest: &Digest) -> bool {
        self.revoked.contains(digest)
    }
}

/// One connector of a verified release.
#[derive(Clone)]
pub struct Entry {
    /// What it declares.
    pub manifest: Manifest,
    /// Its own version.
    pub version: semver::Version,
    /// The SHA-256 of `wasm`.
    pub digest: Digest,
    /// The length of `wasm`, in bytes.
    pub size: u64,
    /// What it imports and exports.
    pub interface: Interface,
    /// The component: the very buffer that was hashed.
    pub wasm: Arc<[u8]>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the megabytes of code.
        f.debug_struct("Entry")
            .field("id", &self.manifest.id)
            .field("version", &self.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Verifies the release in a folder and hands it out.
///
/// `now_ms` is the time in milliseconds since 1970-01-01T00:00:00Z. In order: the root's age, the signatures over the
/// exact bytes, format and minimum host, sequence, expiry, and then for each connector manifest, size, digest, and
/// the component's imports and exports. Nothing is parsed before it is verified.
///
/// # Errors
/// [`CatalogError`] names the file, what is wrong and who must act. Nothing of the release is to be used then.
pub fn open(folder: &Path, root: &TrustRoot, now_ms: u64, floor: Floor) -> Result<Catalog, CatalogError> {
    // A clock beyond the calendar is a broken clock; taking it as the end of time refuses everything by its expiry.
    let now = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
    if root.version() < floor.root_version {
        return Err(CatalogError::RootRollback { version: root.version(), seen: floor.root_version });
    }
    if root.expires() < now {
        return Err(CatalogError::RootExpired { expired: root.expires(), now });
    }
    let file = folder.join(RELEASE);
    let bytes = read(&file, DOCUMENT_CAP)?;
    let refused = |source| CatalogError::Signature { file: file.clone(), source };
    let envelope = Envelope::parse(&bytes).map_err(refused)?;
    let payload = root.verify(Role::Release, &envelope).map_err(refused)?;
    let document = document(&file, payload, now, floor)?;
    let mut connectors = BTreeMap::new();
    for (id, pinned) in &document.connectors {
        connectors.insert(id.clone(), Arc::new(entry(folder, &file, id, pinned)?));
    }
    Ok(Catalog {
        version: document.version,
        sequence: document.sequence,
        issued: document.issued,
        expires: document.expires,
        digest: Digest::of(payload),
        root_version: root.version(),
        connectors,
        revoked: document.revoked,
    })
}

fn document(file: &Path, payload: &[u8], now: Timestamp, floor: Floor) -> Result<Document, CatalogError> {
    let invalid = |problem: String| CatalogError::Document { file: file.to_owned(), problem };
    let header: Header = serde_json::from_slice(payload).map_err(|e| invalid(e.to_string()))?;
    let found = host_version().map_err(|e| invalid(e.to_string()))?;
    if header.minimum_host > found {
        return Err(CatalogError::HostTooOld { file: file.to_owned(), needed: header.minimum_host, found });
    }
    if header.format != FORMAT {
        return Err(invalid(format!(
            "release {} has format {}, this host reads {FORMAT}",
            header.version, header.format
        )));
    }
    if header.sequence < floor.sequence {
        return Err(CatalogError::Rollback { file: file.to_owned(), sequence: header.sequence, seen: floor.sequence });
    }
    if header.expires < now {
        return Err(CatalogError::Expired { file: file.to_owned(), expired: header.expires, now });
    }
    let document: Document = serde_json::from_slice(payload).map_err(|e| invalid(e.to_string()))?;
    document.check().map_err(invalid)?;
    Ok(document)
}

fn entry(folder: &Path, release: &Path, id: &str, pinned: &Pinned) -> Result<Entry, CatalogError> {
    let manifest = pinned.manifest(id).map_err(|problem| CatalogError::Manifest {
        file: release.to_owned(),
        connector: id.to_owned(),
        problem,
    })?;
    let file = folder.join(component_file(&pinned.sha256));
    if pinned.size > COMPONENT_CAP {
        return Err(CatalogError::TooLarge { file, size: pinned.size, cap: COMPONENT_CAP });
    }
    let wasm: Arc<[u8]> = read(&file, COMPONENT_CAP)?.into();
    let found = u64::try_from(wasm.len()).unwrap_or(u64::MAX);
    if found != pinned.size {
        return Err(CatalogError::Size { file, found, signed: pinned.size });
    }
    let digest = Digest::of(&wasm);
    if digest != pinned.sha256 {
        return Err(CatalogError::Content { file, found: digest });
    }
    let interface = component::inspect(&wasm).map_err(|source| CatalogError::Component {
        file,
        connector: id.to_owned(),
        source,
    })?;
    Ok(Entry { version: manifest.version.clone(), manifest, digest, size: pinned.size, interface, wasm })
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it is no regular file")]
    NotAFile,
    #[error("it has {0} bytes, at most {1} are read")]
    TooLarge(u64, u64),
}

/// Reads a regular file that is not larger than `cap`, and never more than that.
pub(crate) fn read_capped(file: &Path, cap: u64) -> Result<Vec<u8>, ReadError> {
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(file)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let opened = File::open(file)?;
    let size = opened.metadata()?.len();
    if size > cap {
        return Err(ReadError::TooLarge(size, cap));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // It may grow meanwhile; one byte over the cap is enough to know.
    opened.take(cap + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(read) if read <= cap => Ok(bytes),
        _ => Err(ReadError::TooLarge(cap + 1, cap)),
    }
}

fn read(file: &Path, cap: u64) -> Result<Vec<u8>, CatalogError> {
    read_capped(file, cap).map_err(|e| {
        let file: PathBuf = file.to_owned();
        match e {
            ReadError::TooLarge(size, cap) => CatalogError::TooLarge { file, size, cap },
            other => CatalogError::File { file, problem: other.to_string() },
        }
    })
}
