//! What a seed decides is drawn here, and nowhere else.

/// A sequence of draws that depends on its seed alone.
pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(mix(&[seed])))
    }

    /// Uniform, both ends included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// True in `percent` of a hundred draws.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.0.u64(0..100) < percent
    }

    /// Of no preferred magnitude between the ends: as often from 1 to 10 as from 10 to 100.
    pub(crate) fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let (from, to) = ((low.max(1) as f64).ln(), (high.max(1) as f64).ln());
        let drawn = (from + (to - from) * self.0.f64()).exp();
        (drawn as u64).clamp(low, high.max(low))
    }

    /// An index below `count`, by weights; 0 when there are none.
    pub(crate) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut drawn = self.0.u64(0..weights.iter().sum::<u64>().max(1));
        for (index, weight) in weights.iter().enumerate() {
            match drawn.checked_sub(*weight) {
                Some(left) => drawn = left,
                None => return index,
            }
        }
        0
    }
}

/// One number from several, well mixed (the finaliser of SplitMix64).
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A text as a number to mix.
pub(crate) fn number(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
