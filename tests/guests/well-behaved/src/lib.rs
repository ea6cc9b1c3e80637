//! Sends each event to `/echo` and gives the outcome that follows from the answer: the neighbour of the hostile ones.

use sgen_connector_sdk::{Connector, Event, Outcome, Request, Verdict, deliver_each, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct WellBehaved;

impl Connector for WellBehaved {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        deliver_each(
            "api",
            batch,
            |event| Ok(Request::post("/echo").json_text(event.fields_raw())),
            |_event, response| Outcome::from_status(response),
        )
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(WellBehaved);
