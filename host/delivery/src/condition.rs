//! What state an instance is in, from what its lane knows; and that every change of it is audited.

use sgen_audit::Action;
use sgen_model::{Failure, FailureClass, InstanceState, PauseCause, Timestamp};

use crate::ledger::{Entry, Ledger};
use crate::records::{Condition, InstanceRecord};

impl Ledger {
    /// The state under a configuration. `blocked` says why the connector cannot be run at all.
    pub(crate) fn instance_state(&self, record: &InstanceRecord, blocked: Option<&Failure>) -> InstanceState {
        if !record.instance.enabled {
            return InstanceState::Disabled;
        }
        let since = self.state.condition.as_ref().map_or(Timestamp::default(), |known| known.since);
        if let Some(failure) = blocked {
            return InstanceState::Paused(PauseCause { since, failure: failure.clone() });
        }
        if let Some(pause) = self.state.pause.as_ref().filter(|pause| pause.revision == record.instance.revision) {
            return InstanceState::Paused(pause.cause.clone());
        }
        let last = self.state.last_failure.as_ref().map(|last| last.failure.clone());
        let verdict = self.state.health.as_ref().map(|found| &found.verdict).filter(|verdict| verdict.found_fault());
        if self.breaker.is_open() {
            let failure = last.unwrap_or_else(|| Failure::new(FailureClass::Unavailable, "the downstream fails"));
            return InstanceState::Failing(PauseCause { since, failure });
        }
        if let Some(verdict) = verdict {
            let said = || Failure::new(FailureClass::Unavailable, verdict.summary.clone());
            let failure = verdict.failure.clone().unwrap_or_else(said);
            let cause = PauseCause { since, failure };
            let fails = verdict.reachable == sgen_model::Finding::No || verdict.authorised == sgen_model::Finding::No;
            return if fails { InstanceState::Failing(cause) } else { InstanceState::Degraded(cause) };
        }
        match self.surfaced.values().max_by_key(|item| item.last_seen) {
            Some(item) => InstanceState::Degraded(PauseCause { since, failure: item.sample.clone() }),
            None => InstanceState::Active,
        }
    }

    /// Whether the state has changed since it was last audited.
    pub(crate) fn condition_changed(&self, record: &InstanceRecord, blocked: Option<&Failure>) -> bool {
        let now = self.instance_state(record, blocked);
        self.state.condition.as_ref().map_or("active", |known| known.state.as_str()) != now.name()
    }

    /// Adds a record of the state's change to an entry, when it has changed.
    pub(crate) fn audit_condition(&mut self, entry: &mut Entry<'_>) {
        let state = self.instance_state(entry.record, entry.ready.err());
        let known = self.state.condition.as_ref();
        let from = known.map_or_else(|| "active".to_owned(), |known| known.state.clone());
        if known.is_some() && from == state.name() {
            return;
        }
        self.state.condition = Some(Condition { state: state.name().to_owned(), since: entry.now.wall });
        if from == state.name() {
            return;
        }
        let cause = match state {
            InstanceState::Active | InstanceState::Disabled => None,
            InstanceState::Degraded(cause) | InstanceState::Failing(cause) | InstanceState::Paused(cause) => {
                Some(cause.failure.to_string())
            }
        };
        let to = self.state.condition.as_ref().map(|known| known.state.clone()).unwrap_or_default();
        entry.draft(Action::StateChanged { from, to, cause });
    }
}
