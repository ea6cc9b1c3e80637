//! The sliding window behind a rate: how many requests may be sent, and when the next one may. Pure: time is an argument.
//!
//! A vendor counts what *arrives*, and the way there takes unknown time: a request that waits ten seconds for its
//! connection arrives together with one that was admitted ten seconds later. So a request counts from its admission until
//! one whole `per` after its end. Whenever in between it arrived, no window of that length holds more than `requests`.
//!
//! Up to half of the limit goes out at once, so that a small burst is never held back. Beyond that, requests are spaced
//! evenly, which turns a backlog into a steady stream instead of a volley followed by silence.

use std::collections::VecDeque;
use std::time::Duration;

use crate::spec::Rate;

/// Ends are rounded up to this fraction of the window: a bound on memory for limits of any size. What it costs is that a
/// request counts that much longer.
const CELLS: u32 = 4096;

/// Requests are never spaced wider: below ten a second, evenness is worth less than an early answer.
const WIDEST_SPACING: Duration = Duration::from_millis(100);

/// How late an evenly spaced request may be without the next ones being late as well. Timers have a grain of a millisecond.
const LATENESS: Duration = Duration::from_millis(5);

/// The requests that count against one rate. All times are since the same arbitrary start and never go backwards.
#[derive(Debug)]
pub(crate) struct Window {
    rate: Rate,
    /// Admitted and not ended.
    under_way: u32,
    /// When requests ended, rounded up, and how many in each cell; oldest first.
    ended: VecDeque<(Duration, u32)>,
    /// The sum of `ended`.
    ended_count: u32,
    /// When the next evenly spaced request is due.
    spaced: Duration,
}

/// A request that cannot go yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not before this time.
    Until(Duration),
    /// Not before one of the requests under way ends.
    UntilOneEnds,
}

impl Window {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, under_way: 0, ended: VecDeque::new(), ended_count: 0, spaced: Duration::ZERO }
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Another rate for the same downstream. What was sent goes on counting.
    pub(crate) fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// Admits one request, or says how long it must wait at least.
    pub(crate) fn admit(&mut self, now: Duration) -> Result<(), Wait> {
        self.forget(now);
        let (requests, at_once) = (self.rate.requests.get(), self.at_once());
        let counted = self.counted();
        if counted >= requests {
            return Err(self.ended.front().map_or(Wait::UntilOneEnds, |(end, _)| Wait::Until(*end + self.rate.per)));
        }
        if counted >= at_once {
            let due = self.spaced.saturating_sub(LATENESS);
            if now < due {
                return Err(Wait::Until(self.below(at_once).map_or(due, |opens| opens.min(due))));
            }
        }
        let from = if counted >= at_once { self.spaced.max(now) } else { now };
        self.spaced = from + self.spacing();
        self.under_way = self.under_way.saturating_add(1);
        Ok(())
    }

    /// An admitted request has ended, with whatever result.
    pub(crate) fn end(&mut self, now: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        let cell = self.rate.per.as_nanos().div_ceil(u128::from(CELLS)).max(1);
        let rounded = now.as_nanos().div_ceil(cell).saturating_mul(cell);
        let end = Duration::from_nanos(u64::try_from(rounded).unwrap_or(u64::MAX));
        self.ended_count = self.ended_count.saturating_add(1);
        match self.ended.back_mut() {
            // After a change of the rate the cells have other limits: a later one, so that nothing is forgotten early.
            Some((last, count)) if *last >= end => *count = count.saturating_add(1),
            _ => self.ended.push_back((end, 1)),
        }
    }

    /// The earliest time at which a request can be admitted that has `ahead` others before it. A lower bound: what is
    /// under way is taken to end now.
    pub(crate) fn opens(&mut self, now: Duration, ahead: usize) -> Duration {
        self.forget(now);
        let requests = u64::from(self.rate.requests.get());
        let place = u64::from(self.counted()).saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX));
        // So many of those before it must have left the window, itself included in the count.
        let leave = place.saturating_add(1).saturating_sub(requests);
        let limit = if leave == 0 {
            now
        } else {
            let rounds = (leave - 1) / requests;
            let first = self.leaves((leave - 1) % requests, now);
            let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
            first.saturating_add(self.rate.per.saturating_mul(rounds))
        };
        let at_once = self.at_once();
        if self.counted() < at_once {
            return limit;
        }
        let due = self.spaced.saturating_sub(LATENESS).max(now);
        limit.max(self.below(at_once).map_or(due, |opens| opens.min(due)))
    }

    /// Whether nothing counts any more: this window and a new one are the same.
    pub(crate) fn is_clear(&mut self, now: Duration) -> bool {
        self.forget(now);
        self.counted() == 0
    }

    fn counted(&self) -> u32 {
        self.under_way.saturating_add(self.ended_count)
    }

    /// How many requests go out without spacing.
    fn at_once(&self) -> u32 {
        self.rate.requests.get().div_ceil(2)
    }

    fn spacing(&self) -> Duration {
        (self.rate.per / self.rate.requests.get()).min(WIDEST_SPACING)
    }

    /// When fewer than `count` requests are counted; `None` when that is up to those under way.
    fn below(&self, count: u32) -> Option<Duration> {
        let more = self.counted().saturating_sub(count);
        (more < self.ended_count).then(|| self.leaves(u64::from(more), Duration::ZERO))
    }

    /// When the `index`-th of those counted (from 0, oldest first) leaves the window.
    fn leaves(&self, index: u64, now: Duration) -> Duration {
        let mut passed = 0_u64;
        let end = self.ended.iter().find_map(|(end, count)| {
            passed = passed.saturating_add(u64::from(*count));
            (passed > index).then_some(*end)
        });
        end.unwrap_or(now).saturating_add(self.rate.per)
    }

    fn forget(&mut self, now: Duration) {
        while let Some((end, count)) = self.ended.front()
            && *end + self.rate.per <= now
        {
            self.ended_count = self.ended_count.saturating_sub(*count);
            self.ended.pop_front();
        }
        if self.ended.is_empty() {
            // Thousands of idle instances have a window each.
            self.ended = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u32, per: Duration) -> Rate {
        Rate { requests: NonZeroU32::new(requests).unwrap(), per }
    }

    /// A request of a scenario: when it asks, how long it is under way, and at which part of that it arrives.
    #[derive(Debug, Clone, Copy)]
    struct Asked {
        at: Duration,
        takes: Duration,
        arrives: f64,
    }

    /// What became of it.
    #[derive(Debug, Clone, Copy)]
    struct Passed {
        asked: Duration,
        /// The earliest time that it was told when it asked.
        told: Duration,
        admitted: Duration,
        arrived: Duration,
    }

    /// Runs requests through a window, first come, first served.
    fn run(rate: Rate, asked: &[Asked]) -> Vec<Passed> {
        let mut window = Window::new(rate);
        let mut coming = asked.iter().copied().peekable();
        let mut queue = VecDeque::new();
        let mut ends: BinaryHeap<Reverse<Duration>> = BinaryHeap::new();
        let mut again: Option<Duration> = None;
        let mut passed = Vec::new();
        while coming.peek().is_some() || !queue.is_empty() {
            let next_end = ends.peek().map(|end| end.0);
            let now = [coming.peek().map(|asked| asked.at), next_end, again].into_iter().flatten().min().unwrap();
            while let Some(end) = ends.peek().map(|end| end.0).filter(|end| *end <= now) {
                ends.pop();
                window.end(end);
            }
            while let Some(asked) = coming.next_if(|asked| asked.at <= now) {
                queue.push_back((asked, window.opens(now, queue.len())));
            }
            again = None;
            while let Some((asked, told)) = queue.front().copied() {
                match window.admit(now) {
                    Ok(()) => {
                        let arrived = now + asked.takes.mul_f64(asked.arrives);
                        passed.push(Passed { asked: asked.at, told, admitted: now, arrived });
                        ends.push(Reverse(now + asked.takes));
                        queue.pop_front();
                    }
                    Err(Wait::Until(time)) => {
                        assert!(time > now, "a wait ends in the future");
                        again = Some(time);
                        break;
                    }
                    Err(Wait::UntilOneEnds) => {
                        assert!(!ends.is_empty(), "it waits for something");
                        break;
                    }
                }
            }
        }
        passed
    }

    /// The most arrivals within any time as long as the rate's, its end excluded.
    fn most_in_a_window(rate: Rate, passed: &[Passed]) -> usize {
        let mut arrivals: Vec<_> = passed.iter().map(|passed| passed.arrived).collect();
        arrivals.sort_unstable();
        let within = |from: &Duration| arrivals.iter().filter(|at| *at >= from && **at < *from + rate.per).count();
        arrivals.iter().map(within).max().unwrap_or(0)
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1_u32..60, prop_oneof![Just(1_u64), 5..50_u64, 100..20_000_u64])
            .prop_map(|(requests, per)| rate(requests, Duration::from_millis(per)))
    }

    /// Bursts, lulls and streams; requests that take no time, some time, or longer than the window.
    fn patterns() -> impl Strategy<Value = Vec<Asked>> {
        let gap = prop_oneof![4 => Just(0_u64), 3 => 1..2_000_u64, 1 => 1..30_000_000_u64];
        let takes = prop_oneof![Just(0_u64), 1..300_000_u64, 1..40_000_000_u64];
        prop::collection::vec((gap, takes, 0.0..=1.0_f64), 1..250).prop_map(|all| {
            let mut at = Duration::ZERO;
            all.into_iter()
                .map(|(gap, takes, arrives)| {
                    at += Duration::from_micros(gap);
                    Asked { at, takes: Duration::from_micros(takes), arrives }
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_window_holds_more_than_the_vendor_takes_however_long_requests_are_on_their_way(
            rate in rates(), asked in patterns(),
        ) {
            let passed = run(rate, &asked);
            prop_assert_eq!(passed.len(), asked.len());
            let most = most_in_a_window(rate, &passed);
            prop_assert!(most <= rate.requests.get() as usize, "{} in one window of {}", most, rate);
        }

        #[test]
        fn what_a_request_is_told_is_never_later_than_its_turn(rate in rates(), asked in patterns()) {
            for passed in run(rate, &asked) {
                prop_assert!(passed.told <= passed.admitted, "{:?}", passed);
            }
        }

        #[test]
        fn a_burst_of_half_the_limit_is_not_held_back(rate in rates(), takes in 0..40_000_000_u64) {
            let count = rate.requests.get().div_ceil(2) as usize;
            let asked = Asked { at: Duration::ZERO, takes: Duration::from_micros(takes), arrives: 1.0 };
            for passed in run(rate, &vec![asked; count]) {
                prop_assert_eq!(passed.admitted, passed.asked);
            }
        }

        #[test]
        fn within_the_limit_nothing_waits_longer_than_evenness_asks(rate in rates(), asked in patterns()) {
            // As many as fit in one window: only spacing can hold them back.
            let few = &asked[..asked.len().min(rate.requests.get() as usize)];
            let spacing = (rate.per / rate.requests.get()).min(WIDEST_SPACING);
            for (place, passed) in run(rate, few).iter().enumerate() {
                let longest = spacing * (u32::try_from(place).unwrap() + 1);
                prop_assert!(passed.admitted - passed.asked <= longest, "{:?}", passed);
            }
        }
    }

    #[test]
    fn a_backlog_becomes_an_even_stream_at_the_full_rate() {
        let rate = rate(100, Duration::from_secs(10));
        let asked = vec![Asked { at: Duration::ZERO, takes: Duration::ZERO, arrives: 0.0 }; 2_000];
        let passed = run(rate, &asked);
        let later: Vec<_> = passed.iter().map(|p| p.admitted).filter(|at| *at >= Duration::from_secs(20)).collect();
        let gaps = later.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() <= Duration::from_millis(110), "no volleys with silence between them");
        let took = *later.last().unwrap() - later[0];
        let per_window = (later.len() as f64) * 10.0 / took.as_secs_f64();
        assert!((98.0..=101.0).contains(&per_window), "{per_window} in 10 s");
    }

    #[test]
    fn a_limit_of_a_million_a_day_needs_little_memory() {
        let mut window = Window::new(rate(1_000_000, Duration::from_secs(86_400)));
        for second in 0..500_000_u64 {
            let now = Duration::from_millis(second * 100);
            assert_eq!(window.admit(now), Ok(()));
            window.end(now);
        }
        assert!(window.ended.len() <= CELLS as usize + 1, "{}", window.ended.len());
        assert_eq!(window.counted(), 500_000);
    }

    #[test]
    fn a_changed_rate_forgets_nothing_that_was_sent() {
        let second = Duration::from_secs(1);
        let mut window = Window::new(rate(10, second));
        for _ in 0..5 {
            window.admit(Duration::ZERO).unwrap();
            window.end(Duration::ZERO);
        }
        window.set_rate(rate(5, second));
        assert_eq!(window.admit(second / 2), Err(Wait::Until(second)));
        window.set_rate(rate(20, second));
        assert_eq!(window.admit(second / 2), Ok(()));
        assert!(!window.is_clear(second));
        window.end(second);
        assert!(window.is_clear(second * 3));
    }
}
