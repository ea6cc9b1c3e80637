//! Failures in terms on which the host and an operator can act, and how an HTTP status becomes one.
//!
//! Policy only: what the host then does per class is documented with `failure-class` in `wit/connector.wit`.

use std::fmt;

use crate::{Response, SendError, SendErrorKind, timestamps};

/// What kind of failure it is. The class decides what the host does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The downstream refused the credential. Delivery pauses until the operator reconnects.
    AuthRevoked,
    /// The credential is valid but may not do this. Delivery pauses until the operator acts.
    PermissionDenied,
    /// Too many requests. Waits for at least the time asked for, then tries again.
    RateLimited,
    /// The downstream cannot answer now. Tries again with exponential backoff.
    Unavailable,
    /// A mapped field or target does not fit the downstream's schema. Dead letter, one triage item per field.
    SchemaMismatch,
    /// The downstream refuses this event for another reason. Dead letter.
    Rejected,
    /// The request exceeds what the downstream takes. The batch is split; an event alone is a dead letter.
    TooLarge,
    /// The downstream says that the target is gone for good. Delivery pauses.
    Gone,
    /// The connector met a state that it cannot explain. A fresh instance tries again, then dead letter.
    ConnectorFault,
    /// The host refused the request. Dead letter, for the platform to look at.
    EgressDenied,
}

impl FailureClass {
    /// The class's name in the contract (`auth-revoked`).
    pub fn name(self) -> &'static str {
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

    /// Whether the host may send the same event again without anyone changing it: it retries, splits or pauses. Not so for
    /// what goes to the dead letters at once. Matters where a later event must not overtake an earlier one.
    pub fn may_be_sent_again(self) -> bool {
        match self {
            Self::AuthRevoked
            | Self::PermissionDenied
            | Self::RateLimited
            | Self::Unavailable
            | Self::TooLarge
            | Self::Gone
            | Self::ConnectorFault => true,
            Self::SchemaMismatch | Self::Rejected | Self::EgressDenied => false,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The class that a status alone tells; `None` for a 2xx.
///
/// A 400 or 422 is [`FailureClass::Rejected`] here: whether it names a field stands in the body, so a connector that can
/// read it says so with [`Failure::on_field`]. The same holds for a 404 on a mapped list or table, and for a 403 that is a
/// quota. A 3xx is rejected because redirects are never followed.
pub fn classify_status(status: u16) -> Option<FailureClass> {
    match status {
        200..=299 => None,
        401 => Some(FailureClass::AuthRevoked),
        403 => Some(FailureClass::PermissionDenied),
        408 | 429 => Some(FailureClass::RateLimited),
        410 => Some(FailureClass::Gone),
        413 => Some(FailureClass::TooLarge),
        300..=499 => Some(FailureClass::Rejected),
        500..=599 => Some(FailureClass::Unavailable),
        // An interim or an unassigned status is no answer that a downstream can mean.
        _ => Some(FailureClass::ConnectorFault),
    }
}

/// One failure. The host scrubs secrets from all texts and truncates them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub class: FailureClass,
    /// The HTTP status of the response that decided, when there was one.
    pub status: Option<u16>,
    /// The vendor's own error code, unchanged.
    pub code: Option<String>,
    /// The vendor's message, or the connector's, for the operator.
    pub message: String,
    /// The mapped target field at fault, as the manifest names it.
    pub field: Option<String>,
    /// How long the downstream asked to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure that no response decided.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, status: None, code: None, message: message.into(), field: None, retry_after_ms: None }
    }

    /// A mapped field that the downstream cannot take.
    pub fn schema_mismatch(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureClass::SchemaMismatch, message).on_field(field)
    }

    /// A state that the connector cannot explain.
    pub fn connector_fault(message: impl Into<String>) -> Self {
        Self::new(FailureClass::ConnectorFault, message)
    }

    /// What a response's status says; `None` for a 2xx. The wait that the downstream asked for is taken along. Of an answer
    /// that is the host's own ([`Response::is_the_hosts`]) no status is kept, since no downstream gave one; its message says
    /// what happened.
    pub fn from_response(response: &Response) -> Option<Self> {
        let class = classify_status(response.status)?;
        if response.is_the_hosts() {
            let mut failure = Self::new(class, response.excerpt(500));
            failure.retry_after_ms = retry_after_ms(response);
            return Some(failure);
        }
        let mut failure = Self::new(class, format!("the downstream answered {}", response.status));
        failure.status = Some(response.status);
        failure.retry_after_ms = retry_after_ms(response);
        Some(failure)
    }

    /// What it means that there is no response.
    ///
    /// | kind | class | because |
    /// |---|---|---|
    /// | denied | egress-denied | the platform has to look at the manifest or the address policy |
    /// | connect, timeout, reset | unavailable | the downstream or the way to it is down; the idempotency key makes a repetition safe |
    /// | invalid-response | unavailable | what answers is no healthy downstream (a broken proxy, an answer without end); repeating is bounded by the host |
    /// | credential | auth-revoked | the operator must reconnect; no attempt is lost meanwhile |
    pub fn from_send_error(error: &SendError) -> Self {
        let class = match error.kind {
            SendErrorKind::Denied => FailureClass::EgressDenied,
            SendErrorKind::Connect | SendErrorKind::Timeout | SendErrorKind::Reset | SendErrorKind::InvalidResponse => {
                FailureClass::Unavailable
            }
            SendErrorKind::Credential => FailureClass::AuthRevoked,
        };
        Self::new(class, error.message.clone())
    }

    /// The same failure of another class, when the body says more than the status.
    #[must_use]
    pub fn with_class(mut self, class: FailureClass) -> Self {
        self.class = class;
        self
    }

    /// With the vendor's own code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// With the vendor's own message.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// With the status that decided.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// A schema mismatch on this mapped target: what a 400 or 422 that names a field is.
    #[must_use]
    pub fn on_field(mut self, field: impl Into<String>) -> Self {
        self.class = FailureClass::SchemaMismatch;
        self.field = Some(field.into());
        self
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::from_send_error(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.class, self.message)?;
        if let Some(field) = &self.field {
            write!(formatter, " (field {field})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// `retry-after` in milliseconds: seconds, or an HTTP date measured against the response's own `date`, since a guest has
/// no clock. A date without `date` beside it tells nothing, and the host's backoff applies.
fn retry_after_ms(response: &Response) -> Option<u64> {
    let value = response.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let at = timestamps::parse_http_date(value)?;
    let now = timestamps::parse_http_date(response.header("date")?.trim())?;
    Some(at.saturating_sub(now).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn every_status_has_the_class_of_the_table() {
        let table = [
            (200, None),
            (204, None),
            (207, None),
            (301, Some(FailureClass::Rejected)),
            (400, Some(FailureClass::Rejected)),
            (401, Some(FailureClass::AuthRevoked)),
            (402, Some(FailureClass::Rejected)),
            (403, Some(FailureClass::PermissionDenied)),
            (404, Some(FailureClass::Rejected)),
            (408, Some(FailureClass::RateLimited)),
            (409, Some(FailureClass::Rejected)),
            (410, Some(FailureClass::Gone)),
            (413, Some(FailureClass::TooLarge)),
            (422, Some(FailureClass::Rejected)),
            (429, Some(FailureClass::RateLimited)),
            (500, Some(FailureClass::Unavailable)),
            (503, Some(FailureClass::Unavailable)),
            (599, Some(FailureClass::Unavailable)),
            (102, Some(FailureClass::ConnectorFault)),
            (999, Some(FailureClass::ConnectorFault)),
        ];
        for (status, class) in table {
            assert_eq!(classify_status(status), class, "status {status}");
        }
    }

    #[test]
    fn a_wait_in_seconds_is_taken_along() {
        let response = Response::new(429).with_header("retry-after", "17");
        let failure = Failure::from_response(&response).unwrap();
        assert_eq!(failure.class, FailureClass::RateLimited);
        assert_eq!(failure.retry_after_ms, Some(17_000));
        assert_eq!(failure.status, Some(429));
    }

    #[test]
    fn a_wait_until_a_date_is_measured_against_the_responses_own_date() {
        let response = Response::new(503)
            .with_header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .with_header("retry-after", "Sun, 06 Nov 1994 08:51:07 GMT");
        assert_eq!(Failure::from_response(&response).unwrap().retry_after_ms, Some(90_000));
    }

    #[test]
    fn a_date_in_the_past_asks_for_no_wait() {
        let response = Response::new(503)
            .with_header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .with_header("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT");
        assert_eq!(Failure::from_response(&response).unwrap().retry_after_ms, Some(0));
    }

    #[test]
    fn a_wait_that_cannot_be_told_is_left_to_the_host() {
        for value in ["soon", "-3", "Sun, 06 Nov 1994 08:49:37 GMT", ""] {
            let response = Response::new(429).with_header("retry-after", value);
            assert_eq!(Failure::from_response(&response).unwrap().retry_after_ms, None, "retry-after {value:?}");
        }
    }

    #[test]
    fn a_request_that_the_host_holds_to_the_vendors_rate_is_rate_limited_in_the_hosts_words() {
        let response = Response::new(429)
            .with_header("content-type", "text/plain; charset=utf-8")
            .with_header("retry-after", "45")
            .with_header("proxy-status", "sgen-host; error=proxy_internal_response; details=\"rate\"")
            .with_body("not sent: the host keeps to the vendor's rate of 100 requests per 10s");
        let failure = Failure::from_response(&response).unwrap();
        assert_eq!((failure.class, failure.retry_after_ms), (FailureClass::RateLimited, Some(45_000)));
        assert_eq!(failure.status, None, "no downstream answered");
        assert_eq!(failure.message, "not sent: the host keeps to the vendor's rate of 100 requests per 10s");
    }

    #[test]
    fn every_send_error_has_a_class() {
        let table = [
            (SendErrorKind::Denied, FailureClass::EgressDenied),
            (SendErrorKind::Connect, FailureClass::Unavailable),
            (SendErrorKind::Timeout, FailureClass::Unavailable),
            (SendErrorKind::Reset, FailureClass::Unavailable),
            (SendErrorKind::InvalidResponse, FailureClass::Unavailable),
            (SendErrorKind::Credential, FailureClass::AuthRevoked),
        ];
        for (kind, class) in table {
            let failure = Failure::from_send_error(&SendError::new(kind, "why"));
            assert_eq!((failure.class, failure.message.as_str()), (class, "why"));
        }
    }

    #[test]
    fn naming_a_field_makes_it_a_schema_mismatch() {
        let failure = Failure::from_response(&Response::new(400)).unwrap().on_field("email");
        assert_eq!(failure.class, FailureClass::SchemaMismatch);
        assert_eq!(failure.field.as_deref(), Some("email"));
        assert_eq!(failure.to_string(), "schema-mismatch: the downstream answered 400 (field email)");
    }
}
