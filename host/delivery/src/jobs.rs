//! Replays and discards of dead letters: what is asked for, and how far it is. A lane works through them page by page;
//! how far it is stands in its state, so that a restart goes on where it was.

use serde::{Deserialize, Serialize};
use sgen_model::{FailureClass, Sequence, Timestamp};

use crate::records::DeadLetter;

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// They are sent on their way again, mapped anew, with the whole retry policy.
    Replay,
    /// They are given up for good.
    Discard,
}

impl JobKind {
    /// As in JSON and in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }
}

/// Which dead letters; every condition given must hold. None at all means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only the letter at this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// Only letters of this cause in triage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Only letters whose failure has this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// Only letters that were given up at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Selection {
    pub(crate) fn admits(&self, letter: &DeadLetter) -> bool {
        self.sequence.is_none_or(|sequence| letter.sequence == sequence)
            && self.cause.as_ref().is_none_or(|cause| letter.cause == *cause)
            && self.class.is_none_or(|class| letter.failure.class == class)
            && self.since.is_none_or(|since| letter.dead_at >= since)
    }
}

/// A replay or discard under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Counts the instance's jobs, from 1.
    pub id: u64,
    /// What is done.
    pub kind: JobKind,
    /// With which letters.
    pub selection: Selection,
    /// When it was asked for. Letters from then on are not part of it, so that what fails again does not go round.
    pub requested_at: Timestamp,
    /// Letters up to this position have been looked at.
    pub looked_at: Sequence,
    /// How many have been dealt with.
    pub done: u64,
    /// How many could not be replayed, because the mapping fails for them still.
    pub refused: u64,
}

impl Job {
    /// Whether a letter is part of it.
    pub(crate) fn takes(&self, letter: &DeadLetter) -> bool {
        letter.dead_at <= self.requested_at && self.selection.admits(letter)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sgen_model::{EventId, Failure};

    fn letter(sequence: u64, class: FailureClass, dead_at: u64) -> DeadLetter {
        let failure = Failure::new(class, "x");
        DeadLetter {
            sequence: Sequence(sequence),
            event_id: EventId::parse("e").unwrap(),
            surface: "form:a".parse().unwrap(),
            captured_at: Timestamp(0),
            attempts: 1,
            cause: failure.cause(),
            failure,
            dead_at: Timestamp(dead_at),
            fields: None,
            event: None,
        }
    }

    #[test]
    fn every_condition_of_a_selection_must_hold() {
        let letter = letter(7, FailureClass::Rejected, 100);
        let admits = |selection: Selection| selection.admits(&letter);
        assert!(admits(Selection::default()));
        assert!(admits(Selection { sequence: Some(Sequence(7)), since: Some(Timestamp(100)), ..Selection::default() }));
        assert!(!admits(Selection { sequence: Some(Sequence(8)), ..Selection::default() }));
        assert!(!admits(Selection { cause: Some("rejected/422".to_owned()), ..Selection::default() }));
        assert!(!admits(Selection { class: Some(FailureClass::Gone), ..Selection::default() }));
        assert!(!admits(Selection { since: Some(Timestamp(101)), ..Selection::default() }));
    }

    #[test]
    fn a_letter_that_died_after_a_job_was_asked_for_is_not_part_of_it() {
        let job = Job {
            id: 1,
            kind: JobKind::Replay,
            selection: Selection::default(),
            requested_at: Timestamp(100),
            looked_at: Sequence(0),
            done: 0,
            refused: 0,
        };
        assert!(job.takes(&letter(1, FailureClass::Rejected, 100)));
        assert!(!job.takes(&letter(1, FailureClass::Rejected, 101)));
    }
}
