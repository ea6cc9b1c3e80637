//! The model: the same behaviour in memory, for tests and simulations.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sgen_model::Timestamp;
use tokio::sync::watch;

use crate::backup::{BackupReader, BackupSummary, BackupWriter, Record};
use crate::commit::{Commit, Ticket};
use crate::error::StoreError;
use crate::keyspace::Keyspace;
use crate::{Entry, Store, prefix_end};

type Map = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;

/// A store that keeps nothing beyond the process.
pub struct MemoryStore {
    map: Mutex<Map>,
    failure: watch::Sender<Option<String>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { map: Mutex::default(), failure: watch::Sender::new(None) }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every following commit fail, as a disk does.
    pub fn fail(&self, reason: &str) {
        self.failure.send_replace(Some(reason.to_owned()));
    }

    /// A store that holds what a backup does.
    ///
    /// # Errors
    /// [`StoreError::BadBackup`].
    pub fn restored(from: &Path) -> Result<Self, StoreError> {
        let store = Self::new();
        let mut backup = BackupReader::open(from)?;
        while let Some(Record { keyspace, key, value }) = backup.next()? {
            match value {
                Some(value) => store.map().insert((keyspace, key), value),
                None => store.map().remove(&(keyspace, key)),
            };
        }
        Ok(store)
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn submit(&self, mut commit: Commit) -> Ticket {
        if let Some(reason) = self.failure.borrow().clone() {
            return Ticket::ready(Err(StoreError::Failed(reason)));
        }
        if let Err(error) = commit.check() {
            return Ticket::ready(Err(error));
        }
        let mut map = self.map();
        commit.settle_exchanges(|keyspace, key| map.get(&(keyspace, key.to_vec())).cloned());
        for op in commit.into_ops() {
            match op.value {
                Some(value) => map.insert((op.keyspace, op.key), value),
                None => map.remove(&(op.keyspace, op.key)),
            };
        }
        Ticket::ready(Ok(()))
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.map().get(&(keyspace, key.to_vec())).cloned())
    }

    fn scan(&self, keyspace: Keyspace, from: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        let start = from.max(prefix).to_vec();
        let map = self.map();
        Ok(map
            .range((keyspace, start)..)
            .take_while(|((k, key), _)| *k == keyspace && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn scan_back(
        &self,
        keyspace: Keyspace,
        before: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let map = self.map();
        let end = prefix_end(prefix);
        let below = |key: &[u8]| (before.is_empty() || key < before) && end.as_deref().is_none_or(|end| key < end);
        Ok(map
            .range((keyspace, prefix.to_vec())..)
            .take_while(|((k, key), _)| *k == keyspace && below(key))
            .filter(|((_, key), _)| key.starts_with(prefix))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .take(limit)
            .collect())
    }

    fn export(&self, sink: &mut dyn Write) -> Result<u64, StoreError> {
        let mut count = 0_u64;
        for ((keyspace, key), value) in self.map().iter() {
            let mut line = Vec::new();
            crate::export_line(&mut line, *keyspace, key, value);
            sink.write_all(&line).map_err(|e| StoreError::Export(e.to_string()))?;
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    fn backup(&self, sink: &mut dyn Write, created: Timestamp) -> Result<BackupSummary, StoreError> {
        let map = self.map().clone();
        let mut backup = BackupWriter::begin(sink, created)?;
        for ((keyspace, key), value) in &map {
            backup.entry(*keyspace, key, value)?;
        }
        if let Some(reason) = self.failure.borrow().clone() {
            return Err(StoreError::Failed(reason));
        }
        backup.finish()
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }
}
