//! The event log: capture events, durable and sealed, in one sequence per site and environment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use sgen_model::{CaptureEvent, Clock, EventId, Place, Sequence, Timestamp};
use sgen_store::{Commit, Keyspace, Store, StoreError};
use tokio::sync::{Semaphore, watch};

use crate::error::DeliveryError;
use crate::keys;
use crate::records::{Sealed, Sealer, StoredEvent};

/// How many events of one place may be on their way to the disk; what exceeds it waits in the order of its arrival. All
/// places share one writer, and behind a flood of one of them the others would wait as long as it takes to write it.
const UNDER_WAY: usize = 256;

/// What became of a captured event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Its id.
    pub id: EventId,
    /// Its position in the log.
    pub sequence: Sequence,
    /// Whether it had been captured before.
    pub duplicate: bool,
}

/// The log of one site and environment.
pub(crate) struct EventLog {
    place: Place,
    store: Arc<dyn Store>,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    // Held while a commit is submitted: the order of positions is the order of commits, so a reader never sees a
    // position before the ones below it.
    tail: Mutex<Tail>,
    head: watch::Sender<Sequence>,
    under_way: Semaphore,
}

struct Tail {
    last: Sequence,
    /// The bytes of all events so far.
    total: u64,
    /// The time of the last event: a wall clock that goes back does not make later events older.
    received_at: Timestamp,
    /// Submitted and not yet durable.
    under_way: HashMap<EventId, Sequence>,
}

impl EventLog {
    pub(crate) fn open(
        place: Place,
        store: Arc<dyn Store>,
        sealer: Sealer,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, DeliveryError> {
        let newest = store.scan_back(Keyspace::Log, b"", &keys::place_prefix(&place), 1)?;
        let trimmed = store.get(Keyspace::Meta, &keys::trimmed(&place))?.as_deref().and_then(keys::number).unwrap_or(0);
        let mut tail = Tail {
            // A log that was trimmed to its end goes on counting where it was.
            last: Sequence(trimmed),
            total: 0,
            received_at: Timestamp::default(),
            under_way: HashMap::new(),
        };
        if let Some((key, bytes)) = newest.first() {
            tail.last = tail.last.max(Sequence(keys::number(key).unwrap_or(0)));
            // A damaged last event costs the count of bytes, nothing else.
            if let Ok(stored) = sealer.open::<StoredEvent>(Sealed::Event, "", tail.last.0, bytes) {
                tail.total = stored.total;
                tail.received_at = stored.received_at;
            }
        }
        let head = watch::Sender::new(tail.last);
        Ok(Arc::new(Self {
            place,
            store,
            sealer,
            clock,
            tail: Mutex::new(tail),
            head,
            under_way: Semaphore::new(UNDER_WAY),
        }))
    }

    /// The last durable position.
    pub(crate) fn head(&self) -> Sequence {
        *self.head.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Sequence> {
        self.head.subscribe()
    }

    /// Appends events; resolves once they, and the first captures of any duplicate among them, are durable. Goes on to
    /// its end even when the caller goes away.
    pub(crate) async fn append(self: &Arc<Self>, events: Vec<CaptureEvent>) -> Result<Vec<Receipt>, DeliveryError> {
        let log = self.clone();
        // A task of its own: a caller that disconnects must not leave the head behind what is durable.
        tokio::spawn(async move { log.append_to_end(events).await }).await.map_err(|_| DeliveryError::Stopping)?
    }

    async fn append_to_end(&self, events: Vec<CaptureEvent>) -> Result<Vec<Receipt>, DeliveryError> {
        let share = u32::try_from(events.len().clamp(1, UNDER_WAY)).unwrap_or(u32::MAX);
        let _share = self.under_way.acquire_many(share).await.map_err(|_| DeliveryError::Stopping)?;
        let (receipts, submitted) = self.submit(events)?;
        if let Some((ticket, ids, last)) = submitted {
            ticket.await?;
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            for id in &ids {
                tail.under_way.remove(id);
            }
            drop(tail);
            self.head.send_if_modified(|head| {
                let ahead = last > *head;
                *head = last.max(*head);
                ahead
            });
            // Commits become durable in their order: with these, so are the first captures of their duplicates.
            return Ok(receipts);
        }
        if let Some(needed) = receipts.iter().map(|receipt| receipt.sequence).max() {
            let mut head = self.head.subscribe();
            let mut failure = self.store.failure();
            tokio::select! {
                durable = head.wait_for(|head| *head >= needed) => {
                    durable.map_err(|_| DeliveryError::Stopping)?;
                }
                failed = failure.wait_for(Option::is_some) => {
                    let reason = failed.ok().and_then(|reason| reason.clone()).unwrap_or_default();
                    return Err(StoreError::Failed(reason).into());
                }
            }
        }
        Ok(receipts)
    }

    #[expect(clippy::type_complexity, reason = "the ticket with the ids it covers and the last position")]
    fn submit(
        &self,
        events: Vec<CaptureEvent>,
    ) -> Result<(Vec<Receipt>, Option<(sgen_store::Ticket, Vec<EventId>, Sequence)>), DeliveryError> {
        let mut commit = Commit::new();
        let mut receipts = Vec::with_capacity(events.len());
        let mut fresh: Vec<(EventId, Sequence)> = Vec::with_capacity(events.len());
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let received_at = self.clock.now().max(tail.received_at);
        let (mut last, mut total) = (tail.last, tail.total);
        for event in events {
            let id = event.id.clone();
            let earlier = match tail.under_way.get(&id).copied() {
                Some(sequence) => Some(sequence),
                None => match fresh.iter().find(|(seen, _)| *seen == id) {
                    Some((_, sequence)) => Some(*sequence),
                    None => self.find(&id)?,
                },
            };
            if let Some(sequence) = earlier {
                receipts.push(Receipt { id, sequence, duplicate: true });
                continue;
            }
            last = last.next();
            total = total.saturating_add(event.size());
            let stored = StoredEvent { received_at, event, total, erased_at: None };
            let sealed = self.sealer.seal(Sealed::Event, "", last.0, &stored)?;
            commit.insert(Keyspace::Log, keys::log(&self.place, last), sealed);
            commit.insert(Keyspace::LogIndex, keys::log_index(&self.place, &id), last.0.to_be_bytes());
            fresh.push((id.clone(), last));
            receipts.push(Receipt { id, sequence: last, duplicate: false });
        }
        if fresh.is_empty() {
            return Ok((receipts, None));
        }
        commit.check()?;
        let ticket = self.store.submit(commit);
        // A commit that fails ends the store, so no position given out here is ever used twice.
        tail.last = last;
        tail.total = total;
        tail.received_at = received_at;
        tail.under_way.extend(fresh.iter().cloned());
        Ok((receipts, Some((ticket, fresh.into_iter().map(|(id, _)| id).collect(), last))))
    }

    /// The position of an event.
    pub(crate) fn find(&self, id: &EventId) -> Result<Option<Sequence>, DeliveryError> {
        let found = self.store.get(Keyspace::LogIndex, &keys::log_index(&self.place, id))?;
        Ok(found.as_deref().and_then(keys::number).map(Sequence))
    }

    /// Reads up to `limit` durable events after a position, in order. An event that cannot be read is an error of its
    /// own: it must not hold up what comes after it.
    #[expect(clippy::type_complexity, reason = "a position with what was read there")]
    pub(crate) fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, Result<StoredEvent, DeliveryError>)>, DeliveryError> {
        let head = self.head();
        if after >= head {
            return Ok(Vec::new());
        }
        let from = keys::log(&self.place, after.next());
        let entries = match self.store.scan(Keyspace::Log, &from, &keys::place_prefix(&self.place), limit) {
            Ok(entries) => entries,
            Err(StoreError::Damaged { .. }) => return self.read_singly(after, head, limit),
            Err(error) => return Err(error.into()),
        };
        let numbered = entries.into_iter().filter_map(|(key, bytes)| Some((Sequence(keys::number(&key)?), bytes)));
        Ok(numbered
            .take_while(|(sequence, _)| *sequence <= head)
            .map(|(sequence, bytes)| (sequence, self.sealer.open(Sealed::Event, "", sequence.0, &bytes)))
            .collect())
    }

    #[expect(clippy::type_complexity, reason = "a position with what was read there")]
    fn read_singly(
        &self,
        after: Sequence,
        head: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, Result<StoredEvent, DeliveryError>)>, DeliveryError> {
        let mut found = Vec::new();
        let mut sequence = after.next();
        while sequence <= head && found.len() < limit {
            match self.read(sequence) {
                Ok(Some(stored)) => found.push((sequence, Ok(stored))),
                // Trimmed meanwhile.
                Ok(None) => {}
                Err(error @ DeliveryError::Store(StoreError::Damaged { .. })) => found.push((sequence, Err(error))),
                Err(error) => return Err(error),
            }
            sequence = sequence.next();
        }
        Ok(found)
    }

    /// The first event that is there, with its position.
    pub(crate) fn first(&self) -> Result<Option<(Sequence, StoredEvent)>, DeliveryError> {
        let entries = self.store.scan(Keyspace::Log, b"", &keys::place_prefix(&self.place), 1)?;
        Ok(self.open_all(entries.into_iter())?.pop())
    }

    /// The bytes of all events from the one at `from` on.
    pub(crate) fn size_from(&self, from: &StoredEvent) -> u64 {
        let total = self.tail.lock().unwrap_or_else(PoisonError::into_inner).total;
        total.saturating_sub(from.total).saturating_add(from.event.size())
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Puts an event whose contents are erased in the place of the event.
    pub(crate) fn erase(
        &self,
        sequence: Sequence,
        mut stored: StoredEvent,
        commit: &mut Commit,
    ) -> Result<(), DeliveryError> {
        stored.event.fields.clear();
        stored.event.context.clear();
        stored.erased_at = Some(self.clock.now());
        let sealed = self.sealer.seal(Sealed::Event, "", sequence.0, &stored)?;
        commit.put(Keyspace::Log, keys::log(&self.place, sequence), sealed);
        Ok(())
    }

    /// Reads up to `limit` events before a position, newest first.
    pub(crate) fn read_before(
        &self,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<(Sequence, StoredEvent)>, DeliveryError> {
        let upper = before.map(|before| keys::log(&self.place, before)).unwrap_or_default();
        let entries = self.store.scan_back(Keyspace::Log, &upper, &keys::place_prefix(&self.place), limit)?;
        self.open_all(entries.into_iter())
    }

    /// Reads one event.
    pub(crate) fn read(&self, sequence: Sequence) -> Result<Option<StoredEvent>, DeliveryError> {
        match self.store.get(Keyspace::Log, &keys::log(&self.place, sequence))? {
            Some(bytes) => Ok(Some(self.sealer.open(Sealed::Event, "", sequence.0, &bytes)?)),
            None => Ok(None),
        }
    }

    fn open_all(
        &self,
        entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Vec<(Sequence, StoredEvent)>, DeliveryError> {
        entries
            .map(|(key, bytes)| {
                let sequence =
                    keys::number(&key).ok_or_else(|| DeliveryError::record("event", "a key without a number"))?;
                Ok((Sequence(sequence), self.sealer.open(Sealed::Event, "", sequence, &bytes)?))
            })
            .collect()
    }
}
