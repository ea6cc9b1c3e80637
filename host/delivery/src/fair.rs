//! Fair shares of something that all sites use: permits of a bounded number, taken before an invocation begins.
//!
//! A lane whose downstream hangs keeps what it holds for minutes. So no site can ever hold more than its share of the permits,
//! and who waits is served in turn by site, then by instance: how long it takes does not depend on how much the others want.
//! The policy is [`queue`]'s; here is the waiting. The engine's own bound on instances stays behind it, as the last one.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sgen_model::{InstanceId, SiteId};
use tokio::sync::oneshot;

use queue::FairQueue;
pub(crate) use queue::Shares;

/// Permits shared fairly between sites, and between the instances of a site. Clones share the same permits.
#[derive(Clone)]
pub(crate) struct FairShare(Arc<Mutex<Queue>>);

type Queue = FairQueue<SiteId, InstanceId, oneshot::Sender<Permit>>;

impl FairShare {
    /// All permits are free.
    pub(crate) fn new(shares: Shares) -> Self {
        Self(Arc::new(Mutex::new(FairQueue::new(shares))))
    }

    /// Waits for a permit. Dropping the future gives the place in the queue up, and the permit, should it be there already.
    pub(crate) async fn acquire(&self, site: &SiteId, instance: &InstanceId) -> Permit {
        loop {
            let (granted, mut ticket) = {
                let mut queue = self.lock();
                if queue.try_take(site, instance) {
                    return self.permit(site.clone(), instance.clone());
                }
                let (grant, granted) = oneshot::channel();
                (granted, Ticket { share: self, site, instance, number: Some(queue.join(site, instance, grant)) })
            };
            let permit = granted.await;
            ticket.number = None;
            // The sender is dropped unused only with the queue, which this call keeps.
            if let Ok(permit) = permit {
                return permit;
            }
        }
    }

    fn permit(&self, site: SiteId, instance: InstanceId) -> Permit {
        Permit { share: self.clone(), site, instance }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit. It is free again when this is dropped.
#[must_use = "a permit is free again as soon as it is dropped"]
pub(crate) struct Permit {
    share: FairShare,
    site: SiteId,
    instance: InstanceId,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = self.share.lock().release(&self.site, &self.instance);
        if let Some((site, instance, grant)) = next {
            // Not under the lock: a permit that nobody takes any more goes on to the next by its own drop, which locks.
            drop(grant.send(self.share.permit(site, instance)));
        }
    }
}

/// A place in the queue.
struct Ticket<'a> {
    share: &'a FairShare,
    site: &'a SiteId,
    instance: &'a InstanceId,
    /// `None` once its turn has come.
    number: Option<u64>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            drop(self.share.lock().leave(self.site, self.instance, number));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::time::Duration;

    use futures_util::future::{join_all, poll_immediate};
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const SHARES: Shares = Shares { capacity: 8, per_site: 4, per_instance: 2 };

    fn site(name: &str) -> SiteId {
        SiteId::parse(name).unwrap()
    }

    fn instance(name: &str) -> InstanceId {
        InstanceId::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_whose_downstreams_hang_does_not_delay_the_others() {
        let share = FairShare::new(SHARES);
        // A hundred lanes of one site, each with more batches than it may hold, and none ever ends.
        for lane in 0..100 {
            for _ in 0..4 {
                let share = share.clone();
                tokio::spawn(async move {
                    let _held = share.acquire(&site("hanging"), &instance(&format!("lane-{lane}"))).await;
                    std::future::pending::<()>().await;
                });
            }
        }
        tokio::task::yield_now().await;
        let start = Instant::now();
        // Three other sites with two lanes and twenty batches of 10 ms each, on the four permits that are left.
        let others = (0..3).flat_map(|s| (0..2).map(move |lane| (s, lane)));
        let lanes = others.map(|(s, lane)| {
            let share = share.clone();
            async move {
                let (site, instance) = (site(&format!("site-{s}")), instance(&format!("other-{s}-{lane}")));
                let mut longest = Duration::ZERO;
                for _ in 0..20 {
                    let asked = Instant::now();
                    let held = share.acquire(&site, &instance).await;
                    longest = longest.max(asked.elapsed());
                    sleep(Duration::from_millis(10)).await;
                    drop(held);
                }
                longest
            }
        });
        let longest = join_all(lanes).await.into_iter().max().unwrap();
        assert!(longest <= Duration::from_millis(20), "a batch waited {longest:?}");
        // 120 batches of 10 ms on four permits take 300 ms, and the last may find itself alone.
        assert!(start.elapsed() <= Duration::from_millis(330), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_is_free_again_when_it_is_dropped() {
        let share = FairShare::new(Shares { capacity: 1, per_site: 1, per_instance: 1 });
        let held = share.acquire(&site("a"), &instance("one")).await;
        let (b, two) = (site("b"), instance("two"));
        let mut next = Box::pin(share.acquire(&b, &two));
        assert!(poll_immediate(next.as_mut()).await.is_none());
        drop(held);
        let held = poll_immediate(next.as_mut()).await;
        assert!(held.is_some());
        drop(held);
        assert!(share.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_leaves_no_trace_even_if_its_turn_had_come() {
        let share = FairShare::new(Shares { capacity: 1, per_site: 1, per_instance: 1 });
        let held = share.acquire(&site("a"), &instance("one")).await;
        let (b, two) = (site("b"), instance("two"));
        let gone = timeout(Duration::from_millis(5), share.acquire(&b, &two)).await;
        assert!(gone.is_err());
        let mut granted = Box::pin(share.acquire(&b, &two));
        assert!(poll_immediate(granted.as_mut()).await.is_none());
        drop(held);
        // It has its permit now, and has not seen it yet.
        assert_eq!(share.lock().held(), 1);
        drop(granted);
        assert!(share.lock().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn permits_taken_from_many_threads_all_come_back() {
        let share = FairShare::new(SHARES);
        let tasks = (0..200).map(|task| {
            let share = share.clone();
            tokio::spawn(async move {
                let (site, instance) = (site(&format!("site-{}", task % 3)), instance(&format!("lane-{}", task % 7)));
                for round in 0..50 {
                    // Every third gives up at once.
                    if (task + round) % 3 == 0 {
                        drop(poll_immediate(share.acquire(&site, &instance)).await);
                    } else {
                        let _held = share.acquire(&site, &instance).await;
                        assert!(share.lock().held() <= SHARES.capacity);
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        let all = timeout(Duration::from_secs(60), join_all(tasks)).await.expect("nobody is forgotten");
        assert!(all.into_iter().all(|task| task.is_ok()));
        assert!(share.lock().is_empty());
    }
}
