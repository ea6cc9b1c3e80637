//! The embedded engine: sled 0.34.7, kept away from the four traps that lose data or hang.
//!
//! One tree holds every keyspace behind one byte, so that a commit is one atomic batch of that tree and never a
//! transaction whose closure may run twice. One thread writes ([`committer`]); values stay small ([`record`]); the files
//! are put in order before they are opened ([`files`]). A backup and a compaction copy the tree while it is written
//! ([`copy`]).

mod balance;
mod committer;
mod compaction;
mod copy;
pub(crate) mod files;
mod record;
mod redo;
mod restore;
mod stuck;
mod writer;

pub use restore::{RestoreProgress, Restored};

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sgen_model::Timestamp;
use tokio::sync::watch;

use crate::backup::{BackupSummary, BackupWriter};
use crate::commit::{Commit, Ticket};
use crate::error::StoreError;
use crate::keyspace::Keyspace;
use crate::{Entry, Store, prefix_end};

use balance::Balance;
use committer::Committer;
use compaction::{Compactor, Work};
use copy::{Copy, Step};
use record::{Current, disk_key};
use stuck::{Failure, bounded};
use writer::Writer;

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Pages kept in memory, in bytes.
    pub cache: u64,
    /// How long to wait for another process (or a late release of the lock) before giving up.
    pub patience: Duration,
    /// The store's file is rewritten without what was deleted once it has more than these bytes and more than three times
    /// what is in it; `None` leaves it as it is.
    pub compact_above: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache: 64 * 1024 * 1024, patience: Duration::from_secs(5), compact_above: Some(64 * 1024 * 1024) }
    }
}

/// A durable store in one folder.
pub struct EmbeddedStore {
    // Fields drop in order: the committer tells the compactor that there is nothing more to come, and the files must be
    // closed before another process may open them.
    committer: Committer,
    compactor: Compactor,
    current: Current,
    copying: Arc<Mutex<()>>,
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
    /// Chunks that belong to no record; harmless, and gone after the next compaction.
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
        files::prepare(path, |folder| make_engine(folder, options, path))?;
        let folder = files::engine_folder(path);
        let db = open_engine(&folder, options, path)?;
        files::check_format(&db, path)?;
        let failure = Failure::new(None);
        let writer = Writer::new(db, &folder, Balance::unknown(), failure.clone())?;
        let current = Current::new(writer.reader().clone(), Arc::clone(writer.balance()));
        let (mut trigger, triggered) = compaction::trigger(options.compact_above.unwrap_or(u64::MAX));
        let committer = Committer::start(writer, failure.clone(), move |writer| trigger.note(writer))?;
        let copying = Arc::new(Mutex::new(()));
        let work = Work {
            path: path.to_owned(),
            options: options.clone(),
            current: current.clone(),
            queue: committer.queue().clone(),
            copying: Arc::clone(&copying),
            failure,
        };
        let compactor = Compactor::start(work, triggered)?;
        Ok(Self { committer, compactor, current, copying, _lock: lock, path: path.to_owned() })
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
        self.current.reader().check()
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // A compaction that is under way is given up, so that closing does not wait for it.
        self.compactor.stop();
    }
}

impl Store for EmbeddedStore {
    fn submit(&self, commit: Commit) -> Ticket {
        self.committer.submit(commit)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.current.reader().get(keyspace, key)
    }

    fn scan(&self, keyspace: Keyspace, from: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        let start = disk_key(keyspace, from.max(prefix));
        let reader = self.current.reader();
        reader.collect(reader.tree().range(start..), keyspace, prefix, limit)
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
        let reader = self.current.reader();
        reader.collect(reader.tree().range(start..end).rev(), keyspace, prefix, limit)
    }

    fn export(&self, sink: &mut dyn Write) -> Result<u64, StoreError> {
        let (mut count, mut line) = (0_u64, Vec::new());
        let reader = self.current.reader();
        for keyspace in Keyspace::ALL {
            let write = |key: &[u8], value: &[u8]| {
                count = count.saturating_add(1);
                line.clear();
                crate::export_line(&mut line, keyspace, key, value);
                sink.write_all(&line).map_err(|e| StoreError::Export(e.to_string()))
            };
            reader.pages(keyspace, write, || Ok(()))?;
        }
        Ok(count)
    }

    fn backup(&self, sink: &mut dyn Write, created: Timestamp) -> Result<BackupSummary, StoreError> {
        let _one = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut backup = BackupWriter::begin(sink, created)?;
        let copy = Copy::begin(self.committer.queue(), &self.path)?;
        let mut step = |step: Step<'_>| match step {
            Step::Entry(keyspace, key, value) => backup.entry(keyspace, key, value),
            Step::Redo(keyspace, key, value) => backup.redo(keyspace, key, value),
        };
        copy.read(&self.current.reader(), &mut step)?;
        self.committer.queue().end()?;
        copy.catch_up(&mut step)?;
        backup.finish()
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.committer.failure()
    }
}

/// Opens sled's files, waiting for a lock that a closing process releases late.
fn open_engine(folder: &Path, options: &Options, path: &Path) -> Result<sled::Db, StoreError> {
    let deadline = Instant::now() + options.patience;
    let config = configure(folder, options);
    loop {
        let opening = config.clone();
        match bounded(|| config.global_error(), move || opening.open()) {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock || e.to_string().contains("lock") => {
                if Instant::now() >= deadline {
                    return Err(StoreError::Locked { path: path.to_owned() });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(unopened(path, &error)),
        }
    }
}

/// Makes a new, empty store and closes it.
fn make_engine(folder: &Path, options: &Options, path: &Path) -> Result<(), StoreError> {
    let config = configure(folder, options);
    let making = config.clone();
    let made = bounded(
        || config.global_error(),
        move || {
            let db = making.open()?;
            files::write_format(&db)?;
            db.flush().map(drop)
        },
    );
    made.map_err(|error| unopened(path, &error))
}

fn configure(folder: &Path, options: &Options) -> sled::Config {
    sled::Config::new()
        .path(folder)
        .cache_capacity(options.cache)
        // Only the committer flushes: the engine's own flusher logs errors where the committer reports them.
        .flush_every_ms(None)
        .mode(sled::Mode::HighThroughput)
}

fn unopened(path: &Path, error: &sled::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), reason: error.to_string() }
}
