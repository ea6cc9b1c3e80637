//! Backups of a running host, and the stores that come out of them: each has everything that was acknowledged before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::client::Client;
use crate::host::HostFolder;
use crate::proofs::examine::{check_store, examine_restored};
use crate::proofs::ledger::{Findings, Ledger};

/// A complete backup and what has to be in it.
pub(super) struct Backup {
    owed: Ledger,
    file: PathBuf,
}

/// Takes a backup of the host that runs in `folder`. What `ledger` holds by now has to be in it. `None` when there is
/// none, as when the host is killed meanwhile; then there is no file either.
pub(super) async fn back_up(folder: HostFolder, owed: Ledger, file: PathBuf) -> Result<Option<Backup>> {
    let said = folder.run(&["store", "backup", "--out", &file.to_string_lossy()]).await?;
    if said.status.success() {
        return Ok(Some(Backup { owed, file }));
    }
    if file.exists() {
        bail!("a backup that failed has left a file: {}{}", said.stdout, said.stderr);
    }
    Ok(None)
}

impl Backup {
    /// Makes a store of it in `place`, after a restore that was killed at `killed_after`, and compares what its host has
    /// with what it owes.
    pub(super) async fn restore(
        self,
        origin: &HostFolder,
        place: &Path,
        killed_after: Duration,
        operator_token: &str,
    ) -> Result<Findings> {
        let folder = origin.with_empty_store(place)?.without_development_hosts();
        let from = self.file.to_string_lossy().into_owned();
        let words = ["store", "restore", "--from", &from];
        // Dropped, the command is killed.
        let killed = tokio::time::timeout(killed_after, folder.run(&words)).await;
        let complete = killed.is_ok_and(|said| said.is_ok_and(|said| said.status.success()));
        let mut findings = Findings::default();
        if !complete {
            let said = folder.run(&words).await?;
            // It may have been complete just before it was killed; then the next one finds a store, which is judged below.
            if !said.status.success() && !said.stderr.contains("into an empty or absent folder only") {
                findings.lost.push(format!("a backup cannot be restored: {}{}", said.stdout, said.stderr));
                return Ok(findings);
            }
        }
        findings.torn.extend(check_store(&folder).await?);
        let host = folder.start().await.context("a restored store does not open")?;
        let operator = Client::new(host.url()?, operator_token)?;
        let found = examine_restored(&operator, &self.owed).await?;
        host.kill().await?;
        findings.lost.extend(found.lost.into_iter().map(|what| format!("in a restored store: {what}")));
        findings.torn.extend(found.torn.into_iter().map(|what| format!("in a restored store: {what}")));
        std::fs::remove_dir_all(place)?;
        std::fs::remove_file(&self.file)?;
        Ok(findings)
    }
}
