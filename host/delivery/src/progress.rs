//! What an instance has settled: a cursor, and the positions settled ahead of it. Pure.

use serde::{Deserialize, Serialize};
use sgen_model::Sequence;

/// Settled positions: everything up to the cursor, and some ranges beyond it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Everything at or below is settled.
    cursor: u64,
    /// Ranges beyond it, both ends included, ascending, apart from each other and from the cursor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ahead: Vec<(u64, u64)>,
}

impl Progress {
    /// Nothing is settled after `at`.
    pub(crate) fn starting_at(at: Sequence) -> Self {
        Self { cursor: at.0, ahead: Vec::new() }
    }

    pub(crate) fn cursor(&self) -> Sequence {
        Sequence(self.cursor)
    }

    /// Whether a position is settled.
    pub(crate) fn contains(&self, sequence: Sequence) -> bool {
        sequence.0 <= self.cursor || self.ahead.iter().any(|(from, to)| (*from..=*to).contains(&sequence.0))
    }

    /// How many positions up to `head` are not settled.
    pub(crate) fn open(&self, head: Sequence) -> u64 {
        // A range may reach beyond the head asked for.
        let within = |(from, to): &(u64, u64)| (*to).min(head.0).saturating_add(1).saturating_sub(*from);
        let ahead: u64 = self.ahead.iter().map(within).sum();
        head.0.saturating_sub(self.cursor).saturating_sub(ahead)
    }

    /// Settles one position.
    pub(crate) fn settle(&mut self, sequence: Sequence) {
        let at = sequence.0;
        if self.contains(sequence) {
            return;
        }
        let place = self.ahead.partition_point(|(from, _)| *from < at);
        self.ahead.insert(place, (at, at));
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.ahead.len());
        for (from, to) in self.ahead.drain(..) {
            match merged.last_mut() {
                Some(last) if last.1.saturating_add(1) >= from => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        if let Some(&(from, to)) = merged.first()
            && from <= self.cursor.saturating_add(1)
        {
            self.cursor = to;
            merged.remove(0);
        }
        self.ahead = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_cursor_goes_on_when_the_gap_closes() {
        let mut progress = Progress::starting_at(Sequence(10));
        for at in [12, 14, 13] {
            progress.settle(Sequence(at));
        }
        assert_eq!((progress.cursor(), progress.open(Sequence(20))), (Sequence(10), 7));
        progress.settle(Sequence(11));
        assert_eq!((progress.cursor(), progress.open(Sequence(20))), (Sequence(14), 6));
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_settled(start in 0_u64..5, settled in prop::collection::vec(0_u64..40, 0..60)) {
            let mut progress = Progress::starting_at(Sequence(start));
            let mut model: BTreeSet<u64> = (0..=start).collect();
            for at in settled {
                progress.settle(Sequence(at));
                model.insert(at);
                for position in 0..42 {
                    prop_assert_eq!(progress.contains(Sequence(position)), model.contains(&position));
                }
                for head in [10, 41] {
                    prop_assert_eq!(progress.open(Sequence(head)), (0..=head).filter(|p| !model.contains(p)).count() as u64);
                }
            }
        }
    }
}
