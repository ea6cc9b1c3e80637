//! The folder: its lock, its repair before opening, and changes that a crash cannot spoil.
//!
//! sled 0.34.7 leaves an unopenable store when it is killed while writing a snapshot during recovery (it does not skip
//! `snap.*.generating`) or while making a new store. Both are avoided here: such files are deleted before opening, and a
//! new store is made aside, in `sled.making`, and renamed into place.
//!
//! A store that replaces one is renamed into place after the one before has been renamed to `sled.old`. Whatever a crash
//! leaves, the next opening finds one whole store: `sled` where there is one, else `sled.old`, which was in use until then.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// The folder of the engine's own files within the store's folder.
const ENGINE: &str = "sled";
/// Where a new store is made.
const MAKING: &str = "sled.making";
/// What was replaced, until it is removed.
const REPLACED: &str = "sled.old";
const LOCK: &str = "lock";
/// The store's format. A host refuses a store of a higher one.
pub(crate) const FORMAT: u32 = 1;
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
        let folder = folder_error(path);
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

/// Puts the folder in order: finishes or takes back what a crash interrupted, removes an unfinished new store and
/// unfinished snapshots, and makes a new store when there is none. `make` makes one in the folder it is given, and closes
/// it.
pub(super) fn prepare(path: &Path, make: impl FnOnce(&Path) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let failed = folder_error(path);
    let engine = engine_folder(path);
    let replaced = path.join(REPLACED);
    if replaced.exists() && !engine.exists() {
        tracing::warn!("going back to the store that was in use when a crash interrupted its replacement");
        fs::rename(&replaced, &engine).and_then(|()| sync_folder(path)).map_err(failed)?;
    }
    remove_unfinished(path)?;
    if engine.exists() {
        remove_replaced(path)?;
        return remove_unfinished_snapshots(&engine).map_err(failed);
    }
    make_new(path, make)
}

/// Makes a store aside and renames it into place, where there must be none.
pub(super) fn make_new(path: &Path, make: impl FnOnce(&Path) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let failed = folder_error(path);
    let making = begin_making(path)?;
    make(&making)?;
    sync_tree(&making).map_err(failed)?;
    fs::rename(&making, engine_folder(path)).and_then(|()| sync_folder(path)).map_err(failed)
}

/// Where a new store is made: a folder that does not exist yet.
pub(super) fn begin_making(path: &Path) -> Result<PathBuf, StoreError> {
    remove_unfinished(path)?;
    Ok(path.join(MAKING))
}

/// Removes what was never put into place. Nothing was ever acknowledged from there: it is renamed before it is used.
pub(super) fn remove_unfinished(path: &Path) -> Result<(), StoreError> {
    remove(&path.join(MAKING), |folder| fs::remove_dir_all(folder)).map_err(folder_error(path))?;
    remove(&path.join(super::redo::FILE), |file| fs::remove_file(file)).map_err(folder_error(path))
}

/// Removes what was replaced.
pub(super) fn remove_replaced(path: &Path) -> Result<(), StoreError> {
    remove(&path.join(REPLACED), |folder| fs::remove_dir_all(folder)).map_err(folder_error(path))
}

fn remove(what: &Path, remove: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    match remove(what) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Puts the store that was made in the place of the one in use. Both stay open; files are found by name only when they
/// are opened.
///
/// # Errors
/// [`StoreError::Folder`]: the one in use is in place as before. [`StoreError::Failed`]: the next opening will find one of
/// the two whole, but it is not known which, so nothing may be acknowledged any more.
pub(super) fn exchange(path: &Path) -> Result<(), StoreError> {
    let (engine, making, replaced) = (engine_folder(path), path.join(MAKING), path.join(REPLACED));
    sync_tree(&making).map_err(folder_error(path))?;
    remove_replaced(path)?;
    fs::rename(&engine, &replaced).map_err(folder_error(path))?;
    let placed = sync_folder(path).and_then(|()| fs::rename(&making, &engine));
    if let Err(error) = placed {
        fs::rename(&replaced, &engine)
            .and_then(|()| sync_folder(path))
            .map_err(|back| StoreError::Failed(format!("the store cannot be put into place: {error}; {back}")))?;
        return Err(folder_error(path)(error));
    }
    sync_folder(path).map_err(|e| StoreError::Failed(format!("the store's folder cannot be synced: {e}")))
}

/// Refuses a folder that holds anything but what an interrupted restore leaves.
pub(super) fn check_empty(path: &Path) -> Result<(), StoreError> {
    let leavings = [MAKING, LOCK, super::redo::FILE];
    for entry in fs::read_dir(path).map_err(folder_error(path))? {
        let name = entry.map_err(folder_error(path))?.file_name();
        if !leavings.iter().any(|leaving| name == *leaving) {
            let found = name.to_string_lossy().into_owned();
            return Err(StoreError::NotEmpty { path: path.to_owned(), found });
        }
    }
    Ok(())
}

/// The length of the engine's file, in bytes; 0 when the system does not tell.
pub(super) fn engine_bytes(path: &Path) -> u64 {
    fs::metadata(engine_folder(path).join("db")).map_or(0, |data| data.len())
}

/// What the disk still takes, in bytes.
pub(super) fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    let found = rustix::fs::statvfs(path).map_err(|e| folder_error(path)(e.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn folder_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError + Copy {
    move |e| StoreError::Folder { path: path.to_owned(), reason: e.to_string() }
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

pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn write_format(db: &sled::Db, path: &Path) -> Result<(), StoreError> {
    db.insert(FORMAT_KEY, &FORMAT.to_be_bytes())
        .map(drop)
        .map_err(|e| StoreError::Open { path: path.to_owned(), reason: e.to_string() })
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
