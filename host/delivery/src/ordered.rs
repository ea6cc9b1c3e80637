//! Order per key: which events of a key may go now, and which wait for an earlier one. Pure.
//!
//! Of every key at most one event is *away* (with a connector, or being settled). The others that are known wait, in
//! capture order, in retry records; of those only the first has a due time. A key without either is not kept.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use sgen_model::{Sequence, Timestamp};

/// The value by which events are kept in order, as JSON text.
pub(crate) type Key = std::sync::Arc<str>;

#[derive(Debug, Default)]
struct Line {
    away: Option<Sequence>,
    waiting: BTreeMap<Sequence, Option<Timestamp>>,
}

/// The lines of one instance, by key.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: HashMap<Key, Line>,
    waiting: usize,
    /// Lines whose first event waits for one that came back unsent, or that was away when the host ended: by that first
    /// event's position.
    orphans: BTreeMap<Sequence, Key>,
}

/// A due time that has to be written or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) sequence: Sequence,
    pub(crate) at: Timestamp,
}

/// What joining a line changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Whether the event is first and has its due time written.
    pub(crate) is_first: bool,
    /// The due time of the one that was first until now.
    pub(crate) remove: Option<Due>,
}

impl Lines {
    /// How many events wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether an event of this key goes now. If so it is away until it returns, or is settled.
    pub(crate) fn depart(&mut self, key: &Key, sequence: Sequence) -> bool {
        let line = self.lines.entry(key.clone()).or_default();
        let first = line.waiting.first_key_value().is_none_or(|(first, _)| sequence <= *first);
        if line.away.is_some() || !first {
            return false;
        }
        if line.waiting.remove(&sequence).is_some() {
            self.waiting = self.waiting.saturating_sub(1);
        }
        line.away = Some(sequence);
        true
    }

    /// An event that was away comes back unsent, without a record: it is read from the log again.
    pub(crate) fn returned(&mut self, key: &Key, sequence: Sequence) {
        if let Some(line) = self.lines.get_mut(key)
            && line.away == Some(sequence)
        {
            line.away = None;
            if let Some((first, None)) = line.waiting.first_key_value() {
                self.orphans.insert(*first, key.clone());
            }
            self.tidy(key);
        }
    }

    /// When a waiting event is due; only the first of its line is.
    pub(crate) fn due(&self, key: &Key, sequence: Sequence) -> Option<Timestamp> {
        self.lines.get(key)?.waiting.get(&sequence).copied().flatten()
    }

    /// Whether a line waits for an event that the log, read up to `read_to`, does not have any more.
    pub(crate) fn has_orphan(&self, read_to: Sequence) -> bool {
        self.orphans.first_key_value().is_some_and(|(first, _)| *first <= read_to)
    }

    /// The log has been read up to `read_to`: lines whose first event still waits for nothing begin with it. The event
    /// that they waited for has another key by now, or is not taken any more.
    pub(crate) fn adopt(&mut self, read_to: Sequence, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        while let Some((sequence, key)) = self.orphans.pop_first() {
            if sequence > read_to {
                self.orphans.insert(sequence, key);
                break;
            }
            let Some(line) = self.lines.get_mut(&key).filter(|line| line.away.is_none()) else { continue };
            if let Some(mut first) = line.waiting.first_entry().filter(|first| first.get().is_none()) {
                due.push(Due { sequence: *first.key(), at: now });
                first.insert(Some(now));
            }
        }
        due
    }

    /// An event gets a retry record: to wait behind others, or for its next attempt. Written `due` only when it is first.
    pub(crate) fn join(&mut self, key: &Key, sequence: Sequence, due: Timestamp) -> Joined {
        let line = self.lines.entry(key.clone()).or_default();
        if line.away == Some(sequence) {
            line.away = None;
        }
        let is_first = line.away.is_none() && line.waiting.first_key_value().is_none_or(|(first, _)| sequence < *first);
        let mut joined = Joined { is_first, remove: None };
        if is_first && let Some(mut first) = line.waiting.first_entry() {
            let sequence = *first.key();
            joined.remove = first.get_mut().take().map(|at| Due { sequence, at });
        }
        match line.waiting.entry(sequence) {
            Entry::Vacant(place) => {
                place.insert(is_first.then_some(due));
                self.waiting = self.waiting.saturating_add(1);
            }
            Entry::Occupied(mut place) => *place.get_mut() = is_first.then_some(due),
        }
        joined
    }

    /// An event is settled for good. Answers the due time that has to be written for the one that is next.
    pub(crate) fn settled(&mut self, key: &Key, sequence: Sequence, now: Timestamp) -> Option<Due> {
        let line = self.lines.get_mut(key)?;
        if line.away == Some(sequence) {
            line.away = None;
        }
        if line.waiting.remove(&sequence).is_some() {
            self.waiting = self.waiting.saturating_sub(1);
        }
        let next = match line.waiting.first_entry() {
            Some(mut first) if line.away.is_none() && first.get().is_none() => {
                let sequence = *first.key();
                first.insert(Some(now));
                Some(Due { sequence, at: now })
            }
            _ => None,
        };
        self.tidy(key);
        next
    }

    /// Takes in what the store holds, at the start.
    pub(crate) fn restore(&mut self, key: Key, sequence: Sequence, due: Option<Timestamp>) {
        let line = self.lines.entry(key.clone()).or_default();
        if line.waiting.insert(sequence, due).is_none() {
            self.waiting = self.waiting.saturating_add(1);
        }
        if let Some((first, None)) = line.waiting.first_key_value() {
            self.orphans.insert(*first, key);
        }
    }

    fn tidy(&mut self, key: &Key) {
        if self.lines.get(key).is_some_and(|line| line.away.is_none() && line.waiting.is_empty()) {
            self.lines.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_second_event_of_a_key_waits_until_the_first_is_settled_and_other_keys_go_on() {
        let (mut lines, a, b): (_, Key, Key) = (Lines::default(), "a".into(), "b".into());
        assert!(lines.depart(&a, Sequence(1)) && !lines.depart(&a, Sequence(2)) && lines.depart(&b, Sequence(3)));
        assert!(!lines.join(&a, Sequence(2), Timestamp(5)).is_first);
        // The first fails: it is first again, and the second still waits.
        assert!(lines.join(&a, Sequence(1), Timestamp(9)).is_first);
        assert!(!lines.depart(&a, Sequence(2)) && lines.depart(&a, Sequence(1)));
        let next = lines.settled(&a, Sequence(1), Timestamp(10));
        assert_eq!(next, Some(Due { sequence: Sequence(2), at: Timestamp(10) }));
        assert!(lines.depart(&a, Sequence(2)));
        assert_eq!(lines.settled(&a, Sequence(2), Timestamp(11)), None);
        assert_eq!(lines.waiting(), 0);
    }

    #[test]
    fn a_line_goes_on_when_the_event_that_it_waited_for_is_taken_no_more() {
        let (mut lines, a): (_, Key) = (Lines::default(), "a".into());
        assert!(lines.depart(&a, Sequence(1)));
        lines.join(&a, Sequence(3), Timestamp(1));
        lines.returned(&a, Sequence(1));
        assert_eq!(lines.adopt(Sequence(2), Timestamp(5)), []);
        assert_eq!(lines.adopt(Sequence(3), Timestamp(5)), [Due { sequence: Sequence(3), at: Timestamp(5) }]);
        assert!(lines.depart(&a, Sequence(3)));
        // After a restart the same holds for what was away when the host ended.
        let mut lines = Lines::default();
        lines.restore(a.clone(), Sequence(3), None);
        assert!(lines.depart(&a, Sequence(1)), "what is read again goes first");
        assert_eq!(lines.adopt(Sequence(9), Timestamp(5)), []);
        assert!(lines.settled(&a, Sequence(1), Timestamp(6)).is_some());
    }

    #[test]
    fn an_event_that_is_kept_while_it_is_away_stays_in_front_of_its_line() {
        let (mut lines, a): (_, Key) = (Lines::default(), "a".into());
        assert!(lines.depart(&a, Sequence(1)));
        lines.join(&a, Sequence(2), Timestamp(1));
        assert!(lines.join(&a, Sequence(1), Timestamp(2)).is_first && lines.depart(&a, Sequence(1)));
        assert!(lines.join(&a, Sequence(1), Timestamp(9)).is_first, "its next attempt has a due time");
        assert!(lines.depart(&a, Sequence(1)));
        assert_eq!(lines.settled(&a, Sequence(1), Timestamp(3)), Some(Due { sequence: Sequence(2), at: Timestamp(3) }));
    }

    proptest! {
        /// Whatever fails and returns, the events of a key are settled in their order, and none is left behind.
        #[test]
        fn events_of_a_key_are_settled_in_order(keys in prop::collection::vec(0_u8..4, 1..40), fates in prop::collection::vec(0_u8..4, 1..400)) {
            let mut lines = Lines::default();
            let mut due: BTreeSet<(Timestamp, Sequence)> = BTreeSet::new();
            let mut log: Vec<u64> = (0..keys.len() as u64).rev().collect();
            let key = |s: Sequence| -> Key { keys[s.0 as usize].to_string().into() };
            let mut settled: Vec<u64> = Vec::new();
            let mut fates = fates.into_iter().cycle();
            for now in 0..20_000_u64 {
                if settled.len() == keys.len() { break; }
                let taken = match due.first().copied() {
                    Some((at, sequence)) => { due.remove(&(at, sequence)); Some((sequence, true)) }
                    None => log.pop().map(|s| (Sequence(s), false)),
                };
                let Some((sequence, is_retry)) = taken else { break };
                let k = key(sequence);
                if !lines.depart(&k, sequence) {
                    prop_assert!(!is_retry, "what is due is first");
                    let joined = lines.join(&k, sequence, Timestamp(now));
                    prop_assert!(!joined.is_first);
                    continue;
                }
                match fates.next().unwrap_or(0) {
                    0 if !is_retry => { lines.returned(&k, sequence); log.push(sequence.0); }
                    1 => {
                        let joined = lines.join(&k, sequence, Timestamp(now));
                        if let Some(old) = joined.remove { due.remove(&(old.at, old.sequence)); }
                        if joined.is_first { due.insert((Timestamp(now), sequence)); }
                    }
                    _ => {
                        settled.push(sequence.0);
                        if let Some(next) = lines.settled(&k, sequence, Timestamp(now)) { due.insert((next.at, next.sequence)); }
                    }
                }
            }
            // A run of nothing but failures may not end in time; whatever did settle is in order.
            for wanted in 0_u8..4 {
                let of_key: Vec<u64> = settled.iter().copied().filter(|s| keys[*s as usize] == wanted).collect();
                prop_assert!(of_key.is_sorted(), "{:?}", of_key);
            }
            prop_assert_eq!(settled.len() + log.len() + lines.waiting(), keys.len());
        }
    }
}
