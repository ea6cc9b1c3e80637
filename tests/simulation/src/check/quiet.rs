//! Nothing is sent while the downstream asked for quiet, nor while the host says that nothing is sent.

use super::{Evidence, Violation};
use crate::downstream::REQUEST;
use crate::witness::Answer;

const WAIT: &str = "retry-after";
const PAUSE: &str = "nothing while paused";

/// What may still arrive after an answer: the rest of its batch and other batches under way, each request for at most its
/// time limit, and what was begun before the host had the whole batch's answers, which takes as long at most.
const IN_FLIGHT: u64 = 2 * REQUEST;

pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fail = |rule, said: String| found.push(Violation::new(rule, format!("{}: {said}", evidence.instance)));
    for arrival in &evidence.arrivals {
        if let Some(why) = &arrival.trespass {
            fail(PAUSE, format!("{} arrived at {} ms although {why}", arrival.event, arrival.at));
        }
        let (Answer::Status(status, Some(asked)), Some((from, wall))) = (arrival.answer, arrival.answered) else {
            continue;
        };
        // A host waits by its own clock, so a request is too early only when it is by that clock and in truth.
        let early = evidence.arrivals.iter().find(|other| {
            let by_clock = other.wall.0 < wall.0.saturating_add(asked);
            other.at > from.saturating_add(IN_FLIGHT) && other.at < from.saturating_add(asked) && by_clock
        });
        // An answer that came while its batch was under way is unknown to a host that crashes before the batch is settled.
        let unknown = |(down, _, crash): &(u64, u64, bool)| *crash && *down >= from && *down - from <= IN_FLIGHT;
        if evidence.downtimes.iter().any(unknown) {
            continue;
        }
        if let Some(other) = early {
            let said = format!(
                "a {status} at {from} ms asked for {asked} ms; {} arrived after {} ms",
                other.event,
                other.at - from
            );
            fail(WAIT, said);
            break;
        }
    }
    if evidence.clock_was_steady() {
        found.extend(batches(evidence));
    }
    found
}

/// The same by the host's own log, without any allowance: no batch begins between an answer that asks for a wait and its
/// end.
fn batches(evidence: &Evidence) -> Option<Violation> {
    for entry in &evidence.journal {
        let asked = entry.failed.iter().filter_map(|failed| failed.failure.retry_after_ms).max();
        let Some(asked) = asked else { continue };
        let early = evidence.journal.iter().find(|other| {
            let began = other.at.0.saturating_sub(other.duration_ms);
            began > entry.at.0 && began < entry.at.0.saturating_add(asked)
        });
        if let Some(other) = early {
            let began = other.at.0.saturating_sub(other.duration_ms) - entry.at.0;
            let said = format!(
                "{}: the answer that the log has at {} asked for {asked} ms; a batch began after {began} ms",
                evidence.instance, entry.at
            );
            return Some(Violation::new(WAIT, said));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::super::kit::{arrival, entry, sound};
    use super::*;
    use sgen_model::FailureClass;

    fn said(evidence: &Evidence) -> String {
        check(evidence).into_iter().map(|violation| violation.said).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_to_its_end() {
        let mut evidence = sound();
        evidence.arrivals = vec![arrival(1, 1_000, Answer::Status(429, Some(120_000)))];
        for (at, early) in [(1_020, false), (41_000, false), (41_020, true), (121_000, true), (121_010, false)] {
            let mut evidence = Evidence { arrivals: evidence.arrivals.clone(), ..sound() };
            evidence.arrivals.push(arrival(2, at, Answer::Status(200, None)));
            assert_eq!(said(&evidence).contains("asked for 120000 ms"), early, "{at}");
        }
    }

    #[test]
    fn a_host_whose_clock_jumped_is_judged_by_that_clock_too() {
        let mut evidence = sound();
        evidence.arrivals = vec![arrival(1, 1_000, Answer::Status(429, Some(120_000)))];
        let mut late = arrival(2, 60_000, Answer::Status(200, None));
        late.wall.0 += 3_600_000;
        evidence.arrivals.push(late);
        assert_eq!(said(&evidence), "");
    }

    #[test]
    fn no_batch_begins_before_the_wait_is_over() {
        let mut evidence = sound();
        let mut asked = entry(5_000, &[], &[(FailureClass::RateLimited, &[2])]);
        asked.failed[0].failure.retry_after_ms = Some(3_000);
        evidence.journal.push(asked);
        assert_eq!(said(&evidence), "");
        evidence.journal.push(entry(7_000, &[2], &[]));
        assert!(said(&evidence).contains("a batch began after 1990 ms"), "{}", said(&evidence));
        evidence.journal[3].at.0 = 8_010;
        assert_eq!(said(&evidence), "");
    }

    #[test]
    fn an_arrival_during_a_pause_is_told() {
        let mut evidence = sound();
        evidence.arrivals[0].trespass = Some("the instance is paused".to_owned());
        assert!(said(&evidence).contains("although the instance is paused"));
    }
}
