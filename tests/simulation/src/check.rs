//! The invariants. Pure: from what was gathered of one instance to what of it is not as it must be.

pub(crate) mod accounts;
pub(crate) mod attempts;
pub(crate) mod fairness;
pub(crate) mod order;
pub(crate) mod quiet;

use sgen_delivery::{DeadLetter, JournalEntry, Trace, TraceOutcome};
use sgen_model::{FailureClass, Scope};

use crate::clock::Jump;
use crate::witness::Arrival;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which invariant.
    pub(crate) rule: &'static str,
    /// What was found.
    pub(crate) said: String,
}

impl Violation {
    pub(crate) fn new(rule: &'static str, said: impl Into<String>) -> Self {
        Self { rule, said: said.into() }
    }
}

/// An event as its site captured it.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub(crate) id: String,
    pub(crate) sequence: u64,
    pub(crate) surface: sgen_model::Surface,
    pub(crate) person: u64,
    /// The course at which it was durable.
    pub(crate) at: u64,
}

/// What the host counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) delivered: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) skipped: u64,
    pub(crate) retrying: u64,
    pub(crate) pending: u64,
}

impl Counts {
    pub(crate) fn sum(self) -> u64 {
        self.delivered + self.dead_lettered + self.skipped + self.retrying + self.pending
    }
}

/// While an instance was disabled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    /// After this position.
    pub(crate) after: u64,
    /// Up to and including this one.
    pub(crate) to: u64,
    /// Whether it was enabled again for what comes only.
    pub(crate) left_out: bool,
}

/// Everything known of one instance at the end: what its operator did, what the host says, what its downstream saw.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) instance: String,
    pub(crate) spared: bool,
    /// The position after which it was configured.
    pub(crate) start: u64,
    /// What its site captured, by position.
    pub(crate) captured: Vec<Captured>,
    /// Every scope that it had, with the course from which.
    pub(crate) scopes: Vec<(u64, Option<Scope>)>,
    pub(crate) gaps: Vec<Gap>,
    /// The mapped field whose values the operator wants kept in order, where there is such a wish.
    pub(crate) order: Option<String>,
    /// The downstream's record, in the order of arrival.
    pub(crate) arrivals: Vec<Arrival>,
    /// The integration log, oldest first.
    pub(crate) journal: Vec<JournalEntry>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) counts: Counts,
    /// The traces that were asked for.
    pub(crate) traces: Vec<Trace>,
    pub(crate) jumps: Vec<Jump>,
    /// When the host was not there, from and to, and whether it ended by a crash.
    pub(crate) downtimes: Vec<(u64, u64, bool)>,
}

impl Evidence {
    /// How often the integration log says that an event was delivered.
    pub(crate) fn deliveries(&self, sequence: u64) -> usize {
        self.journal.iter().map(|entry| entry.delivered.iter().filter(|at| at.0 == sequence).count()).sum()
    }

    pub(crate) fn letter(&self, sequence: u64) -> Option<&DeadLetter> {
        self.dead.iter().find(|letter| letter.sequence.0 == sequence)
    }

    /// What the downstream saw of an event.
    pub(crate) fn arrivals_of<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Arrival> + 'a {
        self.arrivals.iter().filter(move |arrival| arrival.event == event)
    }

    /// Whether the wall clock ever jumped.
    pub(crate) fn clock_was_steady(&self) -> bool {
        self.jumps.is_empty()
    }
}

/// Whether a failure of this class says nothing of the event: the lane pauses, and no attempt is counted.
pub(crate) fn pauses(class: FailureClass) -> bool {
    matches!(class, FailureClass::AuthRevoked | FailureClass::PermissionDenied | FailureClass::Gone)
}

/// What a trace says, in a word.
pub(crate) fn word(outcome: &TraceOutcome) -> &'static str {
    match outcome {
        TraceOutcome::Delivered => "delivered",
        TraceOutcome::Pending => "pending",
        TraceOutcome::Retrying { .. } => "retrying",
        TraceOutcome::DeadLettered { .. } => "dead-lettered",
        TraceOutcome::Skipped { .. } => "skipped",
        TraceOutcome::Discarded => "discarded",
        TraceOutcome::Erased => "erased",
    }
}

/// Every violation of one instance.
pub(crate) fn all(evidence: &Evidence) -> Vec<Violation> {
    let mut found = accounts::check(evidence);
    found.extend(accounts::traces(evidence));
    found.extend(attempts::check(evidence));
    found.extend(quiet::check(evidence));
    found.extend(fairness::check(evidence));
    found.extend(order::check(evidence));
    found
}

#[cfg(test)]
pub(crate) mod kit {
    #![allow(clippy::unwrap_used)]
    //! Sound evidence, to be spoiled by tests.

    use sgen_model::{Failure, Sequence, Timestamp};

    use super::*;
    use crate::witness::Answer;

    pub(crate) fn captured(sequence: u64, person: u64) -> Captured {
        let surface = "form:contact".parse().unwrap();
        Captured { id: format!("event-{sequence}"), sequence, surface, person, at: sequence * 1_000 }
    }

    pub(crate) fn arrival(sequence: u64, at: u64, answer: Answer) -> Arrival {
        let acted = matches!(answer, Answer::Status(200, _));
        Arrival {
            at,
            wall: Timestamp(at),
            key: format!("key-{sequence}"),
            event: format!("event-{sequence}"),
            body: sequence,
            size: 100,
            acted,
            answer,
            answered: Some((at + 10, Timestamp(at + 10))),
            trespass: None,
        }
    }

    pub(crate) fn entry(at: u64, delivered: &[u64], failed: &[(FailureClass, &[u64])]) -> JournalEntry {
        let positions = |all: &[u64]| all.iter().copied().map(Sequence).collect();
        JournalEntry {
            at: Timestamp(at),
            duration_ms: 10,
            catalog_version: String::new(),
            component_digest: String::new(),
            delivered: positions(delivered),
            failed: failed
                .iter()
                .map(|(class, events)| sgen_delivery::JournalFailure {
                    failure: Failure::new(*class, "x"),
                    events: positions(events),
                })
                .collect(),
            log: Vec::new(),
        }
    }

    pub(crate) fn letter(sequence: u64, class: FailureClass, attempts: u32) -> DeadLetter {
        let event = captured(sequence, 1);
        DeadLetter {
            sequence: Sequence(sequence),
            event_id: sgen_model::EventId::parse(&event.id).unwrap(),
            surface: event.surface,
            captured_at: Timestamp(event.at),
            attempts,
            failure: Failure::new(class, "x"),
            dead_at: Timestamp(event.at + 1_000),
            fields: None,
        }
    }

    /// Three events: the first delivered, the second dead-lettered, the third out of scope.
    pub(crate) fn sound() -> Evidence {
        let scope = Scope::parse(&["form:*"]).unwrap();
        let mut third = captured(3, 1);
        third.surface = "analytics:view".parse().unwrap();
        Evidence {
            instance: "site-0-0".to_owned(),
            captured: vec![captured(1, 1), captured(2, 2), third],
            scopes: vec![(0, Some(scope))],
            arrivals: vec![arrival(1, 1_100, Answer::Status(200, None)), arrival(2, 2_100, Answer::Status(400, None))],
            journal: vec![entry(1_110, &[1], &[]), entry(2_110, &[], &[(FailureClass::Rejected, &[2])])],
            dead: vec![letter(2, FailureClass::Rejected, 1)],
            counts: Counts { delivered: 1, dead_lettered: 1, skipped: 1, ..Counts::default() },
            ..Evidence::default()
        }
    }

    #[test]
    fn sound_evidence_has_no_violation() {
        assert_eq!(all(&sound()), []);
        assert_eq!(all(&Evidence { spared: true, ..spared() }), []);
    }

    /// One event of a spared site, delivered in time.
    pub(crate) fn spared() -> Evidence {
        let mut evidence = sound();
        evidence.captured.truncate(1);
        evidence.arrivals.truncate(1);
        evidence.journal.truncate(1);
        evidence.dead.clear();
        evidence.counts = Counts { delivered: 1, ..Counts::default() };
        evidence
    }
}
