//! A platform of the tests' own: it takes the connectors of the built release and signs releases of them as it likes.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sgen_catalog::folder::{Draft, ROOT, write};
use sgen_catalog::trust::{RoleKeys, RootDocument};
use sgen_catalog::{Floor, Manifest, SigningKey, TrustRoot};
use sgen_tests::paths;

/// How long an endpoint waits for an answer in these releases: tests of a hanging downstream wait that long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Platform {
    root: TrustRoot,
    root_file: PathBuf,
    release_key: SigningKey,
    connectors: Vec<(Manifest, Vec<u8>)>,
}

impl Platform {
    /// A platform whose keys are in `folder`.
    pub(crate) fn create(folder: &Path) -> Self {
        let root_key = SigningKey::generate(&folder.join("platform-root.key")).unwrap();
        let release_key = SigningKey::generate(&folder.join("platform-release.key")).unwrap();
        let role = |key: &SigningKey| RoleKeys { threshold: 1, keys: BTreeSet::from([key.public()]) };
        let (from, to) = (ago(24), Timestamp::now() + SignedDuration::from_hours(24 * 365));
        let document = RootDocument::new(1, from, to, role(&root_key), role(&release_key));
        let bytes = document.sign(&[&root_key]).unwrap();
        let root_file = folder.join("platform-root.dsse.json");
        std::fs::write(&root_file, &bytes).unwrap();
        Self { root: TrustRoot::parse(&bytes).unwrap(), root_file, release_key, connectors: built() }
    }

    /// Changes what a connector declares; its code stays as it is.
    pub(crate) fn declare(&mut self, connector: &str, change: impl FnOnce(&mut Manifest)) {
        let (manifest, _) = self.connectors.iter_mut().find(|(manifest, _)| manifest.id == connector).unwrap();
        change(manifest);
    }

    /// The root document that trusts this platform.
    pub(crate) fn root(&self) -> &Path {
        &self.root_file
    }

    /// Signs a release into `folder`.
    pub(crate) fn release(&self, folder: &Path, sequence: u64) {
        self.release_until(folder, sequence, Timestamp::now() + SignedDuration::from_hours(24));
    }

    /// Signs a release that expires at a time.
    pub(crate) fn release_until(&self, folder: &Path, sequence: u64, expires: Timestamp) {
        let draft = Draft {
            version: format!("2026.11.{sequence}"),
            sequence,
            issued: ago(2),
            expires,
            minimum_host: semver(),
            connectors: self.connectors.clone(),
            revoked: BTreeSet::new(),
        };
        write(folder, &draft, &self.root, &[&self.release_key]).unwrap();
    }
}

/// A time that is `hours` ago.
pub(crate) fn ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

fn semver() -> semver::Version {
    semver::Version::new(0, 1, 0)
}

/// The connectors of the built release, less patient with their downstreams.
fn built() -> Vec<(Manifest, Vec<u8>)> {
    let folder = paths::catalog().unwrap();
    let root = TrustRoot::load(&folder.join(ROOT)).unwrap();
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
    let catalog = sgen_catalog::open(&folder, &root, now, Floor::default()).unwrap();
    let connectors = catalog.connectors.values().map(|entry| {
        let mut manifest = entry.manifest.clone();
        for endpoint in manifest.endpoints.values_mut() {
            endpoint.timeout = TIMEOUT;
        }
        (manifest, entry.wasm.to_vec())
    });
    connectors.collect()
}

/// Copies a release folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
