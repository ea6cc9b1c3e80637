//! Making a store from a backup.

use std::path::Path;

use crate::backup::{BackupReader, BackupSummary, Record, verify_backup};
use crate::commit::Op;
use crate::embedded::balance::Balance;
use crate::embedded::stuck::Failure;
use crate::embedded::writer::Writer;
use crate::embedded::{CheckReport, EmbeddedStore, Options, files, open_engine};
use crate::error::StoreError;

/// The bytes of keys and values that are synced at once.
const SYNC_BYTES: usize = 16 * 1024 * 1024;

/// How far a restore is; all bytes are the backup file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreProgress {
    /// The file is compared with its digest. Nothing is made before that.
    Verifying(u64),
    /// The store is being made, out of sight.
    Making(u64),
    /// Every record of the new store is read back.
    Checking,
}

/// What a restore made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub backup: BackupSummary,
    /// What the new store holds.
    pub report: CheckReport,
}

impl EmbeddedStore {
    /// Makes the store in `path` from the backup file `from`. The folder must be absent or empty.
    ///
    /// The file is verified first; the store is made aside, read back and renamed into place. Until then there is no store
    /// in the folder, whatever happens, and the same call can be made again.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], [`StoreError::BadBackup`], [`StoreError::Locked`], or what stands in the way of writing.
    pub fn restore(
        path: &Path,
        from: &Path,
        options: &Options,
        progress: &mut dyn FnMut(RestoreProgress),
    ) -> Result<Restored, StoreError> {
        if path.exists() {
            files::check_empty(path)?;
        }
        verify_backup(from, &mut |bytes| progress(RestoreProgress::Verifying(bytes)))?;
        let _lock = files::Lock::take(path, options.patience)?;
        // Once more, now that nobody else can fill it.
        files::check_empty(path)?;
        let mut restored = None;
        let made = files::make_new(path, |folder| {
            restored = Some(make(folder, path, from, options, progress)?);
            Ok(())
        });
        if made.is_err() {
            files::remove_unfinished(path)?;
        }
        made?;
        restored.ok_or(StoreError::Closed)
    }
}

fn make(
    folder: &Path,
    path: &Path,
    from: &Path,
    options: &Options,
    progress: &mut dyn FnMut(RestoreProgress),
) -> Result<Restored, StoreError> {
    let db = open_engine(folder, options, path)?;
    files::write_format(&db).map_err(|e| StoreError::Open { path: path.to_owned(), reason: e.to_string() })?;
    let mut writer = Writer::new(db, folder, Balance::empty(), Failure::new(None))?;
    let mut backup = BackupReader::open(from)?;
    let mut unsynced = 0_usize;
    while let Some(Record { keyspace, key, value }) = backup.next()? {
        unsynced = unsynced.saturating_add(key.len()).saturating_add(value.as_ref().map_or(0, Vec::len));
        writer.add(&[Op { keyspace, key, value, absent: false }])?;
        if unsynced >= SYNC_BYTES {
            unsynced = 0;
            writer.sync()?;
            progress(RestoreProgress::Making(backup.bytes()));
        }
    }
    writer.sync()?;
    progress(RestoreProgress::Checking);
    let report = writer.reader().check()?;
    if let Some(damaged) = report.damaged.first() {
        return Err(StoreError::Failed(format!("what was restored cannot be read back: {damaged}")));
    }
    Ok(Restored { backup: backup.summary().clone(), report })
}
