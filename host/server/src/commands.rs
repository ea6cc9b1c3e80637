//! The commands that look at something and end.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sgen_audit::AuditLog;
use sgen_catalog::{Catalog, Floor};
use sgen_model::{Clock as _, SiteId, SystemClock, SystemEntropy};
use sgen_store::{EmbeddedStore, Options, StoreError};

use crate::config::{Config, Environment};
use crate::{releases, secrets};

/// How long a command waits for a store that another process is just closing.
const PATIENCE: Duration = Duration::from_millis(500);

/// `catalog verify`
pub(crate) fn verify_catalog(folder: &Path, trust_root: &Path) -> anyhow::Result<()> {
    let catalog = releases::verify(folder, trust_root, SystemClock.now().0, Floor::default())?;
    print(&describe(&catalog))
}

fn describe(catalog: &Catalog) -> String {
    let mut text = format!(
        "release {} (sequence {}) is valid until {}; {} connectors, {} revoked components\n",
        catalog.version,
        catalog.sequence,
        catalog.expires,
        catalog.connectors.len(),
        catalog.revoked.len()
    );
    for (id, entry) in &catalog.connectors {
        let abilities: Vec<&str> = entry.interface.abilities.iter().map(|ability| ability.as_str()).collect();
        let abilities = if abilities.is_empty() { "none".to_owned() } else { abilities.join(", ") };
        text.push_str(&format!(
            "connector {id} {} sha256:{} ({} bytes), abilities: {abilities}\n",
            entry.version, entry.digest, entry.size
        ));
    }
    text
}

/// `audit export`
pub(crate) fn export_audit(config: &Path, site: &SiteId, out: Option<&Path>) -> anyhow::Result<()> {
    let store = Arc::new(open_store(config)?);
    let audit = AuditLog::new(store, Arc::new(SystemClock))?;
    if !audit.sites()?.contains(site) {
        anyhow::bail!("there are no audit records of site {site}; look at the spelling");
    }
    let records = write_out(out, |sink| Ok(audit.export(site, sink)?))?;
    match out {
        Some(path) => print(&format!("{records} records of site {site} written to {}\n", path.display())),
        None => Ok(()),
    }
}

/// Lets `fill` write a new file that only this user can read, or standard output.
pub(crate) fn write_out<T>(
    out: Option<&Path>,
    fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Some(path) = out else {
        let mut sink = BufWriter::new(std::io::stdout().lock());
        let answer = fill(&mut sink)?;
        return sink.flush().map(|()| answer).context("standard output cannot be written");
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("{} cannot be made; name a file that does not exist", path.display()))?;
    let mut sink = BufWriter::new(file);
    let answer = fill(&mut sink)?;
    let file = sink.into_inner().map_err(|e| e.into_error());
    file.and_then(|file| file.sync_all()).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(answer)
}

/// `store check`
pub(crate) fn check_store(config: &Path) -> anyhow::Result<()> {
    let store = Arc::new(open_store(config)?);
    let report = store.check()?;
    let mut text = String::new();
    for (keyspace, entries, bytes) in &report.keyspaces {
        text.push_str(&format!("{:<12} {entries:>10} entries {bytes:>14} bytes\n", keyspace.name()));
    }
    let mut wrong = report.damaged.clone();
    let audit = AuditLog::new(store, Arc::new(SystemClock))?;
    for site in audit.sites()? {
        match audit.verify(&site) {
            Ok(found) => {
                text.push_str(&format!("audit of {site}: {} records, root {}\n", found.records, found.root_hash));
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    print(&text)?;
    if wrong.is_empty() {
        return print("the store is whole\n");
    }
    anyhow::bail!(
        "the store is damaged; keep a copy of its folder and restore from a backup:\n  {}",
        wrong.join("\n  ")
    )
}

/// `keys generate`
pub(crate) fn generate_key(out: &Path) -> anyhow::Result<()> {
    sgen_vault::generate_key_file(out, &SystemEntropy::default())?;
    print(&format!(
        "a vault key is in {}; keep a copy apart from the store's backups: without it nothing sealed can be read\n",
        out.display()
    ))
}

/// `token generate`
pub(crate) fn generate_platform_token(out: &Path) -> anyhow::Result<()> {
    let token = sgen_api::generate_token(sgen_api::TokenKind::Platform, &SystemEntropy::default())?;
    secrets::write_new(out, &token)
        .with_context(|| format!("{} cannot be made; name a file that does not exist", out.display()))?;
    print(&format!("a platform token is in {}\n", out.display()))
}

/// Opens the store that a configuration names.
pub(crate) fn open_store(config: &Path) -> anyhow::Result<EmbeddedStore> {
    let (environment, _) = Environment::read(std::env::vars_os());
    let path = Config::load(config, &environment)?.store.path;
    open_existing(&path)?
        .with_context(|| format!("there is no store in {}; look at store.path in {}", path.display(), config.display()))
}

/// Opens a store that is there already, and leaves it as it is: looking at one must neither make nor rewrite one.
pub(crate) fn open_existing(path: &Path) -> Result<Option<EmbeddedStore>, StoreError> {
    let filled = std::fs::read_dir(path).map(|mut entries| entries.next().is_some());
    if !filled.unwrap_or(false) {
        return Ok(None);
    }
    EmbeddedStore::open(path, &options()).map(Some)
}

/// How a command opens a store.
pub(crate) fn options() -> Options {
    Options { patience: PATIENCE, compact_above: None, ..Options::default() }
}

/// Writes to standard output; a reader that went away is an error like any other.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output cannot be written")
}
