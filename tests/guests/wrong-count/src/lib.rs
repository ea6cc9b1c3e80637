//! Answers one outcome too few; for an empty batch or one of a single event, one too many.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct WrongCount;

impl Connector for WrongCount {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let count = if batch.len() > 1 { batch.len() - 1 } else { batch.len() + 1 };
        vec![Outcome::Delivered(None); count]
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(WrongCount);
