//! What a token endpoint's answer means (RFC 6749, 5). Pure.
//!
//! The one thing that must not go wrong is taking an outage, or a server that is busy, for a revocation: an operator would
//! have to consent anew for nothing. So only an OAuth error in a client error's answer refuses; everything else is tried
//! again.

use std::time::Duration;

use serde::Deserialize;
use sgen_egress::{SendError, SendErrorKind};
use zeroize::Zeroizing;

/// The shortest token taken: a shorter one could not be told from ordinary text when answers are scrubbed.
const LEAST: usize = 8;
/// The longest, in bytes: no server takes a longer header.
const MOST: usize = 8 * 1024;
/// How much of a vendor's explanation is passed on, in characters.
const QUOTED: usize = 300;
/// The longest wait that a vendor's Retry-After is followed for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Tokens, as a vendor hands them out.
pub(crate) struct Obtained {
    pub(crate) access: Zeroizing<String>,
    pub(crate) refresh: Option<Zeroizing<String>>,
    /// How long the access token counts from the time of the request; unknown when the vendor does not say.
    pub(crate) lifetime: Option<Duration>,
}

/// Why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What was presented counts no longer (`invalid_grant`).
    Revoked(String),
    /// The client or what it asks for is refused: the operator must correct it, and what was granted is untouched.
    Misconfigured(String),
    /// The vendor cannot answer now.
    Unavailable {
        said: String,
        /// How long it asked to be left alone.
        wait: Option<Duration>,
        /// Whether it may have acted all the same, and so rotated the refresh token.
        unknown: bool,
    },
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    refresh_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Some vendors write the number as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn duration(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => *seconds,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Reads an answer. `retry_after` is the header's value.
pub(crate) fn read(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<Obtained, Refusal> {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let wait = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let unavailable = |said: String, unknown: bool| {
        Err(Refusal::Unavailable { said, wait: wait.map(|wait| wait.min(LONGEST_WAIT)), unknown })
    };
    match (status, answer) {
        (
            200..=299,
            Some(Answer { access_token: Some(access), refresh_token, token_type, expires_in, error: None, .. }),
        ) => {
            let access = Zeroizing::new(access);
            let refresh = refresh_token.map(Zeroizing::new).filter(|refresh| !refresh.is_empty());
            let sound = |token: &str| (LEAST..=MOST).contains(&token.len());
            if token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
                return unavailable("it hands out a token of a type other than bearer".to_owned(), true);
            }
            if !sound(&access)
                || !access.bytes().all(|b| b.is_ascii_graphic())
                || !refresh.as_deref().is_none_or(|it| sound(it))
            {
                return unavailable("it hands out a token that cannot be used".to_owned(), true);
            }
            Ok(Obtained { access, refresh, lifetime: expires_in.and_then(|seconds| seconds.duration()) })
        }
        // GitHub answers errors with 200.
        (200..=299 | 400..=428 | 430..=499, Some(Answer { error: Some(error), error_description, .. })) => {
            refusal(&error, error_description.as_deref(), wait)
        }
        (200..=299, _) => unavailable(format!("it answered {status} without a token"), true),
        (408 | 429 | 500..=599, _) => unavailable(format!("it answered {status}"), status >= 500),
        _ => unavailable(format!("it answered {status}, which no token endpoint does"), false),
    }
}

fn refusal(error: &str, description: Option<&str>, wait: Option<Duration>) -> Result<Obtained, Refusal> {
    let said = match description {
        Some(description) => format!("{}: {}", shown(error), shown(description)),
        None => shown(error),
    };
    let lower = description.unwrap_or_default().to_ascii_lowercase();
    // Salesforce says the first while another request for the same grant is on its way, and the second when two come close
    // to each other; the grant is as good as before.
    let busy = ["already being processed", "expired authorization code"].iter().any(|sign| lower.contains(sign));
    match error {
        "invalid_grant" if busy => Err(Refusal::Unavailable { said, wait, unknown: false }),
        // GitHub's own names for it.
        "invalid_grant" | "bad_refresh_token" | "bad_verification_code" => Err(Refusal::Revoked(said)),
        "server_error" | "temporarily_unavailable" | "slow_down" => {
            Err(Refusal::Unavailable { said, wait, unknown: error == "server_error" })
        }
        _ => Err(Refusal::Misconfigured(said)),
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(QUOTED).collect()
}

/// What it means that there was no answer at all.
pub(crate) fn unanswered(error: &SendError) -> Refusal {
    let said = error.message.clone();
    match error.kind {
        // The manifest's URL, or what it resolves to, is refused here: the vendor has nothing to do with it.
        SendErrorKind::Denied | SendErrorKind::Connect => Refusal::Unavailable { said, wait: None, unknown: false },
        SendErrorKind::Timeout | SendErrorKind::Reset | SendErrorKind::InvalidResponse => {
            Refusal::Unavailable { said, wait: None, unknown: true }
        }
        SendErrorKind::Credential => Refusal::Misconfigured(said),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn refused(status: u16, retry_after: Option<&str>, body: &str) -> Refusal {
        read(status, retry_after, body.as_bytes()).err().expect(body)
    }

    #[test]
    fn tokens_are_read_however_vendors_write_them() {
        for (body, refresh, lifetime) in [
            (
                r#"{"access_token":"access-1","token_type":"Bearer","expires_in":3600,"refresh_token":"refresh-1"}"#,
                true,
                Some(3600),
            ),
            (r#"{"access_token":"access-1","token_type":"bearer","expires_in":"1800","scope":"x"}"#, false, Some(1800)),
            (r#"{"access_token":"access-1","refresh_token":""}"#, false, None),
            (r#"{"access_token":"access-1","expires_in":-5}"#, false, None),
            (r#"{"access_token":"access-1","expires_in":1e300}"#, false, None),
        ] {
            let obtained = read(200, None, body.as_bytes()).unwrap_or_else(|refusal| panic!("{body}: {refusal:?}"));
            assert_eq!(obtained.access.as_str(), "access-1");
            assert_eq!(obtained.refresh.as_ref().map(|it| it.as_str()), refresh.then_some("refresh-1"));
            assert_eq!(obtained.lifetime, lifetime.map(Duration::from_secs));
        }
    }

    #[test]
    fn only_what_says_so_is_a_revocation() {
        let revoked = |status, body| matches!(refused(status, None, body), Refusal::Revoked(_));
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant"}"#, true),
            (400, r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#, true),
            (401, r#"{"error":"invalid_grant","error_description":"grant request is invalid"}"#, true),
            (200, r#"{"error":"bad_refresh_token"}"#, true),
            (400, r#"{"error":"invalid_grant","error_description":"token request is already being processed"}"#, false),
            (400, r#"{"error":"invalid_grant","error_description":"Expired authorization code"}"#, false),
            (400, r#"{"error":"invalid_client"}"#, false),
            (400, r#"{"error":"invalid_scope"}"#, false),
            (400, r#"{"error":"temporarily_unavailable"}"#, false),
            (500, r#"{"error":"invalid_grant"}"#, false),
            (503, r#"{"error":"invalid_grant"}"#, false),
            (429, r#"{"error":"invalid_grant"}"#, false),
            (400, "invalid_grant", false),
            (403, "<html>blocked</html>", false),
            (404, "", false),
            (302, "", false),
            (200, "", false),
            (200, "{}", false),
        ] {
            assert_eq!(revoked(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn what_the_operator_must_correct_is_told_from_what_is_tried_again() {
        let kind = |status, body| match refused(status, Some("7"), body) {
            Refusal::Revoked(_) => "revoked",
            Refusal::Misconfigured(_) => "misconfigured",
            Refusal::Unavailable { unknown: true, .. } => "unknown",
            Refusal::Unavailable { wait: Some(wait), .. } if wait.as_secs() == 7 => "wait",
            Refusal::Unavailable { .. } => "unavailable",
        };
        for (status, body, expected) in [
            (401, r#"{"error":"invalid_client"}"#, "misconfigured"),
            (400, r#"{"error":"unauthorized_client"}"#, "misconfigured"),
            (400, r#"{"error":"something_new","error_description":"?"}"#, "misconfigured"),
            (400, r#"{"error":"slow_down"}"#, "wait"),
            (429, "", "wait"),
            (404, "", "wait"),
            (500, "", "unknown"),
            (502, "<html>", "unknown"),
            (400, r#"{"error":"server_error"}"#, "unknown"),
            (200, r#"{"access_token":"short"}"#, "unknown"),
            (200, r#"{"access_token":"access token"}"#, "unknown"),
            (200, r#"{"access_token":"access-1","token_type":"mac"}"#, "unknown"),
        ] {
            assert_eq!(kind(status, body), expected, "{status} {body}");
        }
        assert!(matches!(refused(503, Some("86400"), ""), Refusal::Unavailable { wait: Some(LONGEST_WAIT), .. }));
    }

    #[test]
    fn no_answer_is_never_a_revocation_and_says_whether_the_vendor_may_have_acted() {
        for (kind, unknown) in [
            (SendErrorKind::Connect, false),
            (SendErrorKind::Denied, false),
            (SendErrorKind::Timeout, true),
            (SendErrorKind::Reset, true),
            (SendErrorKind::InvalidResponse, true),
        ] {
            let refusal = unanswered(&SendError::new(kind, "x"));
            assert_eq!(refusal, Refusal::Unavailable { said: "x".into(), wait: None, unknown });
        }
    }

    #[test]
    fn an_explanation_is_bounded_and_of_one_line() {
        let body = format!(r#"{{"error":"invalid_grant","error_description":"a\n\u001b{}"}}"#, "b".repeat(2_000));
        let Refusal::Revoked(said) = refused(400, None, &body) else { panic!("{body}") };
        assert!(said.len() < 400 && !said.chars().any(char::is_control), "{said}");
    }
}
