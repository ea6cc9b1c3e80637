//! Where an operator asked for order: the events of a key arrive in capture order, retries included.
//!
//! By the downstream's record alone: from one arrival of a key to the next, the position in the log never goes back. So no
//! event is sent before the ones of its key before it have been taken or given up, and none of those comes afterwards.

use std::collections::BTreeMap;

use super::{Captured, Evidence, Violation};

const RULE: &str = "order per key";

pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let Some(field) = &evidence.order else { return Vec::new() };
    let mut last: BTreeMap<String, &Captured> = BTreeMap::new();
    let mut found = Vec::new();
    for arrival in &evidence.arrivals {
        let Some(event) = evidence.captured.iter().find(|event| event.id == arrival.event) else { continue };
        let Some(key) = value(event, field) else { continue };
        if let Some(before) = last.insert(key.clone(), event)
            && before.sequence > event.sequence
        {
            let said = format!(
                "{}: {} (position {}) arrived at {} ms after {} (position {}) of the same {field} {key}",
                evidence.instance, event.id, event.sequence, arrival.at, before.id, before.sequence
            );
            found.push(Violation::new(RULE, said));
        }
    }
    found
}

/// What an event holds in a mapped field; nothing when the field has no key for it.
fn value(event: &Captured, field: &str) -> Option<String> {
    match field {
        "person" => Some(event.person.to_string()),
        "event" => Some(event.id.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{arrival, captured, sound};
    use super::*;
    use crate::witness::Answer;

    fn arriving(positions: &[u64]) -> Vec<Violation> {
        let taken = Answer::Status(200, None);
        check(&Evidence {
            order: Some("person".to_owned()),
            // The odd ones are of one person, the even ones of another.
            captured: (1..=6).map(|sequence| captured(sequence, sequence % 2)).collect(),
            arrivals: positions.iter().map(|sequence| arrival(*sequence, 1_000 + sequence, taken)).collect(),
            ..sound()
        })
    }

    #[test]
    fn keys_do_not_wait_for_each_other_and_retries_are_no_disorder() {
        assert_eq!(arriving(&[2, 4, 1, 1, 6, 3, 3, 5]), []);
    }

    #[test]
    fn an_event_that_overtakes_one_of_its_key_is_told() {
        assert_eq!(arriving(&[3, 1]).len(), 1);
        assert_eq!(arriving(&[1, 3, 1]).len(), 1, "a retry after the next one has gone");
    }

    #[test]
    fn without_a_wish_for_order_there_is_none_to_keep() {
        let evidence =
            Evidence { arrivals: vec![arrival(2, 1, Answer::Reset), arrival(1, 2, Answer::Reset)], ..sound() };
        assert_eq!(check(&evidence), []);
    }
}
