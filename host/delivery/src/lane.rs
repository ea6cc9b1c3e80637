//! A lane: one connector instance's way from the log to its downstream.
//!
//! One task per lane owns all of its state; batches run beside it and come back as attempts, and whoever wants something
//! of it (a replay, an erasure, a health check to be noted) sends an order. A lane with nothing to do waits for its log's
//! head and costs nothing.

mod dispatch;
mod frozen;
mod intake;
mod orders;
mod upkeep;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use sgen_catalog::manifest;
use sgen_engine::Invoker;
use sgen_model::{Clock, Failure, FailureClass, PauseCause, Sequence};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::batch::{Attempt, Batch, Meta};
use crate::breaker::Admission;
use crate::capture::EventLog;
use crate::concurrency::Concurrency;
use crate::error::DeliveryError;
use crate::fair::FairShare;
use crate::ledger::{Entry, Ledger, LedgerParts, Submitted};
use crate::map::CompiledMapping;
use crate::moment::{LaneClock, Moment};
use crate::records::{InstanceRecord, LaneState, Sealer};
use crate::runtime::Parts;

use frozen::Frozen;
pub(crate) use orders::{Answer, Order, OrderKind};
pub(crate) use view::{LaneHandle, View, no_release};

/// The most commits under way at a time.
const COMMITS: usize = 64;
/// How long progress that only skips events may stay unwritten: it is found again by reading the log.
const SKIPS_UNWRITTEN: Duration = Duration::from_secs(1);
/// Orders that wait for a lane at a time; who sends more waits.
const ORDERS: usize = 64;

/// What a lane works with, replaced as a whole when the operator or the platform changes something.
pub(crate) struct LaneConfig {
    pub(crate) record: Arc<InstanceRecord>,
    /// What it needs to deliver, or why it cannot.
    pub(crate) ready: Result<Arc<Ready>, Failure>,
    /// Whether the host has no release yet: then it cannot deliver, and nobody has to be told.
    pub(crate) starting: bool,
}

/// Everything that an invocation needs.
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

/// What lanes share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Turns at the engine.
    pub(crate) turns: FairShare,
    /// Instances that are to be checked soon.
    pub(crate) checks: mpsc::UnboundedSender<sgen_model::InstanceId>,
}

/// The lane's own state.
pub(crate) struct Lane {
    ledger: Ledger,
    log: Arc<EventLog>,
    head: watch::Receiver<Sequence>,
    clock: Arc<dyn Clock>,
    time: LaneClock,
    shared: Shared,
    config: Arc<LaneConfig>,
    config_changes: watch::Receiver<Arc<LaneConfig>>,
    orders: mpsc::Receiver<Order>,
    stop: watch::Receiver<bool>,
    view: Arc<Mutex<View>>,
    handle: LaneHandle,
    concurrency: Concurrency,
    /// Counts the periods in which the lane may send: a batch that waited for its turn into another one is not sent.
    period: Arc<AtomicU64>,
    /// The mapping of what may have been sent before the host started.
    frozen: Frozen,
    /// What is with a connector and has no record: how it was mapped follows from the mapping in force.
    fresh: BTreeSet<Sequence>,
    /// What is with a connector and got its record meanwhile.
    kept: BTreeMap<Sequence, Meta>,
    /// When a batch of fresh events was last sent.
    fresh_sent_at: Option<Instant>,
    /// The mapping is being changed, until this ends.
    changing: Option<oneshot::Receiver<()>>,
    /// The last position read.
    read_to: Sequence,
    forming: Batch,
    forming_bytes: u64,
    forming_until: Option<Instant>,
    /// Events whose mapping failed.
    refused: Vec<(Meta, Failure)>,
    /// Events that wait for an earlier one of their key.
    parked: Batch,
    unwritten_since: Option<Instant>,
    redo: VecDeque<Batch>,
    running: JoinSet<Attempt>,
    /// How many of the running batches are retries.
    retries_running: usize,
    /// Positions with a connector, or settled by a commit that is not durable yet.
    in_flight: BTreeSet<Sequence>,
    commits: FuturesOrdered<BoxFuture<'static, Result<Written, DeliveryError>>>,
    /// When the next retry falls due; `None` while that is unknown or there is none.
    next_due: Option<Instant>,
    retries_known: bool,
}

/// A commit that has become durable.
struct Written {
    state: LaneState,
    /// Positions that are with nobody any more.
    released: Vec<Sequence>,
    /// Of these, the ones to be taken again.
    returned: Vec<Meta>,
    /// Whether it has changed what waits for another attempt.
    retries: bool,
    /// Who waits to hear of it.
    answer: Option<(oneshot::Sender<Result<Answer, DeliveryError>>, Answer)>,
}

enum Woken {
    Attempt(Result<Attempt, tokio::task::JoinError>),
    Written(Result<Box<Written>, DeliveryError>),
    Order(Order),
    Config,
    Stop,
    Other,
}

/// Ends when a change of the mapping does.
async fn over(changing: &mut Option<oneshot::Receiver<()>>) {
    if let Some(changing) = changing {
        // Whoever makes the change drops its end, also when it fails.
        drop(changing.await);
    }
}

impl Lane {
    pub(crate) fn new(
        log: Arc<EventLog>,
        sealer: Sealer,
        parts: &Parts,
        shared: Shared,
        config: Arc<LaneConfig>,
    ) -> Result<Self, DeliveryError> {
        let ledger = Ledger::open(
            &config.record,
            LedgerParts {
                store: parts.store.clone(),
                audit: parts.audit.clone(),
                entropy: parts.entropy.clone(),
                log: log.clone(),
                sealer,
                policy: parts.config.retry.clone(),
                hold_cap: parts.config.hold_cap,
                journal: parts.config.journal,
            },
        )?;
        let log_head = log.head();
        let (configs, config_changes) = watch::channel(config.clone());
        let (stops, stop) = watch::channel(false);
        let (order_sender, orders) = mpsc::channel(ORDERS);
        let view = Arc::new(Mutex::new(View::new(&ledger.state, &config.record)));
        let handle = LaneHandle::new(configs, stops, order_sender, view.clone());
        let time = LaneClock::starting(parts.clock.as_ref(), ledger.state.written_at, ledger.state.written_wall);
        let mut lane = Self {
            read_to: ledger.state.progress.cursor(),
            ledger,
            head: log.watch(),
            log,
            clock: parts.clock.clone(),
            time,
            shared,
            config: config.clone(),
            config_changes,
            orders,
            stop,
            view,
            handle,
            concurrency: Concurrency::new(parts.config.concurrency, parts.config.most_concurrency),
            period: Arc::default(),
            frozen: Frozen::new(log_head, parts.config.most_concurrency),
            fresh: BTreeSet::new(),
            kept: BTreeMap::new(),
            fresh_sent_at: None,
            changing: None,
            forming: Batch::default(),
            forming_bytes: 0,
            forming_until: None,
            refused: Vec::new(),
            parked: Batch::default(),
            unwritten_since: None,
            redo: VecDeque::new(),
            running: JoinSet::new(),
            retries_running: 0,
            in_flight: BTreeSet::new(),
            commits: FuturesOrdered::new(),
            next_due: None,
            retries_known: false,
        };
        let now = lane.now();
        if let Some(until) = lane.ledger.state.quiet_until {
            lane.ledger.breaker.asked(until.since(now.lane), now.instant);
        }
        lane.note_idle();
        lane.publish(None);
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
            self.view.lock().unwrap_or_else(PoisonError::into_inner).stopped(failure);
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
            let timer = if stopping { None } else { self.next_wake() };
            let takes_new = !stopping && !again && self.may_send() && self.has_room();
            let woken = tokio::select! {
                // In this order, so that nothing but what has happened decides what a lane does next. Each of the first
                // ends by itself, so none keeps the others from their turn.
                biased;
                changed = self.stop.changed() => if changed.is_ok() { Woken::Stop } else { Woken::Other },
                changed = self.config_changes.changed() => if changed.is_ok() { Woken::Config } else { Woken::Other },
                () = over(&mut self.changing), if self.changing.is_some() => { self.changing = None; Woken::Other },
                Some(written) = self.commits.next(), if !self.commits.is_empty() => Woken::Written(written.map(Box::new)),
                Some(attempt) = self.running.join_next() => Woken::Attempt(attempt),
                Some(order) = self.orders.recv(), if !stopping => Woken::Order(order),
                _ = self.head.changed(), if takes_new => Woken::Other,
                () = tokio::task::yield_now(), if again => Woken::Other,
                () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => Woken::Other,
            };
            match woken {
                Woken::Attempt(Ok(attempt)) => self.settle(attempt)?,
                // Only when the async runtime itself shuts down: nothing was settled, so nothing is lost.
                Woken::Attempt(Err(_)) => return Err(DeliveryError::Stopping),
                Woken::Written(written) => self.written(*written?),
                Woken::Order(order) => self.obey(order)?,
                Woken::Config => {
                    let config = self.config_changes.borrow_and_update().clone();
                    self.configure(config)?;
                }
                // Batches that wait for their turn come back unsent.
                Woken::Stop => {
                    self.period.fetch_add(1, Ordering::AcqRel);
                }
                Woken::Other => {}
            }
        }
    }

    fn now(&self) -> Moment {
        self.time.now(self.clock.as_ref())
    }

    fn configure(&mut self, config: Arc<LaneConfig>) -> Result<(), DeliveryError> {
        // What an operator has changed is tried at once.
        if config.record.instance.revision != self.config.record.instance.revision {
            self.ledger.breaker.close();
        }
        self.config = config;
        self.period.fetch_add(1, Ordering::AcqRel);
        self.note_idle();
        if let Ok(ready) = &self.config.ready {
            self.frozen.begin(ready, self.ledger.is_paused(&self.config.record));
        }
        self.freeze_redo()?;
        // What was mapped under the former configuration and not yet sent is mapped again.
        self.rewind();
        let blocked = self.config.ready.as_ref().err();
        if !self.config.starting && self.ledger.condition_changed(&self.config.record, blocked) {
            self.write()?;
        }
        self.publish(None);
        Ok(())
    }

    /// What was sent in a batch that is to be split keeps its contents, whatever becomes of the mapping.
    fn freeze_redo(&mut self) -> Result<(), DeliveryError> {
        let fresh: Vec<Batch> = self.redo.iter().filter(|batch| !batch.is_retry()).map(Batch::copied).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.redo.retain(Batch::is_retry);
        let now = self.now();
        let config = self.config.clone();
        let mut entry = Entry::new(&config.record, config.ready.as_deref(), now);
        let mut released = Vec::new();
        for batch in fresh {
            for (meta, event) in batch.metas.into_iter().zip(batch.events) {
                released.push(meta.sequence);
                self.ledger.keep(&mut entry, meta, event, None, now.lane)?;
            }
        }
        let commit = self.ledger.submit(entry)?;
        self.await_commit(commit, released, Vec::new(), None);
        Ok(())
    }

    fn note_idle(&mut self) {
        let (may_deliver, now) = (self.may_deliver(), self.now());
        self.ledger.count_idle(may_deliver, &now);
    }

    /// Reads again from the cursor what is neither settled nor in flight.
    fn rewind(&mut self) {
        for meta in std::mem::take(&mut self.forming).metas {
            self.ledger.give_back(&meta);
        }
        self.forming_bytes = 0;
        self.forming_until = None;
        for batch in std::mem::take(&mut self.redo) {
            for meta in batch.metas {
                self.in_flight.remove(&meta.sequence);
                self.ledger.give_back(&meta);
            }
        }
        self.refused.clear();
        self.parked = Batch::default();
        self.read_to = self.ledger.state.progress.cursor();
        self.retries_known = false;
    }

    /// Whether the instance delivers at all, apart from a downstream that wants to be left alone for a while.
    fn may_deliver(&self) -> bool {
        self.config.record.instance.enabled && self.config.ready.is_ok() && !self.ledger.is_paused(&self.config.record)
    }

    /// Whether it may send now, as far as the operator is concerned.
    fn may_send(&self) -> bool {
        self.may_deliver() && self.changing.is_none()
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.concurrency.limit() && self.commits.len() < COMMITS
    }

    fn written(&mut self, written: Written) {
        let Written { state, released, returned, retries, answer } = written;
        let mut unsettled = false;
        for sequence in released {
            self.in_flight.remove(&sequence);
            unsettled |= !self.ledger.state.progress.contains(sequence);
        }
        for meta in &returned {
            self.ledger.give_back(meta);
        }
        if retries || !returned.is_empty() {
            self.retries_known = false;
        }
        if unsettled {
            // A batch that ran into a pause has come back: reading may have gone past its events.
            self.rewind();
        }
        self.publish(Some(state));
        if let Some((sender, answer)) = answer {
            // Who asked may have gone; what was asked for is done all the same.
            drop(sender.send(Ok(answer)));
        }
    }

    /// Writes progress that no settlement carries.
    fn write(&mut self) -> Result<(), DeliveryError> {
        let (refused, parked) = (std::mem::take(&mut self.refused), std::mem::take(&mut self.parked));
        let now = self.now();
        let config = self.config.clone();
        let mut entry = Entry::new(&config.record, config.ready.as_deref(), now);
        for (meta, failure) in refused {
            self.ledger.refuse(&mut entry, meta, failure)?;
        }
        for (meta, event) in parked.metas.into_iter().zip(parked.events) {
            self.ledger.keep(&mut entry, meta, event, None, now.lane)?;
        }
        for due in self.ledger.lines.adopt(self.read_to, now.lane) {
            self.ledger.put_due(&mut entry, due);
        }
        let commit = self.ledger.submit(entry)?;
        self.unwritten_since = None;
        self.await_commit(commit, Vec::new(), Vec::new(), None);
        Ok(())
    }

    fn await_commit(
        &mut self,
        commit: Submitted,
        released: Vec<Sequence>,
        returned: Vec<Meta>,
        answer: Option<(oneshot::Sender<Result<Answer, DeliveryError>>, Answer)>,
    ) {
        let state = self.ledger.state.clone();
        let Submitted { ticket, retries } = commit;
        self.commits.push_back(Box::pin(async move {
            match ticket.await {
                Ok(()) => Ok(Written { state, released, returned, retries, answer }),
                Err(error) => {
                    if let Some((sender, _)) = answer {
                        drop(sender.send(Err(error.clone().into())));
                    }
                    Err(error.into())
                }
            }
        }));
    }

    /// The moment at which there is something to do again without anything happening.
    fn next_wake(&self) -> Option<Instant> {
        if !self.may_send() {
            return None;
        }
        let now = Instant::now();
        let skips = self.unwritten_since.and_then(|since| since.checked_add(SKIPS_UNWRITTEN));
        let work = match self.ledger.breaker.admission(now) {
            // While the lane is held, everything but the writing of skips waits for its end.
            Admission::Wait(until) => Some(until),
            // What is under way has to come back first.
            Admission::Probe if !self.running.is_empty() => None,
            Admission::Probe => self.next_due,
            Admission::Free if !self.has_room() => None,
            Admission::Free => {
                let gathering = self.running.is_empty() && !self.forming.is_empty();
                let gap = self.gap_ends().filter(|ends| gathering && *ends > now);
                let due = self.next_due.filter(|_| self.retries_may_go() || self.forming.is_empty());
                self.forming_until.into_iter().chain(gap).chain(due).min()
            }
        };
        work.into_iter().chain(skips).min()
    }
}
