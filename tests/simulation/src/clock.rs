//! Time and randomness of a simulated host.
//!
//! Two times run beside each other. The *course* is what has passed since the beginning, in milliseconds: tokio's paused
//! time, which only goes forward. The *wall clock* is what the host reads: the course plus an offset that jumps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sgen_model::{Clock, Entropy, EntropyError, Timestamp};
use tokio::time::Instant;

use crate::dice::mix;

/// What the wall clock shows at the beginning: 2026-11-23T19:00:00Z.
const BEGINNING: u64 = 1_795_460_400_000;

/// The clock of the simulated machine.
pub(crate) struct SimulatedClock {
    began: Instant,
    jumps: Mutex<Vec<Jump>>,
}

/// A jump of the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jump {
    /// The course at which it happened.
    pub(crate) at: u64,
    /// By how many milliseconds.
    pub(crate) by: i64,
}

impl SimulatedClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), jumps: Mutex::default() })
    }

    /// The course.
    pub(crate) fn course(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The instant at which the course is `at`.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.began + std::time::Duration::from_millis(at)
    }

    pub(crate) fn jump(&self, by: i64) {
        let jump = Jump { at: self.course(), by };
        self.jumps.lock().unwrap_or_else(PoisonError::into_inner).push(jump);
    }

    pub(crate) fn jumps(&self) -> Vec<Jump> {
        self.jumps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a clock shows that never jumps: the downstreams'.
    pub(crate) fn true_time(&self) -> Timestamp {
        Timestamp(BEGINNING.saturating_add(self.course()))
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let jumps = self.jumps.lock().unwrap_or_else(PoisonError::into_inner);
        let offset: i64 = jumps.iter().map(|jump| jump.by).sum();
        Timestamp(self.true_time().0.saturating_add_signed(offset))
    }
}

/// Randomness that depends on the seed, the course, and how often the asking task has asked at this moment.
///
/// Not on who asked first: tokio wakes those who watch the same value in an order of its own choice, and that order must
/// not decide what a lane draws.
pub(crate) struct SimulatedEntropy {
    seed: u64,
    clock: Arc<SimulatedClock>,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    at: u64,
    times: HashMap<Option<tokio::task::Id>, u64>,
}

impl SimulatedEntropy {
    pub(crate) fn new(seed: u64, clock: Arc<SimulatedClock>) -> Arc<Self> {
        Arc::new(Self { seed, clock, asked: Mutex::default() })
    }
}

impl Entropy for SimulatedEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        let now = self.clock.course();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.at != now {
            *asked = Asked { at: now, times: HashMap::new() };
        }
        let times = asked.times.entry(tokio::task::try_id()).or_default();
        *times = times.wrapping_add(1);
        let drawn = mix(&[self.seed, now, *times]);
        for (part, index) in buffer.chunks_mut(8).zip(0_u64..) {
            let bytes = mix(&[drawn, index]).to_le_bytes();
            part.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}
