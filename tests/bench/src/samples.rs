//! Durations and what is said of many.

/// Nanoseconds, in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn push(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The given part of them, in percent, took no longer: milliseconds. Not a number when there are none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a bench")]
        sorted.get(rank).map_or(f64::NAN, |nanoseconds| *nanoseconds as f64 / 1e6)
    }

    /// `p50 1.2 ms, p99 3.4 ms`.
    pub(crate) fn described(&self) -> String {
        format!("p50 {:.2} ms, p99 {:.2} ms", self.percentile(50), self.percentile(99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let mut samples = Samples::default();
        assert!(samples.percentile(50).is_nan());
        for ms in (1..=100).rev() {
            samples.push(ms * 1_000_000);
        }
        assert_eq!([1, 50, 99, 100].map(|p| samples.percentile(p)), [1.0, 50.0, 99.0, 100.0]);
    }
}
