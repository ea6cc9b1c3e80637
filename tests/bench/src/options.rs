//! What is common to all benches.

use clap::Args;

/// How long and how large.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// Short runs: enough to see that everything works and where the figures lie, not enough to compare them.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Seconds of each measurement, in place of each bench's own.
    #[arg(long)]
    seconds: Option<u64>,
    /// Connections of the load, in place of each bench's own.
    #[arg(long)]
    pub(crate) connections: Option<usize>,
    /// Sites, in place of each bench's own.
    #[arg(long)]
    pub(crate) sites: Option<usize>,
    /// Events of `backlog`, instances of `density`, in place of their own.
    #[arg(long)]
    pub(crate) size: Option<u64>,
    /// One side of `sandbox`, `ingest` and `deliver` alone.
    #[arg(long)]
    pub(crate) only: Option<String>,
}

impl Options {
    /// Seconds of a measurement.
    pub(crate) fn seconds(&self, usual: u64, quick: u64) -> u64 {
        self.seconds.unwrap_or(if self.quick { quick } else { usual })
    }

    /// Seconds before a measurement begins: connections are opened, pools are filled, code is touched.
    pub(crate) fn warm_up(&self) -> u64 {
        if self.quick { 2 } else { 5 }
    }

    /// Seconds of a native baseline.
    pub(crate) fn baseline(&self) -> u64 {
        if self.quick { 3 } else { 10 }
    }

    /// A size of its own where one is given.
    pub(crate) fn size(&self, usual: u64, quick: u64) -> u64 {
        self.size.unwrap_or(if self.quick { quick } else { usual })
    }

    /// Whether this one of several ways is measured.
    pub(crate) fn chosen(&self, what: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == what)
    }
}
