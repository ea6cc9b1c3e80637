//! What a lane is told from outside: each order is one change, answered when it is durable.

use sgen_audit::{Action, Actor};
use sgen_model::{Finding, Sequence};
use sgen_store::Keyspace;
use tokio::sync::oneshot;

use super::Lane;
use crate::batch::Meta;
use crate::error::DeliveryError;
use crate::jobs::{Job, JobKind, Selection};
use crate::keys;
use crate::ledger::Entry;
use crate::records::{DeadLetter, HealthRecord, Sealed};

/// The most replays and discards under way at a time, one instance's.
const JOBS: usize = 32;

/// An order with its answer.
pub(crate) struct Order {
    pub(crate) kind: OrderKind,
    pub(crate) answer: oneshot::Sender<Result<Answer, DeliveryError>>,
}

/// What a lane can be told.
pub(crate) enum OrderKind {
    /// Begin a replay or a discard of dead letters; `count` is how many match now.
    Begin { kind: JobKind, selection: Selection, count: u64, actor: Actor },
    /// End a replay or a discard where it is.
    Cancel { job: u64 },
    /// Settle everything up to a position, whatever becomes of it: the log is trimmed there.
    Expire { up_to: Sequence },
    /// Forget the contents of events, wherever they wait.
    Erase { sequences: Vec<Sequence> },
    /// Put other contents into entries of the integration log.
    Rewrite { entries: Vec<(Vec<u8>, Vec<u8>)> },
    /// Take note of a health check.
    Note { found: HealthRecord },
    /// Hand a failure to platform support.
    Escalate { cause: String, key: Vec<u8>, bundle: Vec<u8>, action: Action, actor: Actor },
    /// Trim the integration log.
    Trim,
    /// The mapping is about to be changed: keep what may have been sent as it was, and send nothing until that is over.
    Freeze { until: oneshot::Receiver<()> },
}

/// What a lane answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// The job has begun.
    Begun(Job),
    /// So many events became dead letters; everything up to the position is settled.
    Expired { dead_lettered: u64 },
    /// So many events became dead letters; there is more to settle, or something is under way there.
    More { dead_lettered: u64 },
    /// There is no such thing.
    Unknown,
}

impl Lane {
    pub(super) fn obey(&mut self, order: Order) -> Result<(), DeliveryError> {
        let Order { kind, answer } = order;
        let now = self.now();
        let config = self.config.clone();
        let mut entry = Entry::new(&config.record, config.ready.as_deref(), now);
        let said = match kind {
            OrderKind::Begin { kind, selection, count, actor } => {
                if self.ledger.state.jobs.len() >= JOBS {
                    let said = format!("{JOBS} replays and discards are under way; wait for one to end, or cancel one");
                    drop(answer.send(Err(DeliveryError::Conflict(said))));
                    return Ok(());
                }
                Answer::Begun(self.begin(&mut entry, kind, selection, count, actor))
            }
            OrderKind::Cancel { job } => {
                let jobs = &mut self.ledger.state.jobs;
                let before = jobs.len();
                jobs.retain(|known| known.id != job);
                if jobs.len() == before { Answer::Unknown } else { Answer::Done }
            }
            OrderKind::Expire { up_to } => self.expire(&mut entry, up_to)?,
            OrderKind::Erase { sequences } => {
                self.rewind();
                for sequence in sequences {
                    self.erase(&mut entry, sequence)?;
                }
                Answer::Done
            }
            OrderKind::Rewrite { entries } => {
                // What has been trimmed meanwhile stays away.
                let from = self.ledger.journal_from.clone();
                for (key, sealed) in entries.into_iter().filter(|(key, _)| *key >= from) {
                    entry.commit.put(Keyspace::Journal, key, sealed);
                }
                Answer::Done
            }
            OrderKind::Note { found } => {
                self.note_health(&mut entry, found)?;
                Answer::Done
            }
            OrderKind::Escalate { cause, key, bundle, action, actor } => {
                if self.ledger.note_escalation(&mut entry, &cause)? {
                    entry.commit.put(Keyspace::Escalation, key, bundle);
                    entry.draft_by(actor, action);
                    Answer::Done
                } else {
                    Answer::Unknown
                }
            }
            OrderKind::Freeze { until } => {
                let commit = self.freeze(until)?;
                self.await_commit(commit, Vec::new(), Vec::new(), Some((answer, Answer::Done)));
                return Ok(());
            }
            OrderKind::Trim => match self.ledger.trim_journal(&mut entry.commit, &now)? {
                true => Answer::More { dead_lettered: 0 },
                false if entry.commit.is_empty() => {
                    drop(answer.send(Ok(Answer::Done)));
                    return Ok(());
                }
                false => Answer::Done,
            },
        };
        let commit = self.ledger.submit(entry)?;
        self.await_commit(commit, Vec::new(), Vec::new(), Some((answer, said)));
        self.publish(None);
        Ok(())
    }

    fn begin(&mut self, entry: &mut Entry<'_>, kind: JobKind, selection: Selection, count: u64, actor: Actor) -> Job {
        let state = &mut self.ledger.state;
        state.jobs_begun = state.jobs_begun.saturating_add(1);
        // One letter is found where it is; a selection begins with the oldest.
        let looked_at = selection.sequence.map_or(Sequence(0), |sequence| Sequence(sequence.0.saturating_sub(1)));
        let job =
            Job { id: state.jobs_begun, kind, selection, requested_at: entry.now.wall, looked_at, done: 0, refused: 0 };
        state.jobs.push(job.clone());
        let selection = serde_json::to_value(&job.selection).unwrap_or_default();
        entry.draft_by(
            actor,
            match kind {
                JobKind::Replay => Action::DeadLettersReplayed { selection, count },
                JobKind::Discard => Action::DeadLettersDiscarded { selection, count },
            },
        );
        job
    }

    /// Takes note of a health check. One that finds the downstream sound ends what an earlier check of the same pause
    /// found wrong, and a breaker that has nothing to probe with.
    fn note_health(&mut self, entry: &mut Entry<'_>, found: HealthRecord) -> Result<(), DeliveryError> {
        let sound = found.verdict.found_sound();
        let before = self.ledger.state.health.as_ref();
        let paused_since = self.ledger.state.pause.as_ref().map(|pause| pause.cause.since);
        let was_wrong = before
            .is_some_and(|before| before.verdict.found_fault() && paused_since.is_some_and(|since| before.at >= since));
        let permitted = found.verdict.permitted != Finding::No && found.verdict.target_exists != Finding::No;
        self.ledger.note_health(entry, found)?;
        if sound && permitted && was_wrong && self.ledger.is_paused(&self.config.record) {
            tracing::info!(instance = %self.ledger.id, "the health check finds the downstream sound again: delivery goes on");
            self.ledger.state.pause = None;
            self.ledger.resolve_passing(entry)?;
            let now = entry.now;
            let may_deliver = self.may_deliver();
            self.ledger.count_idle(may_deliver, &now);
            self.rewind();
        }
        if sound && self.ledger.breaker.is_open() && self.running.is_empty() {
            // The next attempt may be made now; it is still a single one.
            self.ledger.breaker.probe_now();
        }
        Ok(())
    }

    /// Forgets one event's contents, wherever it waits.
    fn erase(&mut self, entry: &mut Entry<'_>, sequence: Sequence) -> Result<(), DeliveryError> {
        if self.in_flight.contains(&sequence) {
            self.ledger.erasing.insert(sequence);
            return Ok(());
        }
        let id = self.ledger.id.clone();
        if let Some(bytes) = self.ledger.parts.store.get(Keyspace::Dead, &keys::dead(&id, sequence))? {
            let letter: DeadLetter = self.ledger.parts.sealer.open(Sealed::Dead, id.as_str(), sequence.0, &bytes)?;
            entry.commit.delete(Keyspace::Dead, keys::dead(&id, sequence));
            self.ledger.one_less(entry, &letter.counted_under())?;
            self.ledger.state.counters.erased = self.ledger.state.counters.erased.saturating_add(1);
        }
        if let Some(record) = self.ledger.retry_record(sequence)? {
            let due = self.ledger.due_of(&record);
            let (meta, _) = Meta::of_record(record, due);
            self.ledger.forget(entry, &meta);
        }
        Ok(())
    }
}
