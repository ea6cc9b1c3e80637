//! The breaker: when a downstream fails as a whole, how long nothing is sent, and that single probes find out whether it
//! is back. Pure: time and chance are arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::policy::RetryPolicy;

/// Failures in a row after which the downstream counts as failing: from then on only single events are tried.
pub(crate) const OPENS_AFTER: u32 = 3;

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As much as there is room for.
    Free,
    /// One event, to see whether the downstream is back.
    Probe,
    /// Nothing before this moment.
    Wait(Instant),
}

/// What became of a batch, as far as the downstream as a whole is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It answered for at least one event, be it with a refusal.
    Answer,
    /// It failed for every event.
    Failure,
}

/// The breaker of one lane. Lives in memory: a host that starts again finds out anew.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Breaker {
    failures: u32,
    until: Option<Instant>,
    /// The downstream asked for quiet until then: neither a success nor a change of the operator's cuts that short.
    quiet: Option<Instant>,
    /// Counts the changes: what was begun before one says nothing about what it led to.
    epoch: u64,
}

impl Breaker {
    /// What a batch that begins now is stamped with.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whole failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the downstream counts as failing.
    pub(crate) fn is_open(&self) -> bool {
        self.failures >= OPENS_AFTER
    }

    /// The moment before which nothing is sent, when there is one.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until.max(self.quiet)
    }

    pub(crate) fn admission(&self, now: Instant) -> Admission {
        match self.until() {
            Some(until) if until > now => Admission::Wait(until),
            // After a first failure, too, one batch of one event finds out what many would.
            _ if self.failures > 0 => Admission::Probe,
            _ => Admission::Free,
        }
    }

    /// Takes note of a batch that was begun at `epoch`. `chance` is uniform in 0..=1. Answers whether the breaker has
    /// opened by it.
    pub(crate) fn hear(
        &mut self,
        heard: Heard,
        epoch: u64,
        now: Instant,
        chance: f64,
        policy: &RetryPolicy,
        cap: Duration,
    ) -> bool {
        if epoch != self.epoch {
            return false;
        }
        match heard {
            Heard::Answer if self.failures == 0 => false,
            Heard::Answer => {
                self.close();
                false
            }
            Heard::Failure => {
                self.failures = self.failures.saturating_add(1);
                self.epoch = self.epoch.wrapping_add(1);
                let wait = policy.wait(self.failures, None, chance).min(cap);
                self.until = self.until.max(now.checked_add(wait));
                self.failures == OPENS_AFTER
            }
        }
    }

    /// The downstream asked to be left alone for this long.
    pub(crate) fn asked(&mut self, wait: Duration, now: Instant) {
        self.quiet = self.quiet.max(now.checked_add(wait));
    }

    /// The downstream was found sound by other means: the next single attempt need not wait.
    pub(crate) fn probe_now(&mut self) {
        self.until = None;
    }

    /// Forgets the failures: the downstream is back, or the operator has changed something that is tried at once.
    pub(crate) fn close(&mut self) {
        *self = Self { failures: 0, until: None, epoch: self.epoch.wrapping_add(1), quiet: self.quiet };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAP: Duration = Duration::from_secs(300);

    fn fail(breaker: &mut Breaker, now: Instant) -> bool {
        let epoch = breaker.epoch();
        breaker.hear(Heard::Failure, epoch, now, 1.0, &RetryPolicy::default(), CAP)
    }

    #[test]
    fn it_opens_at_the_third_failure_in_a_row_and_probes_one_at_a_time() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.admission(now), Admission::Free);
        assert_eq!([fail(&mut breaker, now), fail(&mut breaker, now), fail(&mut breaker, now)], [false, false, true]);
        assert!(breaker.is_open() && matches!(breaker.admission(now), Admission::Wait(_)));
        assert_eq!(breaker.admission(now + CAP), Admission::Probe);
        let epoch = breaker.epoch();
        breaker.hear(Heard::Answer, epoch, now, 0.5, &RetryPolicy::default(), CAP);
        assert_eq!(breaker.admission(now), Admission::Free);
    }

    #[test]
    fn batches_that_fail_together_count_once() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let epoch = breaker.epoch();
        for _ in 0..32 {
            breaker.hear(Heard::Failure, epoch, now, 1.0, &RetryPolicy::default(), CAP);
        }
        assert_eq!(breaker.failures(), 1);
    }

    #[test]
    fn an_answer_to_a_batch_begun_before_the_failure_does_not_close_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let before = breaker.epoch();
        fail(&mut breaker, now);
        breaker.hear(Heard::Answer, before, now, 1.0, &RetryPolicy::default(), CAP);
        assert_eq!(breaker.failures(), 1);
    }

    proptest! {
        #[test]
        fn what_the_downstream_asked_for_is_waited_in_full(asked in 0_u64..10_000_000, failures in 0_u32..20, chance in 0.0..=1.0_f64) {
            let now = Instant::now();
            let mut breaker = Breaker::default();
            breaker.asked(Duration::from_millis(asked), now);
            for _ in 0..failures {
                let epoch = breaker.epoch();
                breaker.hear(Heard::Failure, epoch, now, chance, &RetryPolicy::default(), CAP);
            }
            let just_before = now + Duration::from_millis(asked.saturating_sub(1));
            if failures > 0 {
                breaker.close();
            }
            if asked > 1 {
                prop_assert!(matches!(breaker.admission(just_before), Admission::Wait(_)));
            }
            prop_assert!(breaker.until().is_none_or(|until| until <= now + CAP.max(Duration::from_millis(asked))));
        }
    }
}
