//! How many batches of one instance are under way at a time: less when the downstream says that it is too much or grows
//! slow, more again step by step. Pure.
//!
//! Additive increase, multiplicative decrease, as in TCP; the latency signal compares a short average with a long one, as
//! gradient limiters do.

use std::time::Duration;

/// The weight of a new sample in the short average.
const SHORT: f64 = 0.2;
/// The weight of a new sample in the long average.
const LONG: f64 = 0.01;
/// How many times the long average the short one may be before that counts as rising latency.
const RISING: f64 = 2.0;
/// Below this, in milliseconds, latency is the host's own noise.
const NOISE_MS: f64 = 20.0;
/// What is kept of the limit when the downstream refuses for being asked too often.
const ON_REFUSAL: f64 = 0.5;
/// What is kept of it when latency rises.
const ON_RISE: f64 = 0.9;

/// The limit of one lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concurrency {
    limit: f64,
    most: f64,
    short_ms: Option<f64>,
    long_ms: Option<f64>,
}

/// What a batch tells about the downstream's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It took the batch; per request, this long.
    Took(Duration),
    /// It refused some of it for being asked too often.
    TooMany,
    /// It failed, which tells nothing of its load.
    Failed,
}

impl Concurrency {
    /// Begins with `start` batches and grows to at most `most`.
    pub(crate) fn new(start: usize, most: usize) -> Self {
        let most = most.max(1) as f64;
        Self { limit: (start.max(1) as f64).min(most), most, short_ms: None, long_ms: None }
    }

    /// Batches that may be under way.
    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Takes note of a batch. `full` says whether the limit was reached while it was under way: an unused limit is no
    /// reason to raise it.
    pub(crate) fn hear(&mut self, sign: Sign, full: bool) {
        match sign {
            Sign::TooMany => self.shrink(ON_REFUSAL),
            Sign::Failed => {}
            Sign::Took(latency) => {
                let ms = latency.as_secs_f64() * 1000.0;
                let short = average(&mut self.short_ms, ms, SHORT);
                let long = average(&mut self.long_ms, ms, LONG);
                if short > NOISE_MS && short > long * RISING {
                    self.shrink(ON_RISE);
                } else if full {
                    // One more for every round of batches.
                    self.limit = (self.limit + 1.0 / self.limit).min(self.most);
                }
            }
        }
    }

    fn shrink(&mut self, by: f64) {
        self.limit = (self.limit * by).max(1.0);
    }
}

fn average(known: &mut Option<f64>, sample: f64, weight: f64) -> f64 {
    let value = known.map_or(sample, |known| known + weight * (sample - known));
    *known = Some(value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_refusal_halves_it_and_it_grows_back_one_per_round() {
        let mut limit = Concurrency::new(8, 16);
        limit.hear(Sign::TooMany, true);
        assert_eq!(limit.limit(), 4);
        for _ in 0..5 {
            limit.hear(Sign::Took(Duration::from_millis(5)), true);
        }
        assert_eq!(limit.limit(), 5);
        for _ in 0..10 {
            limit.hear(Sign::Took(Duration::from_millis(5)), false);
        }
        assert_eq!(limit.limit(), 5, "what is not used is not raised");
    }

    #[test]
    fn rising_latency_lowers_it_and_steady_latency_however_long_does_not() {
        let mut limit = Concurrency::new(8, 8);
        for _ in 0..200 {
            limit.hear(Sign::Took(Duration::from_millis(400)), true);
        }
        assert_eq!(limit.limit(), 8);
        for _ in 0..20 {
            limit.hear(Sign::Took(Duration::from_secs(4)), true);
        }
        assert!(limit.limit() < 8, "{}", limit.limit());
    }

    proptest! {
        #[test]
        fn it_stays_between_one_and_the_most(
            start in 0_usize..40, most in 0_usize..40,
            signs in prop::collection::vec((0_u8..3, 0_u64..100_000, any::<bool>()), 0..200),
        ) {
            let mut limit = Concurrency::new(start, most);
            for (kind, ms, full) in signs {
                let sign = match kind {
                    0 => Sign::TooMany,
                    1 => Sign::Failed,
                    _ => Sign::Took(Duration::from_millis(ms)),
                };
                limit.hear(sign, full);
                prop_assert!((1..=most.max(1)).contains(&limit.limit()));
            }
        }
    }
}
