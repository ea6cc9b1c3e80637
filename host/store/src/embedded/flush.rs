//! A flush that ends, whatever happens to the disk.
//!
//! When a write fails, sled 0.34.7 notes its error and is to wake those who wait for it. On one of its two ways of writing
//! (`Log::exit_reservation`) it forgets the second: if no other write ends after that one, the flush waits for ever, and
//! with it everyone who waits for a commit. Whoever writes next meets the noted error and wakes the others; so when a flush
//! takes long, a second thread writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::embedded::files;

/// How often is looked whether a flush is still under way. A sync of a busy disk takes less.
const INTERVAL: Duration = Duration::from_millis(250);

/// Flushes one database.
pub(super) struct Flusher {
    db: sled::Db,
    state: Arc<State>,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// How many flushes have begun.
    begun: AtomicU64,
    /// The number of the flush that is under way; 0 when none is.
    current: AtomicU64,
    closed: AtomicBool,
}

impl Flusher {
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(db: sled::Db) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let (watched, tree) = (Arc::clone(&state), (*db).clone());
        let watcher =
            std::thread::Builder::new().name("store-flush".to_owned()).spawn(move || watch(&watched, &tree))?;
        Ok(Self { db, state, watcher: Some(watcher) })
    }

    /// Writes everything to the file; this is no fsync.
    ///
    /// # Errors
    /// The error of the write that failed, now or earlier.
    pub(super) fn flush(&self) -> sled::Result<()> {
        let number = self.state.begun.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        self.state.current.store(number, Ordering::SeqCst);
        let result = self.db.flush();
        self.state.current.store(0, Ordering::SeqCst);
        result.map(drop)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            if watcher.join().is_err() {
                tracing::error!("the thread that watches flushes ended by a panic");
            }
        }
    }
}

fn watch(state: &State, tree: &sled::Tree) {
    let mut seen = 0;
    while !state.closed.load(Ordering::SeqCst) {
        std::thread::park_timeout(INTERVAL);
        let current = state.current.load(Ordering::SeqCst);
        if current != 0
            && current == seen
            && let Err(error) = files::write_format(tree)
        {
            // The flush is awake by now and returns the same error to whoever asked for it.
            tracing::debug!(%error, "a flush waited for a write that had failed");
        }
        seen = current;
    }
}
