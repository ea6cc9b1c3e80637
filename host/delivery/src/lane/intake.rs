//! What a lane takes in: pages of the log, through scope and mapping, and retries that are due.

use ring::digest;
use sgen_engine::Event;
use sgen_model::{Sequence, Timestamp};
use sgen_store::Keyspace;

use super::{Lane, Ready};
use crate::error::DeliveryError;
use crate::keys;
use crate::records::{RetryRecord, Sealed, StoredEvent};
use crate::settle::{Batch, Ledger, Meta};

impl Lane {
    /// Reads one page of the log into the forming batch. Answers whether there is more.
    pub(super) fn read(&mut self, ready: &Ready, now: Timestamp) -> Result<bool, DeliveryError> {
        let head = *self.head.borrow_and_update();
        let room = limit(ready).saturating_sub(self.forming.len());
        if room == 0 || self.read_to >= head {
            return Ok(false);
        }
        for (sequence, stored) in self.log.read_after(self.read_to, room)? {
            if self.ledger.state.progress.contains(sequence) || self.in_flight.contains(&sequence) {
                self.read_to = sequence;
                continue;
            }
            let routing = &self.config.record.routing;
            let StoredEvent { received_at, event } = stored;
            self.ledger.journal_time = self.ledger.journal_time.max(received_at);
            if routing.in_gap(sequence) || !self.config.record.instance.scope.admits(&event.surface) {
                self.ledger.skip(sequence);
                self.unwritten_since.get_or_insert(now);
                self.read_to = sequence;
                continue;
            }
            let meta = Meta {
                sequence,
                event_id: event.id.clone(),
                surface: event.surface.clone(),
                captured_at: event.captured_at,
                attempts: 0,
                first_failure: None,
                due: None,
            };
            match ready.mapping.apply(&event) {
                Ok(fields) => {
                    let bytes = self.forming_bytes.saturating_add(fields.len() as u64);
                    if bytes > ready.batch.bytes && !self.forming.is_empty() {
                        // It opens the next batch: this one goes first.
                        self.forming_bytes = ready.batch.bytes;
                        return Ok(true);
                    }
                    self.forming_bytes = bytes;
                    let until = received_at.after(ready.batch.linger);
                    self.forming_until = Some(self.forming_until.map_or(until, |known| known.min(until)));
                    let event = outgoing(&self.ledger, &meta, fields);
                    self.forming.push(meta, event);
                }
                Err(failure) => {
                    self.unwritten_since.get_or_insert(now);
                    self.refused.push((meta, failure));
                }
            }
            self.read_to = sequence;
        }
        Ok(self.read_to < head)
    }

    /// Takes retries that are due.
    pub(super) fn due_retries(&mut self, ready: &Ready, now: Timestamp) -> Result<Option<Batch>, DeliveryError> {
        if self.retries_known && self.next_due.is_none_or(|due| due > now) {
            return Ok(None);
        }
        let prefix = keys::due_prefix(&self.ledger.id);
        // What is in flight may still stand in the store.
        let limit = limit(ready).saturating_add(self.in_flight.len()).saturating_add(1);
        let entries = self.ledger.store.scan(Keyspace::Retry, b"", &prefix, limit)?;
        self.retries_known = true;
        self.next_due = None;
        let mut batch = Batch::default();
        let mut bytes = 0_u64;
        for (key, _) in entries {
            let (Some(due), Some(sequence)) = (keys::due_time(&key), keys::number(&key).map(Sequence)) else {
                continue;
            };
            if self.in_flight.contains(&sequence) {
                continue;
            }
            if due > now || batch.len() >= super::intake::limit(ready) || bytes >= ready.batch.bytes {
                self.next_due = Some(due);
                break;
            }
            let Some(sealed) = self.ledger.store.get(Keyspace::Retry, &keys::retry(&self.ledger.id, sequence))? else {
                continue;
            };
            let record: RetryRecord =
                self.ledger.sealer.open(Sealed::Retry, self.ledger.id.as_str(), sequence.0, &sealed)?;
            bytes = bytes.saturating_add(record.fields.len() as u64);
            let meta = Meta {
                sequence,
                event_id: record.event_id,
                surface: record.surface,
                captured_at: record.captured_at,
                attempts: record.attempts,
                first_failure: Some(record.first_failure),
                due: Some(record.due),
            };
            let event = outgoing(&self.ledger, &meta, record.fields);
            batch.push(meta, event);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// The most events in one batch.
pub(super) fn limit(ready: &Ready) -> usize {
    usize::try_from(ready.batch.events).unwrap_or(usize::MAX).max(1)
}

/// An event as the connector sees it. The idempotency key depends on nothing but the instance and the event.
fn outgoing(ledger: &Ledger, meta: &Meta, fields: String) -> Event {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(ledger.id.as_str().as_bytes());
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
