//! Failure classes, failures and outcomes: what became of an event, and what follows from it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What went wrong, in terms on which the host and an operator can act. The same list as in `wit/connector.wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The downstream refused the credential.
    AuthRevoked,
    /// The credential is valid but may not do this.
    PermissionDenied,
    /// Too many requests.
    RateLimited,
    /// The downstream cannot answer now.
    Unavailable,
    /// A mapped field or target does not fit the downstream's schema.
    SchemaMismatch,
    /// The downstream refuses this event for another reason.
    Rejected,
    /// The request exceeds what the downstream takes.
    TooLarge,
    /// The target is gone for good.
    Gone,
    /// The connector trapped, exceeded a cap or answered nonsense.
    ConnectorFault,
    /// The host refused the request.
    EgressDenied,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::AuthRevoked,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::Unavailable,
        Self::SchemaMismatch,
        Self::Rejected,
        Self::TooLarge,
        Self::Gone,
        Self::ConnectorFault,
        Self::EgressDenied,
    ];

    /// The class as in JSON and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthRevoked => "auth-revoked",
            Self::PermissionDenied => "permission-denied",
            Self::RateLimited => "rate-limited",
            Self::Unavailable => "unavailable",
            Self::SchemaMismatch => "schema-mismatch",
            Self::Rejected => "rejected",
            Self::TooLarge => "too-large",
            Self::Gone => "gone",
            Self::ConnectorFault => "connector-fault",
            Self::EgressDenied => "egress-denied",
        }
    }

    /// Whose it is to mend.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Self::AuthRevoked | Self::PermissionDenied | Self::SchemaMismatch | Self::Gone => Fault::Operator,
            Self::RateLimited | Self::Unavailable | Self::Rejected | Self::TooLarge => Fault::Downstream,
            Self::ConnectorFault | Self::EgressDenied => Fault::Platform,
        }
    }

    /// What to do about it, for the person in charge.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::AuthRevoked => "rotate the credential; delivery then goes on by itself",
            Self::PermissionDenied => "grant the missing permission downstream or rotate to a credential that has it",
            Self::RateLimited => "nothing: delivery slows down and goes on",
            Self::Unavailable => "nothing yet: delivery is tried again; look at the downstream's status if it stays",
            Self::SchemaMismatch => "correct the field mapping or the downstream's schema",
            Self::Rejected => "read the downstream's message; correct the data or the downstream's rules",
            Self::TooLarge => "map fewer or smaller fields",
            Self::Gone => "point the settings at an existing target, or disable the connector",
            Self::ConnectorFault => "platform support has to look at the connector",
            Self::EgressDenied => "platform support has to look at the connector's manifest",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The site's operator can mend it (credential, mapping, settings).
    Operator,
    /// The downstream service.
    Downstream,
    /// The platform (the connector or its manifest).
    Platform,
}

/// One failure, as it is logged and shown. Texts are scrubbed of secrets and bounded before they get here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub class: FailureClass,
    /// The HTTP status that decided, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The vendor's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// For the operator.
    pub message: String,
    /// The mapped target field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How long the downstream asked to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// The longest message kept, in bytes.
    pub const MESSAGE_LIMIT: usize = 1024;
    /// The longest code or field name kept, in bytes.
    pub const NAME_LIMIT: usize = 128;

    /// A failure with a class and a message.
    #[must_use]
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, status: None, code: None, message: message.into(), field: None, retry_after_ms: None }.bounded()
    }

    /// The same with a field at fault.
    #[must_use]
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self.bounded()
    }

    /// Cuts every text to its limit and replaces control characters: what a guest or a downstream says is shown in
    /// terminals and pages.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        bound(&mut self.message, Self::MESSAGE_LIMIT);
        for text in [&mut self.code, &mut self.field].into_iter().flatten() {
            bound(text, Self::NAME_LIMIT);
        }
        self
    }

    /// What two failures share when they have one cause: the class with the vendor's code or the field at fault.
    #[must_use]
    pub fn cause(&self) -> String {
        match (&self.field, &self.code) {
            (Some(field), _) => format!("{}/{field}", self.class),
            (None, Some(code)) => format!("{}/{code}", self.class),
            (None, None) => match self.status {
                Some(status) => format!("{}/{status}", self.class),
                None => self.class.to_string(),
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        if let Some(status) = self.status {
            write!(f, " ({status})")?;
        }
        if let Some(field) = &self.field {
            write!(f, " at field {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

fn bound(text: &mut String, limit: usize) {
    if text.len() > limit {
        let mut end = limit.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
        text.push('…');
    }
    if text.chars().any(is_unprintable) {
        *text = text.chars().map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect();
    }
}

/// Control characters and the marks that reverse or hide text.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What became of one event in one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The downstream has it; the text is the downstream's id for the record.
    Delivered(Option<String>),
    /// Not delivered.
    Failed(Failure),
}

/// A typed health verdict, as a connector's `check` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The downstream answers.
    pub reachable: Finding,
    /// It accepts the credential.
    pub authorised: Finding,
    /// The credential may do what delivery needs.
    pub permitted: Finding,
    /// What settings and mapping refer to exists.
    pub target_exists: Finding,
    /// One sentence.
    pub summary: String,
    /// Present when any finding is `no`.
    pub failure: Option<Failure>,
}

impl Verdict {
    /// Whether any question was answered with no. What cannot be verified is no fault.
    #[must_use]
    pub fn found_fault(&self) -> bool {
        [self.reachable, self.authorised, self.permitted, self.target_exists].contains(&Finding::No)
    }

    /// Whether the downstream was found able to take deliveries: nothing is wrong, and it was really asked.
    #[must_use]
    pub fn found_sound(&self) -> bool {
        !self.found_fault() && self.reachable == Finding::Yes && self.authorised == Finding::Yes
    }
}

/// The answer to one question of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Yes.
    Yes,
    /// No.
    No,
    /// The downstream offers no honest probe.
    Unverifiable,
}

/// One live choice for a settings field or a mapping target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The stored value.
    pub value: String,
    /// What the operator reads.
    pub label: String,
}

/// The downstream account that a credential belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownstreamAccount {
    /// The downstream's stable id.
    pub id: String,
    /// Its name.
    pub label: String,
    /// Whether the downstream marks it as a test account.
    pub sandbox: bool,
}

/// One line of a connector's log, bounded and escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// `trace` … `error`.
    pub level: String,
    /// The message with its fields.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_a_character_boundary_and_stripped_of_control_characters() {
        let failure = Failure::new(FailureClass::Rejected, "ä".repeat(2000));
        assert!(failure.message.len() <= Failure::MESSAGE_LIMIT);
        assert!(failure.message.ends_with('…'));
        let failure = Failure::new(FailureClass::Rejected, "a\u{1b}[31m\nb\u{202e}c");
        assert_eq!(failure.message, "a\u{fffd}[31m\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn a_cause_joins_the_class_with_what_the_operator_must_mend() {
        let failure = Failure::new(FailureClass::SchemaMismatch, "x").at_field("email");
        assert_eq!(failure.cause(), "schema-mismatch/email");
        assert_eq!(Failure::new(FailureClass::Unavailable, "x").cause(), "unavailable");
    }

    #[test]
    fn every_class_is_written_as_in_the_wit() {
        for class in FailureClass::ALL {
            assert_eq!(serde_json::to_string(&class).ok(), Some(format!("\"{class}\"")));
        }
    }
}
