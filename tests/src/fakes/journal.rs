//! What a fake was asked, in order: for tests that look at timing, retries and connections.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many requests are remembered; older ones are only counted.
const REMEMBERED: usize = 20_000;

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it had arrived completely.
    pub at: Instant,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The status answered; `None` when no answer was given.
    pub status: Option<u16>,
    /// The injected fault it met.
    pub fault: Option<&'static str>,
    /// Which connection brought it, counted from 1.
    pub connection: u64,
}

/// The record of requests.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    total: u64,
}

impl Journal {
    pub(crate) fn write(&self, entry: Entry) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.total += 1;
        if inner.entries.len() == REMEMBERED {
            inner.entries.pop_front();
        }
        inner.entries.push_back(entry);
    }

    /// The requests so far, oldest first (the most recent 20,000).
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.iter().cloned().collect()
    }

    /// The requests whose path starts so, oldest first.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| entry.path.starts_with(prefix)).collect()
    }

    /// How many requests there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}
