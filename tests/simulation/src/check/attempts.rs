//! Attempts are bounded, counted honestly, and repeat the same body under the same key.

use std::collections::{BTreeMap, BTreeSet};

use sgen_model::FailureClass;

use super::{Evidence, Violation, pauses};
use crate::witness::{Answer, Arrival};

const BODY: &str = "one body per key";
const BOUND: &str = "bounded attempts";
const COUNT: &str = "attempts counted";

/// The most requests for one event. Full jitter under a ceiling of 4 h makes about 50 attempts in three days; beyond that
/// come repetitions by restarts, pauses and splits.
const MOST: usize = 120;

pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = keys(evidence);
    found.extend(counts(evidence));
    found
}

/// A key belongs to one event and has one body, however often it comes.
fn keys(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fail = |rule, said: String| found.push(Violation::new(rule, format!("{}: {said}", evidence.instance)));
    let mut by_key: BTreeMap<&str, Vec<&Arrival>> = BTreeMap::new();
    let mut by_event: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrival in &evidence.arrivals {
        by_key.entry(&arrival.key).or_default().push(arrival);
        by_event.entry(&arrival.event).or_default().insert(&arrival.key);
    }
    for (event, keys) in by_event.iter().filter(|(_, keys)| keys.len() > 1) {
        fail(BODY, format!("{event} came under {} keys", keys.len()));
    }
    for (key, arrivals) in by_key {
        let Some(first) = arrivals.first() else { continue };
        // The body is fixed from the first request on that the downstream may have acted upon.
        let standing = arrivals.iter().find(|arrival| !refused_whole(arrival));
        let changed = standing.and_then(|first| {
            let other = arrivals.iter().find(|arrival| arrival.at >= first.at && arrival.body != first.body)?;
            Some((first, other))
        });
        if let Some(other) = arrivals.iter().find(|arrival| arrival.event != first.event) {
            fail(BODY, format!("{key} is the key of {} and of {}", first.event, other.event));
        } else if let Some((first, other)) = changed {
            let before = arrivals.iter().rfind(|arrival| arrival.at <= other.at && arrival.body == first.body);
            let before = before.map_or(first.answer, |arrival| arrival.answer);
            fail(
                BODY,
                format!(
                    "the body of {} changed between {} and {} ms, after {before:?}",
                    first.event, first.at, other.at
                ),
            );
        }
        if arrivals.len() > MOST {
            fail(BOUND, format!("{} was sent {} times", first.event, arrivals.len()));
        }
    }
    found
}

/// Whether a downstream refused a request for its credential, its target or its size: it has not looked at what is in it,
/// and another mapping may be the operator's remedy.
fn refused_whole(arrival: &Arrival) -> bool {
    matches!(arrival.answer, Answer::Status(401 | 403 | 410 | 413, _))
}

/// A dead letter counts the attempts that the integration log has, without those that ran into a pause or were split.
fn counts(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut burned: BTreeMap<u64, u32> = BTreeMap::new();
    for entry in &evidence.journal {
        let size = entry.delivered.len() + entry.failed.iter().map(|failed| failed.events.len()).sum::<usize>();
        for failed in entry.failed.iter().filter(|failed| !pauses(failed.failure.class)) {
            let split = matches!(failed.failure.class, FailureClass::TooLarge | FailureClass::ConnectorFault);
            if split && size > 1 {
                continue;
            }
            for sequence in &failed.events {
                *burned.entry(sequence.0).or_default() += 1;
            }
        }
    }
    for letter in &evidence.dead {
        let counted = burned.get(&letter.sequence.0).copied().unwrap_or(0);
        if letter.attempts != counted {
            let said = format!(
                "{}: {} was given up after {} attempts; the log has {counted} that count",
                evidence.instance, letter.event_id, letter.attempts
            );
            found.push(Violation::new(COUNT, said));
        }
    }
    // The downstream cannot have answered less often than the host claims to have been answered.
    for letter in &evidence.dead {
        let answered = |arrival: &&Arrival| matches!(arrival.answer, Answer::Status(..));
        let seen = evidence.arrivals_of(letter.event_id.as_str()).filter(answered).count();
        let said = evidence.journal.iter().flat_map(|entry| &entry.failed);
        let said = said.filter(|failed| failed.failure.status.is_some() && failed.events.contains(&letter.sequence));
        let said = said.count();
        if said > seen {
            let text =
                format!("{}: {} has {said} answers in the log; {seen} were given", evidence.instance, letter.event_id);
            found.push(Violation::new(COUNT, text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::super::kit::{arrival, entry, sound};
    use super::*;

    fn said(evidence: &Evidence) -> String {
        check(evidence).into_iter().map(|violation| violation.said).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_key_has_one_body() {
        let mut evidence = sound();
        evidence.arrivals.push(Arrival { body: 99, ..arrival(1, 5_000, Answer::Status(200, None)) });
        assert!(said(&evidence).contains("the body of event-1 changed"), "{}", said(&evidence));
    }

    #[test]
    fn a_key_has_one_event_and_an_event_one_key() {
        let mut evidence = sound();
        evidence.arrivals[1].key = "key-1".to_owned();
        assert!(said(&evidence).contains("is the key of"), "{}", said(&evidence));
        let mut evidence = sound();
        evidence.arrivals.push(Arrival { key: "other".to_owned(), ..arrival(1, 5_000, Answer::Status(200, None)) });
        assert!(said(&evidence).contains("came under 2 keys"), "{}", said(&evidence));
    }

    #[test]
    fn attempts_end() {
        let mut evidence = sound();
        evidence.arrivals.extend((0..=MOST as u64).map(|nth| arrival(2, 3_000 + nth, Answer::Reset)));
        assert!(said(&evidence).contains("was sent"), "{}", said(&evidence));
    }

    #[test]
    fn a_pause_burns_no_attempt() {
        let mut evidence = sound();
        evidence.journal.push(entry(2_200, &[], &[(FailureClass::AuthRevoked, &[2])]));
        assert_eq!(said(&evidence), "");
        evidence.dead[0].attempts = 2;
        assert!(said(&evidence).contains("given up after 2 attempts; the log has 1"), "{}", said(&evidence));
    }

    #[test]
    fn the_host_claims_no_answer_that_was_not_given() {
        let mut evidence = sound();
        evidence.journal[1].failed[0].failure.status = Some(400);
        assert_eq!(said(&evidence), "");
        evidence.arrivals[1].answer = Answer::Reset;
        assert!(said(&evidence).contains("1 answers in the log; 0 were given"), "{}", said(&evidence));
    }
}
