//! What an operator sees: status, dead letters, integration log, captures, traces; and what a connector is asked.

use std::sync::PoisonError;

use serde::Serialize;
use sgen_model::{
    CaptureEvent, Choice, ConnectorInstance, DownstreamAccount, EventId, Failure, InstanceId, InstanceState, Place,
    Sequence, Timestamp, Verdict,
};
use sgen_store::Keyspace;

use crate::error::DeliveryError;
use crate::keys;
use crate::lane::View;
use crate::records::{AttemptFailure, DeadLetter, JournalEntry, RetryRecord, Sealed, decode};
use crate::runtime::{PAGE, Runtime, Slot};

/// How many integration-log entries a trace looks through.
const TRACE_ENTRIES: usize = 10_000;

/// What an instance is doing, and how far it is.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceStatus {
    /// Active, paused with the cause, or disabled.
    #[serde(flatten)]
    pub state: InstanceState,
    /// Everything at or below this position of the log is settled.
    pub cursor: Sequence,
    /// The last position of the log.
    pub head: Sequence,
    /// Positions that are not settled yet.
    pub pending: u64,
    /// Events that wait for another attempt.
    pub retrying: u64,
    /// Events delivered since it was configured.
    pub delivered: u64,
    /// Events given up since it was configured.
    pub dead_lettered: u64,
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
    /// Failures that were surfaced and are not resolved.
    pub surfaced: Vec<SurfacedFailure>,
}

/// A failure that waits for triage: one per cause.
#[derive(Debug, Clone, Serialize)]
pub struct SurfacedFailure {
    /// Class with code or field.
    pub cause: String,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// How often.
    pub count: u64,
    /// One of them.
    pub sample: Failure,
    /// What to do about it.
    pub action: &'static str,
}

/// The answer to a health check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckResult {
    /// The connector's verdict.
    pub verdict: Verdict,
    /// The downstream account that the credential belongs to, where the connector can tell.
    pub account: Option<DownstreamAccount>,
}

/// A captured event, as the site's own list shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Capture {
    /// Its position in the log.
    pub sequence: Sequence,
    /// When it arrived here.
    pub received_at: Timestamp,
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
        /// When.
        due: Timestamp,
        /// Attempts so far.
        made: u32,
    },
    /// It was given up.
    DeadLettered {
        /// Why.
        failure: Failure,
    },
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
        let counters = view.state.counters;
        let mut surfaced = Vec::new();
        for (_, bytes) in self.parts.store.scan(Keyspace::Surfaced, b"", &keys::instance_prefix(id), PAGE)? {
            let item: crate::records::Surfaced = decode("surfaced failure", &bytes)?;
            surfaced.push(SurfacedFailure {
                cause: item.cause,
                first_seen: item.first_seen,
                last_seen: item.last_seen,
                count: item.count,
                action: item.sample.class.advice(),
                sample: item.sample,
            });
        }
        Ok(InstanceStatus {
            state: state(&slot, &view),
            cursor: view.state.progress.cursor(),
            head,
            pending: view.state.progress.open(slot.record.routing.reach(head)),
            retrying: counters.retrying,
            delivered: counters.delivered,
            dead_lettered: counters.dead_lettered,
            skipped: counters.skipped,
            attempts: counters.attempts,
            last_delivery_at: view.state.last_delivery_at,
            last_failure: view.state.last_failure,
            waiting_until: view.hold_until,
            surfaced,
        })
    }

    /// Asks the connector whether this instance can deliver.
    ///
    /// # Errors
    /// [`DeliveryError::Downstream`] with the failure, when the connector itself has no answer.
    pub async fn check(&self, id: &InstanceId) -> Result<CheckResult, DeliveryError> {
        let (invoker, settings) = self.invoker(id)?;
        let verdict =
            invoker.check(&settings).await.result.map_err(|fault| DeliveryError::Downstream(fault.failure()))?;
        let account = match invoker.account(&settings).await {
            Some(invocation) => invocation.result.ok().and_then(Result::ok),
            None => None,
        };
        Ok(CheckResult { verdict, account })
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

    /// An instance's dead letters, newest position first. `before` is a position to go on from.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`], the store's or the vault's.
    pub fn dead_letters(
        &self,
        id: &InstanceId,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, DeliveryError> {
        let slot = self.slot(id)?;
        let sealer = self.sealer(&slot.record.instance.place)?;
        let upper = before.map(|before| keys::dead(id, before)).unwrap_or_default();
        let entries = self.parts.store.scan_back(Keyspace::Dead, &upper, &keys::instance_prefix(id), limit)?;
        entries
            .into_iter()
            .map(|(key, bytes)| sealer.open(Sealed::Dead, id.as_str(), keys::number(&key).unwrap_or(0), &bytes))
            .collect()
    }

    /// An instance's integration log, newest first.
    ///
    /// # Errors
    /// As [`Runtime::dead_letters`].
    pub fn journal(&self, id: &InstanceId, limit: usize) -> Result<Vec<JournalEntry>, DeliveryError> {
        let slot = self.slot(id)?;
        let sealer = self.sealer(&slot.record.instance.place)?;
        let entries = self.parts.store.scan_back(Keyspace::Journal, b"", &keys::instance_prefix(id), limit)?;
        entries
            .into_iter()
            .map(|(key, bytes)| {
                let at = keys::due_time(&key).unwrap_or_default();
                sealer.open(Sealed::Journal, id.as_str(), at.0, &bytes)
            })
            .collect()
    }

    /// What a site captured, newest first, whatever became of it downstream.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownSite`], the store's or the vault's.
    pub fn captures(
        &self,
        place: &Place,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Capture>, DeliveryError> {
        let stored = self.log(place)?.read_before(before, limit)?;
        Ok(stored
            .into_iter()
            .map(|(sequence, stored)| Capture { sequence, received_at: stored.received_at, event: stored.event })
            .collect())
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
        let capture = Capture { sequence, received_at: stored.received_at, event: stored.event };
        let instances =
            self.slots_of(place).iter().map(|slot| self.trace_at(slot, &capture)).collect::<Result<_, _>>()?;
        Ok(Trace { capture, instances })
    }

    fn trace_at(&self, slot: &Slot, capture: &Capture) -> Result<TraceEntry, DeliveryError> {
        let instance = &slot.record.instance;
        let (id, sequence) = (&instance.id, capture.sequence);
        let sealer = self.sealer(&instance.place)?;
        // Read in the order opposite to writing: what is settled by now has its record by the time that is read.
        let settled = slot.lane.view().state.progress.contains(sequence);
        let dead = self.parts.store.get(Keyspace::Dead, &keys::dead(id, sequence))?;
        let retry = self.parts.store.get(Keyspace::Retry, &keys::retry(id, sequence))?;
        let attempts = self.attempts(id, &sealer, capture)?;
        let outcome = if let Some(bytes) = dead {
            let letter: DeadLetter = sealer.open(Sealed::Dead, id.as_str(), sequence.0, &bytes)?;
            TraceOutcome::DeadLettered { failure: letter.failure }
        } else if let Some(bytes) = retry {
            let record: RetryRecord = sealer.open(Sealed::Retry, id.as_str(), sequence.0, &bytes)?;
            TraceOutcome::Retrying { due: record.due, made: record.attempts }
        } else if attempts.iter().any(|attempt| attempt.failure.is_none()) {
            TraceOutcome::Delivered
        } else if sequence <= slot.record.routing.start {
            TraceOutcome::Skipped { reason: "it was captured before the instance was configured" }
        } else if slot.record.routing.in_gap(sequence) {
            TraceOutcome::Skipped { reason: "the instance was disabled when it was captured" }
        } else if settled && attempts.is_empty() {
            // Never attempted, no dead letter: it was out of scope when it was its turn.
            TraceOutcome::Skipped { reason: "its surface is out of the instance's scope" }
        } else if !instance.scope.admits(&capture.event.surface) {
            TraceOutcome::Skipped { reason: "its surface is out of the instance's scope" }
        } else {
            TraceOutcome::Pending
        };
        Ok(TraceEntry { instance: id.clone(), connector: instance.connector.clone(), outcome, attempts })
    }

    /// The attempts on one event, from the integration log since it was captured.
    fn attempts(
        &self,
        id: &InstanceId,
        sealer: &crate::records::Sealer,
        capture: &Capture,
    ) -> Result<Vec<TraceAttempt>, DeliveryError> {
        let from = keys::journal(id, capture.received_at, 0);
        let entries = self.parts.store.scan(Keyspace::Journal, &from, &keys::instance_prefix(id), TRACE_ENTRIES)?;
        let mut attempts = Vec::new();
        for (key, bytes) in entries {
            let at = keys::due_time(&key).unwrap_or_default();
            let entry: JournalEntry = sealer.open(Sealed::Journal, id.as_str(), at.0, &bytes)?;
            let failure = if entry.delivered.contains(&capture.sequence) {
                None
            } else if let Some(failed) = entry.failed.iter().find(|failed| failed.events.contains(&capture.sequence)) {
                Some(failed.failure.clone())
            } else {
                continue;
            };
            attempts.push(TraceAttempt { at: entry.at, catalog_version: entry.catalog_version, failure });
        }
        Ok(attempts)
    }

    fn slot(&self, id: &InstanceId) -> Result<Slot, DeliveryError> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(id).cloned().ok_or_else(|| DeliveryError::UnknownInstance(id.clone()))
    }

    fn slots_of(&self, place: &Place) -> Vec<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter(|slot| slot.record.instance.place == *place).cloned().collect()
    }

    fn invoker(&self, id: &InstanceId) -> Result<(sgen_engine::Invoker, String), DeliveryError> {
        let slot = self.slot(id)?;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let ready = self.ready(&active, &slot.record.instance).map_err(DeliveryError::Downstream)?;
        Ok((ready.invoker, ready.settings))
    }
}

fn state(slot: &Slot, view: &View) -> InstanceState {
    let instance = &slot.record.instance;
    if !instance.enabled {
        return InstanceState::Disabled;
    }
    if let Some(cause) = &view.blocked {
        return InstanceState::Paused(cause.clone());
    }
    match &view.state.pause {
        Some(pause) if pause.revision == instance.revision => InstanceState::Paused(pause.cause.clone()),
        _ => InstanceState::Active,
    }
}
