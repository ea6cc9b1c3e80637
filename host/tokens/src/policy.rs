//! What follows from time and failures. Pure.

use std::time::Duration;

use sgen_model::Timestamp;

/// The most that a token is renewed ahead of its expiry.
const AHEAD: Duration = Duration::from_secs(300);
/// The first wait after a token endpoint gave no usable answer; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a refusal is not asked about again: only the operator can mend it, or the vendor's own mistake has passed.
pub(crate) const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// A token that was obtained because the one before was refused counts as refused for good within this time.
pub(crate) const SECOND_REFUSAL: Duration = Duration::from_secs(60);

/// When an access token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// When it was asked for.
    pub(crate) from: Timestamp,
    /// Until when, if the vendor says.
    pub(crate) until: Option<Timestamp>,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// To be used.
    Fresh,
    /// To be renewed, and used when that fails.
    Due,
    /// For nothing.
    Expired,
}

impl Life {
    /// A token is due when a fifth of its life is left, five minutes at most.
    pub(crate) fn state(self, now: Timestamp) -> State {
        let Some(until) = self.until else { return State::Fresh };
        let ahead = (until.since(self.from) / 5).min(AHEAD);
        if now >= until {
            State::Expired
        } else if until.since(now) <= ahead {
            State::Due
        } else {
            State::Fresh
        }
    }
}

/// How long a token endpoint is left alone after so many failures in a row, the first being 1.
pub(crate) fn wait(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_WAIT).max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_ahead_of_its_expiry() {
        use State::{Due, Expired, Fresh};
        for (seconds, at, expected) in [
            (3600, 3299, Fresh),
            (3600, 3300, Due),
            (3600, 3599, Due),
            (3600, 3600, Expired),
            (5, 3, Fresh),
            (5, 4, Due),
            (5, 5, Expired),
            (0, 0, Expired),
        ] {
            let from = Timestamp(1_000_000);
            let life = Life { from, until: Some(from.after(Duration::from_secs(seconds))) };
            assert_eq!(life.state(from.after(Duration::from_secs(at))), expected, "{seconds} s after {at} s");
        }
        assert_eq!(Life { from: Timestamp(0), until: None }.state(Timestamp::MAX), Fresh);
    }

    #[test]
    fn a_token_endpoint_that_fails_is_left_alone_longer_and_longer() {
        let seconds = Duration::from_secs;
        for (failures, asked, expected) in [
            (1, None, 1),
            (2, None, 2),
            (6, None, 32),
            (7, None, 60),
            (u32::MAX, None, 60),
            (1, Some(30), 30),
            (7, Some(30), 60),
        ] {
            assert_eq!(wait(failures, asked.map(seconds)), seconds(expected), "{failures} {asked:?}");
        }
    }
}
