//! A lane: one connector instance's way from the log to its downstream.
//!
//! One task per lane owns all of its state; batches run beside it and come back as attempts. A lane with nothing to do
//! waits for its log's head and costs nothing.

mod intake;

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use sgen_catalog::manifest;
use sgen_engine::Invoker;
use sgen_model::{Clock, Failure, FailureClass, PauseCause, Sequence, Timestamp};
use sgen_store::Ticket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::capture::EventLog;
use crate::error::DeliveryError;
use crate::map::CompiledMapping;
use crate::records::{InstanceRecord, LaneState, Sealer};
use crate::runtime::Parts;
use crate::settle::{Attempt, Batch, Ledger, LedgerParts, Meta};

/// The most commits under way at a time.
const COMMITS: usize = 64;
/// How long progress that only skips events may stay unwritten: it is found again by reading the log.
const SKIPS_UNWRITTEN: Duration = Duration::from_secs(1);

/// What a lane works with, replaced as a whole when the operator or the platform changes something.
pub(crate) struct LaneConfig {
    pub(crate) record: Arc<InstanceRecord>,
    /// What it needs to deliver, or why it cannot.
    pub(crate) ready: Result<Ready, Failure>,
}

/// Everything that an invocation needs.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) invoker: Invoker,
    pub(crate) mapping: CompiledMapping,
    pub(crate) settings: String,
    pub(crate) batch: manifest::Batch,
    pub(crate) catalog_version: String,
    pub(crate) component_digest: String,
    /// The instance's revision that this was made from.
    pub(crate) revision: u64,
}

/// What is known of a lane from outside: its last durable state, and what it waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) state: LaneState,
    pub(crate) hold_until: Option<Timestamp>,
    /// Why it cannot deliver, when that is not for the operator to mend by a pause's end.
    pub(crate) blocked: Option<PauseCause>,
}

/// A lane from outside.
#[derive(Clone)]
pub(crate) struct LaneHandle {
    config: Arc<watch::Sender<Arc<LaneConfig>>>,
    stop: Arc<watch::Sender<bool>>,
    view: Arc<Mutex<View>>,
}

impl LaneHandle {
    pub(crate) fn reconfigure(&self, config: Arc<LaneConfig>) {
        self.config.send_replace(config);
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The lane's own state.
pub(crate) struct Lane {
    ledger: Ledger,
    log: Arc<EventLog>,
    head: watch::Receiver<Sequence>,
    clock: Arc<dyn Clock>,
    concurrency: usize,
    config: Arc<LaneConfig>,
    ready: Option<Arc<Ready>>,
    config_changes: watch::Receiver<Arc<LaneConfig>>,
    stop: watch::Receiver<bool>,
    view: Arc<Mutex<View>>,
    handle: LaneHandle,
    /// The last position read.
    read_to: Sequence,
    forming: Batch,
    forming_bytes: u64,
    forming_until: Option<Timestamp>,
    refused: Vec<(Meta, Failure)>,
    unwritten_since: Option<Timestamp>,
    redo: VecDeque<Batch>,
    running: JoinSet<Attempt>,
    /// Positions with a connector, or settled by a commit that is not durable yet.
    in_flight: BTreeSet<Sequence>,
    commits: FuturesOrdered<BoxFuture<'static, Result<Written, DeliveryError>>>,
    hold_until: Option<Timestamp>,
    /// When the next retry falls due; `None` while that is unknown or there is none.
    next_due: Option<Timestamp>,
    retries_known: bool,
}

/// A commit that has become durable.
struct Written {
    state: LaneState,
    released: Vec<Sequence>,
}

enum Woken {
    Attempt(Result<Attempt, tokio::task::JoinError>),
    Written(Result<Written, DeliveryError>),
    Config,
    Stop,
    Other,
}

impl Lane {
    pub(crate) fn new(
        log: Arc<EventLog>,
        sealer: Sealer,
        parts: &Parts,
        config: Arc<LaneConfig>,
    ) -> Result<Self, DeliveryError> {
        let ledger = Ledger::open(
            &config.record,
            LedgerParts {
                store: parts.store.clone(),
                audit: parts.audit.clone(),
                entropy: parts.entropy.clone(),
                sealer,
                policy: parts.config.retry.clone(),
                hold_cap: parts.config.hold_cap,
            },
        )?;
        let (configs, config_changes) = watch::channel(config.clone());
        let (stops, stop) = watch::channel(false);
        let view = Arc::new(Mutex::new(View { state: ledger.state.clone(), ..View::default() }));
        let handle = LaneHandle { config: Arc::new(configs), stop: Arc::new(stops), view: view.clone() };
        let mut lane = Self {
            read_to: ledger.state.progress.cursor(),
            // A restart does not cut short what the downstream asked for.
            hold_until: ledger.state.quiet_until,
            ledger,
            head: log.watch(),
            log,
            clock: parts.clock.clone(),
            concurrency: parts.config.concurrency.max(1),
            config: config.clone(),
            ready: None,
            config_changes,
            stop,
            view,
            handle,
            forming: Batch::default(),
            forming_bytes: 0,
            forming_until: None,
            refused: Vec::new(),
            unwritten_since: None,
            redo: VecDeque::new(),
            running: JoinSet::new(),
            in_flight: BTreeSet::new(),
            commits: FuturesOrdered::new(),
            next_due: None,
            retries_known: false,
        };
        lane.configure(config);
        Ok(lane)
    }

    /// The handle, and the future that runs the lane until it is stopped.
    pub(crate) fn launch(self) -> (LaneHandle, impl Future<Output = ()> + Send) {
        (self.handle.clone(), self.run())
    }

    async fn run(mut self) {
        let id = self.ledger.id.clone();
        if let Err(error) = self.work().await {
            tracing::error!(instance = %id, %error, "the lane has stopped; its events wait until the host is started again");
            let failure = Failure::new(FailureClass::ConnectorFault, format!("the lane has stopped: {error}"));
            let failure = PauseCause { since: self.clock.now(), failure };
            self.view.lock().unwrap_or_else(PoisonError::into_inner).blocked = Some(failure);
        }
    }

    async fn work(&mut self) -> Result<(), DeliveryError> {
        loop {
            let stopping = *self.stop.borrow();
            if stopping && self.running.is_empty() {
                if self.unwritten_since.is_some() {
                    self.write()?;
                }
                if self.commits.is_empty() {
                    return Ok(());
                }
            }
            let again = if stopping { false } else { self.fill()? };
            let now = self.clock.now();
            let timer = if stopping { None } else { self.next_wake() };
            let can_take = !stopping && self.may_send(now) && self.has_room();
            let woken = tokio::select! {
                // In this order, so that nothing but what has happened decides what a lane does next. Each of the first
                // four ends by itself, so none keeps the others from their turn.
                biased;
                changed = self.stop.changed() => if changed.is_ok() { Woken::Stop } else { Woken::Other },
                changed = self.config_changes.changed() => if changed.is_ok() { Woken::Config } else { Woken::Other },
                Some(written) = self.commits.next(), if !self.commits.is_empty() => Woken::Written(written),
                Some(attempt) = self.running.join_next() => Woken::Attempt(attempt),
                _ = self.head.changed(), if can_take && !again => Woken::Other,
                () = tokio::task::yield_now(), if again => Woken::Other,
                () = tokio::time::sleep(timer.unwrap_or_default().since(now)), if timer.is_some() => Woken::Other,
            };
            match woken {
                Woken::Attempt(Ok(attempt)) => self.settle(attempt)?,
                // Only when the async runtime itself shuts down: nothing was settled, so nothing is lost.
                Woken::Attempt(Err(_)) => return Err(DeliveryError::Stopping),
                Woken::Written(written) => {
                    let written = written?;
                    let mut unsettled = false;
                    for sequence in written.released {
                        self.in_flight.remove(&sequence);
                        unsettled |= !self.ledger.state.progress.contains(sequence);
                    }
                    self.retries_known = false;
                    if unsettled {
                        // A batch that ran into a pause has come back: reading may have gone past its events.
                        self.rewind();
                    }
                    self.publish(Some(written.state));
                }
                Woken::Config => {
                    let config = self.config_changes.borrow_and_update().clone();
                    self.configure(config);
                }
                Woken::Stop | Woken::Other => {}
            }
        }
    }

    fn configure(&mut self, config: Arc<LaneConfig>) {
        self.ready = config.ready.as_ref().ok().map(|ready| Arc::new(ready.clone()));
        // What an operator has changed is tried at once, but not before a downstream's wish for quiet is over.
        if config.record.instance.revision != self.config.record.instance.revision {
            self.hold_until = self.ledger.state.quiet_until;
        }
        self.config = config;
        // What was mapped under the former configuration and not yet sent is mapped again.
        self.rewind();
        self.publish(None);
    }

    /// Reads again from the cursor what is neither settled nor in flight.
    fn rewind(&mut self) {
        self.forming = Batch::default();
        self.forming_bytes = 0;
        self.forming_until = None;
        for batch in std::mem::take(&mut self.redo) {
            for meta in batch.metas {
                self.in_flight.remove(&meta.sequence);
            }
        }
        self.refused.clear();
        self.read_to = self.ledger.state.progress.cursor();
        self.retries_known = false;
    }

    /// Whether anything may be sent now.
    fn may_send(&self, now: Timestamp) -> bool {
        self.config.record.instance.enabled
            && self.ready.is_some()
            && !self.ledger.is_paused(&self.config.record)
            && self.hold_until.is_none_or(|until| until <= now)
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.concurrency && self.commits.len() < COMMITS
    }

    /// Starts what can be started. Answers whether there is more to read at once.
    fn fill(&mut self) -> Result<bool, DeliveryError> {
        let now = self.clock.now();
        let Some(ready) = self.ready.clone() else { return Ok(false) };
        if !self.may_send(now) {
            return Ok(false);
        }
        self.hold_until = None;
        let mut more = false;
        while self.has_room() {
            if let Some(batch) = self.redo.pop_front() {
                self.dispatch(batch, &ready);
                continue;
            }
            if let Some(batch) = self.due_retries(&ready, now)? {
                self.dispatch(batch, &ready);
                continue;
            }
            more = self.read(&ready, now)?;
            let full = self.forming.len() >= intake::limit(&ready) || self.forming_bytes >= ready.batch.bytes;
            // Further ahead than anything lingers: the clock was set back, and the time has not come nearer since.
            let beyond = now.after(ready.batch.linger);
            let lingered = self.forming_until.is_some_and(|until| until <= now || until > beyond);
            if !self.forming.is_empty() && (full || lingered) {
                let batch = std::mem::take(&mut self.forming);
                self.forming_bytes = 0;
                self.forming_until = None;
                self.dispatch(batch, &ready);
                continue;
            }
            break;
        }
        let overdue = self.unwritten_since.is_some_and(|since| now.since(since) >= SKIPS_UNWRITTEN);
        if overdue || !self.refused.is_empty() {
            self.write()?;
        }
        Ok(more && self.has_room())
    }

    fn dispatch(&mut self, batch: Batch, ready: &Arc<Ready>) {
        self.in_flight.extend(batch.metas.iter().map(|meta| meta.sequence));
        let ready = ready.clone();
        let clock = self.clock.clone();
        self.running.spawn(async move {
            let began = clock.now();
            let call = AssertUnwindSafe(ready.invoker.deliver(&ready.settings, &batch.events)).catch_unwind().await;
            let (outcomes, log) = match call {
                Ok(invocation) => {
                    let log = invocation.log.into_iter().map(|line| format!("{}: {}", line.level, line.text)).collect();
                    (invocation.result.map_err(|fault| fault.failure()), log)
                }
                // Treated as the connector's: bisected, and the event that brings it about ends as a dead letter.
                Err(_) => {
                    let said = "the host failed while it ran the connector: platform support has to look at its log";
                    (Err(Failure::new(FailureClass::ConnectorFault, said)), Vec::new())
                }
            };
            let took = clock.now().since(began);
            let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            Attempt { batch, outcomes, log, duration_ms, ready }
        });
    }

    fn settle(&mut self, attempt: Attempt) -> Result<(), DeliveryError> {
        let now = self.clock.now();
        let all: Vec<Sequence> = attempt.batch.metas.iter().map(|meta| meta.sequence).collect();
        let settled = self.ledger.settle(&self.config.record, attempt, now)?;
        let kept: BTreeSet<Sequence> =
            settled.split.iter().flat_map(|batch| batch.metas.iter().map(|meta| meta.sequence)).collect();
        self.redo.extend(settled.split);
        let released = all.into_iter().filter(|sequence| !kept.contains(sequence)).collect();
        self.await_commit(settled.ticket, released);
        self.unwritten_since = None;
        if !self.refused.is_empty() {
            self.unwritten_since = Some(now);
        }
        if let Some(until) = settled.hold_until {
            self.hold_until = Some(self.hold_until.map_or(until, |known| known.max(until)));
        }
        if settled.paused {
            self.rewind();
        }
        self.publish(None);
        Ok(())
    }

    /// Writes progress that no settlement carries.
    fn write(&mut self) -> Result<(), DeliveryError> {
        let refused = std::mem::take(&mut self.refused);
        let ticket = self.ledger.write(&self.config.record, self.ready.as_deref(), refused, self.clock.now())?;
        self.unwritten_since = None;
        self.await_commit(ticket, Vec::new());
        Ok(())
    }

    fn await_commit(&mut self, ticket: Ticket, released: Vec<Sequence>) {
        let state = self.ledger.state.clone();
        self.commits.push_back(Box::pin(async move {
            ticket.await?;
            Ok(Written { state, released })
        }));
    }

    fn next_wake(&self) -> Option<Timestamp> {
        if self.ready.is_none() || !self.config.record.instance.enabled || self.ledger.is_paused(&self.config.record) {
            return None;
        }
        let hold = self.hold_until.unwrap_or_default();
        let skips = self.unwritten_since.map(|since| since.after(SKIPS_UNWRITTEN));
        let work = if self.has_room() { self.forming_until.into_iter().chain(self.next_due).min() } else { None };
        // While the lane is held, everything but the writing of skips waits for its end.
        work.into_iter().chain(skips).map(|at| at.max(hold)).chain(self.hold_until).min()
    }

    fn publish(&self, state: Option<LaneState>) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = state {
            view.state = state;
        }
        view.hold_until = self.hold_until;
        let blocked = self.config.ready.as_ref().err();
        if blocked != view.blocked.as_ref().map(|cause| &cause.failure) {
            view.blocked = blocked.map(|failure| PauseCause { since: self.clock.now(), failure: failure.clone() });
        }
    }
}
