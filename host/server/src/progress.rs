//! How far long work is: on standard error, when somebody looks at it, once a second.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often it is told.
const PERIOD: Duration = Duration::from_secs(1);

/// Tells how far long work is.
pub(crate) struct Progress {
    told: Instant,
    watched: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { told: Instant::now(), watched: std::io::stderr().is_terminal() }
    }

    pub(crate) fn tell_bytes(&mut self, what: &str, bytes: u64, of: Option<u64>) {
        let of = of.map(|of| format!(" of {}", of / 1_000_000)).unwrap_or_default();
        self.tell(|| format!("{what} {}{of} MB", bytes / 1_000_000));
    }

    /// `line` is asked for only when it is told.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if !self.watched || self.told.elapsed() < PERIOD {
            return;
        }
        self.told = Instant::now();
        // Nothing depends on its being read.
        let _ = writeln!(std::io::stderr().lock(), "{}", line());
    }
}
