//! Asks `/large` again and again, a megabyte each time, and drops what it gets: what the host hands it has no end unless
//! the host makes one.

use sgen_connector_sdk::{Connector, Endpoint, Event, Outcome, Request, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct HugeResponses;

impl Connector for HugeResponses {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let endpoint = match Endpoint::open("api") {
            Ok(endpoint) => endpoint,
            Err(error) => return batch.iter().map(|_| Outcome::Failed(error.clone().into())).collect(),
        };
        for _ in 0..500 {
            drop(endpoint.send(Request::get("/large")));
        }
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(HugeResponses);
