//! What a connector tells an operator apart from delivery: a typed verdict, live choices, and the credential's account.

use crate::Failure;

/// The answer to one question of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It is so.
    Yes,
    /// It is not so; the verdict carries a failure.
    No,
    /// The downstream offers no probe for it.
    Unverifiable,
}

/// Can this connector instance deliver?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The downstream answers.
    pub reachable: Finding,
    /// It accepts the credential.
    pub authorised: Finding,
    /// The credential may do what delivery needs.
    pub permitted: Finding,
    /// What settings and mapping refer to (lists, tables, fields) exists.
    pub target_exists: Finding,
    /// One sentence for the operator.
    pub summary: String,
    /// Present when any finding is `no`.
    pub failure: Option<Failure>,
}

impl Verdict {
    /// Nothing can be found out without delivering: an honest answer for a downstream without a probe.
    pub fn unverifiable(summary: impl Into<String>) -> Self {
        Self {
            reachable: Finding::Unverifiable,
            authorised: Finding::Unverifiable,
            permitted: Finding::Unverifiable,
            target_exists: Finding::Unverifiable,
            summary: summary.into(),
            failure: None,
        }
    }

    /// What a failed probe proves, class by class; the summary is the failure's message. Every finding that it does not
    /// prove is unverifiable, and a failure that answers none of the questions (too many requests) is told by the summary
    /// alone.
    pub fn from_failure(failure: Failure) -> Self {
        use crate::FailureClass as Class;
        let mut verdict = Self::unverifiable(failure.message.clone());
        match failure.class {
            Class::Unavailable | Class::EgressDenied | Class::Gone => verdict.reachable = Finding::No,
            Class::AuthRevoked => {
                // Without a status it is the host that has no usable credential, and nothing was sent.
                if failure.status.is_some() {
                    verdict.reachable = Finding::Yes;
                }
                verdict.authorised = Finding::No;
            }
            Class::PermissionDenied => {
                verdict.reachable = Finding::Yes;
                verdict.authorised = Finding::Yes;
                verdict.permitted = Finding::No;
            }
            Class::SchemaMismatch => {
                verdict.reachable = Finding::Yes;
                verdict.authorised = Finding::Yes;
                verdict.target_exists = Finding::No;
            }
            Class::Rejected | Class::TooLarge => {
                verdict.reachable = Finding::Yes;
                verdict.permitted = Finding::No;
            }
            Class::ConnectorFault => verdict.target_exists = Finding::No,
            Class::RateLimited => {
                // Without a status it is the host that keeps to the rate, and nothing was sent.
                if failure.status.is_some() {
                    verdict.reachable = Finding::Yes;
                }
                return verdict;
            }
        }
        verdict.failure = Some(failure);
        verdict
    }
}

/// One choice for a settings field or a mapping target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The value that is stored in the settings.
    pub value: String,
    /// What the operator reads.
    pub label: String,
}

impl Choice {
    /// A choice.
    pub fn new(value: impl Into<String>, label: impl Into<String>) -> Self {
        Self { value: value.into(), label: label.into() }
    }

    /// Whether the operator's search text occurs in value or label, whatever the case. No text matches everything.
    pub fn matches(&self, search: Option<&str>) -> bool {
        let Some(search) = search.map(str::trim).filter(|search| !search.is_empty()) else { return true };
        let search = search.to_lowercase();
        self.value.to_lowercase().contains(&search) || self.label.to_lowercase().contains(&search)
    }
}

/// The downstream account that a credential belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The downstream's stable id of it.
    pub id: String,
    /// Its name, for the operator.
    pub label: String,
    /// Whether the downstream marks it as a test or sandbox account.
    pub sandbox: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::FailureClass;

    #[test]
    fn a_failed_probe_says_only_what_it_proves() {
        let refused = Verdict::from_failure(Failure::new(FailureClass::AuthRevoked, "bad token").with_status(401));
        assert_eq!((refused.reachable, refused.authorised), (Finding::Yes, Finding::No));
        assert_eq!((refused.permitted, refused.target_exists), (Finding::Unverifiable, Finding::Unverifiable));
        assert_eq!(refused.failure.unwrap().class, FailureClass::AuthRevoked);

        let down = Verdict::from_failure(Failure::new(FailureClass::Unavailable, "connection refused"));
        assert_eq!((down.reachable, down.authorised), (Finding::No, Finding::Unverifiable));

        let missing = Verdict::from_failure(Failure::new(FailureClass::AuthRevoked, "no credential in slot token"));
        assert_eq!((missing.reachable, missing.authorised), (Finding::Unverifiable, Finding::No));
    }

    #[test]
    fn being_asked_to_wait_is_not_being_unhealthy() {
        let verdict = Verdict::from_failure(Failure::new(FailureClass::RateLimited, "slow down").with_status(429));
        assert_eq!(verdict.reachable, Finding::Yes);
        assert_eq!(verdict.failure, None);
        assert_eq!(verdict.summary, "slow down");
        let held = Verdict::from_failure(Failure::new(FailureClass::RateLimited, "not sent"));
        assert_eq!(held.reachable, Finding::Unverifiable, "nothing was sent");
    }

    #[test]
    fn a_choice_is_found_by_value_or_label_in_any_case() {
        let choice = Choice::new("42", "Spring Newsletter");
        assert!(choice.matches(None));
        assert!(choice.matches(Some(" ")));
        assert!(choice.matches(Some("NEWS")));
        assert!(choice.matches(Some("42")));
        assert!(!choice.matches(Some("autumn")));
    }
}
