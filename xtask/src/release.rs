//! `release`: from the connectors' sources to a signed folder that a host accepts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sgen_catalog::folder::{Draft, host_version, previous_sequence, write};
use sgen_catalog::{Floor, Manifest, open};

use crate::{cargo, keys, package, paths, toolchain};

/// What to release.
pub(crate) struct Plan {
    /// The platform version.
    pub(crate) version: String,
    /// The folder to write.
    pub(crate) out: PathBuf,
    /// Its place in the order, when it is not simply the next.
    pub(crate) sequence: Option<u64>,
    /// How long hosts activate it.
    pub(crate) expires_days: u32,
}

impl Plan {
    /// A release for trying things on this machine.
    pub(crate) fn development(out: PathBuf) -> Self {
        Self { version: "2026.11.0".into(), out, sequence: None, expires_days: 90 }
    }
}

/// One connector's sources.
#[derive(Debug)]
struct Source {
    folder: PathBuf,
    package: String,
    manifest: Manifest,
}

/// Builds, checks, signs, writes, and opens again what was written.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    sgen_catalog::release::release_version(&plan.version).map_err(anyhow::Error::msg)?;
    let sources = sources(&paths::root().join("connectors"))?;
    toolchain::wasm_target(toolchain::WASM_TARGET)?;
    let sequence = match plan.sequence {
        Some(sequence) => sequence,
        None => next(previous_sequence(&plan.out).map_err(anyhow::Error::msg)?)?,
    };
    let mut arguments = vec!["--profile", "guest", "--target", toolchain::WASM_TARGET];
    for source in &sources {
        arguments.extend(["-p", &source.package]);
    }
    let modules = cargo::build_modules(&arguments)?;
    let mut connectors = Vec::new();
    for source in sources {
        let Some(module) = modules.get(&source.folder) else {
            bail!(
                "{} built no WebAssembly module; its Cargo.toml needs [lib] crate-type = [\"cdylib\"]",
                source.package
            );
        };
        connectors.push((source.manifest, package::component_of(module)?));
    }
    let keys = keys::development(&paths::keys())?;
    let issued = Timestamp::now();
    let draft = Draft {
        version: plan.version.clone(),
        sequence,
        issued,
        expires: issued.checked_add(SignedDuration::from_hours(24 * i64::from(plan.expires_days)))?,
        minimum_host: host_version()?,
        connectors,
        revoked: BTreeSet::new(),
    };
    write(&plan.out, &draft, &keys.root, &[&keys.release])?;
    let floor = Floor { sequence, root_version: keys.root.version() };
    let now = u64::try_from(issued.as_millisecond()).context("the clock is before 1970")?;
    let catalog = open(&plan.out, &keys.root, now, floor).context("what was written is not accepted")?;
    println!("release {} (sequence {}) in {}", catalog.version, catalog.sequence, plan.out.display());
    for (id, entry) in &catalog.connectors {
        let abilities: Vec<&str> = entry.interface.abilities.iter().map(|ability| ability.as_str()).collect();
        let abilities = if abilities.is_empty() { String::new() } else { format!(", can do {}", abilities.join(", ")) };
        println!("    {id} {}: {} bytes, sha256 {}{abilities}", entry.version, entry.size, entry.digest);
    }
    println!("    signed with development keys from {}; valid until {}", paths::keys().display(), catalog.expires);
    Ok(())
}

fn next(previous: Option<u64>) -> Result<u64> {
    previous
        .map_or(Some(1), |sequence| sequence.checked_add(1))
        .context("there is no sequence after the last one; give --sequence")
}

/// Every folder with a `connector.toml`. Refuses with every problem of every manifest.
fn sources(connectors: &Path) -> Result<Vec<Source>> {
    let mut folders = Vec::new();
    for item in fs::read_dir(connectors).with_context(|| format!("cannot read {}", connectors.display()))? {
        let folder = item?.path();
        if folder.join("connector.toml").is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    let mut sources = Vec::new();
    let mut reasons = Vec::new();
    for folder in folders {
        match source(&folder) {
            Ok(source) => sources.push(source),
            Err(e) => reasons.push(format!("{e:#}")),
        }
    }
    if !reasons.is_empty() {
        bail!("the release is refused:\n{}", reasons.join("\n"));
    }
    if sources.is_empty() {
        bail!("no folder of {} has a connector.toml; there is nothing to release", connectors.display());
    }
    Ok(sources)
}

#[derive(Deserialize)]
struct CargoManifest {
    package: CargoPackage,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
}

fn source(folder: &Path) -> Result<Source> {
    let read = |name: &str| {
        let file = folder.join(name);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let file = folder.join("connector.toml");
    let manifest = Manifest::parse(&read("connector.toml")?)
        .map_err(|e| anyhow::anyhow!("{}:\n    {}", file.display(), e.reasons().join("\n    ")))?;
    let cargo: CargoManifest = toml::from_str(&read("Cargo.toml")?)
        .with_context(|| format!("{} cannot be read", folder.join("Cargo.toml").display()))?;
    Ok(Source { folder: folder.to_owned(), package: cargo.package.name, manifest })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const GOOD: &str = "id='x'\nversion='0.1.0'\ntype='custom'\ntitle='X'\nsummary='Y'\nworld='sgen:connector@1.0.0'";

    fn connector(root: &Path, name: &str, manifest: &str) {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("Cargo.toml"), format!("[package]\nname = \"connector-{name}\"\n")).unwrap();
        fs::write(folder.join("connector.toml"), manifest).unwrap();
    }

    #[test]
    fn every_folder_with_a_manifest_is_a_connector() {
        let root = tempfile::tempdir().unwrap();
        assert!(sources(root.path()).unwrap_err().to_string().contains("nothing to release"));
        fs::create_dir(root.path().join("sdk")).unwrap();
        connector(root.path(), "b", GOOD);
        connector(root.path(), "a", GOOD);
        let packages: Vec<String> = sources(root.path()).unwrap().into_iter().map(|s| s.package).collect();
        assert_eq!(packages, ["connector-a", "connector-b"]);
    }

    #[test]
    fn every_problem_of_every_manifest_is_told() {
        let root = tempfile::tempdir().unwrap();
        connector(root.path(), "a", &GOOD.replace("id='x'", "id='X'").replace("title='X'", "title=''"));
        connector(root.path(), "b", "colour = 'red'");
        connector(root.path(), "c", GOOD);
        fs::remove_file(root.path().join("c/Cargo.toml")).unwrap();
        let text = sources(root.path()).unwrap_err().to_string();
        for says in ["a/connector.toml", "id: ", "title: ", "b/connector.toml", "c/Cargo.toml"] {
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn sequences_count_up_and_do_not_wrap() {
        assert_eq!(next(None).unwrap(), 1);
        assert_eq!(next(Some(41)).unwrap(), 42);
        assert!(next(Some(u64::MAX)).is_err());
    }
}
