//! Giving disk space back: rewriting the store beside itself and going over to that.
//!
//! sled 0.34.7 reuses the space of what was deleted and hardly ever gives it back: after a million events were written and
//! deleted its file stayed as long as it had been, 1.2 GB for no data. So the bytes in use are kept count of ([`Balance`]),
//! and when the file is far longer than they ask for, a copy is made while commits go on ([`Copy`]) and exchanged for the
//! store between two commits ([`files::exchange`]). Until that moment the old files are in use and untouched.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::commit::Op;
use crate::embedded::balance::Balance;
use crate::embedded::committer::Queue;
use crate::embedded::copy::{Copy, Step};
use crate::embedded::record::Current;
use crate::embedded::stuck::Failure;
use crate::embedded::writer::Writer;
use crate::embedded::{Options, files, open_engine};
use crate::error::StoreError;

/// The file may be so many times longer than the live bytes. Under load the engine needs about twice their length.
const LONGEST: u64 = 3;
/// What part of the file has to be freed before another attempt is made.
const PARTS: u64 = 16;
/// The commits that may be left for the moment at which nobody can commit, in bytes.
const LAST_BYTES: u64 = 1024 * 1024;
/// How often the rest is caught up with before that moment.
const ROUNDS: usize = 8;
/// The bytes of a batch of the copy that are synced at once.
const SYNC_BYTES: usize = 16 * 1024 * 1024;

/// Decides after each sync whether there is something to do. It runs in the committer's thread, so it only sends.
pub(super) struct Trigger {
    above: u64,
    /// What had been removed when it sent last.
    sent_at: u64,
    sender: mpsc::SyncSender<()>,
}

impl Trigger {
    pub(super) fn note(&mut self, writer: &Writer) {
        let (file, removed) = (writer.file_bytes(), writer.balance().removed());
        // After an exchange it is another tree's count, which begins anew.
        self.sent_at = self.sent_at.min(removed);
        if !is_too_long(file, writer.balance().live().unwrap_or(0), self.above)
            || removed.saturating_sub(self.sent_at) < file / PARTS
        {
            return;
        }
        self.sent_at = removed;
        // When one is waiting already, that one will see these too.
        let _ = self.sender.try_send(());
    }
}

fn is_too_long(file: u64, live: u64, above: u64) -> bool {
    file > live.saturating_mul(LONGEST).max(above)
}

/// What a compaction works on.
pub(super) struct Work {
    pub(super) path: PathBuf,
    pub(super) options: Options,
    pub(super) current: Current,
    pub(super) queue: Queue,
    /// Held while a copy is made: one at a time.
    pub(super) copying: Arc<Mutex<()>>,
    /// Where a call that does not return from a failed write is told.
    pub(super) failure: Failure,
}

/// The thread that compacts.
pub(super) struct Compactor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Makes the trigger for the committer, and what the thread waits for.
pub(super) fn trigger(above: u64) -> (Trigger, mpsc::Receiver<()>) {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Whatever was freed before this start is looked at once.
    let _ = sender.try_send(());
    (Trigger { above, sent_at: 0, sender }, receiver)
}

impl Compactor {
    /// Compacts whenever the trigger says so; ends when the trigger is dropped.
    pub(super) fn start(work: Work, triggered: mpsc::Receiver<()>) -> Result<Self, StoreError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("store-compactor".to_owned()).spawn(move || {
            while triggered.recv().is_ok() && !stopping.load(Ordering::Relaxed) {
                // A panic of the engine in the copy is none of the store's.
                let run = std::panic::AssertUnwindSafe(|| work.run(&stopping));
                match std::panic::catch_unwind(run) {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) if stopping.load(Ordering::Relaxed) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "the store's disk space is not given back this time"),
                    Err(_) => tracing::warn!("the store's disk space is not given back this time: a panic, see above"),
                }
            }
        });
        let thread = thread.map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Tells a compaction that is under way to give up.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's compactor ended by a panic");
        }
    }
}

impl Work {
    fn run(&self, stop: &Arc<AtomicBool>) -> Result<(), StoreError> {
        let Some(above) = self.options.compact_above else { return Ok(()) };
        let before = files::engine_bytes(&self.path);
        if before <= above {
            return Ok(());
        }
        let balance = self.current.balance();
        if balance.live().is_none() {
            let stopping = || if stop.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { Ok(()) };
            balance.count(|| self.current.reader().live_bytes(stopping))?;
        }
        let live = balance.live().unwrap_or(u64::MAX);
        if !is_too_long(before, live, above) {
            return Ok(());
        }
        let needed = live.saturating_mul(LONGEST.saturating_add(1)).saturating_add(above);
        let free = files::free_bytes(&self.path)?;
        if free < needed {
            return Err(StoreError::Backup(format!("{needed} free bytes are needed for that, and there are {free}")));
        }
        let _one = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = std::time::Instant::now();
        let result = self.compact(stop);
        if result.is_err() {
            files::remove_unfinished(&self.path)?;
        }
        result?;
        let after = files::engine_bytes(&self.path);
        tracing::info!(before, after, live, took = ?begun.elapsed(), "the store gave disk space back");
        Ok(())
    }

    fn compact(&self, stop: &Arc<AtomicBool>) -> Result<(), StoreError> {
        let making = files::begin_making(&self.path)?;
        let db = open_engine(&making, &self.options, &self.path)?;
        files::write_format(&db).map_err(|e| StoreError::Open { path: self.path.clone(), reason: e.to_string() })?;
        let mut target =
            Target { writer: Writer::new(db, &making, Balance::empty(), self.failure.clone())?, unsynced: 0 };
        let copy = Copy::begin(&self.queue, &self.path)?;
        let mut step = |step: Step<'_>| {
            if stop.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { target.step(step) }
        };
        copy.read(&self.current.reader(), &mut step)?;
        for _ in 0..ROUNDS {
            copy.catch_up(&mut step)?;
            if copy.redo.bytes() <= LAST_BYTES {
                break;
            }
        }
        target.writer.sync()?;
        let (path, current) = (self.path.clone(), self.current.clone());
        let (old_out, old) = mpsc::sync_channel(1);
        self.queue.exchange(Box::new(move |writer| {
            let finished = finish(&copy, &mut target, &path);
            match finished {
                Ok(()) => {
                    current.replace(target.writer.reader().clone(), Arc::clone(target.writer.balance()));
                    // Closed by the one who waits below: closing takes a while.
                    drop(old_out.send(writer));
                    (target.writer, Ok(()))
                }
                Err(error) => (writer, Err(error)),
            }
        }))?;
        drop(old.recv());
        files::remove_replaced(&self.path)
    }
}

/// The last of the redo, and the exchange of the folders. Nobody commits meanwhile.
fn finish(copy: &Copy, target: &mut Target, path: &Path) -> Result<(), StoreError> {
    // An error of the copy's is not the store's, which goes on as it is.
    let of_copy = |error: StoreError| StoreError::Backup(error.to_string());
    copy.catch_up(&mut |step| target.step(step)).map_err(of_copy)?;
    target.writer.sync().map_err(of_copy)?;
    files::exchange(path)
}

/// The copy's side.
struct Target {
    writer: Writer,
    unsynced: usize,
}

impl Target {
    fn step(&mut self, step: Step<'_>) -> Result<(), StoreError> {
        let (keyspace, key, value) = match step {
            Step::Entry(keyspace, key, value) => (keyspace, key, Some(value)),
            Step::Redo(keyspace, key, value) => (keyspace, key, value),
        };
        self.unsynced = self.unsynced.saturating_add(key.len()).saturating_add(value.map_or(0, <[u8]>::len));
        let value = value.map(<[u8]>::to_vec);
        self.writer.add(&[Op { keyspace, key: key.to_vec(), value, absent: false }])?;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.writer.sync()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rewritten_only_when_it_is_large_and_mostly_empty() {
        const MIB: u64 = 1024 * 1024;
        for (file, live, too_long) in [
            (64 * MIB, 0, false),
            (65 * MIB, 0, true),
            (100 * MIB, 30 * MIB, true),
            (100 * MIB, 34 * MIB, false),
            (1_300 * MIB, 650 * MIB, false),
        ] {
            assert_eq!(is_too_long(file, live, 64 * MIB), too_long, "{file} {live}");
        }
    }
}
