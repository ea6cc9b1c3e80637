//! Events on their way, with what the host keeps of each beside what the connector sees.

use std::sync::Arc;
use std::time::Duration;

use sgen_engine::Event;
use sgen_model::{EventId, Failure, Outcome, Sequence, Surface, Timestamp};

use crate::lane::Ready;
use crate::ordered::Key;
use crate::records::RetryRecord;

/// What the host keeps beside an event that is with a connector.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) sequence: Sequence,
    pub(crate) event_id: EventId,
    pub(crate) surface: Surface,
    pub(crate) captured_at: Timestamp,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// When the first of them failed, by the lane's time.
    pub(crate) first_failure: Option<Timestamp>,
    /// The lane's idle time by then, in milliseconds.
    pub(crate) idle_before_ms: u64,
    /// Whether it has a retry record: then that is what it leaves when it is settled, and not a position of the log.
    pub(crate) stored: bool,
    /// When it was due, for an event from the retries.
    pub(crate) due: Option<Timestamp>,
    /// What keeps it in order.
    pub(crate) key: Option<Key>,
}

impl Meta {
    /// An event that has not been tried.
    pub(crate) fn fresh(sequence: Sequence, event_id: EventId, surface: Surface, captured_at: Timestamp) -> Self {
        Self {
            sequence,
            event_id,
            surface,
            captured_at,
            attempts: 0,
            first_failure: None,
            idle_before_ms: 0,
            stored: false,
            due: None,
            key: None,
        }
    }

    /// An event from the retries, with what is sent of it. `due` is where it stands in the order of due times.
    pub(crate) fn of_record(record: RetryRecord, due: Option<Timestamp>) -> (Self, String) {
        let meta = Self {
            sequence: record.sequence,
            event_id: record.event_id,
            surface: record.surface,
            captured_at: record.captured_at,
            attempts: record.attempts,
            first_failure: record.first_failure,
            idle_before_ms: record.idle_before_ms,
            stored: true,
            due,
            key: record.key.map(Key::from),
        };
        (meta, record.fields)
    }
}

/// Events on their way, with what the host keeps of them; both in the same order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) metas: Vec<Meta>,
    pub(crate) events: Vec<Event>,
}

impl Batch {
    pub(crate) fn push(&mut self, meta: Meta, event: Event) {
        self.metas.push(meta);
        self.events.push(event);
    }

    pub(crate) fn len(&self) -> usize {
        self.metas.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// Whether it comes from the retries.
    pub(crate) fn is_retry(&self) -> bool {
        self.metas.first().is_some_and(|meta| meta.stored)
    }

    /// Two halves, the first the larger.
    pub(crate) fn halves(self) -> Vec<Self> {
        let middle = self.len().div_ceil(2);
        let (first, rest) = self.split_at(middle);
        [first, rest].into_iter().filter(|half| !half.is_empty()).collect()
    }

    /// The first `count` events, and the others.
    pub(crate) fn split_at(mut self, count: usize) -> (Self, Self) {
        let count = count.min(self.len());
        let rest = Self { metas: self.metas.split_off(count), events: self.events.split_off(count) };
        (self, rest)
    }
}

/// A batch attempt that has ended.
pub(crate) struct Attempt {
    pub(crate) batch: Batch,
    pub(crate) result: Attempted,
    pub(crate) ready: Arc<Ready>,
    /// The breaker's epoch when it began.
    pub(crate) epoch: u64,
    /// Whether as many batches were under way as the lane admits.
    pub(crate) full: bool,
}

/// What became of a batch.
pub(crate) enum Attempted {
    /// It did not get to the connector: the lane was paused or held while it waited for its turn.
    Unsent,
    /// It did.
    Sent {
        /// One per event, or one for all when the invocation had no answer.
        outcomes: Result<Vec<Outcome>, Failure>,
        log: Vec<String>,
        took: Duration,
    },
}
