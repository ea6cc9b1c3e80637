//! Time as a lane knows it.
//!
//! What is shown to people is the wall clock's. What decides (when a retry falls due, how long an event has been tried) goes
//! by a time that never jumps: within a life of the host it advances with the monotonic clock, and it begins where the life
//! before it ended, with what the wall clock says has passed since. It may differ from the wall clock for good.

use sgen_model::{Clock, Timestamp};
use tokio::time::Instant;

/// One moment, by every clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// For people.
    pub(crate) wall: Timestamp,
    /// For what is stored and decides.
    pub(crate) lane: Timestamp,
    /// For what is kept in memory and decides.
    pub(crate) instant: Instant,
}

impl Moment {
    /// The instant of a lane time; now, when that has passed.
    pub(crate) fn instant_of(&self, lane: Timestamp) -> Instant {
        self.instant.checked_add(lane.since(self.lane)).unwrap_or(self.instant)
    }

    /// An instant as the wall clock will show it.
    pub(crate) fn wall_of(&self, instant: Instant) -> Timestamp {
        self.wall.after(instant.saturating_duration_since(self.instant))
    }
}

/// A lane's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneClock {
    base: Timestamp,
    origin: Instant,
}

impl LaneClock {
    /// Begins at `written_at`, the lane's time when it was last written, and what has passed since `written_wall`; a lane
    /// that was never written begins at the wall clock.
    pub(crate) fn starting(clock: &dyn Clock, written_at: Timestamp, written_wall: Timestamp) -> Self {
        let wall = clock.now();
        let base = if written_at == Timestamp::default() { wall } else { written_at.after(wall.since(written_wall)) };
        Self { base, origin: Instant::now() }
    }

    pub(crate) fn now(&self, clock: &dyn Clock) -> Moment {
        let instant = Instant::now();
        let lane = self.base.after(instant.saturating_duration_since(self.origin));
        Moment { wall: clock.now(), lane, instant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    struct Hands(AtomicU64);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_jumps_moves_nothing_that_decides() {
        let hands = Hands(AtomicU64::new(1_000_000));
        let clock = LaneClock::starting(&hands, Timestamp(0), Timestamp(0));
        tokio::time::advance(Duration::from_millis(500)).await;
        hands.0.store(5, Ordering::SeqCst);
        let moment = clock.now(&hands);
        assert_eq!((moment.wall, moment.lane), (Timestamp(5), Timestamp(1_000_500)));
        assert_eq!(moment.instant_of(Timestamp(1_000_600)) - moment.instant, Duration::from_millis(100));
        // The next life begins no earlier than this one ended.
        let next = LaneClock::starting(&hands, moment.lane, moment.wall);
        assert_eq!(next.now(&hands).lane, moment.lane);
        // Nor does a wall clock that was wrong before make it jump: what counts is what has passed.
        hands.0.store(105, Ordering::SeqCst);
        let later = LaneClock::starting(&hands, moment.lane, moment.wall);
        assert_eq!(later.now(&hands).lane, moment.lane.after(Duration::from_millis(100)));
    }
}
