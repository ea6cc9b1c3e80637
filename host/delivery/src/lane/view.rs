//! A lane from outside: what is known of it, and how it is told something.

use std::sync::{Arc, Mutex, PoisonError};

use sgen_model::{Failure, FailureClass, InstanceState, PauseCause, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::orders::{Answer, Order, OrderKind};
use super::{Lane, LaneConfig};
use crate::error::DeliveryError;
use crate::records::{InstanceRecord, LaneState};

/// What is known of a lane from outside: its last durable state, and what it waits for.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) lane: LaneState,
    pub(crate) state: InstanceState,
    /// Nothing is sent before this time.
    pub(crate) hold_until: Option<Timestamp>,
    /// Batches that may be under way at a time.
    pub(crate) concurrency: usize,
    /// Batches under way.
    pub(crate) under_way: usize,
    stopped: Option<PauseCause>,
}

impl View {
    pub(super) fn new(lane: &LaneState, record: &InstanceRecord) -> Self {
        let state = if record.instance.enabled { InstanceState::Active } else { InstanceState::Disabled };
        Self { lane: lane.clone(), state, hold_until: None, concurrency: 0, under_way: 0, stopped: None }
    }

    /// The lane has come to its end by an error: it stays so until the host is started again.
    pub(super) fn stopped(&mut self, cause: PauseCause) {
        self.state = InstanceState::Paused(cause.clone());
        self.stopped = Some(cause);
    }
}

/// A lane from outside.
#[derive(Clone)]
pub(crate) struct LaneHandle {
    config: Arc<watch::Sender<Arc<LaneConfig>>>,
    stop: Arc<watch::Sender<bool>>,
    orders: mpsc::Sender<Order>,
    view: Arc<Mutex<View>>,
}

impl LaneHandle {
    pub(super) fn new(
        config: watch::Sender<Arc<LaneConfig>>,
        stop: watch::Sender<bool>,
        orders: mpsc::Sender<Order>,
        view: Arc<Mutex<View>>,
    ) -> Self {
        Self { config: Arc::new(config), stop: Arc::new(stop), orders, view }
    }

    pub(crate) fn reconfigure(&self, config: Arc<LaneConfig>) {
        self.config.send_replace(config);
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves once the lane has ended and writes nothing more.
    pub(crate) async fn ended(&self) {
        self.orders.closed().await;
    }

    pub(crate) fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the lane an order; answers once what it changed is durable.
    ///
    /// # Errors
    /// [`DeliveryError::Stopping`] when the lane has ended, or the order's own.
    pub(crate) async fn order(&self, kind: OrderKind) -> Result<Answer, DeliveryError> {
        let (answer, wait) = oneshot::channel();
        self.orders.send(Order { kind, answer }).await.map_err(|_| DeliveryError::Stopping)?;
        wait.await.map_err(|_| DeliveryError::Stopping)?
    }
}

impl Lane {
    /// Makes what is known outside follow; `state` is the last durable one.
    pub(super) fn publish(&self, state: Option<LaneState>) {
        let now = self.now();
        let blocked = self.config.ready.as_ref().err();
        let shown = self.ledger.instance_state(&self.config.record, blocked);
        let hold = self.ledger.breaker.until().filter(|until| *until > now.instant);
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = state {
            view.lane = state;
        }
        view.hold_until = hold.map(|until| now.wall_of(until));
        view.concurrency = self.concurrency.limit();
        view.under_way = self.running.len();
        view.state = shown;
    }
}

/// Why events wait while the host has no release.
pub(crate) fn no_release() -> Failure {
    Failure::new(FailureClass::ConnectorFault, "no platform release is active yet: events wait")
}
