//! What an operator sees: status, integration log, captures, traces; and what a connector is asked.

use std::sync::PoisonError;

use serde::Serialize;
use sgen_model::{
    CaptureEvent, Choice, ConnectorInstance, EventId, Failure, InstanceId, InstanceState, Place, Scope, Sequence,
    Timestamp,
};
use sgen_store::Keyspace;

use crate::account_guard::KnownAccount;
use crate::error::{DeliveryError, Problem};
use crate::jobs::Job;
use crate::keys;
use crate::records::{AttemptFailure, DeadLetter, HealthRecord, JournalEntry, RetryRecord, Sealed};
use crate::runtime::{PAGE, Runtime, Slot};
use crate::triage::TriageItem;

/// How many integration-log entries a trace looks through.
const TRACE_ENTRIES: usize = 10_000;

/// What an instance is doing, and how far it is.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceStatus {
    /// Active, degraded, failing, paused (each with the cause), or disabled.
    #[serde(flatten)]
    pub state: InstanceState,
    /// Everything at or below this position of the log is settled.
    pub cursor: Sequence,
    /// The last position of the log.
    pub head: Sequence,
    /// Positions that are not settled yet.
    pub pending: u64,
    /// Events that wait for another attempt, or for an earlier event of their key.
    pub retrying: u64,
    /// Events delivered since it was configured.
    pub delivered: u64,
    /// Events given up since it was configured, those that were replayed or discarded later among them.
    pub dead_lettered: u64,
    /// Dead letters that are there now.
    pub dead_letters: u64,
    /// Dead letters that were sent on their way again.
    pub replayed: u64,
    /// Dead letters that the operator discarded.
    pub discarded: u64,
    /// Events whose contents were erased before they were delivered.
    pub erased: u64,
    /// Events out of scope, or captured while it was disabled.
    pub skipped: u64,
    /// Batch attempts since it was configured.
    pub attempts: u64,
    /// The last success.
    pub last_delivery_at: Option<Timestamp>,
    /// The last failure.
    pub last_failure: Option<AttemptFailure>,
    /// Nothing is sent before this time: the downstream failed, or asked to wait.
    pub waiting_until: Option<Timestamp>,
    /// Batches that may be under way at a time now.
    pub concurrency: usize,
    /// Batches under way.
    pub under_way: usize,
    /// What the last health check found.
    pub health: Option<HealthRecord>,
    /// The downstream account of its credentials, as far as it is known; `refused_for` names the instance of another
    /// environment because of which it is paused.
    pub account: Option<KnownAccount>,
    /// Replays and discards under way.
    pub jobs: Vec<Job>,
    /// Failures that were surfaced and are not resolved.
    pub surfaced: Vec<TriageItem>,
}

/// Which entries of an integration log.
#[derive(Debug, Clone, Default)]
pub struct JournalQuery {
    /// Only attempts with a failure: the failure log.
    pub failures_only: bool,
    /// Only attempts at or after this time.
    pub since: Option<Timestamp>,
    /// Only entries before this one: the `next` of the page before.
    pub before: Option<String>,
}

/// A page of an integration log, newest first.
#[derive(Debug, Clone, Serialize)]
pub struct JournalPage {
    /// The entries.
    pub entries: Vec<JournalEntry>,
    /// Where the next page begins; absent on the last.
    pub next: Option<String>,
}

/// Which captures.
#[derive(Debug, Clone, Default)]
pub struct CaptureQuery {
    /// Only of these surfaces.
    pub surfaces: Option<Scope>,
    /// Only received at or after this time.
    pub since: Option<Timestamp>,
    /// Only received before this time.
    pub until: Option<Timestamp>,
    /// Only before this position.
    pub before: Option<Sequence>,
}

/// A captured event, as the site's own list shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Capture {
    /// Its position in the log.
    pub sequence: Sequence,
    /// When it arrived here.
    pub received_at: Timestamp,
    /// When its contents were erased, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// The event.
    #[serde(flatten)]
    pub event: CaptureEvent,
}

/// What became of one captured event.
#[derive(Debug, Clone, Serialize)]
pub struct Trace {
    /// The event.
    #[serde(flatten)]
    pub capture: Capture,
    /// One entry per connector instance of the site and environment.
    pub instances: Vec<TraceEntry>,
}

/// What became of an event at one instance.
#[derive(Debug, Clone, Serialize)]
pub struct TraceEntry {
    /// The instance.
    pub instance: InstanceId,
    /// Its connector.
    pub connector: sgen_model::ConnectorId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: TraceOutcome,
    /// When batches that held it were attempted, with the failure of each that failed.
    pub attempts: Vec<TraceAttempt>,
}

/// One attempt in a trace.
#[derive(Debug, Clone, Serialize)]
pub struct TraceAttempt {
    /// When it ended.
    pub at: Timestamp,
    /// The catalog version in force.
    pub catalog_version: String,
    /// Why it failed; absent when it delivered.
    pub failure: Option<Failure>,
}

/// Exactly one of these holds for every event and instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum TraceOutcome {
    /// The downstream has it.
    Delivered,
    /// It waits for its first attempt.
    Pending,
    /// It waits for another attempt.
    Retrying {
        /// When; absent while it waits for an earlier event of its key.
        due: Option<Timestamp>,
        /// Attempts so far.
        made: u32,
    },
    /// It was given up.
    DeadLettered {
        /// Why.
        failure: Failure,
    },
    /// It was given up, and the operator discarded the dead letter.
    Discarded,
    /// Its contents were erased before it was delivered.
    Erased,
    /// The instance does not take it.
    Skipped {
        /// Why not.
        reason: &'static str,
    },
}

impl Runtime {
    /// An instance's configuration.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`].
    pub fn instance(&self, id: &InstanceId) -> Result<ConnectorInstance, DeliveryError> {
        Ok(self.slot(id)?.record.instance.clone())
    }

    /// The instances of a site and environment.
    ///
    /// # Errors
    /// None today; the signature leaves room for a store behind it.
    pub fn instances(&self, place: &Place) -> Result<Vec<ConnectorInstance>, DeliveryError> {
        Ok(self.slots_of(place).into_iter().map(|slot| slot.record.instance.clone()).collect())
    }

    /// What an instance is doing.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`], or the store's.
    pub fn status(&self, id: &InstanceId) -> Result<InstanceStatus, DeliveryError> {
        let slot = self.slot(id)?;
        let head = self.log(&slot.record.instance.place)?.head();
        let view = slot.lane.view();
        let counters = view.lane.counters;
        Ok(InstanceStatus {
            surfaced: self.triage_of(id)?,
            state: view.state,
            cursor: view.lane.progress.cursor(),
            head,
            pending: view.lane.progress.open(slot.record.routing.reach(head)),
            retrying: counters.retrying,
            delivered: counters.delivered,
            dead_lettered: counters.dead_lettered,
            dead_letters: counters.dead,
            replayed: counters.replayed,
            discarded: counters.discarded,
            erased: counters.erased,
            skipped: counters.skipped,
            attempts: counters.attempts,
            last_delivery_at: view.lane.last_delivery_at,
            last_failure: view.lane.last_failure,
            waiting_until: view.hold_until,
            concurrency: view.concurrency,
            under_way: view.under_way,
            health: view.lane.health,
            account: slot.record.account.clone(),
            jobs: view.lane.jobs,
        })
    }

    /// Asks the connector for the live choices of a source.
    ///
    /// # Errors
    /// [`DeliveryError::Downstream`] with the failure.
    pub async fn options(
        &self,
        id: &InstanceId,
        source: &str,
        search: Option<&str>,
    ) -> Result<Vec<Choice>, DeliveryError> {
        let (invoker, settings) = self.invoker(id)?;
        let answer = invoker.options(&settings, source, search).await.result;
        answer.map_err(|fault| DeliveryError::Downstream(fault.failure()))?.map_err(DeliveryError::Downstream)
    }

    /// An instance's integration log, newest first.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`], [`DeliveryError::Invalid`] when `before` is no entry's, the store's or the
    /// vault's.
    pub fn journal(&self, id: &InstanceId, query: &JournalQuery, limit: usize) -> Result<JournalPage, DeliveryError> {
        let slot = self.slot(id)?;
        let sealer = self.sealer(&slot.record.instance.place)?;
        let prefix = keys::instance_prefix(id);
        let mut upper = match &query.before {
            Some(before) => {
                let invalid = |_| DeliveryError::Invalid(vec![Problem::new("before", "is not the next of a page")]);
                [prefix.clone(), hex::decode(before).map_err(invalid)?].concat()
            }
            None => Vec::new(),
        };
        let mut entries = Vec::new();
        loop {
            let page = self.parts.store.scan_back(Keyspace::Journal, &upper, &prefix, PAGE)?;
            let ended = page.len() < PAGE;
            for (key, bytes) in page {
                let at = keys::due_time(&key).unwrap_or_default();
                upper = key;
                if query.since.is_some_and(|since| at < since) {
                    return Ok(JournalPage { entries, next: None });
                }
                let entry: JournalEntry = sealer.open(Sealed::Journal, id.as_str(), at.0, &bytes)?;
                if query.failures_only && entry.failed.is_empty() {
                    continue;
                }
                entries.push(entry);
                if entries.len() >= limit {
                    let next = upper.strip_prefix(prefix.as_slice()).map(hex::encode);
                    return Ok(JournalPage { entries, next });
                }
            }
            if ended {
                return Ok(JournalPage { entries, next: None });
            }
        }
    }

    /// What a site captured, newest first, whatever became of it downstream.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownSite`], the store's or the vault's.
    pub fn captures(&self, place: &Place, query: &CaptureQuery, limit: usize) -> Result<Vec<Capture>, DeliveryError> {
        let log = self.log(place)?;
        let mut before = query.before;
        let mut found = Vec::new();
        loop {
            let page = log.read_before(before, PAGE.min(limit.max(1)))?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            before = Some(*last);
            for (sequence, stored) in page {
                if query.since.is_some_and(|since| stored.received_at < since) {
                    return Ok(found);
                }
                if query.until.is_some_and(|until| stored.received_at >= until)
                    || query.surfaces.as_ref().is_some_and(|surfaces| !surfaces.admits(&stored.event.surface))
                {
                    continue;
                }
                found.push(Capture {
                    sequence,
                    received_at: stored.received_at,
                    erased_at: stored.erased_at,
                    event: stored.event,
                });
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
    }

    /// What became of one captured event at every instance, or why an instance did not take it.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownEvent`], the store's or the vault's.
    pub fn trace(&self, place: &Place, event: &EventId) -> Result<Trace, DeliveryError> {
        let log = self.log(place)?;
        let unknown = || DeliveryError::UnknownEvent(event.clone());
        let sequence = log.find(event)?.ok_or_else(unknown)?;
        let stored = log.read(sequence)?.ok_or_else(unknown)?;
        let capture =
            Capture { sequence, received_at: stored.received_at, erased_at: stored.erased_at, event: stored.event };
        let instances =
            self.slots_of(place).iter().map(|slot| self.trace_at(slot, &capture)).collect::<Result<_, _>>()?;
        Ok(Trace { capture, instances })
    }

    fn trace_at(&self, slot: &Slot, capture: &Capture) -> Result<TraceEntry, DeliveryError> {
        let instance = &slot.record.instance;
        let (id, sequence) = (&instance.id, capture.sequence);
        let sealer = self.sealer(&instance.place)?;
        // Read in the order opposite to writing: what is settled by now has its record by the time that is read.
        let lane = slot.lane.view().lane;
        let settled = lane.progress.contains(sequence);
        let dead = self.parts.store.get(Keyspace::Dead, &keys::dead(id, sequence))?;
        let retry = self.parts.store.get(Keyspace::Retry, &keys::retry(id, sequence))?;
        let attempts = self.attempts(id, &sealer, sequence, capture.received_at)?;
        let routing = &slot.record.routing;
        let in_scope = instance.scope.admits(&capture.event.surface);
        let outcome = if let Some(bytes) = dead {
            let letter: DeadLetter = sealer.open(Sealed::Dead, id.as_str(), sequence.0, &bytes)?;
            TraceOutcome::DeadLettered { failure: letter.failure }
        } else if let Some(bytes) = retry {
            let record: RetryRecord = sealer.open(Sealed::Retry, id.as_str(), sequence.0, &bytes)?;
            TraceOutcome::Retrying { due: record.due, made: record.attempts }
        } else if attempts.iter().any(|attempt| attempt.failure.is_none()) {
            TraceOutcome::Delivered
        } else if sequence <= routing.start {
            TraceOutcome::Skipped { reason: "it was captured before the instance was configured" }
        } else if settled && capture.erased_at.is_some() {
            TraceOutcome::Erased
        } else if self.parts.store.get(Keyspace::Retry, &keys::discarded(id, sequence))?.is_some() {
            TraceOutcome::Discarded
        } else if routing.in_gap(sequence) {
            TraceOutcome::Skipped { reason: "the instance was disabled when it was captured" }
        } else if settled && in_scope && capture.received_at <= lane.journal.trimmed_to {
            // Its attempts are older than the integration log; had it failed for good, there would be a letter.
            TraceOutcome::Delivered
        } else if settled || !in_scope {
            // Never attempted, no dead letter: it was out of scope when it was its turn.
            TraceOutcome::Skipped { reason: "its surface is out of the instance's scope" }
        } else {
            TraceOutcome::Pending
        };
        Ok(TraceEntry { instance: id.clone(), connector: instance.connector.clone(), outcome, attempts })
    }

    /// The attempts on one event, from the integration log since it was captured.
    pub(crate) fn attempts(
        &self,
        id: &InstanceId,
        sealer: &crate::records::Sealer,
        sequence: Sequence,
        since: Timestamp,
    ) -> Result<Vec<TraceAttempt>, DeliveryError> {
        let from = keys::journal(id, since, 0);
        let entries = self.parts.store.scan(Keyspace::Journal, &from, &keys::instance_prefix(id), TRACE_ENTRIES)?;
        let mut attempts = Vec::new();
        for (key, bytes) in entries {
            let at = keys::due_time(&key).unwrap_or_default();
            let entry: JournalEntry = sealer.open(Sealed::Journal, id.as_str(), at.0, &bytes)?;
            let failure = if entry.delivered.contains(&sequence) {
                None
            } else if let Some(failed) = entry.failed.iter().find(|failed| failed.events.contains(&sequence)) {
                Some(failed.failure.clone())
            } else {
                continue;
            };
            attempts.push(TraceAttempt { at: entry.at, catalog_version: entry.catalog_version, failure });
        }
        Ok(attempts)
    }

    pub(crate) fn slot(&self, id: &InstanceId) -> Result<Slot, DeliveryError> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(id).cloned().ok_or_else(|| DeliveryError::UnknownInstance(id.clone()))
    }

    pub(crate) fn slots_of(&self, place: &Place) -> Vec<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter(|slot| slot.record.instance.place == *place).cloned().collect()
    }

    pub(crate) fn all_slots(&self) -> Vec<Slot> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn ids(&self) -> Vec<InstanceId> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) fn invoker(&self, id: &InstanceId) -> Result<(sgen_engine::Invoker, String), DeliveryError> {
        let slot = self.slot(id)?;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let ready = self.ready(&active, &slot.record.instance).map_err(DeliveryError::Downstream)?;
        Ok((ready.invoker, ready.settings))
    }
}
