//! Settlement: from the outcomes of a batch to one commit. Decides nothing by itself: that is [`crate::policy`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use sgen_audit::{Action, Actor, AuditLog, Draft};
use sgen_engine::Event;
use sgen_model::{
    Entropy, EventId, Failure, FailureClass, InstanceId, Outcome, PauseCause, Sequence, SiteId, Surface, Timestamp,
};
use sgen_store::{Commit, Keyspace, Store, Ticket};

use crate::error::DeliveryError;
use crate::keys;
use crate::lane::Ready;
use crate::policy::{Attempted, Decision, RetryPolicy};
use crate::records::{
    AttemptFailure, DeadLetter, InstanceRecord, JournalEntry, JournalFailure, LaneState, Pause, RetryRecord, Sealed,
    Sealer, Surfaced, decode, encode,
};

/// How often in a row a downstream fails as a whole before that is surfaced.
const SURFACE_AFTER: u32 = 3;
/// The most causes surfaced at a time, one instance's; what comes on top is gathered per class.
const CAUSES: usize = 200;

/// What the host keeps beside an event that is with a connector.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) sequence: Sequence,
    pub(crate) event_id: EventId,
    pub(crate) surface: Surface,
    pub(crate) captured_at: Timestamp,
    /// Attempts made before this one.
    pub(crate) attempts: u32,
    pub(crate) first_failure: Option<Timestamp>,
    /// When it was due, for an event that comes from the retries.
    pub(crate) due: Option<Timestamp>,
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

    /// Two halves, the first the larger.
    fn halves(mut self) -> Vec<Self> {
        let middle = self.len().div_ceil(2);
        let rest = Self { metas: self.metas.split_off(middle), events: self.events.split_off(middle) };
        [self, rest].into_iter().filter(|half| !half.is_empty()).collect()
    }
}

/// A batch attempt that has ended.
pub(crate) struct Attempt {
    pub(crate) batch: Batch,
    /// One per event, or one for all when the invocation had no answer.
    pub(crate) outcomes: Result<Vec<Outcome>, Failure>,
    pub(crate) log: Vec<String>,
    pub(crate) duration_ms: u64,
    pub(crate) ready: Arc<Ready>,
}

/// What the lane does after a settlement.
pub(crate) struct Settled {
    pub(crate) ticket: Ticket,
    /// Batches to try again in smaller pieces.
    pub(crate) split: Vec<Batch>,
    /// Whether the lane has just been paused.
    pub(crate) paused: bool,
    /// The lane sends nothing before this time.
    pub(crate) hold_until: Option<Timestamp>,
}

/// The books of one instance: its state, and what has been surfaced.
pub(crate) struct Ledger {
    pub(crate) id: InstanceId,
    pub(crate) state: LaneState,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sealer: Sealer,
    audit: Arc<AuditLog>,
    entropy: Arc<dyn Entropy>,
    policy: RetryPolicy,
    hold_cap: std::time::Duration,
    surfaced: BTreeMap<String, Surfaced>,
    failures_in_a_row: u32,
    journal_count: u64,
    /// The integration log's own time: never before an entry that it has, nor before the arrival of an event that was
    /// read, whatever becomes of the clock. A trace looks for an event's attempts from its arrival on.
    pub(crate) journal_time: Timestamp,
}

/// What the ledger stands on.
pub(crate) struct LedgerParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) sealer: Sealer,
    pub(crate) policy: RetryPolicy,
    pub(crate) hold_cap: std::time::Duration,
}

/// One commit in the making.
struct Entry<'a> {
    commit: Commit,
    drafts: Vec<Draft>,
    record: &'a InstanceRecord,
    ready: Option<&'a Ready>,
    now: Timestamp,
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
        let last = parts.store.scan_back(Keyspace::Journal, b"", &keys::instance_prefix(&id), 1)?;
        let last = last.first().and_then(|(key, _)| keys::due_time(key));
        // Entries are told apart by a count that begins anew here.
        let journal_time = last.map(|last| Timestamp(last.0.saturating_add(1))).unwrap_or_default();
        let LedgerParts { store, audit, entropy, sealer, policy, hold_cap } = parts;
        Ok(Self {
            id,
            state,
            store,
            sealer,
            audit,
            entropy,
            policy,
            hold_cap,
            surfaced,
            failures_in_a_row: 0,
            journal_count: 0,
            journal_time,
        })
    }

    /// Settles a batch attempt: every event's outcome in one commit.
    pub(crate) fn settle(
        &mut self,
        record: &InstanceRecord,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<Settled, DeliveryError> {
        let Attempt { batch, outcomes, log, duration_ms, ready } = attempt;
        let mut entry = Entry { commit: Commit::new(), drafts: Vec::new(), record, ready: Some(&ready), now };
        let mut delivered = Vec::new();
        let mut failed: Vec<JournalFailure> = Vec::new();
        let mut to_split = Batch::default();
        let mut paused = false;
        let mut asked = None;
        let size = batch.len();
        let mut downstream_failures = 0_usize;
        self.state.counters.attempts = self.state.counters.attempts.saturating_add(1);
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(failure) => vec![Outcome::Failed(failure); size],
        };
        for ((meta, event), outcome) in batch.metas.into_iter().zip(batch.events).zip(outcomes) {
            let failure = match outcome {
                Outcome::Delivered(_) => {
                    delivered.push(meta.sequence);
                    self.delivered(&mut entry, &meta);
                    continue;
                }
                Outcome::Failed(failure) => failure,
            };
            match failed.iter_mut().find(|known| known.failure == failure) {
                Some(known) => known.events.push(meta.sequence),
                None => failed.push(JournalFailure { failure: failure.clone(), events: vec![meta.sequence] }),
            }
            if matches!(failure.class, FailureClass::Unavailable | FailureClass::RateLimited) {
                downstream_failures = downstream_failures.saturating_add(1);
                asked = asked.max(failure.retry_after_ms);
            }
            self.state.last_failure = Some(AttemptFailure { at: now, failure: failure.clone() });
            let attempted = Attempted {
                attempts: meta.attempts.saturating_add(1),
                first_failure: meta.first_failure.unwrap_or(now),
                now,
                batch: size,
            };
            let chance = self.chance();
            match self.policy.decide(&failure, attempted, chance) {
                Decision::Retry(due) => self.retry(&mut entry, meta, event, failure, attempted, due)?,
                Decision::Dead => {
                    let (id, sequence) = (meta.event_id.clone(), meta.sequence);
                    tracing::debug!(instance = %self.id, event = %id, %sequence, %failure, "dead letter");
                    self.dead(&mut entry, meta, Some(event.fields), failure, attempted.attempts)?;
                }
                Decision::Split => to_split.push(meta, event),
                Decision::Pause => {
                    if !paused {
                        self.pause(&mut entry, failure, ready.revision)?;
                        paused = true;
                    }
                }
            }
        }
        if let Some(asked) = asked {
            let until = now.after(std::time::Duration::from_millis(asked).min(self.policy.horizon));
            self.state.quiet_until = self.state.quiet_until.max(Some(until));
        }
        let hold_until = self.hold(&mut entry, size, downstream_failures, asked, !delivered.is_empty(), &failed)?;
        let journal = JournalEntry {
            at: now,
            duration_ms,
            catalog_version: ready.catalog_version.clone(),
            component_digest: ready.component_digest.clone(),
            delivered,
            failed,
            log,
        };
        self.journal_count = self.journal_count.saturating_add(1);
        self.journal_time = self.journal_time.max(now);
        let sealed = self.sealer.seal(Sealed::Journal, self.id.as_str(), self.journal_time.0, &journal)?;
        entry.commit.put(Keyspace::Journal, keys::journal(&self.id, self.journal_time, self.journal_count), sealed);
        let ticket = self.submit(entry)?;
        Ok(Settled { ticket, split: to_split.halves(), paused, hold_until })
    }

    /// Writes the state as it is, with the dead letters of events that never reached the connector.
    pub(crate) fn write(
        &mut self,
        record: &InstanceRecord,
        ready: Option<&Ready>,
        refused: Vec<(Meta, Failure)>,
        now: Timestamp,
    ) -> Result<Ticket, DeliveryError> {
        let mut entry = Entry { commit: Commit::new(), drafts: Vec::new(), record, ready, now };
        for (meta, failure) in refused {
            self.state.last_failure = Some(AttemptFailure { at: now, failure: failure.clone() });
            self.dead(&mut entry, meta, None, failure, 0)?;
        }
        self.submit(entry)
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

    fn delivered(&mut self, entry: &mut Entry<'_>, meta: &Meta) {
        self.state.counters.delivered = self.state.counters.delivered.saturating_add(1);
        self.state.last_delivery_at = Some(entry.now);
        self.leave(entry, meta);
    }

    /// Takes an event out of where it waits: the log's open positions, or the retries.
    fn leave(&mut self, entry: &mut Entry<'_>, meta: &Meta) {
        match meta.due {
            None => self.state.progress.settle(meta.sequence),
            Some(due) => {
                entry.commit.delete(Keyspace::Retry, keys::retry(&self.id, meta.sequence));
                entry.commit.delete(Keyspace::Retry, keys::due(&self.id, due, meta.sequence));
                self.state.counters.retrying = self.state.counters.retrying.saturating_sub(1);
            }
        }
    }

    fn retry(
        &mut self,
        entry: &mut Entry<'_>,
        meta: Meta,
        event: Event,
        failure: Failure,
        attempted: Attempted,
        due: Timestamp,
    ) -> Result<(), DeliveryError> {
        self.leave(entry, &meta);
        let record = RetryRecord {
            sequence: meta.sequence,
            event_id: meta.event_id,
            surface: meta.surface,
            captured_at: meta.captured_at,
            fields: event.fields,
            attempts: attempted.attempts,
            first_failure: attempted.first_failure,
            due,
            failure,
        };
        let sealed = self.sealer.seal(Sealed::Retry, self.id.as_str(), record.sequence.0, &record)?;
        entry.commit.put(Keyspace::Retry, keys::retry(&self.id, record.sequence), sealed);
        entry.commit.put(Keyspace::Retry, keys::due(&self.id, due, record.sequence), Vec::new());
        self.state.counters.retrying = self.state.counters.retrying.saturating_add(1);
        Ok(())
    }

    fn dead(
        &mut self,
        entry: &mut Entry<'_>,
        meta: Meta,
        fields: Option<String>,
        failure: Failure,
        attempts: u32,
    ) -> Result<(), DeliveryError> {
        self.leave(entry, &meta);
        self.surface(entry, &failure, false)?;
        let letter = DeadLetter {
            sequence: meta.sequence,
            event_id: meta.event_id,
            surface: meta.surface,
            captured_at: meta.captured_at,
            attempts,
            failure,
            dead_at: entry.now,
            fields,
        };
        let sealed = self.sealer.seal(Sealed::Dead, self.id.as_str(), letter.sequence.0, &letter)?;
        entry.commit.put(Keyspace::Dead, keys::dead(&self.id, letter.sequence), sealed);
        self.state.counters.dead_lettered = self.state.counters.dead_lettered.saturating_add(1);
        Ok(())
    }

    /// Pauses the lane under the configuration that the batch was sent with: when the operator has changed something
    /// since, the lane goes on.
    fn pause(&mut self, entry: &mut Entry<'_>, failure: Failure, revision: u64) -> Result<(), DeliveryError> {
        tracing::warn!(instance = %self.id, %failure, "delivery pauses until the operator acts: {}", failure.class.advice());
        self.surface(entry, &failure, true)?;
        let cause = PauseCause { since: entry.now, failure };
        if self.state.pause.as_ref().is_none_or(|known| known.revision <= revision) {
            self.state.pause = Some(Pause { cause, revision });
        }
        Ok(())
    }

    /// Decides how long the lane waits after a batch: when the downstream failed as a whole, or asked for it.
    fn hold(
        &mut self,
        entry: &mut Entry<'_>,
        size: usize,
        downstream_failures: usize,
        asked: Option<u64>,
        any_delivered: bool,
        failed: &[JournalFailure],
    ) -> Result<Option<Timestamp>, DeliveryError> {
        // A downstream that asks for a year is taken at its word for as long as an event may wait at all.
        let asked = asked.map(std::time::Duration::from_millis).map(|asked| asked.min(self.policy.horizon));
        if asked.is_some_and(|asked| asked > self.hold_cap)
            && let Some(first) = failed.iter().find(|known| known.failure.retry_after_ms.is_some())
        {
            self.surface(entry, &first.failure, true)?;
        }
        if downstream_failures == 0 || downstream_failures < size {
            if any_delivered {
                self.failures_in_a_row = 0;
                if !self.is_paused(entry.record) {
                    self.state.pause = None;
                    self.resolve(entry);
                }
            }
            return Ok(asked.map(|asked| entry.now.after(asked)));
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if self.failures_in_a_row == SURFACE_AFTER
            && let Some(first) = failed.first()
        {
            self.surface(entry, &first.failure, true)?;
        }
        let chance = self.chance();
        let wait = self.policy.wait(self.failures_in_a_row, None, chance).min(self.hold_cap);
        Ok(Some(entry.now.after(wait.max(asked.unwrap_or_default()))))
    }

    /// Lists a failure for triage: one item per cause, audited when it first appears.
    fn surface(&mut self, entry: &mut Entry<'_>, failure: &Failure, passing: bool) -> Result<(), DeliveryError> {
        let mut cause = failure.cause();
        if !self.surfaced.contains_key(&cause) && self.surfaced.len() >= CAUSES {
            // A downstream that names a new code or field each time must not fill the list.
            cause = format!("{}/other", failure.class);
        }
        let item = match self.surfaced.get_mut(&cause) {
            Some(item) => {
                item.last_seen = entry.now;
                item.count = item.count.saturating_add(1);
                item
            }
            None => {
                entry.draft(Action::FailureSurfaced {
                    class: failure.class,
                    status: failure.status,
                    cause: cause.clone(),
                    message: failure.message.clone(),
                });
                self.surfaced.entry(cause.clone()).or_insert(Surfaced {
                    cause: cause.clone(),
                    first_seen: entry.now,
                    last_seen: entry.now,
                    count: 1,
                    sample: failure.clone(),
                    passing,
                })
            }
        };
        entry.commit.put(Keyspace::Surfaced, keys::surfaced(&self.id, &cause), encode("surfaced failure", item)?);
        Ok(())
    }

    /// A success resolves what ailed the whole downstream.
    fn resolve(&mut self, entry: &mut Entry<'_>) {
        let id = &self.id;
        self.surfaced.retain(|cause, item| {
            if item.passing {
                entry.commit.delete(Keyspace::Surfaced, keys::surfaced(id, cause));
                entry.draft(Action::FailureResolved { cause: cause.clone() });
            }
            !item.passing
        });
    }

    fn submit(&self, entry: Entry<'_>) -> Result<Ticket, DeliveryError> {
        let Entry { mut commit, drafts, record, .. } = entry;
        commit.put(Keyspace::Lane, keys::instance(&self.id), encode("lane state", &self.state)?);
        if drafts.is_empty() {
            return Ok(self.store.submit(commit));
        }
        let site: &SiteId = &record.instance.place.site;
        Ok(self.audit.append(site, drafts, commit)?)
    }

    /// Uniform in 0..=1. Without randomness the longest wait is taken.
    fn chance(&self) -> f64 {
        let mut bytes = [0; 4];
        match self.entropy.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 1.0,
        }
    }
}

impl Entry<'_> {
    fn draft(&mut self, action: Action) {
        let instance = &self.record.instance;
        self.drafts.push(Draft {
            environment: Some(instance.place.environment.clone()),
            actor: Actor::Platform,
            instance: Some(instance.id.clone()),
            connector: Some(instance.connector.clone()),
            catalog_version: self.ready.map(|ready| ready.catalog_version.clone()),
            component_digest: self.ready.map(|ready| ready.component_digest.clone()),
            action,
        });
    }
}
