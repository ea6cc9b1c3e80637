//! The one thread that writes.
//!
//! It takes what waits (up to [`GROUP`] commits), applies it as one atomic batch, flushes, syncs the file by its own
//! handle (sled 0.34.7's flush is no fsync on Linux) and only then answers. `flush_async` is never used: it deadlocks.
//! The first error ends it: nothing is acknowledged after a write that may not be on disk.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use crate::commit::{Commit, Ticket};
use crate::embedded::flush::Flusher;
use crate::embedded::record::{Reader, chunk_key, chunks_of, disk_key, encode};
use crate::error::StoreError;

/// The most commits in one sync.
const GROUP: usize = 256;
/// The most bytes in one batch, unless one commit alone has more.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

struct Request {
    commit: Commit,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

pub(super) struct Committer {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    failure: watch::Sender<Option<String>>,
}

impl Committer {
    pub(super) fn start(db: sled::Db, reader: Reader, folder: &Path) -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError::Open { path: folder.to_owned(), reason };
        let file = File::options().read(true).write(true).open(folder.join("db")).map_err(|e| failed(e.to_string()))?;
        let generation = reader.next_generation()?;
        let failure = watch::Sender::new(None);
        let (requests, queue) = mpsc::channel();
        let flusher = Flusher::start(db).map_err(|e| failed(e.to_string()))?;
        let writer = Writer { flusher, reader, file, generation, failure: failure.clone() };
        let thread = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || {
                let failure = writer.failure.clone();
                let run = std::panic::AssertUnwindSafe(|| writer.run(&queue));
                // The engine may panic where it finds its files in a state that it holds impossible.
                if std::panic::catch_unwind(run).is_err() {
                    failure.send_replace(Some("the storage engine ended by a panic; see the log above".to_owned()));
                }
            })
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { requests: Some(requests), thread: Some(thread), failure })
    }

    pub(super) fn submit(&self, commit: Commit) -> Ticket {
        if let Err(error) = commit.check() {
            return Ticket::ready(Err(error));
        }
        let (answer, receiver) = oneshot::channel();
        let sent = self.requests.as_ref().map(|requests| requests.send(Request { commit, answer }));
        match sent {
            Some(Ok(())) => Ticket::waiting(receiver),
            _ => Ticket::ready(Err(StoreError::Closed)),
        }
    }

    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // The thread ends once the queue is closed and empty; what was submitted is written.
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's committer ended by a panic");
        }
    }
}

struct Writer {
    flusher: Flusher,
    reader: Reader,
    file: File,
    generation: u64,
    failure: watch::Sender<Option<String>>,
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Request>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            let mut bytes = group.first().map_or(0, |r| r.commit.weight());
            while group.len() < GROUP && bytes < GROUP_BYTES {
                let Ok(request) = queue.try_recv() else { break };
                bytes = bytes.saturating_add(request.commit.weight());
                group.push(request);
            }
            let failed = self.failure.borrow().clone();
            let result = match failed {
                Some(reason) => Err(StoreError::Failed(reason)),
                None => self.write(&mut group),
            };
            if let Err(StoreError::Failed(reason)) = &result {
                self.failure.send_replace(Some(reason.clone()));
            }
            for request in group {
                // The one who asked may have gone; the commit stands all the same.
                let _ = request.answer.send(result.clone());
            }
        }
    }

    fn write(&mut self, group: &mut [Request]) -> Result<(), StoreError> {
        let failed = |e: &dyn std::fmt::Display| StoreError::Failed(e.to_string());
        let mut batch = sled::Batch::default();
        // Chunks of values written earlier in this very batch, by the key that refers to them.
        let mut fresh: HashMap<Vec<u8>, Option<(u64, u32)>> = HashMap::new();
        for request in group {
            for op in std::mem::take(&mut request.commit).into_ops() {
                let key = disk_key(op.keyspace, &op.key);
                let old = match fresh.get(&key) {
                    Some(chunks) => *chunks,
                    None => {
                        let record = self.reader.tree().get(&key).map_err(|e| failed(&e))?;
                        record.and_then(|record| chunks_of(&record))
                    }
                };
                if let Some((generation, count)) = old {
                    for index in 0..count {
                        batch.remove(chunk_key(generation, index));
                    }
                }
                match op.value {
                    None => {
                        fresh.insert(key.clone(), None);
                        batch.remove(key);
                    }
                    Some(value) => {
                        let generation = &mut self.generation;
                        let encoded = encode(&value, || {
                            let this = *generation;
                            *generation = generation.saturating_add(1);
                            this
                        });
                        fresh.insert(key.clone(), chunks_of(&encoded.record));
                        for (chunk, piece) in encoded.chunks {
                            batch.insert(chunk, piece);
                        }
                        batch.insert(key, encoded.record);
                    }
                }
            }
        }
        self.reader.tree().apply_batch(batch).map_err(|e| failed(&e))?;
        self.flusher.flush().map_err(|e| failed(&e))?;
        self.file.sync_data().map_err(|e| failed(&e))
    }
}
