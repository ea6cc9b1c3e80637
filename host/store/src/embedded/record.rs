//! Records on disk: a checksum each, and values over 4 KiB in chunks.
//!
//! sled 0.34.7 moves values from 8 KiB into files that it never syncs, so no value may come near that.
//!
//! A value on disk is `1 ‖ crc32 ‖ bytes`, or `2 ‖ crc32 of all ‖ length u64 ‖ generation u64` with its bytes under
//! `255 ‖ generation ‖ index`. Numbers are big-endian.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::embedded::CheckReport;
use crate::embedded::balance::Balance;
use crate::error::StoreError;
use crate::keyspace::Keyspace;
use crate::{Entry, prefix_end};

/// The largest piece of a value in one record, in bytes.
const PIECE: usize = 3584;
const CHUNKS: u8 = 255;
const INLINE: u8 = 1;
const CHUNKED: u8 = 2;
/// The most entries of a page of a whole reading.
const PAGE_ENTRIES: usize = 1024;
/// The bytes of values after which such a page ends.
const PAGE_BYTES: usize = 1024 * 1024;

/// After so many bytes of 255 in a row a key on disk has a byte that is not 255. sled 0.34.7 goes backwards from one page
/// to the one before by the key that ends in four such bytes; where a key goes on after four of them it never arrives.
const RUN: usize = 3;
const STUFFING: u8 = 127;

/// A key as it is on disk: the keyspace's byte and the key, in the same order as the keys themselves.
pub(super) fn disk_key(keyspace: Keyspace, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(key.len().saturating_add(1));
    full.push(keyspace.byte());
    let mut run = 0;
    for &byte in key {
        full.push(byte);
        run = if byte == u8::MAX { run + 1 } else { 0 };
        if run == RUN {
            full.push(STUFFING);
            run = 0;
        }
    }
    full
}

/// The key of a key on disk.
fn logical_key(full: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(full.len());
    let mut run = 0;
    for &byte in full.get(1..).unwrap_or_default() {
        if run == RUN {
            run = 0;
            if byte == STUFFING {
                continue;
            }
        }
        key.push(byte);
        run = if byte == u8::MAX { run + 1 } else { 0 };
    }
    key
}

fn disk_key_end(keyspace: Keyspace) -> Vec<u8> {
    // No keyspace has the byte before the chunks'.
    vec![keyspace.byte().saturating_add(1)]
}

pub(super) fn chunk_key(generation: u64, index: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(CHUNKS);
    key.extend_from_slice(&generation.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// A value as it is written: the record, and its chunks.
pub(super) struct Encoded {
    pub(super) record: Vec<u8>,
    pub(super) chunks: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Encodes a value; `generation` is asked for only when the value needs chunks.
pub(super) fn encode(value: &[u8], generation: impl FnOnce() -> u64) -> Encoded {
    let crc = crc32fast::hash(value).to_be_bytes();
    if value.len() <= PIECE {
        let mut record = Vec::with_capacity(value.len().saturating_add(5));
        record.push(INLINE);
        record.extend_from_slice(&crc);
        record.extend_from_slice(value);
        return Encoded { record, chunks: Vec::new() };
    }
    let generation = generation();
    let mut record = Vec::with_capacity(21);
    record.push(CHUNKED);
    record.extend_from_slice(&crc);
    record.extend_from_slice(&(value.len() as u64).to_be_bytes());
    record.extend_from_slice(&generation.to_be_bytes());
    let chunks = (0_u32..).zip(value.chunks(PIECE)).map(|(i, piece)| (chunk_key(generation, i), piece.to_vec()));
    Encoded { record, chunks: chunks.collect() }
}

/// The bytes that a record takes on disk, its chunks included.
pub(super) fn footprint(record: &[u8]) -> u64 {
    let chunks = match decode(record) {
        Some(Form::Chunked { length, .. }) => length,
        _ => 0,
    };
    chunks.saturating_add(record.len() as u64)
}

/// The chunks that a record on disk refers to.
pub(super) fn chunks_of(record: &[u8]) -> Option<(u64, u32)> {
    match decode(record) {
        Some(Form::Chunked { length, generation, .. }) => {
            let count = length.div_ceil(PIECE as u64);
            Some((generation, u32::try_from(count).unwrap_or(u32::MAX)))
        }
        _ => None,
    }
}

enum Form<'a> {
    Inline { crc: u32, bytes: &'a [u8] },
    Chunked { crc: u32, length: u64, generation: u64 },
}

fn decode(record: &[u8]) -> Option<Form<'_>> {
    let (&tag, rest) = record.split_first()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let crc = u32::from_be_bytes(*crc);
    match tag {
        INLINE => Some(Form::Inline { crc, bytes: rest }),
        CHUNKED => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            let generation = <[u8; 8]>::try_from(rest).ok()?;
            Some(Form::Chunked { crc, length: u64::from_be_bytes(*length), generation: u64::from_be_bytes(generation) })
        }
        _ => None,
    }
}

/// The tree in force. A compaction puts another in its place; who has begun to read goes on in the one before.
#[derive(Clone)]
pub(super) struct Current(Arc<RwLock<(Reader, Arc<Balance>)>>);

impl Current {
    pub(super) fn new(reader: Reader, balance: Arc<Balance>) -> Self {
        Self(Arc::new(RwLock::new((reader, balance))))
    }

    pub(super) fn reader(&self) -> Reader {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub(super) fn balance(&self) -> Arc<Balance> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    pub(super) fn replace(&self, reader: Reader, balance: Arc<Balance>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (reader, balance);
    }
}

/// Reads the records of one tree.
#[derive(Clone)]
pub(super) struct Reader {
    tree: sled::Tree,
}

impl Reader {
    pub(super) fn new(tree: sled::Tree) -> Self {
        Self { tree }
    }

    pub(super) fn tree(&self) -> &sled::Tree {
        &self.tree
    }

    pub(super) fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let full = disk_key(keyspace, key);
        let record = self.tree.get(&full).map_err(read_error)?;
        record.map(|record| self.value(keyspace, key, record)).transpose().map(Option::flatten)
    }

    /// The value of a record; `None` when the record was deleted while it was being read.
    fn value(&self, keyspace: Keyspace, key: &[u8], record: sled::IVec) -> Result<Option<Vec<u8>>, StoreError> {
        let mut record = record;
        loop {
            match self.assemble(&record) {
                Ok(value) => return Ok(Some(value)),
                Err(Flaw::Read(error)) => return Err(error),
                Err(Flaw::Damaged(reason)) => {
                    // A commit may have replaced the value, and removed its chunks, between the two reads.
                    match self.tree.get(disk_key(keyspace, key)).map_err(read_error)? {
                        None => return Ok(None),
                        Some(now) if now != record => record = now,
                        Some(_) => {
                            return Err(StoreError::Damaged {
                                keyspace: keyspace.name(),
                                key: hex::encode(key),
                                reason,
                            });
                        }
                    }
                }
            }
        }
    }

    fn assemble(&self, record: &[u8]) -> Result<Vec<u8>, Flaw> {
        let (crc, value) = match decode(record) {
            None => return Err(Flaw::Damaged("it has no known form".to_owned())),
            Some(Form::Inline { crc, bytes }) => (crc, bytes.to_vec()),
            Some(Form::Chunked { crc, length, generation }) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > crate::Commit::VALUE_LIMIT {
                    return Err(Flaw::Damaged(format!("its length of {length} bytes is impossible")));
                }
                let mut value = Vec::with_capacity(length);
                let mut index = 0;
                while value.len() < length {
                    match self.tree.get(chunk_key(generation, index)) {
                        Ok(Some(piece)) => value.extend_from_slice(&piece),
                        Ok(None) => return Err(Flaw::Damaged(format!("its chunk {index} is missing"))),
                        Err(e) => return Err(Flaw::Read(read_error(e))),
                    }
                    index = index.saturating_add(1);
                }
                (crc, value)
            }
        };
        if crc32fast::hash(&value) == crc {
            Ok(value)
        } else {
            Err(Flaw::Damaged("its checksum does not match".to_owned()))
        }
    }

    pub(super) fn collect(
        &self,
        entries: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
        keyspace: Keyspace,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let full_prefix = disk_key(keyspace, prefix);
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        for entry in entries {
            let (full, record) = entry.map_err(read_error)?;
            if !full.starts_with(&full_prefix) {
                break;
            }
            let key = logical_key(&full);
            if let Some(value) = self.value(keyspace, &key, record)? {
                found.push((key, value));
                if found.len() >= limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Reads a keyspace in pages: `visit` takes each entry, `between` runs after each page.
    ///
    /// Every page is read afresh after `between` returned. The engine's iterator goes on in a copy of a node that it took
    /// when it came there, so within a page an entry may be as old as the page's beginning, and never older.
    pub(super) fn pages(
        &self,
        keyspace: Keyspace,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
        mut between: impl FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = disk_key(keyspace, &[]);
        let end = disk_key_end(keyspace);
        loop {
            let (mut entries, mut bytes) = (0_usize, 0_usize);
            let mut last = None;
            for entry in self.tree.range(from.as_slice()..end.as_slice()) {
                let (full, record) = entry.map_err(read_error)?;
                let key = logical_key(&full);
                if let Some(value) = self.value(keyspace, &key, record)? {
                    bytes = bytes.saturating_add(value.len());
                    visit(&key, &value)?;
                }
                entries = entries.saturating_add(1);
                last = Some(full);
                if entries >= PAGE_ENTRIES || bytes >= PAGE_BYTES {
                    break;
                }
            }
            between()?;
            let Some(last) = last else { return Ok(()) };
            // The smallest key after the last one.
            from = last.to_vec();
            from.push(0);
        }
    }

    /// The bytes of keys, records and chunks.
    pub(super) fn live_bytes(&self, stopping: impl Fn() -> Result<(), StoreError>) -> Result<u64, StoreError> {
        let mut bytes = 0_u64;
        for entry in self.tree.range([0]..[CHUNKS]) {
            let (key, record) = entry.map_err(read_error)?;
            bytes = bytes.saturating_add(footprint(&record)).saturating_add(key.len() as u64);
            stopping()?;
        }
        Ok(bytes)
    }

    /// The generation after every one in use.
    pub(super) fn next_generation(&self) -> Result<u64, StoreError> {
        let last = self.tree.range([CHUNKS]..).next_back().transpose().map_err(read_error)?;
        let generation = last.and_then(|(key, _)| generation_of(&key)).unwrap_or(0);
        Ok(generation.saturating_add(1))
    }

    /// Generations that records refer to.
    fn generations(&self) -> Result<HashSet<u64>, StoreError> {
        let mut used = HashSet::new();
        for entry in self.tree.range([0]..[CHUNKS]) {
            let (_, record) = entry.map_err(read_error)?;
            if let Some((generation, _)) = chunks_of(&record) {
                used.insert(generation);
            }
        }
        Ok(used)
    }

    pub(super) fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        for keyspace in Keyspace::ALL {
            let (mut count, mut bytes) = (0_u64, 0_u64);
            for entry in self.tree.scan_prefix([keyspace.byte()]) {
                let (full, record) = entry.map_err(read_error)?;
                match self.value(keyspace, &logical_key(&full), record) {
                    Ok(Some(value)) => {
                        count = count.saturating_add(1);
                        bytes = bytes.saturating_add(value.len() as u64);
                    }
                    Ok(None) => {}
                    Err(StoreError::Damaged { keyspace, key, reason }) => {
                        report.damaged.push(format!("{keyspace} {key}: {reason}"));
                    }
                    Err(error) => return Err(error),
                }
            }
            report.keyspaces.push((keyspace, count, bytes));
        }
        let used = self.generations()?;
        for entry in self.tree.range([CHUNKS]..) {
            let (key, _) = entry.map_err(read_error)?;
            if generation_of(&key).is_none_or(|g| !used.contains(&g)) {
                report.orphan_chunks = report.orphan_chunks.saturating_add(1);
            }
        }
        // Anything that is neither a keyspace's, nor a chunk, nor the format record was not written by this store.
        let known = |byte: u8| byte == 0 || byte == CHUNKS || Keyspace::ALL.iter().any(|k| k.byte() == byte);
        for entry in self.tree.iter() {
            let (key, _) = entry.map_err(read_error)?;
            if key.first().is_none_or(|byte| !known(*byte)) {
                report.damaged.push(format!("unknown record {}", hex::encode(&key)));
            }
        }
        debug_assert!(prefix_end(&[CHUNKS]).is_none(), "chunks sort last");
        Ok(report)
    }
}

enum Flaw {
    Damaged(String),
    Read(StoreError),
}

fn generation_of(key: &[u8]) -> Option<u64> {
    let (_, rest) = key.split_first()?;
    let (generation, _) = rest.split_first_chunk::<8>()?;
    Some(u64::from_be_bytes(*generation))
}

fn read_error(error: sled::Error) -> StoreError {
    StoreError::Read(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn keys_on_disk_are_in_the_keys_order_and_lead_back_to_them() {
        let mut keys: Vec<Vec<u8>> = vec![vec![]];
        for length in 1..=8 {
            // Every arrangement of an ordinary byte, the stuffing, and the two highest.
            let longest: Vec<_> = keys.iter().filter(|key| key.len() == length - 1).cloned().collect();
            for byte in [0, STUFFING, 254, 255] {
                keys.extend(longest.iter().map(|key| [key.as_slice(), &[byte]].concat()));
            }
        }
        keys.sort();
        let disk: Vec<_> = keys.iter().map(|key| disk_key(Keyspace::Log, key)).collect();
        assert!(disk.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(disk.iter().all(|full| !full.windows(RUN + 1).any(|run| run == [255; RUN + 1])));
        assert!(disk.iter().map(|full| logical_key(full)).eq(keys.iter().cloned()));
        let prefix = disk_key(Keyspace::Log, &[7, 255, 255, 255]);
        assert!(disk_key(Keyspace::Log, &[7, 255, 255, 255, 255]).starts_with(&prefix));
    }
}
