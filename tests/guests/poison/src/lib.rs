//! Panics if, and only if, a batch contains an event whose fields contain the word `poison`; otherwise delivers
//! without sending anything. The host must find that event among the others.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct Poison;

impl Connector for Poison {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        assert!(!batch.iter().any(|event| event.fields.contains("poison")), "a poisonous event");
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(Poison);
