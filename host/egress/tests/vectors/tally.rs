//! The account of all vectors: what was expected of each, what came, and what was dialled meanwhile.

use std::fmt;

/// One family's counts.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) refused: usize,
    pub(crate) allowed: usize,
    /// Connections that a vector opened and must not have.
    pub(crate) forbidden: usize,
    pub(crate) wrong: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.refused += other.refused;
        self.allowed += other.allowed;
        self.forbidden += other.forbidden;
        self.wrong += other.wrong;
    }

    pub(crate) fn vectors(self) -> usize {
        self.refused + self.allowed + self.wrong
    }
}

/// The closing line.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, allowed, forbidden, .. } = self;
        write!(f, "vectors {}, refused {refused}, allowed {allowed}, forbidden sockets {forbidden}", self.vectors())
    }
}

/// What became of one vector.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What passed, described; or the reason for which it was refused.
    pub(crate) said: Result<String, String>,
    /// Connections that were opened and were not granted.
    pub(crate) forbidden: usize,
    /// Connections that were opened for what passed: forbidden ones if it must not have.
    pub(crate) opened: usize,
}

impl Outcome {
    /// Of a vector that opened nothing it must not have.
    pub(crate) fn clean(said: Result<String, String>) -> Self {
        Self { said, forbidden: 0, opened: 0 }
    }
}

/// Collects outcomes.
#[derive(Default)]
pub(crate) struct Tally {
    family: Counts,
    total: Counts,
    complaints: Vec<String>,
}

impl Tally {
    /// A vector that must be refused, for a reason with these words in it.
    pub(crate) fn refused(&mut self, vector: impl fmt::Display, words: &str, outcome: &Outcome) {
        let forbidden = outcome.forbidden + outcome.opened;
        self.family.forbidden += forbidden;
        match &outcome.said {
            Err(reason) if reason.contains(words) && forbidden == 0 => self.family.refused += 1,
            said => self.complain(format!(
                "{vector}: to be refused with {words:?}, came to {said:?} with {forbidden} forbidden connections"
            )),
        }
    }

    /// A vector that must pass, and be seen as this.
    pub(crate) fn allowed(&mut self, vector: impl fmt::Display, seen: &str, outcome: &Outcome) {
        self.family.forbidden += outcome.forbidden;
        match &outcome.said {
            Ok(passed) if passed == seen && outcome.forbidden == 0 => self.family.allowed += 1,
            said => self.complain(format!(
                "{vector}: to pass as {seen:?}, came to {said:?} with {} forbidden connections",
                outcome.forbidden
            )),
        }
    }

    /// Connections that reached a listener which nobody may reach.
    pub(crate) fn trapped(&mut self, connections: usize) {
        self.family.forbidden += connections;
        if connections > 0 {
            self.complaints.push(format!("{connections} connections reached the listener that nobody may reach"));
        }
    }

    fn complain(&mut self, complaint: String) {
        self.family.wrong += 1;
        self.complaints.push(complaint);
    }

    /// Ends a family: its counts, and what was wrong with it.
    pub(crate) fn end_family(&mut self) -> (Counts, Vec<String>) {
        let family = std::mem::take(&mut self.family);
        self.total.add(family);
        (family, std::mem::take(&mut self.complaints))
    }

    /// Everything so far.
    pub(crate) fn total(&self) -> Counts {
        self.total
    }
}
