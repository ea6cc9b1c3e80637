//! Writing a release: everything that opening would refuse is refused here first, so that nothing is signed that no
//! host accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{COMPONENT_CAP, DOCUMENT_CAP, RELEASE, ROOT, component_file, read_capped};
use crate::component::inspect;
use crate::digest::Digest;
use crate::dsse::Envelope;
use crate::key::SigningKey;
use crate::manifest::Manifest;
use crate::release::{Document, FORMAT, Header, Pinned};
use crate::trust::{Role, TrustRoot};

/// What is to be released.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The platform version, such as `2026.11.0`.
    pub version: String,
    /// Greater than that of every release before.
    pub sequence: u64,
    /// Now.
    pub issued: Timestamp,
    /// After this no host activates it.
    pub expires: Timestamp,
    /// The oldest host that can run it.
    pub minimum_host: semver::Version,
    /// Each connector with its component.
    pub connectors: Vec<(Manifest, Vec<u8>)>,
    /// Components that no host may dispatch to any more.
    pub revoked: BTreeSet<Digest>,
}

/// Why nothing was released.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The draft contains what no host accepts; every reason.
    #[error("the release is refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// The folder cannot be written.
    #[error("{} cannot be written: {source}", .file.display())]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The release document cannot be made.
    #[error("the release document cannot be made: {0}")]
    Document(String),
}

/// Signs a release with the release keys and writes its folder. Answers each connector's id with its digest.
///
/// Components are written before the document that names them, and every file appears whole or not at all: a host that
/// opens the folder meanwhile sees the old release or the new one. Components that the new release does not name are
/// removed at the end.
///
/// # Errors
/// [`WriteError`], with every reason for a refusal. The release that was in the folder is untouched then.
pub fn write(
    folder: &Path,
    draft: &Draft,
    root: &TrustRoot,
    keys: &[&SigningKey],
) -> Result<BTreeMap<String, Digest>, WriteError> {
    let document = document(draft).map_err(WriteError::Refused)?;
    let text = |e: serde_json::Error| WriteError::Document(e.to_string());
    let envelope = Envelope::sign(Role::Release.payload_type(), serde_json::to_vec(&document).map_err(text)?, keys);
    root.verify(Role::Release, &envelope).map_err(|e| {
        WriteError::Refused(vec![format!("no host would accept it under root version {}: {e}", root.version())])
    })?;
    let envelope = envelope.to_json().map_err(text)?;
    if u64::try_from(envelope.len()).map_or(true, |size| size > DOCUMENT_CAP) {
        return Err(WriteError::Refused(vec![format!(
            "the release document has {} bytes, at most {DOCUMENT_CAP} are read",
            envelope.len()
        )]));
    }
    fs::create_dir_all(folder).map_err(|source| WriteError::File { file: folder.to_owned(), source })?;
    let mut digests = BTreeMap::new();
    for (manifest, wasm) in &draft.connectors {
        let digest = Digest::of(wasm);
        put(&folder.join(component_file(&digest)), wasm)?;
        digests.insert(manifest.id.clone(), digest);
    }
    put(&folder.join(ROOT), root.bytes())?;
    put(&folder.join(RELEASE), &envelope)?;
    prune(folder, &digests.values().copied().collect())?;
    Ok(digests)
}

fn document(draft: &Draft) -> Result<Document, Vec<String>> {
    let mut reasons = Vec::new();
    let mut connectors = BTreeMap::new();
    for (manifest, wasm) in &draft.connectors {
        let id = &manifest.id;
        let size = u64::try_from(wasm.len()).unwrap_or(u64::MAX);
        if size > COMPONENT_CAP {
            reasons.push(format!("{id}: the component has {size} bytes, at most {COMPONENT_CAP} are allowed"));
        } else if let Err(e) = inspect(wasm) {
            reasons.push(format!("{id}: {e}"));
        }
        let json = match serde_json::to_value(manifest) {
            Ok(json) => json,
            Err(e) => {
                reasons.push(format!("{id}: {e}"));
                continue;
            }
        };
        let pinned = Pinned {
            version: manifest.version.clone(),
            sha256: Digest::of(wasm),
            size,
            world: manifest.world.clone(),
            manifest: json,
        };
        // A manifest's fields are public: one that was changed after it was read is checked again here.
        if let Err(e) = pinned.manifest(id) {
            reasons.push(format!("{id}: {e}"));
        }
        if connectors.insert(id.clone(), pinned).is_some() {
            reasons.push(format!("{id}: two connectors have this id"));
        }
    }
    let document = Document {
        format: FORMAT,
        version: draft.version.clone(),
        sequence: draft.sequence,
        issued: draft.issued,
        expires: draft.expires,
        minimum_host: draft.minimum_host.clone(),
        connectors,
        revoked: draft.revoked.clone(),
    };
    reasons.extend(document.check().err());
    if reasons.is_empty() { Ok(document) } else { Err(reasons) }
}

/// The sequence of the release in a folder, to count on from; nothing when there is none.
///
/// Not verified: it is for the one who signs the next release, never for a host.
///
/// # Errors
/// A sentence, when there is a file that is no release.
pub fn previous_sequence(folder: &Path) -> Result<Option<u64>, String> {
    let file = folder.join(RELEASE);
    if !file.exists() {
        return Ok(None);
    }
    let fail = |e: &dyn std::fmt::Display| {
        format!("{} is no release to count on from ({e}); give the sequence", file.display())
    };
    let bytes = read_capped(&file, DOCUMENT_CAP).map_err(|e| fail(&e))?;
    let envelope = Envelope::parse(&bytes).map_err(|e| fail(&e))?;
    let header: Header = serde_json::from_slice(envelope.unverified_payload()).map_err(|e| fail(&e))?;
    Ok(Some(header.sequence))
}

/// Writes a file whole: beside it first, then renamed over it.
fn put(file: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let fail = |source| WriteError::File { file: file.to_owned(), source };
    let part = file.with_extension("part");
    let mut out = File::create(&part).map_err(fail)?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(fail)?;
    fs::rename(&part, file).map_err(fail)
}

/// Removes components by their names, and nothing else.
fn prune(folder: &Path, keep: &BTreeSet<Digest>) -> Result<(), WriteError> {
    let fail = |source| WriteError::File { file: folder.to_owned(), source };
    for item in fs::read_dir(folder).map_err(fail)? {
        let path = item.map_err(fail)?.path();
        let digest = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.strip_suffix(".wasm"))
            .and_then(|n| n.parse::<Digest>().ok());
        if digest.is_some_and(|digest| !keep.contains(&digest)) {
            fs::remove_file(&path).map_err(|source| WriteError::File { file: path.clone(), source })?;
        }
    }
    Ok(())
}
