//! What may have been sent before the host started is sent again as it was: its body belongs to its idempotency key.
//!
//! Nothing durable says what was under way when a host ended. But it is never more than so many batches, so the first
//! events that are read again, as many as those batches can hold, keep the mapping that was in force when the host started;
//! when the operator changes it before they are sent, they are mapped at once and kept as they are then. A pause ends that: what a downstream refused because of the
//! credential or the target it has not acted upon, and a new mapping may be the operator's remedy.

use sgen_model::Sequence;

use super::{Lane, Ready, intake};
use crate::error::DeliveryError;
use crate::ledger::Entry;
use crate::map::CompiledMapping;
use crate::runtime::PAGE;

/// The mapping of what may have been sent.
pub(super) struct Frozen {
    /// The head of the log when the host started; then the last event that may have been under way.
    up_to: Sequence,
    /// The last event that was counted.
    counted_to: Sequence,
    batches: usize,
    left: usize,
    mapping: Option<CompiledMapping>,
    begun: bool,
}

impl Frozen {
    /// Nothing is known yet but the head of the log and how many batches may have been under way.
    pub(super) fn new(head: Sequence, batches: usize) -> Self {
        Self { up_to: head, counted_to: Sequence(0), batches, left: 0, mapping: None, begun: false }
    }

    /// Takes the first configuration that can deliver for the one that was in force before.
    pub(super) fn begin(&mut self, ready: &Ready, paused: bool) {
        if self.begun {
            return;
        }
        self.begun = true;
        self.left = self.batches.saturating_mul(intake::limit(ready));
        self.mapping = (!paused).then(|| ready.mapping.clone());
    }

    /// The mapping for an event that is read: the former one, or `present`.
    pub(super) fn mapping<'a>(&'a mut self, sequence: Sequence, present: &'a CompiledMapping) -> &'a CompiledMapping {
        if self.mapping.is_some() && sequence <= self.up_to && sequence > self.counted_to {
            self.counted_to = sequence;
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                self.up_to = sequence;
            }
        }
        self.mapping.as_ref().filter(|_| sequence <= self.up_to).unwrap_or(present)
    }

    /// Up to where events may have been sent under the former mapping; `None` when that is over.
    pub(super) fn window(&self) -> Option<Sequence> {
        self.mapping.as_ref().map(|_| self.up_to)
    }

    /// How many more events may have been under way.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// From now on the present mapping holds for everything.
    pub(super) fn thaw(&mut self) {
        self.mapping = None;
    }
}

impl Lane {
    /// The mapping has been changed: what may have been sent under the former one is mapped by it now, and kept.
    pub(super) fn freeze_window(&mut self) -> Result<(), DeliveryError> {
        let Some(up_to) = self.frozen.window() else { return Ok(()) };
        let now = self.now();
        let config = self.config.clone();
        let Ok(ready) = &config.ready else { return Ok(()) };
        let mut entry = Entry::new(&config.record, Ok(ready), now);
        let mut after = self.ledger.state.progress.cursor();
        while after < up_to && self.frozen.left() > 0 {
            let page = self.log.read_after(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (sequence, read) in page.into_iter().take_while(|(sequence, _)| *sequence <= up_to) {
                let Ok(stored) = read else { continue };
                let known = self.ledger.state.progress.contains(sequence) || self.in_flight.contains(&sequence);
                let skipped = config.record.routing.in_gap(sequence)
                    || !config.record.instance.scope.admits(&stored.event.surface)
                    || stored.erased_at.is_some();
                if known || skipped || self.frozen.window().is_none_or(|up_to| sequence > up_to) {
                    continue;
                }
                let Ok(mapped) = self.frozen.mapping(sequence, &ready.mapping).apply(&stored.event) else { continue };
                let mut meta = intake::meta_of(sequence, &stored.event);
                meta.key = mapped.key;
                let event = intake::outgoing(&self.ledger.id, &meta, mapped.fields);
                self.ledger.keep(&mut entry, meta, event, None, now.lane)?;
            }
        }
        self.frozen.thaw();
        let ticket = self.ledger.submit(entry)?;
        self.await_commit(ticket, Vec::new(), Vec::new(), None);
        Ok(())
    }
}
