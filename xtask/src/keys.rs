//! Development keys: one root key and one release key, made on first use, readable by their owner only.
//!
//! They are worth nothing outside this machine: a host trusts them only when it is given their root document.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use sgen_catalog::trust::{RoleKeys, RootDocument};
use sgen_catalog::{SigningKey, TrustRoot};

/// How long a development root document lasts: long enough never to be noticed.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 3650);

/// What signs development releases.
pub(crate) struct DevelopmentKeys {
    pub(crate) root: TrustRoot,
    pub(crate) release: SigningKey,
}

/// The development keys in a folder; makes what is missing.
pub(crate) fn development(folder: &Path) -> Result<DevelopmentKeys> {
    make_private(folder)?;
    let document = folder.join(sgen_catalog::folder::ROOT);
    let release = key(&folder.join("release.key"))?;
    if !document.exists() {
        let root = key(&folder.join("root.key"))?;
        let now = Timestamp::now();
        let role = |key: &SigningKey| RoleKeys { threshold: 1, keys: [key.public()].into() };
        let signed = RootDocument::new(1, now, now.checked_add(LIFE)?, role(&root), role(&release)).sign(&[&root])?;
        let part = document.with_extension("part");
        fs::write(&part, signed)
            .and_then(|()| fs::rename(&part, &document))
            .with_context(|| format!("cannot write {}", document.display()))?;
        println!("    made a development trust root in {}; it is never committed", folder.display());
    }
    let root = TrustRoot::load(&document)?;
    if !root.document().release.keys.contains(&release.public()) {
        bail!(
            "{} does not name the release key beside it; move {} away, and new keys are made",
            document.display(),
            folder.display()
        );
    }
    Ok(DevelopmentKeys { root, release })
}

fn key(file: &Path) -> Result<SigningKey> {
    if file.exists() {
        return Ok(SigningKey::load(file)?);
    }
    let key = SigningKey::generate(file)?;
    println!(
        "    made a development key {} ({}...)",
        file.display(),
        key.id().to_string().get(..12).unwrap_or_default()
    );
    Ok(key)
}

/// Makes a folder that only its owner can enter, with whatever is missing above it.
fn make_private(folder: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).with_context(|| format!("cannot make {}", folder.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn keys_are_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("dev/keys");
        let first = development(&keys).unwrap();
        let again = development(&keys).unwrap();
        assert_eq!(first.root, again.root);
        assert_eq!(first.release.id(), again.release.id());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&keys), 0o700);
            assert_eq!(mode(&keys.join("root.key")), 0o600);
            assert_eq!(mode(&keys.join("release.key")), 0o600);
        }
    }

    #[test]
    fn a_release_key_that_the_root_does_not_name_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        development(folder.path()).unwrap();
        fs::remove_file(folder.path().join("release.key")).unwrap();
        let error = development(folder.path()).err().unwrap().to_string();
        assert!(error.contains("does not name"), "{error}");
    }
}
