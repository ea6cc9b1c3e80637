//! The folder: its lock, its repair before opening, and a first opening that a crash cannot spoil.
//!
//! sled 0.34.7 leaves an unopenable store when it is killed while writing a snapshot during recovery (it does not skip
//! `snap.*.generating`) or while making a new store. Both are avoided here: such files are deleted before opening, and a
//! new store is made aside and renamed into place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// The folder of the engine's own files within the store's folder.
const ENGINE: &str = "sled";
/// Where a new store is made.
const MAKING: &str = "sled.making";
const LOCK: &str = "lock";
/// The store's format. A host refuses a store of a higher one.
const FORMAT: u32 = 1;
/// Outside every keyspace's byte.
const FORMAT_KEY: &[u8] = &[0];

pub(super) fn engine_folder(path: &Path) -> PathBuf {
    path.join(ENGINE)
}

/// An exclusive lock on the folder, held until dropped.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let folder = |e: std::io::Error| StoreError::Folder { path: path.to_owned(), reason: e.to_string() };
        fs::create_dir_all(path).map_err(folder)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(folder)?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_owned() }),
                Err(TryLockError::Error(e)) => return Err(folder(e)),
            }
        }
    }
}

/// Puts the folder in order: removes an unfinished new store and unfinished snapshots, and makes a new store when there
/// is none. `make` makes one in the folder it is given, and closes it.
pub(super) fn prepare(path: &Path, make: impl FnOnce(&Path) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let failed = |e: std::io::Error| StoreError::Folder { path: path.to_owned(), reason: e.to_string() };
    let engine = engine_folder(path);
    let making = path.join(MAKING);
    if making.exists() {
        // Nothing was ever acknowledged from there: it is renamed before it is used.
        fs::remove_dir_all(&making).map_err(failed)?;
    }
    if engine.exists() {
        return remove_unfinished_snapshots(&engine).map_err(failed);
    }
    make(&making)?;
    sync_tree(&making).map_err(failed)?;
    fs::rename(&making, &engine).map_err(failed)?;
    sync_folder(path).map_err(failed)
}

fn remove_unfinished_snapshots(engine: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(engine)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %name, "removing a snapshot that a crash left unfinished");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes what [`check_format`] looks for; writing it again changes nothing.
pub(super) fn write_format(tree: &sled::Tree) -> sled::Result<()> {
    tree.insert(FORMAT_KEY, &FORMAT.to_be_bytes()).map(drop)
}

pub(super) fn check_format(tree: &sled::Tree, path: &Path) -> Result<(), StoreError> {
    let open = |reason: String| StoreError::Open { path: path.to_owned(), reason };
    let value = tree.get(FORMAT_KEY).map_err(|e| open(e.to_string()))?;
    let bytes = value.as_deref().and_then(|v| <[u8; 4]>::try_from(v).ok());
    match bytes.map(u32::from_be_bytes) {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(StoreError::Format { path: path.to_owned(), found, known: FORMAT }),
        None => Err(open("it has no format record: these are not the files of this store".to_owned())),
    }
}
