//! Health: every instance is asked now and then, sooner after a change or a failure, whether it can deliver.
//!
//! Checks are spread by chance, so that instances that were configured together are not checked together, and few run at
//! a time, so that they never crowd out deliveries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use sgen_audit::Actor;
use sgen_model::{DownstreamAccount, Failure, Finding, InstanceId, InstanceState, Verdict};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::account_guard::{self, OtherEnvironment};
use crate::error::DeliveryError;
use crate::lane::OrderKind;
use crate::records::HealthRecord;
use crate::runtime::Runtime;

/// How often instances are checked. Every wait is varied by a fifth.
#[derive(Debug, Clone, Copy)]
pub struct HealthSchedule {
    /// An instance that is well.
    pub every: Duration,
    /// One that is not.
    pub every_unwell: Duration,
    /// After a change or a failure.
    pub soon: Duration,
    /// Checks at a time, in the whole host.
    pub at_once: usize,
}

impl Default for HealthSchedule {
    /// Every hour; every five minutes while something is wrong; within seconds after a change.
    fn default() -> Self {
        Self {
            every: Duration::from_secs(3600),
            every_unwell: Duration::from_secs(300),
            soon: Duration::from_secs(2),
            at_once: 4,
        }
    }
}

/// The answer to a health check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckResult {
    /// The connector's verdict.
    pub verdict: Verdict,
    /// The downstream account that the credential belongs to, where the connector can tell.
    pub account: Option<DownstreamAccount>,
    /// Why the instance is paused although the downstream may be sound: its account is another environment's.
    pub refused: Option<Failure>,
}

/// When which instance is checked. Pure.
#[derive(Debug, Default)]
struct Timetable {
    by_time: BTreeSet<(Instant, InstanceId)>,
    by_instance: BTreeMap<InstanceId, Instant>,
}

impl Timetable {
    /// Puts an instance down for a time, unless it is down for an earlier one.
    fn put(&mut self, id: InstanceId, at: Instant) {
        if let Some(known) = self.by_instance.get(&id) {
            if *known <= at {
                return;
            }
            self.by_time.remove(&(*known, id.clone()));
        }
        self.by_instance.insert(id.clone(), at);
        self.by_time.insert((at, id));
    }

    fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Instant) -> Option<InstanceId> {
        if self.next()? > now {
            return None;
        }
        let (_, id) = self.by_time.pop_first()?;
        self.by_instance.remove(&id);
        Some(id)
    }
}

impl Runtime {
    /// Asks the connector whether this instance can deliver, and takes note of the answer.
    ///
    /// # Errors
    /// [`DeliveryError::Downstream`] with the failure, when the connector itself has no answer.
    pub async fn check(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        other_environment: OtherEnvironment,
    ) -> Result<CheckResult, DeliveryError> {
        let (invoker, settings) = self.invoker(id)?;
        let verdict =
            invoker.check(&settings).await.result.map_err(|fault| DeliveryError::Downstream(fault.failure()))?;
        let account = match invoker.account(&settings).await {
            Some(invocation) => invocation.result.ok().and_then(Result::ok),
            None => None,
        };
        let found = HealthRecord { at: self.parts.clock.now(), verdict: verdict.clone(), account: account.clone() };
        self.slot(id)?.lane.order(OrderKind::Note { found }).await?;
        if let Some(account) = &account {
            self.note_account(actor, id, account.clone(), other_environment).await?;
        }
        let refused = account_guard::refusal(&self.record(id)?);
        Ok(CheckResult { verdict, account, refused })
    }

    /// Checks an instance by the schedule. A connector that cannot answer is noted as such.
    async fn check_in_turn(self: &Arc<Self>, id: &InstanceId) {
        let enabled = self.instance(id).is_ok_and(|instance| instance.enabled);
        if !enabled || self.catalog().is_none() {
            return;
        }
        let Err(error) = self.check(&Actor::Platform, id, OtherEnvironment::Refused).await else { return };
        tracing::debug!(instance = %id, %error, "the health check has no answer");
        let DeliveryError::Downstream(failure) = error else { return };
        let unknown = Finding::Unverifiable;
        let verdict = Verdict {
            reachable: unknown,
            authorised: unknown,
            permitted: unknown,
            target_exists: unknown,
            summary: format!("the check has no answer: {failure}"),
            failure: Some(failure),
        };
        let found = HealthRecord { at: self.parts.clock.now(), verdict, account: None };
        if let Ok(slot) = self.slot(id) {
            // A lane that has ended keeps no books.
            drop(slot.lane.order(OrderKind::Note { found }).await);
        }
    }

    fn is_unwell(&self, id: &InstanceId) -> bool {
        self.slot(id).is_ok_and(|slot| {
            matches!(
                slot.lane.view().state,
                InstanceState::Degraded(_) | InstanceState::Failing(_) | InstanceState::Paused(_)
            )
        })
    }

    /// A wait, varied by a fifth.
    fn varied(&self, wait: Duration) -> Duration {
        let mut byte = [0; 1];
        // Without randomness it is not varied.
        let chance = self.parts.entropy.fill(&mut byte).map_or(0.5, |()| f64::from(byte[0]) / 255.0);
        wait.mul_f64(0.8 + 0.4 * chance)
    }
}

/// Runs checks until the runtime is gone.
pub(crate) async fn run(runtime: Weak<Runtime>, mut wanted: UnboundedReceiver<InstanceId>) {
    let mut timetable = Timetable::default();
    let mut running: JoinSet<InstanceId> = JoinSet::new();
    let (schedule, stopping) = {
        let Some(runtime) = runtime.upgrade() else { return };
        let schedule = runtime.parts.config.health;
        for id in runtime.ids() {
            // The first round is spread over the whole period.
            let wait = runtime.varied(schedule.every).mul_f64(spread(&id));
            timetable.put(id, Instant::now() + wait);
        }
        (schedule, runtime.stopping())
    };
    loop {
        let next = timetable.next().filter(|_| running.len() < schedule.at_once);
        tokio::select! {
            () = stopping.cancelled() => return,
            asked = wanted.recv() => {
                let (Some(id), Some(runtime)) = (asked, runtime.upgrade()) else { return };
                timetable.put(id, Instant::now() + runtime.varied(schedule.soon));
            }
            Some(checked) = running.join_next() => {
                let Some(runtime) = runtime.upgrade() else { return };
                let Ok(id) = checked else { continue };
                if runtime.slot(&id).is_err() {
                    // Its site was erased.
                    continue;
                }
                let wait = if runtime.is_unwell(&id) { schedule.every_unwell } else { schedule.every };
                timetable.put(id, Instant::now() + runtime.varied(wait));
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let Some(runtime) = runtime.upgrade() else { return };
                if let Some(id) = timetable.take_due(Instant::now()) {
                    running.spawn(checked(runtime, id));
                }
            }
        }
    }
}

async fn checked(runtime: Arc<Runtime>, id: InstanceId) -> InstanceId {
    runtime.check_in_turn(&id).await;
    id
}

/// A number from 0 to 1 that an id always has.
fn spread(id: &InstanceId) -> f64 {
    let sum = id.as_str().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    f64::from(sum % 1000) / 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_instance_is_down_once_and_for_the_sooner_time() {
        let (a, b) = (InstanceId::parse("a").unwrap(), InstanceId::parse("b").unwrap());
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut timetable = Timetable::default();
        timetable.put(a.clone(), after(10));
        timetable.put(b.clone(), after(5));
        timetable.put(a.clone(), after(2));
        timetable.put(a.clone(), after(20));
        assert_eq!(timetable.next(), Some(after(2)));
        assert_eq!(timetable.take_due(after(1)), None);
        assert_eq!(timetable.take_due(after(2)), Some(a));
        assert_eq!(timetable.take_due(after(60)), Some(b));
        assert_eq!(timetable.take_due(after(60)), None);
    }
}
