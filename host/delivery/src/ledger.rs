//! The books of one instance: its state in memory, and the commits that make it durable. Every change of a lane goes
//! through here, so that state, retry records, dead letters, triage and audit change together or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sgen_audit::{Action, Actor, AuditLog, Draft};
use sgen_engine::Event;
use sgen_model::{Entropy, Failure, InstanceId, Sequence, SiteId, Timestamp};
use sgen_store::{Commit, Keyspace, Store, Ticket};

use crate::batch::Meta;
use crate::breaker::Breaker;
use crate::capture::EventLog;
use crate::error::DeliveryError;
use crate::keys;
use crate::lane::Ready;
use crate::moment::Moment;
use crate::ordered::{Due, Key, Lines};
use crate::policy::RetryPolicy;
use crate::records::{
    AttemptFailure, DeadLetter, InstanceRecord, LaneState, RetryRecord, Sealed, Sealer, Surfaced, decode, encode,
};
use crate::surface::Reason;

/// How much an instance's integration log may hold.
#[derive(Debug, Clone, Copy)]
pub struct JournalRetention {
    /// Entries older than this are removed.
    pub age: Duration,
    /// The most entries.
    pub entries: u64,
    /// The most bytes, sealed.
    pub bytes: u64,
}

impl Default for JournalRetention {
    /// Thirty days, 100,000 entries, 64 MiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 24 * 3600), entries: 100_000, bytes: 64 * 1024 * 1024 }
    }
}

/// What the ledger stands on.
pub(crate) struct LedgerParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) log: Arc<EventLog>,
    pub(crate) sealer: Sealer,
    pub(crate) policy: RetryPolicy,
    pub(crate) hold_cap: Duration,
    pub(crate) journal: JournalRetention,
}

/// The books of one instance.
pub(crate) struct Ledger {
    pub(crate) id: InstanceId,
    pub(crate) state: LaneState,
    pub(crate) parts: LedgerParts,
    pub(crate) breaker: Breaker,
    pub(crate) lines: Lines,
    pub(crate) surfaced: BTreeMap<String, Surfaced>,
    /// Events whose contents are to be erased and that were away when that was asked for.
    pub(crate) erasing: BTreeSet<Sequence>,
    /// The newest event that was read from the log, by the time it was received.
    pub(crate) newest_received: Timestamp,
    /// Where the integration log begins; nothing before it is there, or will be.
    pub(crate) journal_from: Vec<u8>,
}

/// A commit that is on its way to the disk.
pub(crate) struct Submitted {
    pub(crate) ticket: Ticket,
    /// Whether it changes what waits for another attempt.
    pub(crate) retries: bool,
}

/// One commit in the making.
pub(crate) struct Entry<'a> {
    pub(crate) commit: Commit,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) record: &'a InstanceRecord,
    pub(crate) ready: Result<&'a Ready, &'a Failure>,
    pub(crate) now: Moment,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(record: &'a InstanceRecord, ready: Result<&'a Ready, &'a Failure>, now: Moment) -> Self {
        Self { commit: Commit::new(), drafts: Vec::new(), record, ready, now }
    }

    /// Adds what the platform has to record about the instance.
    pub(crate) fn draft(&mut self, action: Action) {
        self.draft_by(Actor::Platform, action);
    }

    pub(crate) fn draft_by(&mut self, actor: Actor, action: Action) {
        let instance = &self.record.instance;
        let ready = self.ready.ok();
        self.drafts.push(Draft {
            environment: Some(instance.place.environment.clone()),
            actor,
            instance: Some(instance.id.clone()),
            connector: Some(instance.connector.clone()),
            catalog_version: ready.map(|ready| ready.catalog_version.clone()),
            component_digest: ready.map(|ready| ready.component_digest.clone()),
            action,
        });
    }
}

impl Ledger {
    pub(crate) fn open(record: &InstanceRecord, parts: LedgerParts) -> Result<Self, DeliveryError> {
        let id = record.instance.id.clone();
        let state = match parts.store.get(Keyspace::Lane, &keys::instance(&id))? {
            Some(bytes) => decode("lane state", &bytes)?,
            None => LaneState {
                progress: crate::progress::Progress::starting_at(record.routing.start),
                ..LaneState::default()
            },
        };
        let mut surfaced = BTreeMap::new();
        for (_, bytes) in parts.store.scan(Keyspace::Surfaced, b"", &keys::instance_prefix(&id), usize::MAX)? {
            let item: Surfaced = decode("surfaced failure", &bytes)?;
            surfaced.insert(item.cause.clone(), item);
        }
        let mut ledger = Self {
            id,
            state,
            parts,
            breaker: Breaker::default(),
            lines: Lines::default(),
            surfaced,
            erasing: BTreeSet::new(),
            newest_received: Timestamp::default(),
            journal_from: Vec::new(),
        };
        ledger.restore_lines()?;
        Ok(ledger)
    }

    /// Finds the events that are kept in order by a key.
    fn restore_lines(&mut self) -> Result<(), DeliveryError> {
        let store = &self.parts.store;
        let ordered = store.scan(Keyspace::Retry, b"", &keys::ordered_prefix(&self.id), usize::MAX)?;
        if ordered.is_empty() {
            return Ok(());
        }
        let due: BTreeMap<Sequence, Timestamp> = store
            .scan(Keyspace::Retry, b"", &keys::due_prefix(&self.id), usize::MAX)?
            .iter()
            .filter_map(|(key, _)| Some((Sequence(keys::number(key)?), keys::due_time(key)?)))
            .collect();
        for (key, _) in ordered {
            let Some(sequence) = keys::number(&key).map(Sequence) else { continue };
            let Some(record) = self.retry_record(sequence)? else { continue };
            if let Some(key) = record.key {
                self.lines.restore(key.into(), sequence, due.get(&sequence).copied());
            }
        }
        Ok(())
    }

    pub(crate) fn retry_record(&self, sequence: Sequence) -> Result<Option<RetryRecord>, DeliveryError> {
        match self.parts.store.get(Keyspace::Retry, &keys::retry(&self.id, sequence))? {
            Some(bytes) => Ok(Some(self.parts.sealer.open(Sealed::Retry, self.id.as_str(), sequence.0, &bytes)?)),
            None => Ok(None),
        }
    }

    /// When a retry is due, as the store has it.
    pub(crate) fn due_of(&self, record: &RetryRecord) -> Option<Timestamp> {
        match &record.key {
            Some(key) => self.lines.due(&Key::from(key.as_str()), record.sequence),
            None => record.due,
        }
    }

    /// An event that never gets to the connector becomes a dead letter.
    pub(crate) fn refuse(&mut self, entry: &mut Entry<'_>, meta: Meta, failure: Failure) -> Result<(), DeliveryError> {
        self.state.last_failure = Some(AttemptFailure { at: entry.now.wall, failure: failure.clone() });
        self.bury(entry, meta, None, failure)
    }

    /// Writes the state as it is, with what the entry holds already.
    pub(crate) fn submit(&mut self, mut entry: Entry<'_>) -> Result<Submitted, DeliveryError> {
        self.audit_condition(&mut entry);
        self.state.written_at = entry.now.lane;
        self.state.written_wall = entry.now.wall;
        let Entry { mut commit, drafts, record, .. } = entry;
        commit.put(Keyspace::Lane, keys::instance(&self.id), encode("lane state", &self.state)?);
        let retries = commit.touches(Keyspace::Retry);
        let site: &SiteId = &record.instance.place.site;
        let ticket = match drafts.is_empty() {
            true => self.parts.store.submit(commit),
            false => self.parts.audit.append(site, drafts, commit)?,
        };
        Ok(Submitted { ticket, retries })
    }

    /// An event that the instance does not take.
    pub(crate) fn skip(&mut self, sequence: Sequence) {
        self.state.progress.settle(sequence);
        self.state.counters.skipped = self.state.counters.skipped.saturating_add(1);
    }

    /// Whether the lane is paused under this configuration.
    pub(crate) fn is_paused(&self, record: &InstanceRecord) -> bool {
        self.state.pause.as_ref().is_some_and(|pause| pause.revision == record.instance.revision)
    }

    /// Counts the time in which nothing may be sent: it is not the events' fault.
    pub(crate) fn count_idle(&mut self, may_deliver: bool, now: &Moment) {
        match (may_deliver, self.state.idle_since) {
            (true, Some(since)) => {
                let idle = u64::try_from(now.lane.since(since).as_millis()).unwrap_or(u64::MAX);
                self.state.idle_ms = self.state.idle_ms.saturating_add(idle);
                self.state.idle_since = None;
            }
            (false, None) => self.state.idle_since = Some(now.lane),
            _ => {}
        }
    }

    /// How long an event has been tried, without idle time.
    pub(crate) fn waited(&self, meta: &Meta, now: &Moment) -> Duration {
        let Some(first) = meta.first_failure else { return Duration::ZERO };
        let idle = self.state.idle_ms.saturating_sub(meta.idle_before_ms);
        now.lane.since(first).saturating_sub(Duration::from_millis(idle))
    }

    /// Takes an event out of where it waits: the log's open positions, or the retries.
    pub(crate) fn leave(&mut self, entry: &mut Entry<'_>, meta: &Meta) {
        if !meta.stored {
            self.state.progress.settle(meta.sequence);
            return;
        }
        entry.commit.delete(Keyspace::Retry, keys::retry(&self.id, meta.sequence));
        if let Some(due) = meta.due {
            entry.commit.delete(Keyspace::Retry, keys::due(&self.id, due, meta.sequence));
        }
        if meta.key.is_some() {
            entry.commit.delete(Keyspace::Retry, keys::ordered(&self.id, meta.sequence));
        }
        self.state.counters.retrying = self.state.counters.retrying.saturating_sub(1);
    }

    /// An event is settled for good: the next of its key may go.
    pub(crate) fn settle_line(&mut self, entry: &mut Entry<'_>, key: Option<&Key>, sequence: Sequence) {
        let Some(key) = key else { return };
        if let Some(next) = self.lines.settled(key, sequence, entry.now.lane) {
            self.put_due(entry, next);
        }
    }

    pub(crate) fn put_due(&self, entry: &mut Entry<'_>, due: Due) {
        entry.commit.put(Keyspace::Retry, keys::due(&self.id, due.at, due.sequence), Vec::new());
    }

    /// Gives an event a retry record: for its next attempt at `due`, or behind the earlier events of its key. Answers when
    /// it is due, if it is not behind others.
    pub(crate) fn keep(
        &mut self,
        entry: &mut Entry<'_>,
        meta: Meta,
        event: Event,
        failure: Option<Failure>,
        due: Timestamp,
    ) -> Result<Option<Timestamp>, DeliveryError> {
        self.leave(entry, &meta);
        let mut due = Some(due);
        if let (Some(key), Some(at)) = (&meta.key, due) {
            let joined = self.lines.join(key, meta.sequence, at);
            if let Some(old) = joined.remove {
                entry.commit.delete(Keyspace::Retry, keys::due(&self.id, old.at, old.sequence));
            }
            due = due.filter(|_| joined.is_first);
            entry.commit.put(Keyspace::Retry, keys::ordered(&self.id, meta.sequence), Vec::new());
        }
        let record = RetryRecord {
            sequence: meta.sequence,
            event_id: meta.event_id,
            surface: meta.surface,
            captured_at: meta.captured_at,
            fields: event.fields,
            attempts: meta.attempts,
            first_failure: meta.first_failure,
            idle_before_ms: meta.idle_before_ms,
            due,
            failure,
            key: meta.key.map(|key| key.to_string()),
        };
        let sealed = self.parts.sealer.seal(Sealed::Retry, self.id.as_str(), record.sequence.0, &record)?;
        entry.commit.put(Keyspace::Retry, keys::retry(&self.id, record.sequence), sealed);
        if let Some(at) = due {
            self.put_due(entry, Due { sequence: record.sequence, at });
        }
        self.state.counters.retrying = self.state.counters.retrying.saturating_add(1);
        Ok(due)
    }

    /// Makes an event a dead letter and counts it under its cause.
    pub(crate) fn bury(
        &mut self,
        entry: &mut Entry<'_>,
        meta: Meta,
        fields: Option<String>,
        failure: Failure,
    ) -> Result<(), DeliveryError> {
        self.leave(entry, &meta);
        self.settle_line(entry, meta.key.as_ref(), meta.sequence);
        let cause = self.surface(entry, &failure, Reason::Dead)?;
        // A capture that cannot be read is no reason to lose the letter.
        let event = self.parts.log.read(meta.sequence).ok().flatten().map(|stored| stored.event);
        let letter = DeadLetter {
            sequence: meta.sequence,
            event_id: meta.event_id,
            surface: meta.surface,
            captured_at: meta.captured_at,
            attempts: meta.attempts,
            failure,
            dead_at: entry.now.wall,
            cause,
            fields,
            event,
        };
        tracing::debug!(instance = %self.id, event = %letter.event_id, sequence = %letter.sequence,
            failure = %letter.failure, "dead letter");
        self.put_letter(entry, &letter)?;
        self.state.counters.dead_lettered = self.state.counters.dead_lettered.saturating_add(1);
        self.state.counters.dead = self.state.counters.dead.saturating_add(1);
        Ok(())
    }

    pub(crate) fn put_letter(&self, entry: &mut Entry<'_>, letter: &DeadLetter) -> Result<(), DeliveryError> {
        let sealed = self.parts.sealer.seal(Sealed::Dead, self.id.as_str(), letter.sequence.0, letter)?;
        entry.commit.put(Keyspace::Dead, keys::dead(&self.id, letter.sequence), sealed);
        Ok(())
    }

    /// Uniform in 0..=1. Without randomness the longest wait is taken.
    pub(crate) fn chance(&self) -> f64 {
        let mut bytes = [0; 4];
        match self.parts.entropy.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 1.0,
        }
    }
}
