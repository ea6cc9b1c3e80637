//! Accounting: what the host says of every event, compared with what the downstreams themselves have recorded.
//!
//! Pure. An event is delivered if every instance that takes it delivered it, dead-lettered if any of them dead-lettered
//! it, and pending otherwise. Where the host and a downstream disagree, the event is not accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::client::{DeadLetter, Status};
use crate::events::Fate;

/// What one instance did with the events, from both witnesses.
#[derive(Debug, Clone)]
pub struct Witnesses {
    /// The instance, for messages.
    pub instance: String,
    /// What is expected of each event, by id. Events that are missing here are none of this demo's.
    pub expected: BTreeMap<String, Fate>,
    /// The ids that the downstream has recorded as taken.
    pub taken: BTreeSet<String>,
    /// What the host lists as dead.
    pub dead: Vec<DeadLetter>,
    /// What the host counts.
    pub status: Status,
}

/// The result for all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// How many events there were.
    pub events: u64,
    /// Delivered by every instance that takes them.
    pub delivered: u64,
    /// Dead-lettered by at least one.
    pub dead_lettered: u64,
    /// Neither.
    pub pending: u64,
    /// Where the witnesses disagree with each other or with what was expected.
    pub disagreements: Vec<String>,
    /// Whether the audit log verifies.
    pub audit: bool,
}

impl Account {
    /// Whether every event is accounted for and nobody disagrees.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.delivered + self.dead_lettered == self.events && self.disagreements.is_empty() && self.audit
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accounted {} of {}: delivered {}, dead-lettered {}, pending {}; audit {}",
            self.delivered + self.dead_lettered,
            self.events,
            self.delivered,
            self.dead_lettered,
            self.pending,
            if self.audit { "ok" } else { "broken" },
        )
    }
}

/// Accounts for every event over all instances.
#[must_use]
pub fn account(instances: &[Witnesses], audit: bool) -> Account {
    let mut disagreements = Vec::new();
    let mut fates: BTreeMap<&str, Vec<Option<Fate>>> = BTreeMap::new();
    for instance in instances {
        let dead: BTreeSet<&str> = instance.dead.iter().map(|letter| letter.event_id.as_str()).collect();
        let mut counted = (0, 0);
        for (id, expected) in &instance.expected {
            let found = match (instance.taken.contains(id), dead.contains(id.as_str())) {
                (true, false) => Some(Fate::Delivered),
                (false, true) => Some(Fate::DeadLettered),
                (true, true) => {
                    disagreements
                        .push(format!("{}: {id} was taken downstream and is a dead letter", instance.instance));
                    None
                }
                (false, false) if *expected == Fate::OutOfScope => Some(Fate::OutOfScope),
                (false, false) => None,
            };
            match found {
                Some(Fate::Delivered) => counted.0 += 1,
                Some(Fate::DeadLettered) => counted.1 += 1,
                Some(Fate::OutOfScope) | None => {}
            }
            if found.is_some_and(|found| found != *expected) {
                disagreements.push(format!("{}: {id} was expected {expected:?}, and is {found:?}", instance.instance));
            }
            fates.entry(id).or_default().push(found);
        }
        for (name, witnessed) in [("delivered", counted.0), ("dead_lettered", counted.1)] {
            let said = instance.status.count(name);
            if said != witnessed {
                disagreements.push(format!(
                    "{}: the host counts {said} {name}, the witnesses have {witnessed}",
                    instance.instance
                ));
            }
        }
    }
    let mut result = Account { events: 0, delivered: 0, dead_lettered: 0, pending: 0, disagreements, audit };
    for found in fates.values() {
        result.events += 1;
        if found.contains(&None) {
            result.pending += 1;
        } else if found.contains(&Some(Fate::DeadLettered)) {
            result.dead_lettered += 1;
        } else {
            result.delivered += 1;
        }
    }
    result
}

/// Dead letters by cause: the cause, how many, and one message as a sample. The most frequent first.
///
/// What the host itself refuses has no response; its messages never repeat a value and tell causes apart.
#[must_use]
pub fn causes(letters: &[DeadLetter]) -> Vec<(String, usize, String)> {
    let mut by_cause: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for letter in letters {
        let part = |name: &str| letter.failure.get(name).filter(|value| !value.is_null());
        let apart = match (part("status"), part("code")) {
            (_, Some(code)) => format!(" {}", code.as_str().unwrap_or_default()),
            (Some(status), None) => format!(" {status}"),
            (None, None) => format!(" {}", letter.message()),
        };
        let entry = by_cause.entry(letter.cause() + &apart).or_insert_with(|| (0, letter.message().to_owned()));
        entry.0 += 1;
    }
    let shown =
        |cause: String, sample: &str| cause.strip_suffix(sample).map(str::trim_end).map(str::to_owned).unwrap_or(cause);
    let mut causes: Vec<_> =
        by_cause.into_iter().map(|(cause, (count, sample))| (shown(cause, &sample), count, sample)).collect();
    causes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    causes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    fn letter(id: &str, class: &str) -> DeadLetter {
        DeadLetter {
            sequence: 1,
            event_id: id.to_owned(),
            surface: "form:contact".to_owned(),
            attempts: 1,
            failure: json!({ "class": class, "field": "email", "message": "no" }),
        }
    }

    fn witnesses(taken: &[&str], dead: &[&str], counts: (u64, u64)) -> Witnesses {
        Witnesses {
            instance: "i".to_owned(),
            expected: BTreeMap::from([
                ("a".to_owned(), Fate::Delivered),
                ("b".to_owned(), Fate::DeadLettered),
                ("c".to_owned(), Fate::OutOfScope),
            ]),
            taken: taken.iter().map(|id| (*id).to_owned()).collect(),
            dead: dead.iter().map(|id| letter(id, "schema-mismatch")).collect(),
            status: Status(json!({ "delivered": counts.0, "dead_lettered": counts.1 })),
        }
    }

    #[test]
    fn events_are_accounted_for_when_both_witnesses_agree() {
        let found = account(&[witnesses(&["a"], &["b"], (1, 1))], true);
        assert!(found.is_complete(), "{found:?}");
        assert_eq!(found.to_string(), "accounted 3 of 3: delivered 2, dead-lettered 1, pending 0; audit ok");
    }

    #[test]
    fn what_no_witness_has_is_pending() {
        let found = account(&[witnesses(&[], &["b"], (0, 1))], true);
        assert_eq!((found.pending, found.is_complete()), (1, false));
        assert_eq!(found.to_string(), "accounted 2 of 3: delivered 1, dead-lettered 1, pending 1; audit ok");
    }

    #[test]
    fn a_disagreement_of_any_kind_is_told() {
        let cases = [
            (witnesses(&["a", "b"], &["b"], (1, 0)), "taken downstream and is a dead letter"),
            (witnesses(&["a", "b"], &[], (2, 0)), "b was expected DeadLettered"),
            (witnesses(&["a", "c"], &["b"], (2, 1)), "c was expected OutOfScope"),
            (witnesses(&["a"], &["b"], (2, 1)), "the host counts 2 delivered, the witnesses have 1"),
        ];
        for (case, part) in cases {
            let found = account(&[case], true);
            assert!(!found.is_complete());
            assert!(found.disagreements.iter().any(|d| d.contains(part)), "{part}: {found:?}");
        }
        assert!(!account(&[witnesses(&["a"], &["b"], (1, 1))], false).is_complete());
    }

    #[test]
    fn causes_are_listed_by_their_frequency() {
        let letters = [letter("a", "rejected"), letter("b", "schema-mismatch"), letter("c", "schema-mismatch")];
        let found = causes(&letters);
        assert_eq!((found[0].0.as_str(), found[0].1), ("schema-mismatch/email", 2));
        assert_eq!((found[1].0.as_str(), found[1].1), ("rejected/email", 1));
    }
}
