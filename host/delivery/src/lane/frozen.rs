//! What may have been sent before the host started is sent again as it was: its body belongs to its idempotency key.
//!
//! Nothing durable says what was under way when a host ended. But it is never more than so many batches, so the first
//! events that are read again, as many as those batches can hold, keep the mapping that was in force when the host started.
//! Before the operator's change of the mapping is stored, they and what is under way are mapped once more and kept as they
//! are then ([`Lane::freeze`]). A pause ends that: what a downstream refused because of the credential or the target it has
//! not acted upon, and a new mapping may be the operator's remedy.

use std::sync::atomic::Ordering;

use sgen_model::{CaptureEvent, Sequence};
use tokio::sync::oneshot;

use super::{Lane, Ready, intake};
use crate::batch::Meta;
use crate::error::DeliveryError;
use crate::ledger::{Entry, Submitted};
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
    /// The mapping is about to be changed: whatever may have been sent under the present one gets a record of how it was
    /// mapped, so that it is sent in no other way even if the host ends right after the change. Until that is over the lane
    /// sends nothing.
    pub(super) fn freeze(&mut self, until: oneshot::Receiver<()>) -> Result<Submitted, DeliveryError> {
        self.changing = Some(until);
        self.period.fetch_add(1, Ordering::AcqRel);
        self.freeze_redo()?;
        let now = self.now();
        let config = self.config.clone();
        let mut entry = Entry::new(&config.record, config.ready.as_deref(), now);
        if let Ok(ready) = &config.ready {
            for sequence in std::mem::take(&mut self.fresh) {
                let Some(stored) = self.log.read(sequence)? else { continue };
                let Some(meta) = self.keep_as_mapped(&mut entry, sequence, &stored.event, ready)? else { continue };
                if let Some(key) = &meta.key {
                    // It is still with the connector, and the others of its key behind it.
                    self.ledger.lines.depart(key, sequence);
                }
                self.kept.insert(sequence, meta);
            }
            self.freeze_window(&mut entry, ready)?;
        }
        self.ledger.submit(entry)
    }

    /// What may have been sent before the host started is mapped as it was then, and kept.
    fn freeze_window(&mut self, entry: &mut Entry<'_>, ready: &Ready) -> Result<(), DeliveryError> {
        let Some(up_to) = self.frozen.window() else { return Ok(()) };
        let mut after = self.ledger.state.progress.cursor();
        while after < up_to && self.frozen.left() > 0 {
            let page = self.log.read_after(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (sequence, read) in page.into_iter().take_while(|(sequence, _)| *sequence <= up_to) {
                let Ok(stored) = read else { continue };
                let known = self.ledger.state.progress.contains(sequence) || self.in_flight.contains(&sequence);
                let record = &self.config.record;
                let skipped = record.routing.in_gap(sequence)
                    || !record.instance.scope.admits(&stored.event.surface)
                    || stored.erased_at.is_some();
                if known || skipped || self.frozen.window().is_none_or(|up_to| sequence > up_to) {
                    continue;
                }
                self.keep_as_mapped(entry, sequence, &stored.event, ready)?;
            }
        }
        self.frozen.thaw();
        Ok(())
    }

    /// Gives an event a record with what the mapping in force makes of it. Answers what is kept of it from now on.
    fn keep_as_mapped(
        &mut self,
        entry: &mut Entry<'_>,
        sequence: Sequence,
        event: &CaptureEvent,
        ready: &Ready,
    ) -> Result<Option<Meta>, DeliveryError> {
        let Ok(mapped) = self.frozen.mapping(sequence, &ready.mapping).apply(event) else { return Ok(None) };
        let meta = Meta { key: mapped.key, ..intake::meta_of(sequence, event) };
        let event = intake::outgoing(&self.ledger.id, &meta, mapped.fields);
        let now = entry.now.lane;
        let due = self.ledger.keep(entry, meta.clone(), event, None, now)?;
        Ok(Some(Meta { stored: true, due, ..meta }))
    }
}
