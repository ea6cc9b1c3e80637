//! Misbehaviour on demand: what a downstream does wrong on the wire.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One kind of misbehaviour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Answers with this status instead of doing the work.
    Status {
        /// The status code.
        status: u16,
        /// Additional headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body, as `application/json`.
        #[serde(default)]
        body: String,
    },
    /// Answers 302.
    Redirect {
        /// The `Location`.
        to: String,
    },
    /// Answers 200 with a body of this size.
    Large {
        /// Bytes.
        bytes: usize,
    },
    /// Never answers; the connection stays open.
    Hang,
    /// Resets the connection (RST) without an answer.
    Reset,
    /// Announces a body, sends half of it and closes the connection.
    Truncate,
}

impl Fault {
    /// A bare status with an empty JSON object.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: "{}".to_owned() }
    }

    /// 429 with `Retry-After` in seconds.
    #[must_use]
    pub fn too_many(retry_after_seconds: u32) -> Self {
        Self::Status {
            status: 429,
            headers: vec![("retry-after".to_owned(), retry_after_seconds.to_string())],
            body: "{}".to_owned(),
        }
    }

    /// A word for the journal.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Redirect { .. } => "redirect",
            Self::Large { .. } => "large",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Truncate => "truncate",
        }
    }
}

/// When a fault applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Only requests whose path starts so; all when absent.
    #[serde(default)]
    pub path: Option<String>,
    /// How many more requests; without end when absent.
    #[serde(default)]
    pub times: Option<u64>,
    /// What happens.
    pub fault: Fault,
}

/// The rules in force, first match first.
#[derive(Debug, Default)]
pub struct Faults(Mutex<VecDeque<Rule>>);

impl Faults {
    /// Adds a rule behind those in force.
    pub fn add(&self, rule: Rule) {
        self.lock().push_back(rule);
    }

    /// The next `times` requests, whatever their path, meet this fault.
    pub fn next(&self, times: u64, fault: Fault) {
        self.add(Rule { path: None, times: Some(times), fault });
    }

    /// Every request from now on meets this fault.
    pub fn always(&self, fault: Fault) {
        self.add(Rule { path: None, times: None, fault });
    }

    /// Behaves again.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Whether no rule is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The fault that a request to `path` meets; counts it against its rule.
    #[must_use]
    pub fn take(&self, path: &str) -> Option<Fault> {
        let mut rules = self.lock();
        let position = rules.iter().position(|r| r.path.as_ref().is_none_or(|prefix| path.starts_with(prefix)))?;
        let rule = rules.get_mut(position)?;
        let fault = rule.fault.clone();
        match rule.times.as_mut() {
            None => {}
            Some(times) if *times > 1 => *times -= 1,
            Some(_) => {
                rules.remove(position);
            }
        }
        Some(fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_applies_as_often_as_it_says_and_to_its_path() {
        let faults = Faults::default();
        faults.add(Rule { path: Some("/crm/".to_owned()), times: Some(2), fault: Fault::Hang });
        assert_eq!(faults.take("/account-info"), None);
        assert_eq!(faults.take("/crm/v3"), Some(Fault::Hang));
        assert_eq!(faults.take("/crm/v3"), Some(Fault::Hang));
        assert_eq!(faults.take("/crm/v3"), None);
        assert!(faults.is_empty());
    }

    #[test]
    fn rules_follow_one_another() {
        let faults = Faults::default();
        faults.next(1, Fault::Reset);
        faults.always(Fault::status(503));
        assert_eq!(faults.take("/"), Some(Fault::Reset));
        assert_eq!(faults.take("/"), Some(Fault::status(503)));
        assert_eq!(faults.take("/"), Some(Fault::status(503)));
        faults.clear();
        assert_eq!(faults.take("/"), None);
    }
}
