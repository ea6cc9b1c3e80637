//! The store: one ordered, durable commit at a time, behind a small seam.
//!
//! [`Store`] is the seam: `submit`, `get`, `scan`, `export`, `backup`; no closures and no engine's types. [`EmbeddedStore`] stands
//! on sled; [`MemoryStore`] is the model that tests compare it with. Nothing above this crate knows sled.

mod backup;
mod commit;
mod embedded;
mod error;
mod keyspace;
mod memory;

pub use backup::{BackupSummary, verify_backup, write_backup_file};
pub use commit::{Commit, Op, Ticket};
pub use embedded::{CheckReport, EmbeddedStore, Options, RestoreProgress, Restored};
pub use error::StoreError;
pub use keyspace::Keyspace;
pub use memory::MemoryStore;

use std::io::Write;

use sgen_model::Timestamp;
use tokio::sync::watch;

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// An ordered key-value store with durable, atomic commits over several keyspaces.
pub trait Store: Send + Sync + 'static {
    /// Enqueues a commit. Commits take effect in the order in which they are submitted; the ticket resolves once the
    /// commit is on disk. After any failure the store refuses everything that follows.
    fn submit(&self, commit: Commit) -> Ticket;

    /// Reads one value.
    ///
    /// # Errors
    /// [`StoreError`] when the record is damaged or the disk cannot be read.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads up to `limit` entries whose key starts with `prefix` and is at or after `from`, in ascending order.
    /// An empty `from` starts at the prefix.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan(&self, keyspace: Keyspace, from: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Reads up to `limit` entries whose key starts with `prefix` and is before `before`, in descending order.
    /// An empty `before` starts at the end of the prefix.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan_back(
        &self,
        keyspace: Keyspace,
        before: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Writes every entry as one JSON object a line: `{"keyspace":"log","key":"<hex>","value":"<hex>"}`.
    /// Answers the number of entries.
    ///
    /// # Errors
    /// As [`Store::get`], or when the sink fails.
    fn export(&self, sink: &mut dyn Write) -> Result<u64, StoreError>;

    /// Writes what the store holds at one moment, which is the moment at which this returns; commits go on meanwhile and
    /// are acknowledged as ever. `created` is the time that the backup carries. [`verify_backup`] reads what was written.
    ///
    /// # Errors
    /// As [`Store::get`]; [`StoreError::Backup`] when the sink fails or too much is committed meanwhile;
    /// [`StoreError::Failed`] when the store has failed.
    fn backup(&self, sink: &mut dyn Write, created: Timestamp) -> Result<BackupSummary, StoreError>;

    /// Tells when the store has failed for good, with the reason.
    fn failure(&self) -> watch::Receiver<Option<String>>;
}

/// Appends one line of an export.
fn export_line(buffer: &mut Vec<u8>, keyspace: Keyspace, key: &[u8], value: &[u8]) {
    for part in [b"{\"keyspace\":\"".as_slice(), keyspace.name().as_bytes(), b"\",\"key\":\""] {
        buffer.extend_from_slice(part);
    }
    write_hex(buffer, key);
    buffer.extend_from_slice(b"\",\"value\":\"");
    write_hex(buffer, value);
    buffer.extend_from_slice(b"\"}\n");
}

fn write_hex(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let from = buffer.len();
    buffer.resize(from.saturating_add(bytes.len().saturating_mul(2)), 0);
    if let Some(room) = buffer.get_mut(from..) {
        // It has the length that is needed.
        let _ = hex::encode_to_slice(bytes, room);
    }
}

/// The smallest key after every key that starts with `prefix`; `None` when there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}
