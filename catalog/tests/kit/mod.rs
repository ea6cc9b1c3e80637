//! One platform in a temporary folder: root keys, release keys, a connector, and what is needed to forge.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sgen_catalog::dsse::Envelope;
use sgen_catalog::folder::{Draft, RELEASE, write};
use sgen_catalog::trust::{RoleKeys, RootDocument};
use sgen_catalog::{Catalog, CatalogError, Floor, Manifest, Role, SigningKey, TrustRoot, open};

/// 2026-11-20T00:00:00Z in milliseconds: when everything happens unless a test says otherwise.
pub(crate) const NOW: u64 = 1_795_132_800_000;
pub(crate) const DAY: u64 = 86_400_000;

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::from_millisecond(ms.try_into().unwrap()).unwrap()
}

pub(crate) struct Platform {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) root_keys: Vec<SigningKey>,
    pub(crate) release_keys: Vec<SigningKey>,
    pub(crate) root: TrustRoot,
}

impl Platform {
    /// Three root keys of which two sign, two release keys of which one signs.
    pub(crate) fn new() -> Self {
        Self::with_release_threshold(1)
    }

    pub(crate) fn with_release_threshold(threshold: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| SigningKey::generate(&folder.path().join(name)).unwrap();
        let root_keys: Vec<_> = (0..3).map(|i| make(&format!("root{i}.key"))).collect();
        let release_keys: Vec<_> = (0..2).map(|i| make(&format!("release{i}.key"))).collect();
        let document = root_document(1, &root_keys, 2, &release_keys, threshold);
        let root = TrustRoot::parse(&document.sign(&[&root_keys[0], &root_keys[2]]).unwrap()).unwrap();
        Self { folder, root_keys, release_keys, root }
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.folder.path().join("catalog")
    }

    pub(crate) fn release(&self, sequence: u64) -> String {
        let draft = draft(sequence);
        let keys: Vec<&SigningKey> = self.release_keys.iter().collect();
        write(&self.catalog(), &draft, &self.root, &keys[..1]).unwrap()["webhook"].to_string()
    }

    pub(crate) fn open(&self) -> Result<Catalog, CatalogError> {
        self.open_with(NOW, Floor::default())
    }

    pub(crate) fn open_with(&self, now: u64, floor: Floor) -> Result<Catalog, CatalogError> {
        open(&self.catalog(), &self.root, now, floor)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.catalog().join(name)
    }

    /// The release document as JSON, to be changed and signed again by someone.
    pub(crate) fn payload(&self) -> serde_json::Value {
        let bytes = std::fs::read(self.file(RELEASE)).unwrap();
        serde_json::from_slice(Envelope::parse(&bytes).unwrap().unverified_payload()).unwrap()
    }

    pub(crate) fn sign_as_release(&self, payload: &serde_json::Value, keys: &[&SigningKey]) {
        let bytes = serde_json::to_vec(payload).unwrap();
        let envelope = Envelope::sign(Role::Release.payload_type(), bytes, keys);
        std::fs::write(self.file(RELEASE), envelope.to_json().unwrap()).unwrap();
    }
}

pub(crate) fn root_document(
    version: u64,
    root: &[SigningKey],
    threshold: u32,
    release: &[SigningKey],
    release_threshold: u32,
) -> RootDocument {
    let keys = |keys: &[SigningKey]| keys.iter().map(SigningKey::public).collect::<BTreeSet<_>>();
    RootDocument::new(
        version,
        at(NOW - DAY),
        at(NOW + 3650 * DAY),
        RoleKeys { threshold, keys: keys(root) },
        RoleKeys { threshold: release_threshold, keys: keys(release) },
    )
}

pub(crate) fn draft(sequence: u64) -> Draft {
    Draft {
        version: "2026.11.0".into(),
        sequence,
        issued: at(NOW - DAY),
        expires: at(NOW + 30 * DAY),
        minimum_host: semver::Version::new(0, 1, 0),
        connectors: vec![(manifest(), component(&["sgen:connector/egress@1.0.0"]))],
        revoked: BTreeSet::new(),
    }
}

pub(crate) fn manifest() -> Manifest {
    Manifest::parse(
        r#"
        id = "webhook"
        version = "1.0.0"
        type = "webhook"
        title = "Webhook"
        summary = "Posts every event."
        world = "sgen:connector@1.0.0"
        [endpoints.receiver]
        base_setting = "url"
        base_pattern = "https://**"
        allow = [{ methods = ["POST"], paths = [""] }]
        auth = { scheme = "hmac", slot = "secret" }
        [credentials.secret]
        title = "Signing secret"
        accepts = ["hmac-secret"]
        [settings.url]
        type = "url"
        title = "URL"
        required = true
        [mapping."*"]
        type = "json"
        "#,
    )
    .unwrap()
}

/// A component that exports what it must and imports these interfaces.
pub(crate) fn component(imports: &[&str]) -> Vec<u8> {
    let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
    let exports: String = ["delivery", "health", "choices"]
        .iter()
        .map(|name| format!("(export \"sgen:connector/{name}@1.0.0\" (instance $empty))"))
        .collect();
    wat::parse_str(format!("(component {imports} (component $inner) (instance $empty (instantiate $inner)) {exports})"))
        .unwrap()
}

pub(crate) fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
}
