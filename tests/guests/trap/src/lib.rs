//! Panics with a message, which must reach the log and be told apart from an endless loop or a lack of memory.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct Trap;

impl Connector for Trap {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        panic!("the trap guest was given {} events", batch.len())
    }

    fn check(_settings: &Settings) -> Verdict {
        panic!("the trap guest was checked")
    }
}

export!(Trap);
