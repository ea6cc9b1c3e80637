//! Load and downstream that cost little: two cores are shared by the host, what feeds it and what it delivers to, so
//! whatever these spend is taken from the figure. Raw sockets, requests made beforehand, and as much of HTTP as this
//! host and this load speak with each other.
//!
//! Each runs on one thread of its own, apart from the host's process. Times are nanoseconds since [`now`] was first
//! asked, so that an event can carry the moment at which it was sent.

pub(crate) mod load;
pub(crate) mod pace;
pub(crate) mod relay;
pub(crate) mod sink;
pub(crate) mod template;
mod thread;
mod wire;

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since this was first asked.
pub(crate) fn now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    let elapsed = BEGINNING.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
