//! Writing into one tree: commits become atomic batches, and a sync makes them durable.
//!
//! A batch holds whole commits and stays small: the engine lets nobody read while it applies one, and keeps every page that
//! a batch replaces in memory until the batch is done.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::commit::Op;
use crate::embedded::balance::Balance;
use crate::embedded::record::{Reader, chunk_key, chunks_of, disk_key, encode, footprint};
use crate::embedded::stuck::{Failure, Watch};
use crate::error::StoreError;

/// The writes after which a batch is applied.
const BATCH_OPS: usize = 256;
/// The bytes after which a batch is applied.
const BATCH_BYTES: usize = 1024 * 1024;

/// What a write replaces: its chunks, and what it takes on disk with its key, in bytes.
#[derive(Clone, Copy, Default)]
struct Old {
    chunks: Option<(u64, u32)>,
    bytes: u64,
}

impl Old {
    fn of(key: &[u8], record: &[u8]) -> Self {
        Self { chunks: chunks_of(record), bytes: footprint(record).saturating_add(key.len() as u64) }
    }
}

/// Writes into one tree. There is one for each tree at a time.
pub(super) struct Writer {
    // First, so that its thread has ended when the engine closes.
    watch: Watch,
    db: sled::Db,
    reader: Reader,
    file: File,
    /// The next number for a value's chunks.
    generation: u64,
    batch: sled::Batch,
    ops: usize,
    bytes: usize,
    /// What was written in this very batch.
    fresh: HashMap<Vec<u8>, Old>,
    balance: Arc<Balance>,
}

impl Writer {
    /// A call that does not return from a failed write is told to `failure`.
    ///
    /// # Errors
    /// [`StoreError`] when the engine's file cannot be opened for syncing, or the tree cannot be read.
    pub(super) fn new(db: sled::Db, folder: &Path, balance: Balance, failure: Failure) -> Result<Self, StoreError> {
        let failed = |e: std::io::Error| StoreError::Open { path: folder.to_owned(), reason: e.to_string() };
        let file = File::options().read(true).write(true).open(folder.join("db")).map_err(failed)?;
        let reader = Reader::new((*db).clone());
        let generation = reader.next_generation()?;
        let watch = Watch::start(&db, failure).map_err(failed)?;
        let (batch, fresh) = (sled::Batch::default(), HashMap::new());
        let balance = Arc::new(balance);
        Ok(Self { watch, db, reader, file, generation, batch, ops: 0, bytes: 0, fresh, balance })
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Adds the writes of one commit, which take effect together, at the latest with the next [`Self::sync`].
    pub(super) fn add(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let _call = self.watch.call();
        for op in ops {
            let key = disk_key(op.keyspace, &op.key);
            let old = match self.fresh.get(&key) {
                Some(old) => *old,
                None if op.absent => Old::default(),
                None => {
                    let record = self.reader.tree().get(&key).map_err(|e| failed(&e))?;
                    record.map_or_else(Old::default, |record| Old::of(&key, &record))
                }
            };
            self.balance.remove(old.bytes);
            if let Some((generation, count)) = old.chunks {
                for index in 0..count {
                    self.batch.remove(chunk_key(generation, index));
                }
                self.ops = self.ops.saturating_add(count as usize);
            }
            self.ops = self.ops.saturating_add(1);
            match &op.value {
                None => {
                    self.fresh.insert(key.clone(), Old::default());
                    self.batch.remove(key);
                }
                Some(value) => {
                    self.bytes = self.bytes.saturating_add(value.len());
                    let generation = &mut self.generation;
                    let encoded = encode(value, || {
                        let this = *generation;
                        *generation = generation.saturating_add(1);
                        this
                    });
                    let new = Old::of(&key, &encoded.record);
                    self.balance.add(new.bytes);
                    self.fresh.insert(key.clone(), new);
                    self.ops = self.ops.saturating_add(encoded.chunks.len());
                    for (chunk, piece) in encoded.chunks {
                        self.batch.insert(chunk, piece);
                    }
                    self.batch.insert(key, encoded.record);
                }
            }
        }
        if self.ops >= BATCH_OPS || self.bytes >= BATCH_BYTES { self.apply() } else { Ok(()) }
    }

    /// Lets what was added so far be read.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        if self.ops > 0 { self.apply() } else { Ok(()) }
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        (self.ops, self.bytes) = (0, 0);
        self.fresh.clear();
        self.reader.tree().apply_batch(std::mem::take(&mut self.batch)).map_err(|e| failed(&e))
    }

    /// Makes everything that was added durable.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        let _call = self.watch.call();
        self.settle()?;
        self.db.flush().map_err(|e| failed(&e))?;
        // The engine's flush is no fsync on Linux.
        self.file.sync_data().map_err(|e| failed(&e))
    }

    /// How many bytes are in use.
    pub(super) fn balance(&self) -> &Arc<Balance> {
        &self.balance
    }

    /// The length of the engine's file, in bytes; 0 when the system does not tell.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |data| data.len())
    }
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}
