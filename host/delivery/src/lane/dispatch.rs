//! What a lane sends, and what it does when that comes back.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use sgen_model::{Failure, FailureClass, Sequence};
use tokio::time::Instant;

use super::{Lane, Ready, SKIPS_UNWRITTEN, intake};
use crate::batch::{Attempt, Attempted, Batch};
use crate::breaker::Admission;
use crate::error::DeliveryError;
use crate::moment::Moment;
use crate::settle::Sent;

/// What comes in within this time of a batch goes together in the next one, even when nothing is under way: a batch of a few
/// events costs nearly as much as a full one.
pub(super) const GAP: Duration = Duration::from_millis(3);
/// Events that may wait for an earlier one of their key; more stay in the log until some have gone.
pub(super) const PARKED: usize = 100_000;

impl Lane {
    /// Starts what can be started. Answers whether there is more to read at once.
    pub(super) fn fill(&mut self) -> Result<bool, DeliveryError> {
        self.work_on_jobs()?;
        if !self.may_send() {
            return Ok(false);
        }
        let Ok(ready) = self.config.ready.clone() else { return Ok(false) };
        let now = self.now();
        let more = match self.ledger.breaker.admission(now.instant) {
            Admission::Wait(_) => false,
            Admission::Probe => self.probe(&ready, &now)?,
            Admission::Free => self.fill_freely(&ready, &now)?,
        };
        let overdue = self
            .unwritten_since
            .is_some_and(|since| since.checked_add(SKIPS_UNWRITTEN).is_none_or(|overdue| overdue <= now.instant));
        if overdue || !self.refused.is_empty() || !self.parked.is_empty() || self.ledger.lines.has_orphan(self.read_to)
        {
            self.write()?;
        }
        Ok(more && self.has_room())
    }

    /// One event, when nothing is under way: it finds out whether the downstream is back.
    fn probe(&mut self, ready: &Arc<Ready>, now: &Moment) -> Result<bool, DeliveryError> {
        if !self.running.is_empty() {
            return Ok(false);
        }
        if let Some(batch) = self.redo.pop_front() {
            let (first, rest) = batch.split_at(1);
            if !rest.is_empty() {
                self.redo.push_front(rest);
            }
            self.dispatch(first, ready);
            return Ok(false);
        }
        if let Some(batch) = self.due_retries(now, 1, u64::MAX)? {
            self.dispatch(batch, ready);
            return Ok(false);
        }
        if self.forming.len() > 1 {
            self.rewind();
        }
        let more = self.read(ready, now, 1)?;
        if !self.forming.is_empty() {
            let batch = self.take_forming();
            self.dispatch(batch, ready);
            return Ok(false);
        }
        Ok(more)
    }

    fn fill_freely(&mut self, ready: &Arc<Ready>, now: &Moment) -> Result<bool, DeliveryError> {
        let limit = intake::limit(ready);
        let mut more = false;
        while self.has_room() {
            if let Some(batch) = self.redo.pop_front() {
                self.dispatch(batch, ready);
                continue;
            }
            if self.retries_may_go()
                && let Some(batch) = self.due_retries(now, limit, ready.batch.bytes)?
            {
                self.dispatch(batch, ready);
                continue;
            }
            more = self.read(ready, now, limit)?;
            if self.forming_goes(ready, now) {
                let batch = self.take_forming();
                self.dispatch(batch, ready);
                continue;
            }
            if !self.retries_may_go()
                && self.forming.is_empty()
                && let Some(batch) = self.due_retries(now, limit, ready.batch.bytes)?
            {
                // Nothing fresh is there to be held up.
                self.dispatch(batch, ready);
                continue;
            }
            break;
        }
        Ok(more)
    }

    /// Retries go first, but of what is under way at most half is theirs while fresh events come in, so that neither a
    /// long replay nor many failures delay what was just captured.
    pub(super) fn retries_may_go(&self) -> bool {
        self.retries_running == 0 || self.retries_running.saturating_mul(2) < self.concurrency.limit()
    }

    /// A forming batch goes when it is full, has lingered, or would wait for nothing: while no batch is under way or has
    /// just gone, and the gate would let a request through, waiting only delays it.
    fn forming_goes(&self, ready: &Ready, now: &Moment) -> bool {
        if self.forming.is_empty() {
            return false;
        }
        let full = self.forming.len() >= intake::limit(ready) || self.forming_bytes >= ready.batch.bytes;
        let lingered = self.forming_until.is_some_and(|until| until <= now.instant);
        let alone = self.running.is_empty() && self.gap_ends().is_none_or(|ends| ends <= now.instant);
        full || lingered || (alone && ready.invoker.delay().is_zero())
    }

    /// Until when events are gathered after the last batch.
    pub(super) fn gap_ends(&self) -> Option<Instant> {
        self.fresh_sent_at?.checked_add(GAP)
    }

    fn take_forming(&mut self) -> Batch {
        self.forming_bytes = 0;
        self.forming_until = None;
        std::mem::take(&mut self.forming)
    }

    fn dispatch(&mut self, batch: Batch, ready: &Arc<Ready>) {
        self.in_flight.extend(batch.metas.iter().map(|meta| meta.sequence));
        if batch.is_retry() {
            self.retries_running = self.retries_running.saturating_add(1);
        } else {
            self.fresh_sent_at = Some(Instant::now());
            self.fresh.extend(batch.metas.iter().map(|meta| meta.sequence));
        }
        let ready = ready.clone();
        let epoch = self.ledger.breaker.epoch();
        let full = self.running.len().saturating_add(1) >= self.concurrency.limit();
        let period = self.period.clone();
        let began_in = period.load(Ordering::Acquire);
        let (turns, instance) = (self.shared.turns.clone(), self.config.record.instance.id.clone());
        let site = self.config.record.instance.place.site.clone();
        self.running.spawn(async move {
            let _turn = turns.acquire(&site, &instance).await;
            if period.load(Ordering::Acquire) != began_in {
                return Attempt { batch, result: Attempted::Unsent, ready, epoch, full };
            }
            let began = Instant::now();
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
            let result = Attempted::Sent { outcomes, log, took: began.elapsed() };
            Attempt { batch, result, ready, epoch, full }
        });
    }

    pub(super) fn settle(&mut self, attempt: Attempt) -> Result<(), DeliveryError> {
        let Attempt { mut batch, result, ready, epoch, full } = attempt;
        if batch.is_retry() {
            self.retries_running = self.retries_running.saturating_sub(1);
        }
        for meta in &mut batch.metas {
            self.fresh.remove(&meta.sequence);
            if let Some(kept) = self.kept.remove(&meta.sequence) {
                *meta = kept;
            }
        }
        let (outcomes, log, took) = match result {
            Attempted::Sent { outcomes, log, took } => (outcomes, log, took),
            Attempted::Unsent => {
                self.redo.push_front(batch);
                if *self.stop.borrow() || !self.may_deliver() || self.config.ready.is_err() {
                    self.rewind();
                }
                return Ok(());
            }
        };
        let now = self.now();
        let config = self.config.clone();
        let all: Vec<Sequence> = batch.metas.iter().map(|meta| meta.sequence).collect();
        let telling = all.len().saturating_mul(2) >= intake::limit(&ready);
        let settled = self.ledger.settle(&config.record, &ready, Sent { batch, outcomes, log, took, epoch }, now)?;
        self.concurrency.hear(settled.sign, full && telling);
        let mut released = all;
        if !settled.split.is_empty() {
            let kept: Vec<Sequence> =
                settled.split.iter().flat_map(|batch| batch.metas.iter().map(|meta| meta.sequence)).collect();
            released.retain(|sequence| !kept.contains(sequence));
        }
        self.redo.extend(settled.split);
        self.await_commit(settled.commit, released, settled.returned, None);
        self.unwritten_since = None;
        if !self.refused.is_empty() || !self.parked.is_empty() {
            self.unwritten_since = Some(now.instant);
        }
        if settled.opened {
            // A check tells the operator more than a failed delivery does. Nobody listens while the host stops.
            drop(self.shared.checks.send(config.record.instance.id.clone()));
        }
        if settled.paused {
            self.frozen.thaw();
            self.period.fetch_add(1, Ordering::AcqRel);
            self.note_idle();
            self.rewind();
        } else if settled.opened || self.ledger.breaker.until().is_some_and(|until| until > now.instant) {
            // What has not gone yet waits with the others.
            self.period.fetch_add(1, Ordering::AcqRel);
        }
        self.publish(None);
        Ok(())
    }
}
