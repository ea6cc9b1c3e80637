//! `store backup`, `store restore` and `store export`.

use std::path::Path;

use anyhow::Context as _;
use sgen_model::{Clock as _, SystemClock};
use sgen_store::{BackupSummary, EmbeddedStore, RestoreProgress, Store as _, StoreError, write_backup_file};

use crate::backup_client;
use crate::commands::{open_existing, open_store, options, print, write_out};
use crate::config::{Config, Environment};
use crate::host_client;
use crate::progress::Progress;

/// `store backup`: of the store's folder, or of the host that has it open.
pub(crate) fn back_up(file: &Path, out: &Path) -> anyhow::Result<()> {
    let (environment, handed) = Environment::read(std::env::vars_os());
    let config = Config::load(file, &environment)?;
    let path = &config.store.path;
    let (summary, of) = match open_existing(path) {
        Ok(Some(store)) => {
            let summary = write_backup_file(out, |sink| store.backup(sink, SystemClock.now()).map(drop))?;
            (summary, format!("the store {}", path.display()))
        }
        Ok(None) => anyhow::bail!("there is no store in {}; look at store.path in {}", path.display(), file.display()),
        Err(StoreError::Locked { .. }) => {
            let (address, token) = host_client::host_of(&config, handed.platform_token)?;
            let mut progress = Progress::new();
            let told = |bytes| progress.tell_bytes("received", bytes, None);
            let summary = write_backup_file(out, |sink| {
                backup_client::fetch(address, &token, sink, told).with_context(|| {
                    format!("the store is in use, so the host at {address} was asked for the backup, which failed")
                })
            })?;
            (summary, format!("the running host at {address}"))
        }
        Err(error) => return Err(error.into()),
    };
    print(&format!(
        "{} of {of}, verified\nkeep it apart from the vault key: what is sealed in it is of no use without that key\n",
        describe(out, &summary)
    ))
}

/// `store restore`
pub(crate) fn restore(file: &Path, from: &Path) -> anyhow::Result<()> {
    let (environment, _) = Environment::read(std::env::vars_os());
    let path = Config::load(file, &environment)?.store.path;
    let whole = std::fs::metadata(from).map(|data| data.len()).ok();
    let mut progress = Progress::new();
    let restored = EmbeddedStore::restore(&path, from, &options(), &mut |step| match step {
        RestoreProgress::Verifying(bytes) => progress.tell_bytes("verifying the backup:", bytes, whole),
        RestoreProgress::Making(bytes) => progress.tell_bytes("making the store:", bytes, whole),
        RestoreProgress::Checking => progress.tell_bytes("reading the store back after", whole.unwrap_or(0), None),
    })?;
    let mut text = String::new();
    for (keyspace, entries, bytes) in restored.report.keyspaces.iter().filter(|(_, entries, _)| *entries > 0) {
        text.push_str(&format!("{:<12} {entries:>10} entries {bytes:>14} bytes\n", keyspace.name()));
    }
    let backup = &restored.backup;
    print(&format!(
        "{text}the store in {} is what {} was at {}: {} entries and {} later writes, sha256 {}\n",
        path.display(),
        from.display(),
        backup.created,
        backup.entries,
        backup.redo,
        backup.sha256
    ))
}

/// `store export`
pub(crate) fn export(file: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let store = match open_store(file) {
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::Locked { .. })) => {
            return Err(error
                .context("an export reads the store of a host that is stopped; `store backup` is for one that runs"));
        }
        other => other?,
    };
    let entries = write_out(out, |sink| Ok(store.export(sink)?))?;
    match out {
        Some(path) => print(&format!("{entries} entries written to {}\n", path.display())),
        None => Ok(()),
    }
}

fn describe(out: &Path, summary: &BackupSummary) -> String {
    format!(
        "{}: {} entries and {} writes made meanwhile, {} bytes, sha256 {}; made {} by version {}",
        out.display(),
        summary.entries,
        summary.redo,
        summary.bytes,
        summary.sha256,
        summary.created,
        summary.host
    )
}
