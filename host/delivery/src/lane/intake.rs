//! What a lane takes in: pages of the log, through scope, mapping and order, and retries that are due.

use ring::digest;
use sgen_engine::Event;
use sgen_model::{CaptureEvent, InstanceId, Sequence};
use sgen_store::Keyspace;

use super::dispatch::PARKED;
use super::{Lane, Ready};
use crate::batch::{Batch, Meta};
use crate::error::DeliveryError;
use crate::keys;
use crate::moment::Moment;
use crate::records::StoredEvent;

impl Lane {
    /// Reads one page of the log into the forming batch, of at most `limit` events. Answers whether there is more.
    pub(super) fn read(&mut self, ready: &Ready, now: &Moment, limit: usize) -> Result<bool, DeliveryError> {
        let head = *self.head.borrow_and_update();
        let room = limit.saturating_sub(self.forming.len());
        if room == 0 || self.read_to >= head || self.ledger.lines.waiting() >= PARKED {
            return Ok(false);
        }
        for (sequence, read) in self.log.read_after(self.read_to, room)? {
            if self.ledger.state.progress.contains(sequence) || self.in_flight.contains(&sequence) {
                self.read_to = sequence;
                continue;
            }
            let StoredEvent { received_at, event, erased_at, .. } = match read {
                Ok(stored) => stored,
                Err(error) => {
                    self.refuse_damaged(sequence, &error, now);
                    continue;
                }
            };
            self.ledger.newest_received = self.ledger.newest_received.max(received_at);
            let routing = &self.config.record.routing;
            let admits = self.config.record.instance.scope.admits(&event.surface);
            if routing.in_gap(sequence) || !admits || erased_at.is_some() {
                self.ledger.skip(sequence);
                self.unwritten_since.get_or_insert(now.instant);
                self.read_to = sequence;
                continue;
            }
            let mut meta = meta_of(sequence, &event);
            match ready.mapping.apply(&event) {
                Ok(mapped) => {
                    let bytes = self.forming_bytes.saturating_add(mapped.fields.len() as u64);
                    if bytes > ready.batch.bytes && !self.forming.is_empty() {
                        // It opens the next batch: this one goes first.
                        self.forming_bytes = ready.batch.bytes;
                        return Ok(true);
                    }
                    meta.key = mapped.key;
                    let outgoing = outgoing(&self.ledger.id, &meta, mapped.fields);
                    if let Some(key) = &meta.key
                        && !self.ledger.lines.depart(key, sequence)
                    {
                        self.unwritten_since.get_or_insert(now.instant);
                        self.parked.push(meta, outgoing);
                        self.read_to = sequence;
                        continue;
                    }
                    self.forming_bytes = bytes;
                    let left = ready.batch.linger.saturating_sub(now.wall.since(received_at));
                    let until = now.instant.checked_add(left).unwrap_or(now.instant);
                    self.forming_until = Some(self.forming_until.map_or(until, |known| known.min(until)));
                    self.forming.push(meta, outgoing);
                }
                Err(failure) => {
                    self.unwritten_since.get_or_insert(now.instant);
                    self.refused.push((meta, failure));
                }
            }
            self.read_to = sequence;
        }
        Ok(self.read_to < head)
    }

    /// Takes up to `limit` retries that are due, of at most `bytes`.
    pub(super) fn due_retries(
        &mut self,
        now: &Moment,
        limit: usize,
        bytes: u64,
    ) -> Result<Option<Batch>, DeliveryError> {
        if self.retries_known && self.next_due.is_none_or(|due| due > now.instant) {
            return Ok(None);
        }
        let prefix = keys::due_prefix(&self.ledger.id);
        // What is in flight may still stand in the store.
        let most = limit.saturating_add(self.in_flight.len()).saturating_add(1);
        let entries = self.ledger.parts.store.scan(Keyspace::Retry, b"", &prefix, most)?;
        self.retries_known = true;
        self.next_due = None;
        let mut batch = Batch::default();
        let mut size = 0_u64;
        for (key, _) in entries {
            let (Some(due), Some(sequence)) = (keys::due_time(&key), keys::number(&key).map(Sequence)) else {
                continue;
            };
            if self.in_flight.contains(&sequence) {
                continue;
            }
            if due > now.lane || batch.len() >= limit || size >= bytes {
                self.next_due = Some(now.instant_of(due));
                break;
            }
            let Some(record) = self.ledger.retry_record(sequence)? else { continue };
            let (meta, fields) = Meta::of_record(record, Some(due));
            if let Some(key) = &meta.key
                && !self.ledger.lines.depart(key, sequence)
            {
                continue;
            }
            size = size.saturating_add(fields.len() as u64);
            let event = outgoing(&self.ledger.id, &meta, fields);
            batch.push(meta, event);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// The most events in one batch.
pub(super) fn limit(ready: &Ready) -> usize {
    usize::try_from(ready.batch.events).unwrap_or(usize::MAX).max(1)
}

/// What is kept beside an event that is read from the log.
pub(super) fn meta_of(sequence: Sequence, event: &CaptureEvent) -> Meta {
    Meta::fresh(sequence, event.id.clone(), event.surface.clone(), event.captured_at)
}

/// An event as the connector sees it. The idempotency key depends on nothing but the instance and the event.
pub(super) fn outgoing(instance: &InstanceId, meta: &Meta, fields: String) -> Event {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(instance.as_str().as_bytes());
    context.update(b"\0");
    context.update(meta.event_id.as_str().as_bytes());
    let digest = context.finish();
    let short = digest.as_ref().get(..16).unwrap_or_default();
    Event {
        id: meta.event_id.to_string(),
        idempotency_key: format!("evt_{}", hex::encode(short)),
        captured_at_ms: meta.captured_at.0,
        surface: meta.surface.to_string(),
        fields,
    }
}
