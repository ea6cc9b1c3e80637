//! How many bytes of a tree are in use: keys, records and chunks, without what the engine adds.
//!
//! The one who writes adds and removes. What was there before has to be counted once, by reading all of it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Bytes in use.
pub(super) struct Balance {
    /// What was counted, and written or removed since.
    bytes: AtomicI64,
    /// Whether `bytes` is about everything, and not only about what was written since the tree was opened.
    known: AtomicBool,
    /// Everything that was ever removed.
    removed: AtomicU64,
}

impl Balance {
    /// Of a tree that is empty.
    pub(super) fn empty() -> Self {
        Self { bytes: AtomicI64::new(0), known: AtomicBool::new(true), removed: AtomicU64::new(0) }
    }

    /// Of a tree that has yet to be counted.
    pub(super) fn unknown() -> Self {
        Self { bytes: AtomicI64::new(0), known: AtomicBool::new(false), removed: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(signed(bytes), Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: u64) {
        self.bytes.fetch_sub(signed(bytes), Ordering::Relaxed);
        self.removed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes in use; `None` before they were counted.
    pub(super) fn live(&self) -> Option<u64> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.known.load(Ordering::Acquire).then(|| u64::try_from(bytes).unwrap_or(0))
    }

    pub(super) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// Counts, while writing goes on: what is written meanwhile is taken to be seen by half, which is exact enough for
    /// what this is asked for.
    pub(super) fn count<E>(&self, count: impl FnOnce() -> Result<u64, E>) -> Result<(), E> {
        let before = self.bytes.load(Ordering::Relaxed);
        let counted = signed(count()?);
        let after = self.bytes.load(Ordering::Relaxed);
        let seen = before.saturating_add(after.saturating_sub(before) / 2);
        self.bytes.fetch_add(counted.saturating_sub(seen), Ordering::Relaxed);
        self.known.store(true, Ordering::Release);
        Ok(())
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_before_during_and_after_the_count_is_in_it() {
        let balance = Balance::unknown();
        balance.add(100);
        assert_eq!(balance.live(), None);
        // 1000 were there, 100 came before the count, 10 during it and were seen by half.
        balance
            .count(|| {
                balance.add(10);
                Ok::<_, ()>(1105)
            })
            .unwrap();
        balance.remove(110);
        assert_eq!((balance.live(), balance.removed()), (Some(1000), 110));
        balance.remove(2000);
        assert_eq!(balance.live(), Some(0));
    }
}
