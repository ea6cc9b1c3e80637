//! Retention of the event logs: what is too old, or more than a place may keep, is removed, and what an instance has not
//! settled by then becomes its dead letters first.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sgen_audit::{Action, Actor, Draft};
use sgen_model::{Place, Sequence, Timestamp};
use sgen_store::{Commit, Keyspace};

use crate::capture::EventLog;
use crate::error::DeliveryError;
use crate::keys;
use crate::lane::{Answer, OrderKind};
use crate::records::StoredEvent;
use crate::runtime::Runtime;

/// How many events are removed in one commit.
const PAGE: usize = 256;
/// How often an instance is asked to settle a page before the next round has to do it.
const ASKED: usize = 16;

/// How long and how large the event log of a place may grow.
#[derive(Debug, Clone, Copy)]
pub struct EventRetention {
    /// Events that were received longer ago are removed.
    pub age: Duration,
    /// The most bytes of names and values in one place's log; the oldest events go first.
    pub bytes: u64,
    /// How often that is looked at.
    pub every: Duration,
}

impl Default for EventRetention {
    /// Ninety days and 16 GiB, looked at every ten minutes.
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 24 * 3600), bytes: 16 << 30, every: Duration::from_secs(600) }
    }
}

impl EventRetention {
    /// Whether an event has to go; `size` is that of the log from it on.
    fn has_ended(&self, stored: &StoredEvent, size: u64, now: Timestamp) -> bool {
        now.since(stored.received_at) > self.age || size > self.bytes
    }
}

/// What one look at a log did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trimmed {
    pub(crate) events: u64,
    pub(crate) dead_lettered: u64,
}

/// Trims event logs and integration logs until the runtime is gone.
pub(crate) async fn run(runtime: Weak<Runtime>) {
    let (every, stopping) = {
        let Some(runtime) = runtime.upgrade() else { return };
        (runtime.parts.config.events.every, runtime.stopping())
    };
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let Some(runtime) = runtime.upgrade() else { return };
        if let Err(error) = runtime.trim_all().await {
            tracing::error!(%error, "the logs could not be trimmed; that is tried again");
        }
    }
}

impl Runtime {
    async fn trim_all(&self) -> Result<(), DeliveryError> {
        for place in keys::logged_places(self.parts.store.as_ref())? {
            if self.parts.vault.is_destroyed(&place.site)? {
                continue;
            }
            let log = self.log(&place)?;
            let trimmed = self.trim(&log).await?;
            if trimmed.events > 0 {
                tracing::info!(%place, events = trimmed.events, dead_lettered = trimmed.dead_lettered, "the event log was trimmed");
            }
        }
        for slot in self.all_slots() {
            while let Ok(Answer::More { .. }) = slot.lane.order(OrderKind::Trim).await {}
        }
        Ok(())
    }

    /// Removes what has to go from one log.
    pub(crate) async fn trim(&self, log: &Arc<EventLog>) -> Result<Trimmed, DeliveryError> {
        let keep = self.parts.config.events;
        let mut trimmed = Trimmed::default();
        loop {
            let now = self.parts.clock.now();
            let Some((first, _)) = log.first()? else { break };
            let page = log.read_after(Sequence(first.0.saturating_sub(1)), PAGE)?;
            // A damaged event goes with its neighbours.
            let ended = |read: &Result<StoredEvent, DeliveryError>| {
                read.as_ref().map_or(true, |stored| keep.has_ended(stored, log.size_from(stored), now))
            };
            let mut removed: Vec<_> = page.into_iter().take_while(|(_, read)| ended(read)).collect();
            while removed.last().is_some_and(|(_, read)| read.is_err()) {
                removed.pop();
            }
            let Some((up_to, _)) = removed.last() else { break };
            let Some(dead_lettered) = self.settle_up_to(log.place(), *up_to).await? else { break };
            trimmed.dead_lettered = trimmed.dead_lettered.saturating_add(dead_lettered);
            trimmed.events = trimmed.events.saturating_add(removed.len() as u64);
            self.remove(log.place(), &removed, dead_lettered).await?;
        }
        Ok(trimmed)
    }

    /// Has every instance of a place settle what it has up to a position; `None` when one has something under way there.
    async fn settle_up_to(&self, place: &Place, up_to: Sequence) -> Result<Option<u64>, DeliveryError> {
        let mut sum = 0_u64;
        for slot in self.slots_of(place) {
            let mut done = false;
            for _ in 0..ASKED {
                match slot.lane.order(OrderKind::Expire { up_to }).await? {
                    Answer::Expired { dead_lettered } => {
                        sum = sum.saturating_add(dead_lettered);
                        done = true;
                        break;
                    }
                    Answer::More { dead_lettered } => sum = sum.saturating_add(dead_lettered),
                    _ => break,
                }
            }
            if !done {
                return Ok(None);
            }
        }
        Ok(Some(sum))
    }

    async fn remove(
        &self,
        place: &Place,
        removed: &[(Sequence, Result<StoredEvent, DeliveryError>)],
        dead_lettered: u64,
    ) -> Result<(), DeliveryError> {
        let mut commit = Commit::new();
        for (sequence, read) in removed {
            commit.delete(Keyspace::Log, keys::log(place, *sequence));
            if let Ok(stored) = read {
                commit.delete(Keyspace::LogIndex, keys::log_index(place, &stored.event.id));
            }
        }
        for slot in self.slots_of(place) {
            for (sequence, _) in removed {
                commit.delete(Keyspace::Retry, keys::discarded(&slot.record.instance.id, *sequence));
            }
        }
        if let Some((last, _)) = removed.last() {
            commit.put(Keyspace::Meta, keys::trimmed(place), last.0.to_be_bytes());
        }
        if dead_lettered == 0 {
            return Ok(self.parts.store.submit(commit).await?);
        }
        let draft = Draft {
            environment: Some(place.environment.clone()),
            actor: Actor::Platform,
            instance: None,
            connector: None,
            catalog_version: self.catalog().map(|active| active.version.clone()),
            component_digest: None,
            action: Action::EventsExpired { count: removed.len() as u64, dead_lettered },
        };
        Ok(self.parts.audit.append(&place.site, vec![draft], commit)?.await?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sgen_model::CaptureEvent;

    #[test]
    fn an_event_goes_when_it_is_too_old_or_the_log_too_large() {
        let keep = EventRetention { age: Duration::from_secs(100), bytes: 1000, every: Duration::from_secs(1) };
        let json = r#"{"id":"e","surface":"form:a","captured_at":"2026-01-01T00:00:00Z"}"#;
        let event = CaptureEvent::from_json(json.as_bytes()).unwrap();
        let stored = StoredEvent { received_at: Timestamp(50_000), event, total: 10, erased_at: None };
        assert!(!keep.has_ended(&stored, 1000, Timestamp(150_000)));
        assert!(keep.has_ended(&stored, 1001, Timestamp(150_000)));
        assert!(keep.has_ended(&stored, 10, Timestamp(150_001)));
    }
}
