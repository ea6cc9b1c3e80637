//! What a lane does with events that are not on their usual way: dead letters that are replayed or discarded, events whose
//! retention has ended, and stored events that cannot be read.

use sgen_model::{EventId, Failure, FailureClass, Sequence, Surface, SurfaceKind, Timestamp};
use sgen_store::Keyspace;

use super::orders::Answer;
use super::{Lane, Ready, intake};
use crate::batch::Meta;
use crate::error::DeliveryError;
use crate::jobs::{Job, JobKind};
use crate::keys;
use crate::ledger::Entry;
use crate::moment::Moment;
use crate::records::{DeadLetter, Sealed, StoredEvent};
use crate::runtime::PAGE;
use crate::surface::Reason;

/// How many positions one order to expire settles.
const EXPIRED: usize = 512;

impl Lane {
    /// Takes the first job a page further.
    pub(super) fn work_on_jobs(&mut self) -> Result<(), DeliveryError> {
        let Some(job) = self.ledger.state.jobs.first().cloned() else { return Ok(()) };
        // Only what is durable can be seen in the store.
        if !self.commits.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let config = self.config.clone();
        let ready = match job.kind {
            JobKind::Discard => None,
            JobKind::Replay => {
                let Ok(ready) = &config.ready else { return Ok(()) };
                // Paced: the next page is taken when the one before has been tried, and not while the downstream fails.
                let busy = self.retries_running > 0
                    || self.redo.front().is_some_and(crate::batch::Batch::is_retry)
                    || self.next_due.is_some_and(|due| due <= now.instant)
                    || self.ledger.breaker.failures() > 0;
                if busy || !self.may_deliver() || !self.retries_known && self.has_retries_due(&now)? {
                    return Ok(());
                }
                Some(ready.as_ref())
            }
        };
        let mut entry = Entry::new(&config.record, config.ready.as_deref(), now);
        self.next_page(&mut entry, job, ready, &now)?;
        let commit = self.ledger.submit(entry)?;
        self.await_commit(commit, Vec::new(), Vec::new(), None);
        Ok(())
    }

    fn has_retries_due(&self, now: &Moment) -> Result<bool, DeliveryError> {
        let first = self.ledger.parts.store.scan(Keyspace::Retry, b"", &keys::due_prefix(&self.ledger.id), 1)?;
        Ok(first.first().and_then(|(key, _)| keys::due_time(key)).is_some_and(|due| due <= now.lane))
    }

    fn next_page(
        &mut self,
        entry: &mut Entry<'_>,
        mut job: Job,
        ready: Option<&Ready>,
        now: &Moment,
    ) -> Result<(), DeliveryError> {
        let id = self.ledger.id.clone();
        let from = keys::dead(&id, job.looked_at.next());
        let page = self.ledger.parts.store.scan(Keyspace::Dead, &from, &keys::instance_prefix(&id), PAGE)?;
        let most = ready.map_or(PAGE, intake::limit);
        let mut taken = 0_usize;
        let mut ended = page.len() < PAGE;
        for (key, bytes) in page {
            let Some(sequence) = keys::number(&key).map(Sequence) else { continue };
            if job.selection.sequence.is_some_and(|only| sequence > only) {
                ended = true;
                break;
            }
            let letter: DeadLetter = self.ledger.parts.sealer.open(Sealed::Dead, id.as_str(), sequence.0, &bytes)?;
            job.looked_at = sequence;
            if !job.takes(&letter) {
                continue;
            }
            match ready {
                None => {
                    self.remove_letter(entry, &letter)?;
                    entry.commit.put(Keyspace::Retry, keys::discarded(&id, sequence), Vec::new());
                    self.ledger.state.counters.discarded = self.ledger.state.counters.discarded.saturating_add(1);
                    job.done = job.done.saturating_add(1);
                }
                Some(ready) => {
                    if self.replay(entry, letter, ready, now)? {
                        job.done = job.done.saturating_add(1);
                    } else {
                        job.refused = job.refused.saturating_add(1);
                    }
                }
            }
            taken = taken.saturating_add(1);
            if taken >= most {
                ended = false;
                break;
            }
        }
        if let Some(known) = self.ledger.state.jobs.iter_mut().find(|known| known.id == job.id) {
            *known = job.clone();
        }
        if ended {
            tracing::info!(instance = %id, job = job.id, kind = job.kind.as_str(), done = job.done, refused = job.refused,
                "dead letters have been gone through");
            self.ledger.state.jobs.retain(|known| known.id != job.id);
        }
        self.retries_known = false;
        Ok(())
    }

    fn remove_letter(&mut self, entry: &mut Entry<'_>, letter: &DeadLetter) -> Result<(), DeliveryError> {
        entry.commit.delete(Keyspace::Dead, keys::dead(&self.ledger.id, letter.sequence));
        self.ledger.one_less(entry, &letter.counted_under())
    }

    /// Sends a letter on its way again, mapped anew, with no attempt made. Answers false when the mapping fails for it.
    fn replay(
        &mut self,
        entry: &mut Entry<'_>,
        letter: DeadLetter,
        ready: &Ready,
        now: &Moment,
    ) -> Result<bool, DeliveryError> {
        let (fields, key) = match (&letter.event, &letter.fields) {
            (Some(event), _) => match ready.mapping.apply(event) {
                Ok(mapped) => (mapped.fields, mapped.key),
                Err(failure) => {
                    // It stays a letter, with what is wrong now.
                    self.ledger.one_less(entry, &letter.counted_under())?;
                    self.ledger.state.counters.dead = self.ledger.state.counters.dead.saturating_add(1);
                    let cause = self.ledger.surface(entry, &failure, Reason::Dead)?;
                    let letter = DeadLetter { failure, cause, fields: None, ..letter };
                    self.ledger.put_letter(entry, &letter)?;
                    return Ok(false);
                }
            },
            (None, Some(fields)) => (fields.clone(), None),
            (None, None) => return Ok(false),
        };
        self.remove_letter(entry, &letter)?;
        let DeadLetter { sequence, event_id, surface, captured_at, .. } = letter;
        let meta = Meta { key, ..Meta::fresh(sequence, event_id, surface, captured_at) };
        let event = intake::outgoing(&self.ledger.id, &meta, fields);
        self.ledger.keep(entry, meta, event, None, now.lane)?;
        self.ledger.state.counters.replayed = self.ledger.state.counters.replayed.saturating_add(1);
        Ok(true)
    }

    /// Settles what stands open up to a position: it becomes dead letters.
    pub(super) fn expire(&mut self, entry: &mut Entry<'_>, up_to: Sequence) -> Result<Answer, DeliveryError> {
        self.rewind();
        let mut dead_lettered = 0_u64;
        if self.in_flight.first().is_some_and(|first| *first <= up_to) {
            return Ok(Answer::More { dead_lettered });
        }
        let cursor = self.ledger.state.progress.cursor();
        if cursor >= up_to {
            return Ok(Answer::Expired { dead_lettered });
        }
        let page = self.log.read_after(cursor, EXPIRED)?;
        for (sequence, read) in page {
            if sequence > up_to {
                break;
            }
            if self.ledger.state.progress.contains(sequence) {
                continue;
            }
            let StoredEvent { event, erased_at, .. } = match read {
                Ok(stored) => stored,
                Err(error) => {
                    let (meta, failure) = damaged(sequence, &error);
                    self.ledger.refuse(entry, meta, failure)?;
                    continue;
                }
            };
            let record = &self.config.record;
            if record.routing.in_gap(sequence) || !record.instance.scope.admits(&event.surface) || erased_at.is_some() {
                self.ledger.skip(sequence);
                continue;
            }
            let why =
                self.ledger.state.last_failure.as_ref().map_or(FailureClass::Unavailable, |last| last.failure.class);
            let mut failure = Failure::new(
                why,
                "it could not be delivered before the event log's retention ended; replay it when it can be",
            );
            failure.code = Some("retention".to_owned());
            self.ledger.bury(entry, intake::meta_of(sequence, &event), None, failure)?;
            dead_lettered = dead_lettered.saturating_add(1);
        }
        self.read_to = self.ledger.state.progress.cursor();
        let done = self.ledger.state.progress.cursor() >= up_to;
        Ok(if done { Answer::Expired { dead_lettered } } else { Answer::More { dead_lettered } })
    }

    /// A stored event that cannot be read: it holds up nothing, and is listed.
    pub(super) fn refuse_damaged(&mut self, sequence: Sequence, error: &DeliveryError, now: &Moment) {
        tracing::error!(instance = %self.ledger.id, %sequence, %error, "a stored event cannot be read");
        self.refused.push(damaged(sequence, error));
        self.unwritten_since.get_or_insert(now.instant);
        self.read_to = sequence;
    }
}

fn damaged(sequence: Sequence, error: &DeliveryError) -> (Meta, Failure) {
    let mut failure = Failure::new(
        FailureClass::ConnectorFault,
        format!("the stored event cannot be read ({error}): restore the store from a backup"),
    );
    failure.code = Some("damaged".to_owned());
    // Its own id and surface cannot be read either.
    let event_id = EventId::numbered(sequence);
    let surface = Surface { kind: SurfaceKind::Event, name: "damaged".to_owned() };
    (Meta::fresh(sequence, event_id, surface, Timestamp::default()), failure)
}
