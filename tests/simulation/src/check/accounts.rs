//! Every accepted event is exactly one of delivered, dead-lettered and skipped with a reason, once nothing is under way;
//! the counters say the same, and so do the traces and the downstream.

use sgen_delivery::TraceOutcome;
use sgen_model::FailureClass;

use super::{Captured, Counts, Evidence, Violation, word};
use crate::downstream::REQUEST;
use crate::witness::Answer;

const RULE: &str = "accounts";
const TRACE: &str = "trace";

/// From the first failure to giving up: the host's default, in milliseconds.
const HORIZON: u128 = 3 * 24 * 3_600_000;

/// What must have become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Taken,
    Skipped,
    /// The scope was changed while it waited: both are right.
    Either,
}

pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fail = |said: String| found.push(Violation::new(RULE, format!("{}: {said}", evidence.instance)));
    let mut counted = Counts::default();
    for event in evidence.captured.iter().filter(|event| event.sequence > evidence.start) {
        let id = &event.id;
        let deliveries = evidence.deliveries(event.sequence);
        let letter = evidence.letter(event.sequence);
        let acted = evidence.arrivals_of(id).filter(|arrival| arrival.acted).count();
        match (deliveries, letter) {
            (0, None) => counted.skipped += 1,
            (0, Some(_)) => counted.dead_lettered += 1,
            (1, None) => counted.delivered += 1,
            (1, Some(_)) => fail(format!("{id} is delivered and dead-lettered")),
            (times, _) => fail(format!("{id} is settled as delivered {times} times")),
        }
        let taken = deliveries > 0 || letter.is_some();
        match due(evidence, event) {
            Due::Taken if !taken => fail(format!("{id} is lost: not delivered, no dead letter, no reason to skip it")),
            Due::Skipped if taken => fail(format!("{id} was taken although the instance was not to have it")),
            _ => {}
        }
        if deliveries > 0 && acted == 0 {
            fail(format!("{id} is delivered, and its downstream never acted on it"));
        }
        if !taken && acted > 0 && !crashed_after_acting(evidence, id) {
            fail(format!("{id} is skipped, and its downstream acted on it"));
        }
        if let Some(letter) = letter {
            let waited = letter.dead_at.since(letter.captured_at).as_millis();
            let passing = matches!(letter.failure.class, FailureClass::Unavailable | FailureClass::RateLimited);
            if passing && waited < HORIZON && evidence.clock_was_steady() {
                fail(format!("{id} was given up for {} after {waited} ms", letter.failure));
            }
            let refused = |arrival: &&super::Arrival| matches!(arrival.answer, Answer::Status(400..=499, _));
            let final_class = matches!(letter.failure.class, FailureClass::Rejected | FailureClass::TooLarge);
            if final_class && evidence.arrivals_of(id).find(refused).is_none() {
                fail(format!("{id} was given up for {}, which its downstream never said", letter.failure));
            }
        }
    }
    for arrival in &evidence.arrivals {
        let known = evidence.captured.iter().any(|event| event.id == arrival.event && event.sequence > evidence.start);
        if !known {
            fail(format!("{:?} arrived, which was never captured for this instance", arrival.event));
        }
    }
    if counted != evidence.counts {
        fail(format!("the host counts {:?}; its records say {counted:?}", evidence.counts));
    }
    found
}

/// Compares what traces say with what the records and the downstream say.
pub(crate) fn traces(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fail = |said: String| found.push(Violation::new(TRACE, format!("{}: {said}", evidence.instance)));
    for trace in &evidence.traces {
        let (id, sequence) = (trace.capture.event.id.as_str(), trace.capture.sequence.0);
        let Some(entry) = trace.instances.iter().find(|entry| entry.instance.as_str() == evidence.instance) else {
            fail(format!("the trace of {id} does not name the instance"));
            continue;
        };
        let said = word(&entry.outcome);
        let expected = match (evidence.deliveries(sequence), evidence.letter(sequence)) {
            (0, None) => "skipped",
            (0, Some(_)) => "dead-lettered",
            _ => "delivered",
        };
        if said != expected {
            fail(format!("the trace of {id} says {said}; the records say {expected}"));
        }
        let mentions = |entry: &&sgen_delivery::JournalEntry| {
            entry.delivered.iter().chain(entry.failed.iter().flat_map(|f| &f.events)).any(|at| at.0 == sequence)
        };
        let recorded = evidence.journal.iter().filter(mentions).count();
        if recorded != entry.attempts.len() {
            fail(format!("the trace of {id} has {} attempts; the log has {recorded}", entry.attempts.len()));
        }
        // What was refused by the way, or never left the host, was seen by no downstream.
        let acted = evidence.arrivals_of(id).any(|arrival| arrival.acted);
        if entry.outcome == TraceOutcome::Delivered && !acted {
            fail(format!("the trace of {id} says delivered; its downstream never acted on it"));
        }
    }
    found
}

/// What must have become of an event, from what the operator did.
fn due(evidence: &Evidence, event: &Captured) -> Due {
    let left_out = |gap: &super::Gap| gap.left_out && gap.after < event.sequence && event.sequence <= gap.to;
    if evidence.gaps.iter().any(left_out) {
        return Due::Skipped;
    }
    let first = evidence.scopes.iter().rposition(|(from, _)| *from < event.at).unwrap_or(0);
    let since: Vec<bool> = evidence
        .scopes
        .iter()
        .skip(first)
        .map(|(_, scope)| scope.as_ref().is_some_and(|scope| scope.admits(&event.surface)))
        .collect();
    match (since.iter().all(|admits| *admits), since.iter().any(|admits| *admits)) {
        (true, _) => Due::Taken,
        (false, true) => Due::Either,
        (false, false) => Due::Skipped,
    }
}

/// Whether the host may not have learnt that the downstream acted.
fn crashed_after_acting(evidence: &Evidence, id: &str) -> bool {
    evidence.arrivals_of(id).filter(|arrival| arrival.acted).all(|arrival| {
        let soon = |(from, _, crash): &(u64, u64, bool)| *crash && *from >= arrival.at && *from - arrival.at <= REQUEST;
        evidence.downtimes.iter().any(soon)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::kit::{arrival, entry, letter, sound};
    use super::*;
    use sgen_model::Scope;

    fn said(evidence: &Evidence) -> String {
        check(evidence).into_iter().map(|violation| violation.said).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn an_event_that_nobody_accounts_for_is_lost() {
        let mut evidence = sound();
        evidence.journal.remove(0);
        evidence.counts = Counts { dead_lettered: 1, skipped: 2, ..Counts::default() };
        assert!(said(&evidence).contains("event-1 is lost"), "{}", said(&evidence));
    }

    #[test]
    fn an_event_is_settled_once_and_in_one_way() {
        let mut evidence = sound();
        evidence.journal.push(entry(9_000, &[1], &[]));
        assert!(said(&evidence).contains("event-1 is settled as delivered 2 times"), "{}", said(&evidence));
        let mut evidence = sound();
        evidence.dead.push(letter(1, FailureClass::Rejected, 1));
        assert!(said(&evidence).contains("event-1 is delivered and dead-lettered"), "{}", said(&evidence));
    }

    #[test]
    fn a_delivery_needs_a_downstream_that_acted() {
        let mut evidence = sound();
        evidence.arrivals[0].acted = false;
        assert!(said(&evidence).contains("never acted"), "{}", said(&evidence));
    }

    #[test]
    fn what_was_acted_on_is_not_skipped_unless_a_crash_came_between() {
        let mut evidence = sound();
        evidence.arrivals.push(arrival(3, 3_100, Answer::Status(200, None)));
        assert!(said(&evidence).contains("event-3 is skipped, and its downstream acted"), "{}", said(&evidence));
        evidence.downtimes.push((3_200, 4_000, true));
        assert_eq!(said(&evidence), "");
    }

    #[test]
    fn an_event_out_of_scope_is_not_taken() {
        let mut evidence = sound();
        evidence.scopes = vec![(0, Some(Scope::parse(&["analytics:*"]).unwrap()))];
        let said = said(&evidence);
        assert!(said.contains("event-1 was taken although") && said.contains("event-3 is lost"), "{said}");
    }

    #[test]
    fn what_came_while_it_was_disabled_is_skipped_or_taken_as_asked() {
        let mut evidence = sound();
        evidence.gaps.push(super::super::Gap { after: 0, to: 1, left_out: true });
        assert!(said(&evidence).contains("event-1 was taken although"));
        evidence.gaps[0].left_out = false;
        assert_eq!(said(&evidence), "");
    }

    #[test]
    fn a_passing_failure_is_no_reason_to_give_up_early() {
        let mut evidence = sound();
        evidence.dead[0].failure.class = FailureClass::Unavailable;
        assert!(said(&evidence).contains("event-2 was given up"), "{}", said(&evidence));
    }

    #[test]
    fn a_dead_letter_quotes_what_the_downstream_said() {
        let mut evidence = sound();
        evidence.arrivals[1].answer = Answer::Reset;
        assert!(said(&evidence).contains("never said"), "{}", said(&evidence));
    }

    #[test]
    fn counters_say_what_the_records_say() {
        let mut evidence = sound();
        evidence.counts.pending = 1;
        assert!(said(&evidence).contains("the host counts"), "{}", said(&evidence));
    }

    #[test]
    fn what_was_never_captured_does_not_arrive() {
        let mut evidence = sound();
        evidence.arrivals.push(arrival(7, 3_100, Answer::Status(400, None)));
        assert!(said(&evidence).contains("never captured"), "{}", said(&evidence));
    }
}
