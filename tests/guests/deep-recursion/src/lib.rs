//! Calls itself without end, keeping little in memory per call, so that it is the call stack that runs out.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct DeepRecursion;

impl Connector for DeepRecursion {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let depth = batch.len() as u64;
        vec![Outcome::delivered_as(descend(depth).to_string())]
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(DeepRecursion);

/// Not a loop in disguise: each level uses what the next one answers in a way that cannot be turned round.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if std::hint::black_box(depth) == u64::MAX {
        return 0;
    }
    (descend(depth + 1) ^ depth).rotate_left(7)
}
