//! When the load may send: at once, as far as the downstream has kept up, or at a rate.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::Semaphore;

use crate::lean::now;

/// How often new permits are given out. A batch of them every millisecond is fine enough for what is measured here.
const TICK: Duration = Duration::from_millis(1);

/// What allows the next event to be sent.
#[derive(Clone)]
pub(crate) enum Pace {
    /// The answer to the last one.
    Free,
    /// That at most so many events are on their way to the downstream, which counts what has arrived.
    Window(u64, Arc<AtomicU64>),
    /// Time: so many events a second, whatever becomes of them.
    Rate(f64),
}

/// Permits to send one event each.
pub(crate) struct Permits {
    /// None: nobody needs one.
    permits: Option<Semaphore>,
    /// What had arrived before.
    before: u64,
}

impl Permits {
    pub(crate) fn new(pace: &Pace) -> Rc<Self> {
        let (permits, before) = match pace {
            Pace::Free => (None, 0),
            Pace::Window(window, arrived) => {
                let first = usize::try_from(*window).unwrap_or(Semaphore::MAX_PERMITS);
                (Some(Semaphore::new(first)), arrived.load(Ordering::Relaxed))
            }
            Pace::Rate(_) => (Some(Semaphore::new(0)), 0),
        };
        Rc::new(Self { permits, before })
    }

    /// Waits until `events` may be sent.
    pub(crate) async fn take(&self, events: usize) -> Result<()> {
        if let Some(permits) = &self.permits {
            let events = u32::try_from(events).context("a request has too many events")?;
            permits.acquire_many(events).await.context("the load has ended")?.forget();
        }
        Ok(())
    }

    /// Gives permits out as the pace has it. Never ends by itself.
    pub(crate) async fn give(&self, pace: Pace) {
        let Some(permits) = &self.permits else { return std::future::pending().await };
        let began = now();
        let mut given = self.before;
        loop {
            tokio::time::sleep(TICK).await;
            let due = match &pace {
                Pace::Free => given,
                Pace::Window(_, arrived) => arrived.load(Ordering::Relaxed),
                Pace::Rate(rate) => due(*rate, now().saturating_sub(began)),
            };
            permits.add_permits(usize::try_from(due.saturating_sub(given)).unwrap_or(0));
            given = due.max(given);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of events"
)]
fn due(rate: f64, nanoseconds: u64) -> u64 {
    (rate * nanoseconds as f64 / 1e9) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time() {
        assert_eq!(due(600.0, 1_000_000_000), 600);
        assert_eq!(due(600.0, 1_000_000), 0);
        assert_eq!(due(0.5, 10_000_000_000), 5);
    }

    #[tokio::test]
    async fn a_window_lets_as_many_out_as_have_arrived() {
        let arrived = Arc::new(AtomicU64::new(0));
        let pace = Pace::Window(2, arrived.clone());
        let permits = Permits::new(&pace);
        permits.take(2).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(20), permits.take(1)).await;
        assert!(waited.is_err(), "a third event may not be sent before one has arrived");
        arrived.store(1, Ordering::Relaxed);
        tokio::select! {
            taken = permits.take(1) => taken.unwrap(),
            () = permits.give(pace) => {}
        }
    }
}
