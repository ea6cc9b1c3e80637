//! The embedded engine: sled 0.34.7, kept away from the four traps that lose data or hang.
//!
//! One tree holds every keyspace behind one byte, so that a commit is one atomic batch of that tree and never a
//! transaction whose closure may run twice. One thread writes ([`committer`]); values stay small ([`record`]); the files
//! are put in order before they are opened ([`files`]).

mod committer;
mod files;
mod flush;
mod record;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::commit::{Commit, Ticket};
use crate::error::StoreError;
use crate::keyspace::Keyspace;
use crate::{Entry, Store, prefix_end};

use committer::Committer;
use flush::Flusher;
use record::{Reader, disk_key};

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Pages kept in memory, in bytes.
    pub cache: u64,
    /// How long to wait for another process (or a late release of the lock) before giving up.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache: 64 * 1024 * 1024, patience: Duration::from_secs(5) }
    }
}

/// A durable store in one folder.
pub struct EmbeddedStore {
    // Before `lock`: fields drop in order, and the files must be closed before another process may open them.
    committer: Committer,
    reader: Reader,
    _lock: files::Lock,
    path: PathBuf,
}

/// What `check` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Entries per keyspace, with the bytes of their values.
    pub keyspaces: Vec<(Keyspace, u64, u64)>,
    /// Damaged records, as keyspace, key in hex, and what is wrong.
    pub damaged: Vec<String>,
    /// Chunks that belong to no record; harmless, removed when the store is next opened for writing.
    pub orphan_chunks: u64,
}

impl EmbeddedStore {
    /// Opens the store in `path`, making it when the folder holds none.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Folder`], [`StoreError::Open`] or [`StoreError::Format`]; the files are
    /// left as they were.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let lock = files::Lock::take(path, options.patience)?;
        files::prepare(path, |folder| drop_when_flushed(open_engine(folder, options, path)?, path))?;
        let db = open_engine(&files::engine_folder(path), options, path)?;
        let tree = (*db).clone();
        files::check_format(&tree, path)?;
        let reader = Reader::new(tree);
        reader.remove_orphans()?;
        let committer = Committer::start(db, reader.clone(), &files::engine_folder(path))?;
        Ok(Self { committer, reader, _lock: lock, path: path.to_owned() })
    }

    /// The store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads every record and verifies its checksum and its chunks.
    ///
    /// # Errors
    /// When the disk cannot be read at all; damaged records are in the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        self.reader.check()
    }
}

impl Store for EmbeddedStore {
    fn submit(&self, commit: Commit) -> Ticket {
        self.committer.submit(commit)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reader.get(keyspace, key)
    }

    fn scan(&self, keyspace: Keyspace, from: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        let start = disk_key(keyspace, from.max(prefix));
        self.reader.collect(self.reader.tree().range(start..), keyspace, prefix, limit)
    }

    fn scan_back(
        &self,
        keyspace: Keyspace,
        before: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let start = disk_key(keyspace, prefix);
        let mut end = prefix_end(&start).unwrap_or_else(|| vec![u8::MAX]);
        if !before.is_empty() {
            end = end.min(disk_key(keyspace, before));
        }
        if end <= start {
            return Ok(Vec::new());
        }
        self.reader.collect(self.reader.tree().range(start..end).rev(), keyspace, prefix, limit)
    }

    fn export(&self, sink: &mut dyn Write) -> Result<u64, StoreError> {
        let mut count = 0_u64;
        for keyspace in Keyspace::ALL {
            self.reader.each(keyspace, |key, value| {
                count = count.saturating_add(1);
                export_line(sink, keyspace, key, value)
            })?;
        }
        Ok(count)
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.committer.failure()
    }
}

/// Opens sled's files, waiting for a lock that a closing process releases late.
fn open_engine(folder: &Path, options: &Options, path: &Path) -> Result<sled::Db, StoreError> {
    let deadline = Instant::now() + options.patience;
    loop {
        let result = sled::Config::new()
            .path(folder)
            .cache_capacity(options.cache)
            // Only the committer flushes: the engine's own flusher logs errors where the committer reports them.
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput)
            .open();
        match result {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock || e.to_string().contains("lock") => {
                if Instant::now() >= deadline {
                    return Err(StoreError::Locked { path: path.to_owned() });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(StoreError::Open { path: path.to_owned(), reason: error.to_string() }),
        }
    }
}

fn drop_when_flushed(db: sled::Db, path: &Path) -> Result<(), StoreError> {
    let failed = |e: &dyn std::fmt::Display| StoreError::Open { path: path.to_owned(), reason: e.to_string() };
    files::write_format(&db).map_err(|e| failed(&e))?;
    Flusher::start(db).map_err(|e| failed(&e))?.flush().map_err(|e| failed(&e))
}

pub(crate) fn export_line(
    sink: &mut dyn Write,
    keyspace: Keyspace,
    key: &[u8],
    value: &[u8],
) -> Result<(), StoreError> {
    writeln!(sink, r#"{{"keyspace":"{}","key":"{}","value":"{}"}}"#, keyspace.name(), hex(key), hex(value))
        .map_err(|e| StoreError::Export(e.to_string()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
