//! Triage's books: one item per cause, from its first appearance to its end.
//!
//! An item stays as long as there is a reason: dead letters of its cause, an ailment of the whole downstream that no
//! success has ended yet, or a health check that found fault. It is audited when it appears and when it is resolved.

use sgen_audit::Action;
use sgen_model::{Failure, Sequence};
use sgen_store::Keyspace;

use crate::error::DeliveryError;
use crate::keys;
use crate::ledger::{Entry, Ledger};
use crate::records::{HealthRecord, Surfaced, encode};

/// The most causes surfaced at a time, one instance's; what comes on top is gathered per class.
const CAUSES: usize = 200;
/// What sets the causes that health checks find apart from those of deliveries.
const HEALTH: &str = "health:";

/// Why an item stays in triage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A dead letter more.
    Dead,
    /// It ails the whole downstream; the next success ends it.
    Passing,
}

impl Ledger {
    /// Lists a failure for triage. Answers the cause that counts it.
    pub(crate) fn surface(
        &mut self,
        entry: &mut Entry<'_>,
        failure: &Failure,
        reason: Reason,
    ) -> Result<String, DeliveryError> {
        let mut cause = failure.cause();
        if !self.surfaced.contains_key(&cause) && self.surfaced.len() >= CAUSES {
            // A downstream that names a new code or field each time must not fill the list.
            cause = format!("{}/other", failure.class);
        }
        let item = self.item(entry, &cause, failure);
        match reason {
            Reason::Dead => item.dead = item.dead.saturating_add(1),
            Reason::Passing => item.passing = true,
        }
        self.put_item(entry, &cause)?;
        Ok(cause)
    }

    fn item(&mut self, entry: &mut Entry<'_>, cause: &str, failure: &Failure) -> &mut Surfaced {
        if !self.surfaced.contains_key(cause) {
            entry.draft(Action::FailureSurfaced {
                class: failure.class,
                status: failure.status,
                cause: cause.to_owned(),
                message: failure.message.clone(),
            });
        }
        let now = entry.now.wall;
        let item = self.surfaced.entry(cause.to_owned()).or_insert_with(|| Surfaced {
            cause: cause.to_owned(),
            first_seen: now,
            last_seen: now,
            count: 0,
            sample: failure.clone(),
            passing: false,
            dead: 0,
            escalated_at: None,
        });
        item.last_seen = now;
        item.count = item.count.saturating_add(1);
        item
    }

    pub(crate) fn put_item(&self, entry: &mut Entry<'_>, cause: &str) -> Result<(), DeliveryError> {
        if let Some(item) = self.surfaced.get(cause) {
            entry.commit.put(Keyspace::Surfaced, keys::surfaced(&self.id, cause), encode("surfaced failure", item)?);
        }
        Ok(())
    }

    /// A dead letter of this cause is there no more.
    pub(crate) fn one_less(&mut self, entry: &mut Entry<'_>, cause: &str) -> Result<(), DeliveryError> {
        self.state.counters.dead = self.state.counters.dead.saturating_sub(1);
        if let Some(item) = self.surfaced.get_mut(cause) {
            item.dead = item.dead.saturating_sub(1);
        }
        self.put_item(entry, cause)?;
        self.resolve_idle(entry);
        Ok(())
    }

    /// A success ends what ailed the whole downstream.
    pub(crate) fn resolve_passing(&mut self, entry: &mut Entry<'_>) -> Result<(), DeliveryError> {
        let ended: Vec<String> = self
            .surfaced
            .values_mut()
            .filter(|item| item.passing && !item.cause.starts_with(HEALTH))
            .map(|item| {
                item.passing = false;
                item.cause.clone()
            })
            .collect();
        self.end(entry, &ended)
    }

    /// Takes note of a health check: what it found wrong is listed until a later one finds it right.
    pub(crate) fn note_health(&mut self, entry: &mut Entry<'_>, found: HealthRecord) -> Result<(), DeliveryError> {
        let wrong = found.verdict.failure.clone().filter(|_| found.verdict.found_fault());
        let wrong = wrong.map(|failure| (format!("{HEALTH}{}", failure.cause()), failure));
        let kept = wrong.as_ref().map(|(cause, _)| cause.as_str());
        let ended: Vec<String> = self
            .surfaced
            .values_mut()
            .filter(|item| item.cause.starts_with(HEALTH) && kept != Some(item.cause.as_str()))
            .map(|item| {
                item.passing = false;
                item.cause.clone()
            })
            .collect();
        self.end(entry, &ended)?;
        if let Some((cause, failure)) = wrong {
            self.item(entry, &cause, &failure).passing = true;
            self.put_item(entry, &cause)?;
        }
        self.state.health = Some(found);
        Ok(())
    }

    fn end(&mut self, entry: &mut Entry<'_>, causes: &[String]) -> Result<(), DeliveryError> {
        for cause in causes {
            self.put_item(entry, cause)?;
        }
        if !causes.is_empty() {
            self.resolve_idle(entry);
        }
        Ok(())
    }

    /// Removes items that nothing keeps.
    fn resolve_idle(&mut self, entry: &mut Entry<'_>) {
        let id = &self.id;
        self.surfaced.retain(|cause, item| {
            let stays = item.passing || item.dead > 0;
            if !stays {
                entry.commit.delete(Keyspace::Surfaced, keys::surfaced(id, cause));
                entry.draft(Action::FailureResolved { cause: cause.clone() });
            }
            stays
        });
    }

    /// Notes that an item was handed to platform support.
    pub(crate) fn note_escalation(&mut self, entry: &mut Entry<'_>, cause: &str) -> Result<bool, DeliveryError> {
        let Some(item) = self.surfaced.get_mut(cause) else { return Ok(false) };
        item.escalated_at = Some(entry.now.wall);
        self.put_item(entry, cause)?;
        Ok(true)
    }

    /// Whether an event's contents are to be erased as soon as it is back.
    pub(crate) fn is_erasing(&mut self, sequence: Sequence) -> bool {
        self.erasing.remove(&sequence)
    }
}
