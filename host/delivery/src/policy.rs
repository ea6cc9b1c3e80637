//! What follows from a failure. Pure: time and chance are arguments.

use std::time::Duration;

use sgen_model::{Failure, FailureClass, Timestamp};

/// How often and for how long an event is tried.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The ceiling of the first wait.
    pub base: Duration,
    /// The ceiling of every wait.
    pub cap: Duration,
    /// From the first failure to giving up; time in which the instance was paused or disabled does not count.
    pub horizon: Duration,
    /// The longest that a downstream's own wish to wait is followed.
    pub longest_asked: Duration,
    /// How often an event is given to a connector that fails by itself.
    pub connector_faults: u32,
}

impl Default for RetryPolicy {
    /// Waits up to 2 s, 4 s, 8 s, … 4 h, for three days.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(2),
            cap: Duration::from_secs(4 * 3600),
            horizon: Duration::from_secs(3 * 24 * 3600),
            longest_asked: Duration::from_secs(30 * 24 * 3600),
            connector_faults: 3,
        }
    }
}

/// What becomes of an event that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Another attempt, not before this time.
    Retry(Timestamp),
    /// A dead letter.
    Dead,
    /// The lane waits for the operator; the event has lost no attempt.
    Pause,
    /// The batch was the problem: its events are tried in smaller ones.
    Split,
}

/// What is known of an event's attempts when a further one has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    /// Attempts made, this one included.
    pub(crate) attempts: u32,
    /// The time since the first of them failed, without pauses.
    pub(crate) waited: Duration,
    /// Now.
    pub(crate) now: Timestamp,
    /// How many events were in the batch.
    pub(crate) batch: usize,
}

impl RetryPolicy {
    /// Decides. `chance` is uniform in 0..=1.
    pub(crate) fn decide(&self, failure: &Failure, tried: Tried, chance: f64) -> Decision {
        match failure.class {
            FailureClass::AuthRevoked | FailureClass::PermissionDenied | FailureClass::Gone => Decision::Pause,
            FailureClass::SchemaMismatch | FailureClass::Rejected | FailureClass::EgressDenied => Decision::Dead,
            FailureClass::TooLarge if tried.batch > 1 => Decision::Split,
            FailureClass::TooLarge => Decision::Dead,
            FailureClass::ConnectorFault if tried.batch > 1 => Decision::Split,
            FailureClass::ConnectorFault if tried.attempts >= self.connector_faults => Decision::Dead,
            FailureClass::ConnectorFault | FailureClass::RateLimited | FailureClass::Unavailable => {
                if tried.waited >= self.horizon {
                    return Decision::Dead;
                }
                let wait = self.wait(tried.attempts, failure.retry_after_ms, chance);
                Decision::Retry(tried.now.after(wait))
            }
        }
    }

    /// How long to wait after the `attempts`-th failure in a row: anything up to a ceiling that doubles (full jitter, so
    /// that what failed together does not come back together), but never less than the downstream asked for.
    pub(crate) fn wait(&self, attempts: u32, retry_after_ms: Option<u64>, chance: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let ceiling = self.base.saturating_mul(1_u32 << doublings).min(self.cap);
        let jittered = ceiling.mul_f64(chance.clamp(0.0, 1.0));
        let asked = Duration::from_millis(retry_after_ms.unwrap_or(0)).min(self.longest_asked);
        jittered.max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tried(attempts: u32, batch: usize) -> Tried {
        Tried { attempts, waited: Duration::from_secs(1), now: Timestamp(2_000), batch }
    }

    #[test]
    fn each_class_has_its_consequence() {
        let policy = RetryPolicy::default();
        let soon = Decision::Retry(Timestamp(2_000));
        let cases = [
            (FailureClass::AuthRevoked, 1, 1, Decision::Pause),
            (FailureClass::PermissionDenied, 9, 25, Decision::Pause),
            (FailureClass::Gone, 1, 1, Decision::Pause),
            (FailureClass::RateLimited, 1, 25, soon),
            (FailureClass::Unavailable, 1, 25, soon),
            (FailureClass::SchemaMismatch, 1, 25, Decision::Dead),
            (FailureClass::Rejected, 1, 1, Decision::Dead),
            (FailureClass::EgressDenied, 1, 1, Decision::Dead),
            (FailureClass::TooLarge, 1, 2, Decision::Split),
            (FailureClass::TooLarge, 1, 1, Decision::Dead),
            (FailureClass::ConnectorFault, 1, 2, Decision::Split),
            (FailureClass::ConnectorFault, 2, 1, soon),
            (FailureClass::ConnectorFault, 3, 1, Decision::Dead),
        ];
        for (class, attempts, batch, expected) in cases {
            let decision = policy.decide(&Failure::new(class, "x"), tried(attempts, batch), 0.0);
            assert_eq!(decision, expected, "{class} after {attempts} in {batch}");
        }
    }

    #[test]
    fn nothing_is_retried_beyond_the_horizon() {
        let policy = RetryPolicy::default();
        let late = Tried { waited: policy.horizon, ..tried(40, 1) };
        assert_eq!(policy.decide(&Failure::new(FailureClass::Unavailable, "x"), late, 0.5), Decision::Dead);
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_ceiling_and_never_shorter_than_asked(
            attempts in 0_u32..200, asked in prop::option::of(0_u64..100_000), chance in 0.0..=1.0_f64,
        ) {
            let policy = RetryPolicy::default();
            let wait = policy.wait(attempts, asked, chance);
            prop_assert!(wait >= Duration::from_millis(asked.unwrap_or(0)));
            prop_assert!(wait <= policy.cap.max(Duration::from_millis(asked.unwrap_or(0))));
        }
    }
}
