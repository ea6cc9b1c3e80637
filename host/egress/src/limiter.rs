//! Turns under a rate: who waits, in which order, and for how long. The rate itself is [`crate::window`]'s.
//!
//! A vendor counts per account, not per grant: a rotated credential or changed settings make a new grant, and must not give
//! the instance a second allowance. So the limiters belong to the gate, by instance and endpoint.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sgen_model::InstanceId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::spec::Rate;
use crate::window::{Wait, Window};

/// Fewer limiters than this are not looked through for unused ones.
const FEW: usize = 64;

/// Keeps the requests of one instance to one endpoint within its rate.
pub(crate) struct Limiter {
    start: Instant,
    window: Mutex<Window>,
    /// Held by the request whose turn is next; the others queue for it, in the order in which they came.
    head: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    /// A request ended, or the rate changed.
    changed: Notify,
}

/// The leave to send one request. It counts against the rate until `per` after it is dropped.
pub(crate) struct Turn(Arc<Limiter>);

/// No turn by the time that the caller can wait until.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoTurn {
    pub(crate) rate: Rate,
    /// How long until there may be one.
    pub(crate) wait: Duration,
}

impl fmt::Display for NoTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, wait } = self;
        write!(f, "not sent: the host keeps to the vendor's rate of {rate}, and the next turn is in {wait:.1?}")
    }
}

impl Limiter {
    pub(crate) fn new(rate: Rate) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            window: Mutex::new(Window::new(rate)),
            head: tokio::sync::Mutex::new(()),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        })
    }

    /// Waits for a turn, first come, first served. A turn that cannot come by `by` is refused at once, as far as that can be
    /// known; one that can be had without waiting is given whatever `by` says. Dropping the future leaves the queue.
    pub(crate) async fn turn(self: &Arc<Self>, by: Option<Instant>) -> Result<Turn, NoTurn> {
        if let Ok(_head) = self.head.try_lock()
            && self.window().admit(self.now()).is_ok()
        {
            return Ok(Turn(self.clone()));
        }
        let Some(by) = by else {
            let _waiting = Waiting::join(self);
            return Ok(self.queue().await);
        };
        let no_turn = || {
            let rate = self.window().rate();
            NoTurn { rate, wait: self.delay() }
        };
        if self.start + self.opens() > by {
            return Err(no_turn());
        }
        let waiting = Waiting::join(self);
        let turn = timeout_at(by, self.queue()).await;
        drop(waiting);
        turn.map_err(|_| no_turn())
    }

    /// How long a request that came now would have to wait, at least.
    pub(crate) fn delay(&self) -> Duration {
        self.opens().saturating_sub(self.now())
    }

    /// Puts another rate in force. What was sent under the former one goes on counting.
    fn set_rate(&self, rate: Rate) {
        self.window().set_rate(rate);
        self.changed.notify_one();
    }

    async fn queue(self: &Arc<Self>) -> Turn {
        let _head = self.head.lock().await;
        loop {
            let wait = match self.window().admit(self.now()) {
                Ok(()) => return Turn(self.clone()),
                Err(wait) => wait,
            };
            let changed = self.changed.notified();
            match wait {
                Wait::Until(time) => tokio::select! {
                    () = sleep_until(self.start + time) => {}
                    () = changed => {}
                },
                Wait::UntilOneEnds => changed.await,
            }
        }
    }

    fn opens(&self) -> Duration {
        self.window().opens(self.now(), self.waiting.load(Ordering::Relaxed))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = self.0.now();
        self.0.window().end(now);
        // Whoever is next may be waiting for nothing but this.
        self.0.changed.notify_one();
    }
}

/// A request in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(limiter: &'a Limiter) -> Self {
        limiter.waiting.fetch_add(1, Ordering::Relaxed);
        Self(&limiter.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limiters of a gate, by instance and endpoint. One that no grant uses is kept until nothing in it counts any more.
#[derive(Default)]
pub(crate) struct Limiters(Mutex<Known>);

#[derive(Default)]
struct Known {
    limiters: HashMap<(InstanceId, String), Arc<Limiter>>,
    /// How many were left after the last look for unused ones.
    left: usize,
}

impl Limiters {
    /// The limiter of an instance's endpoint, with this rate in force from now on.
    pub(crate) fn of(&self, instance: &InstanceId, endpoint: &str, rate: Rate) -> Arc<Limiter> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limiter) = known.limiters.get(&(instance.clone(), endpoint.to_owned())) {
            limiter.set_rate(rate);
            return limiter.clone();
        }
        // Looked through only when they have doubled, so that the look costs nothing per grant.
        if known.limiters.len() >= FEW.max(known.left.saturating_mul(2)) {
            known
                .limiters
                .retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.window().is_clear(limiter.now()));
            known.left = known.limiters.len();
        }
        let limiter = Limiter::new(rate);
        known.limiters.insert((instance.clone(), endpoint.to_owned()), limiter.clone());
        limiter
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::num::NonZeroU32;

    use futures_util::future::{join_all, poll_immediate};
    use proptest::prelude::*;
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(requests: u32, per: Duration) -> Rate {
        Rate { requests: NonZeroU32::new(requests).unwrap(), per }
    }

    fn limiter(requests: u32, per: Duration) -> Arc<Limiter> {
        Limiter::new(rate(requests, per))
    }

    fn instance(name: &str) -> InstanceId {
        InstanceId::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_over_the_rate_waits_until_the_window_has_room() {
        let limiter = limiter(1, SECOND);
        let start = Instant::now();
        drop(limiter.turn(None).await);
        assert_eq!(limiter.delay(), SECOND);
        drop(limiter.turn(None).await.unwrap());
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_cannot_come_in_time_is_refused_at_once() {
        let limiter = limiter(1, SECOND * 60);
        let start = Instant::now();
        let by = Some(start + SECOND * 30);
        drop(limiter.turn(by).await.unwrap());
        let refused = limiter.turn(by).await.map(drop).unwrap_err();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(refused, NoTurn { rate: rate(1, SECOND * 60), wait: SECOND * 60 });
        assert_eq!(
            refused.to_string(),
            "not sent: the host keeps to the vendor's rate of 1 requests per 60s, and the next turn is in 60.0s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_without_a_wait_is_given_after_the_time_too() {
        let limiter = limiter(2, SECOND);
        let by = Some(Instant::now());
        advance(SECOND).await;
        assert!(limiter.turn(by).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_counts_until_it_ends() {
        let limiter = limiter(1, SECOND);
        let under_way = limiter.turn(None).await.unwrap();
        // Nobody knows when it ends: so this one waits as long as it may.
        let start = Instant::now();
        let refused = limiter.turn(Some(start + SECOND * 10)).await;
        assert!(refused.is_err());
        assert_eq!(start.elapsed(), SECOND * 10);
        let (next, ()) = tokio::join!(limiter.turn(None), async {
            sleep(SECOND * 5).await;
            drop(under_way);
        });
        assert!(next.is_ok());
        // One window after the end of the one before, which is rounded up.
        let elapsed = start.elapsed();
        assert!(elapsed >= SECOND * 16 && elapsed < SECOND * 16 + Duration::from_millis(5), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_served_in_the_order_in_which_they_came() {
        let limiter = limiter(2, SECOND);
        let served = Mutex::new(Vec::new());
        join_all((0..20).map(|number| {
            let (limiter, served) = (&limiter, &served);
            async move {
                drop(limiter.turn(None).await);
                served.lock().unwrap().push(number);
            }
        }))
        .await;
        assert_eq!(served.into_inner().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_leaves_no_trace() {
        let limiter = limiter(1, SECOND);
        drop(limiter.turn(None).await);
        let start = Instant::now();
        let mut given_up: Vec<_> = (0..10).map(|_| Box::pin(limiter.turn(None))).collect();
        for turn in &mut given_up {
            assert!(poll_immediate(turn.as_mut()).await.is_none());
        }
        assert_eq!(limiter.delay(), SECOND * 11);
        drop(given_up);
        assert_eq!(limiter.delay(), SECOND);
        drop(limiter.turn(None).await);
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_is_in_force_at_once_for_those_who_wait() {
        let limiters = Limiters::default();
        let limiter = limiters.of(&instance("crm"), "api", rate(1, SECOND * 60));
        drop(limiter.turn(None).await);
        let start = Instant::now();
        let (turn, _) = tokio::join!(limiter.turn(None), async {
            sleep(SECOND).await;
            limiters.of(&instance("crm"), "api", rate(2, SECOND * 60))
        });
        assert!(turn.is_ok());
        assert!(start.elapsed() < SECOND * 2, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_has_one_limiter_per_endpoint_until_nothing_counts_any_more() {
        let limiters = Limiters::default();
        let of = |name: &str, endpoint: &str| limiters.of(&instance(name), endpoint, rate(1, SECOND));
        let first = of("a", "api");
        drop(first.turn(None).await);
        let weak = Arc::downgrade(&first);
        drop(first);
        assert_eq!(of("a", "api").delay(), SECOND, "the next grant finds what the former one sent");
        assert_eq!(of("a", "uploads").delay(), Duration::ZERO);
        assert_eq!(of("b", "api").delay(), Duration::ZERO);
        for number in 0..1_000 {
            of(&format!("c{number}"), "api");
        }
        assert!(weak.upgrade().is_some(), "its request still counts");
        assert!(limiters.0.lock().unwrap().limiters.len() <= FEW + 1, "those without grant and requests are gone");
        advance(SECOND * 2).await;
        for number in 0..1_000 {
            of(&format!("d{number}"), "api");
        }
        assert!(weak.upgrade().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_window_holds_more_than_the_rate_whatever_the_pattern(
            requests in 1_u32..20,
            per in prop_oneof![1_u64..20, 100..5_000_u64],
            pattern in prop::collection::vec((0_u64..2_000, 0_u64..500, any::<bool>()), 1..120),
        ) {
            let per = Duration::from_millis(per);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let (began, ended) = runtime.unwrap().block_on(async {
                let limiter = limiter(requests, per);
                let (began, ended) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
                join_all(pattern.iter().map(|(at, takes, hurried)| {
                    let (limiter, began, ended) = (&limiter, &began, &ended);
                    async move {
                        sleep(Duration::from_millis(*at)).await;
                        // Some give up, and must not take anything with them.
                        let by = hurried.then(|| Instant::now() + Duration::from_millis(300));
                        let Ok(_turn) = limiter.turn(by).await else { return };
                        began.lock().unwrap().push(Instant::now());
                        sleep(Duration::from_millis(*takes)).await;
                        ended.lock().unwrap().push(Instant::now());
                    }
                }))
                .await;
                (began.into_inner().unwrap(), ended.into_inner().unwrap())
            });
            // Whether they all arrived at once or all at the very end.
            for mut arrived in [began, ended] {
                arrived.sort_unstable();
                for (from, until) in arrived.iter().zip(arrived.iter().skip(requests as usize)) {
                    prop_assert!(*until - *from >= per, "more than {} in {:?}", requests, per);
                }
            }
        }
    }
}
