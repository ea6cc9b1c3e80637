//! What may have been sent before the host started is sent again as it was: its body belongs to its idempotency key.
//!
//! Nothing durable says what was under way when a host ended. But it is never more than so many batches, so the first
//! events that are read again, as many as those batches can hold, keep the mapping that was in force when the host started,
//! even if the operator changes it before they are sent. A pause ends that: what a downstream refused because of the
//! credential or the target it has not acted upon, and a new mapping may be the operator's remedy.

use sgen_model::Sequence;

use super::{Ready, intake};
use crate::map::CompiledMapping;

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

    /// From now on the present mapping holds for everything.
    pub(super) fn thaw(&mut self) {
        self.mapping = None;
    }
}
