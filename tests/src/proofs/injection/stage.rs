//! What the host does while it is hit: three fixed lives, each on a store in another state.

use clap::ValueEnum;

/// A life of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// The first one, on an empty store: everything is set up and the first events are taken.
    First,
    /// One on a store that was closed in order: a large event in a batch, a change of configuration.
    Again,
    /// One on a store whose host was killed with events that it had not delivered.
    Crashed,
}

/// One thing that is asked of the host. Each is done only if an earlier life has not got it acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Registers the site.
    Register,
    /// Adds the operator.
    Operator,
    /// Issues the ingest key.
    IngestKey,
    /// Configures the webhook instance.
    Configure,
    /// Posts one request with these events: their ids, and how much padding they carry in bytes.
    Post(Vec<(&'static str, usize)>),
    /// Gives the instance another title.
    Title(&'static str),
    /// Waits until everything is delivered.
    Settled,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::First, Self::Again, Self::Crashed];

    /// What is asked of the host, in order. It is started before and told to stop after.
    #[must_use]
    pub fn script(self) -> Vec<Step> {
        match self {
            Self::First => {
                let mut steps = Self::setup();
                steps.extend([Step::Post(vec![("first-1", 40)]), Step::Post(vec![("first-2", 900)]), Step::Settled]);
                steps
            }
            Self::Again => vec![
                Step::Post(vec![("again-1", 200)]),
                // Larger than one value of the store: this event is kept in chunks.
                Step::Post(vec![("again-2", 10), ("again-3", 9_000), ("again-4", 300)]),
                Step::Title("changed again"),
                Step::Settled,
            ],
            Self::Crashed => vec![
                Step::Settled,
                Step::Post(vec![("crashed-1", 120)]),
                Step::Title("changed after a crash"),
                Step::Settled,
            ],
        }
    }

    /// What makes an empty host one that takes and delivers events.
    #[must_use]
    pub fn setup() -> Vec<Step> {
        vec![Step::Register, Step::Operator, Step::IngestKey, Step::Configure]
    }

    /// What the host of the crashed store had taken and not delivered when it was killed.
    #[must_use]
    pub fn undelivered() -> Vec<Step> {
        vec![Step::Post(vec![("left-1", 100)]), Step::Post(vec![("left-2", 6_000), ("left-3", 20)])]
    }

    /// As the command line calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "again",
            Self::Crashed => "crashed",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
