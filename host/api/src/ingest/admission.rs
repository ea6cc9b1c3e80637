//! How many bytes of requests may be in the house at once: in all, and of one place.
//!
//! A reservation grows with what has really arrived, so that a sender who announces much and sends nothing takes
//! nothing from others; it is given back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts bytes in flight.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    fn take(&self, bytes: usize, cap: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= cap;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why nothing more is admitted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The host holds as much as it may.
    Host,
    /// This place has its share.
    Place,
}

/// The caps.
#[derive(Debug)]
pub(crate) struct Admission {
    host: Gauge,
    host_cap: usize,
    place_cap: usize,
}

impl Admission {
    pub(crate) fn new(host_cap: usize, place_cap: usize) -> Self {
        Self { host: Gauge::default(), host_cap, place_cap }
    }

    /// Starts a reservation of nothing.
    pub(crate) fn enter<'a>(&'a self, place: &Arc<Gauge>) -> Reservation<'a> {
        Reservation { admission: self, place: Arc::clone(place), bytes: 0 }
    }
}

/// Bytes held by one request.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    admission: &'a Admission,
    place: Arc<Gauge>,
    bytes: usize,
}

impl Reservation<'_> {
    /// Adds bytes that have arrived.
    ///
    /// # Errors
    /// Which cap they exceed; what was reserved before stays reserved until the drop.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        if !self.place.take(bytes, self.admission.place_cap) {
            return Err(Refused::Place);
        }
        if !self.admission.host.take(bytes, self.admission.host_cap) {
            self.place.give_back(bytes);
            return Err(Refused::Host);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.place.give_back(self.bytes);
        self.admission.host.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_stopped_at_its_share_while_others_go_on() {
        let admission = Admission::new(100, 40);
        let (loud, quiet) = (Arc::<Gauge>::default(), Arc::<Gauge>::default());
        let mut first = admission.enter(&loud);
        assert_eq!(first.grow(40), Ok(()));
        assert_eq!(admission.enter(&loud).grow(1), Err(Refused::Place));
        assert_eq!(admission.enter(&quiet).grow(40), Ok(()));
    }

    #[test]
    fn the_host_is_full_at_its_cap_and_a_drop_gives_everything_back() {
        let admission = Admission::new(50, 40);
        let (a, b) = (Arc::<Gauge>::default(), Arc::<Gauge>::default());
        let mut first = admission.enter(&a);
        let mut second = admission.enter(&b);
        assert_eq!(first.grow(30), Ok(()));
        assert_eq!(second.grow(20), Ok(()));
        assert_eq!(second.grow(1), Err(Refused::Host));
        drop(first);
        assert_eq!(second.grow(20), Ok(()));
        drop(second);
        assert_eq!((admission.host.bytes(), a.bytes(), b.bytes()), (0, 0, 0));
    }
}
