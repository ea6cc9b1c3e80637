//! The release document: one signed list that pins every connector of a platform release by digest.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::Manifest;

/// The version of the document's shape.
pub const FORMAT: u32 = 1;
/// The most connectors that a release can hold.
pub const MOST_CONNECTORS: usize = 1_000;

/// What a host looks at first: whether it can read the rest at all. Unknown fields are passed over, so that a later
/// format is refused for being later and not for what it contains.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    pub(crate) version: String,
    pub(crate) sequence: u64,
    pub(crate) expires: Timestamp,
    pub(crate) minimum_host: semver::Version,
}

/// A release, as it is signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) format: u32,
    pub(crate) version: String,
    pub(crate) sequence: u64,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) minimum_host: semver::Version,
    pub(crate) connectors: BTreeMap<String, Pinned>,
    pub(crate) revoked: BTreeSet<Digest>,
}

/// One connector of a release.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pinned {
    pub(crate) version: semver::Version,
    pub(crate) sha256: Digest,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) world: String,
    pub(crate) manifest: serde_json::Value,
}

impl Document {
    /// What the shape alone does not guarantee.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.issued >= self.expires {
            return Err("it expires before it is issued".into());
        }
        release_version(&self.version)?;
        if self.connectors.len() > MOST_CONNECTORS {
            return Err(format!(
                "it holds {} connectors; at most {MOST_CONNECTORS} are allowed",
                self.connectors.len()
            ));
        }
        Ok(())
    }
}

impl Pinned {
    /// The manifest, checked again, and in agreement with what the release says beside it.
    pub(crate) fn manifest(&self, id: &str) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_value(self.manifest.clone()).map_err(|e| e.to_string())?;
        if manifest.id != id || manifest.version != self.version || manifest.world != self.world {
            return Err(format!(
                "the release lists {id} {} for {}, but its manifest says {} {} for {}",
                self.version, self.world, manifest.id, manifest.version, manifest.world
            ));
        }
        Ok(manifest)
    }
}

/// Checks a platform version: three numbers, such as `2026.11.0`, optionally with a pre-release part.
///
/// # Errors
/// A sentence that says what is expected.
pub fn release_version(text: &str) -> Result<(), String> {
    match semver::Version::parse(text) {
        Ok(version) if version.build.is_empty() && text.len() <= 64 => Ok(()),
        _ => Err(format!(
            "{text:?} is no release version: write YEAR.MONTH.PATCH without leading zeros, such as 2026.11.0"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_version_has_three_numbers() {
        for good in ["2026.11.0", "2026.1.12", "2026.11.0-rc.1"] {
            assert!(release_version(good).is_ok(), "{good}");
        }
        for bad in ["", "2026", "2026.11", "2026.01.0", "v2026.11.0", "2026.11.0+x", "../x", "2026.11.0 "] {
            assert!(release_version(bad).is_err(), "{bad}");
        }
    }
}
