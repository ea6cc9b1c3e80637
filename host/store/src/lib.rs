//! The store: one ordered, durable commit at a time, behind a small seam.
//!
//! [`Store`] is the seam: `submit`, `get`, `scan`, `export`; no closures and no engine's types. [`EmbeddedStore`] stands
//! on sled; [`MemoryStore`] is the model that tests compare it with. Nothing above this crate knows sled.

mod commit;
mod embedded;
mod error;
mod keyspace;
mod memory;

pub use commit::{Commit, Op, Ticket};
pub use embedded::{CheckReport, EmbeddedStore, Options};
pub use error::StoreError;
pub use keyspace::Keyspace;
pub use memory::MemoryStore;

use std::io::Write;

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

    /// Tells when the store has failed for good, with the reason.
    fn failure(&self) -> watch::Receiver<Option<String>>;
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
