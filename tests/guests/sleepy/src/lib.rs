//! Sends each event to `/hang`, where the downstream of the tests never answers, and gives the outcome that follows
//! from it.

use sgen_connector_sdk::{Connector, Event, Outcome, Request, Verdict, deliver_each, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct Sleepy;

impl Connector for Sleepy {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        deliver_each(
            "api",
            batch,
            |event| Ok(Request::post("/hang").json_text(event.fields_raw())),
            |_event, response| Outcome::from_status(response),
        )
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(Sleepy);
