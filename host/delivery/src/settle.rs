//! Settlement: from the outcomes of a batch to one commit. What follows from a failure is [`crate::policy`]'s to say.

use std::time::Duration;

use sgen_model::{Failure, FailureClass, Outcome, PauseCause, Sequence};
use sgen_store::{Commit, Keyspace};

use crate::batch::{Batch, Meta};
use crate::breaker::Heard;
use crate::concurrency::Sign;
use crate::error::DeliveryError;
use crate::keys;
use crate::lane::Ready;
use crate::ledger::{Entry, Ledger, Submitted};
use crate::moment::Moment;
use crate::policy::{Decision, Tried};
use crate::records::{AttemptFailure, InstanceRecord, JournalEntry, JournalFailure, Pause, Sealed};
use crate::surface::Reason;

/// How many entries of the integration log are looked at when it is trimmed.
const TRIMMED: usize = 128;
/// Every so many attempts the integration log is trimmed.
const TRIM_EVERY: u64 = 64;

/// A batch that came back from its connector.
pub(crate) struct Sent {
    pub(crate) batch: Batch,
    /// One per event, or one for all when the invocation had no answer.
    pub(crate) outcomes: Result<Vec<Outcome>, Failure>,
    pub(crate) log: Vec<String>,
    pub(crate) took: Duration,
    /// The breaker's epoch when it began.
    pub(crate) epoch: u64,
}

/// What the lane does after a settlement.
pub(crate) struct Settled {
    pub(crate) commit: Submitted,
    /// Batches to try again in smaller pieces.
    pub(crate) split: Vec<Batch>,
    /// Events that keep their place and lost no attempt: the lane was paused by them.
    pub(crate) returned: Vec<Meta>,
    /// Whether the lane has just been paused.
    pub(crate) paused: bool,
    /// Whether the downstream has begun to fail as a whole.
    pub(crate) opened: bool,
    /// What the batch tells about the downstream's load.
    pub(crate) sign: Sign,
}

/// What is gathered while the outcomes are gone through.
#[derive(Default)]
struct Tally {
    delivered: Vec<Sequence>,
    failed: Vec<JournalFailure>,
    /// Events that failed because the downstream as a whole did.
    downstream: usize,
    refused_for_load: bool,
    /// The longest that the downstream asked to wait.
    asked: Option<u64>,
}

impl Tally {
    fn note(&mut self, failure: &Failure, sequence: Sequence) {
        match self.failed.iter_mut().find(|known| known.failure == *failure) {
            Some(known) => known.events.push(sequence),
            None => self.failed.push(JournalFailure { failure: failure.clone(), events: vec![sequence] }),
        }
        if matches!(failure.class, FailureClass::Unavailable | FailureClass::RateLimited) {
            self.downstream = self.downstream.saturating_add(1);
            self.asked = self.asked.max(failure.retry_after_ms);
        }
        self.refused_for_load |= failure.class == FailureClass::RateLimited;
    }
}

impl Ledger {
    /// Settles a batch attempt: every event's outcome in one commit.
    pub(crate) fn settle(
        &mut self,
        record: &InstanceRecord,
        ready: &Ready,
        sent: Sent,
        now: Moment,
    ) -> Result<Settled, DeliveryError> {
        let Sent { batch, outcomes, log, took, epoch } = sent;
        let mut entry = Entry::new(record, Ok(ready), now);
        let mut tally = Tally::default();
        let (mut to_split, mut returned) = (Batch::default(), Vec::new());
        let mut paused = false;
        let size = batch.len();
        self.state.counters.attempts = self.state.counters.attempts.saturating_add(1);
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(failure) => vec![Outcome::Failed(failure); size],
        };
        for ((meta, event), outcome) in batch.metas.into_iter().zip(batch.events).zip(outcomes) {
            let failure = match outcome {
                Outcome::Delivered(_) => {
                    tally.delivered.push(meta.sequence);
                    self.delivered(&mut entry, &meta);
                    continue;
                }
                Outcome::Failed(failure) => failure,
            };
            tally.note(&failure, meta.sequence);
            self.state.last_failure = Some(AttemptFailure { at: now.wall, failure: failure.clone() });
            if self.is_erasing(meta.sequence) {
                self.forget(&mut entry, &meta);
                continue;
            }
            match self.decide(&failure, &meta, size, &now) {
                Decision::Retry(due) => {
                    let meta = self.tried(meta, &now);
                    self.keep(&mut entry, meta, event, Some(failure), due)?;
                }
                Decision::Dead => {
                    let meta = self.tried(meta, &now);
                    self.bury(&mut entry, meta, Some(event.fields), failure)?;
                }
                Decision::Split => to_split.push(meta, event),
                Decision::Pause => {
                    if !paused {
                        self.pause(&mut entry, failure, ready.revision)?;
                        paused = true;
                    }
                    returned.push(meta);
                }
            }
        }
        let sign = if tally.refused_for_load {
            Sign::TooMany
        } else if tally.downstream == size {
            Sign::Failed
        } else {
            Sign::Took(took)
        };
        let opened = self.hear(&mut entry, size, &tally, epoch)?;
        self.note_attempt(&mut entry, ready, tally, log, took)?;
        let commit = self.submit(entry)?;
        Ok(Settled { commit, split: to_split.halves(), returned, paused, opened, sign })
    }

    fn decide(&self, failure: &Failure, meta: &Meta, batch: usize, now: &Moment) -> Decision {
        let tried =
            Tried { attempts: meta.attempts.saturating_add(1), waited: self.waited(meta, now), now: now.lane, batch };
        self.parts.policy.decide(failure, tried, self.chance())
    }

    /// The event with one more attempt.
    fn tried(&self, mut meta: Meta, now: &Moment) -> Meta {
        meta.attempts = meta.attempts.saturating_add(1);
        if meta.first_failure.is_none() {
            meta.first_failure = Some(now.lane);
            meta.idle_before_ms = self.state.idle_ms;
        }
        meta
    }

    fn delivered(&mut self, entry: &mut Entry<'_>, meta: &Meta) {
        self.erasing.remove(&meta.sequence);
        self.state.counters.delivered = self.state.counters.delivered.saturating_add(1);
        self.state.last_delivery_at = Some(entry.now.wall);
        self.leave(entry, meta);
        self.settle_line(entry, meta.key.as_ref(), meta.sequence);
    }

    /// An event whose contents were erased while it was away.
    pub(crate) fn forget(&mut self, entry: &mut Entry<'_>, meta: &Meta) {
        self.leave(entry, meta);
        self.settle_line(entry, meta.key.as_ref(), meta.sequence);
        self.state.counters.erased = self.state.counters.erased.saturating_add(1);
    }

    /// An event that was away comes back without having been tried: it is taken again from where it stands.
    pub(crate) fn give_back(&mut self, meta: &Meta) {
        let Some(key) = &meta.key else { return };
        match meta.due {
            // Its record and its due time stand as they were.
            Some(due) if meta.stored => drop(self.lines.join(key, meta.sequence, due)),
            _ => self.lines.returned(key, meta.sequence),
        }
    }

    /// Pauses the lane under the configuration that the batch was sent with: when the operator has changed something
    /// since, the lane goes on.
    fn pause(&mut self, entry: &mut Entry<'_>, failure: Failure, revision: u64) -> Result<(), DeliveryError> {
        tracing::warn!(instance = %self.id, %failure, "delivery pauses until the operator acts: {}", failure.class.advice());
        self.surface(entry, &failure, Reason::Passing)?;
        let cause = PauseCause { since: entry.now.wall, failure };
        if self.state.pause.as_ref().is_none_or(|known| known.revision <= revision) {
            self.state.pause = Some(Pause { cause, revision });
        }
        Ok(())
    }

    /// What a batch tells about the downstream as a whole. Answers whether the breaker has opened by it.
    fn hear(&mut self, entry: &mut Entry<'_>, size: usize, tally: &Tally, epoch: u64) -> Result<bool, DeliveryError> {
        let now = entry.now.instant;
        let asked = tally.asked.map(Duration::from_millis).map(|asked| asked.min(self.parts.policy.longest_asked));
        let hold_cap = self.parts.hold_cap;
        if let Some(asked) = asked
            && asked > hold_cap
            && let Some(first) = tally.failed.iter().find(|known| known.failure.retry_after_ms == tally.asked)
        {
            self.surface(entry, &first.failure, Reason::Passing)?;
        }
        let whole = tally.downstream == size && size > 0;
        let heard = if whole { Heard::Failure } else { Heard::Answer };
        let chance = self.chance();
        let opened = self.breaker.hear(heard, epoch, now, chance, &self.parts.policy, hold_cap);
        if let Some(asked) = asked {
            self.breaker.asked(asked, now);
            self.state.quiet_until = self.state.quiet_until.max(Some(entry.now.lane.after(asked)));
        }
        if opened && let Some(first) = tally.failed.first() {
            tracing::warn!(instance = %self.id, failure = %first.failure, "the downstream fails: single attempts until it answers");
            self.surface(entry, &first.failure, Reason::Passing)?;
        }
        if !tally.delivered.is_empty() && !self.is_paused(entry.record) {
            self.state.pause = None;
            if !self.breaker.is_open() {
                self.resolve_passing(entry)?;
            }
        }
        Ok(opened)
    }

    /// Adds the attempt to the integration log.
    fn note_attempt(
        &mut self,
        entry: &mut Entry<'_>,
        ready: &Ready,
        tally: Tally,
        log: Vec<String>,
        took: Duration,
    ) -> Result<(), DeliveryError> {
        let at = entry.now.wall.max(self.state.journal.newest).max(self.newest_received);
        let journal = JournalEntry {
            at,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            catalog_version: ready.catalog_version.clone(),
            component_digest: ready.component_digest.clone(),
            delivered: tally.delivered,
            failed: tally.failed,
            log,
        };
        let sealed = self.parts.sealer.seal(Sealed::Journal, self.id.as_str(), at.0, &journal)?;
        let size = &mut self.state.journal;
        size.newest = at;
        size.entries = size.entries.saturating_add(1);
        size.bytes = size.bytes.saturating_add(sealed.len() as u64);
        let attempts = self.state.counters.attempts;
        entry.commit.insert(Keyspace::Journal, keys::journal(&self.id, at, attempts), sealed);
        if attempts.is_multiple_of(TRIM_EVERY) {
            let now = entry.now;
            self.trim_journal(&mut entry.commit, &now)?;
        }
        Ok(())
    }

    /// Removes the oldest entries of the integration log that are too old or too many. Answers whether there is more.
    pub(crate) fn trim_journal(&mut self, commit: &mut Commit, now: &Moment) -> Result<bool, DeliveryError> {
        let keep = self.parts.journal;
        // What was removed by a commit that is not applied yet is not looked at again.
        let from = self.journal_from.clone();
        let entries = self.parts.store.scan(Keyspace::Journal, &from, &keys::instance_prefix(&self.id), TRIMMED)?;
        let looked_at = entries.len();
        let mut removed = 0_usize;
        for (key, value) in entries {
            let size = &mut self.state.journal;
            let at = keys::due_time(&key).unwrap_or_default();
            let too_old = now.wall.since(at) > keep.age;
            if !too_old && size.entries <= keep.entries && size.bytes <= keep.bytes {
                break;
            }
            size.trimmed_to = size.trimmed_to.max(at);
            size.entries = size.entries.saturating_sub(1);
            size.bytes = size.bytes.saturating_sub(value.len() as u64);
            self.journal_from.clone_from(&key);
            self.journal_from.push(0);
            commit.delete(Keyspace::Journal, key);
            removed = removed.saturating_add(1);
        }
        Ok(removed == looked_at && removed == TRIMMED)
    }
}
