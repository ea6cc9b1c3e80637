//! Opens the endpoint twenty thousand times without dropping a handle. Logs how many it got when the host refuses
//! without trapping.

use sgen_connector_sdk::{Connector, Endpoint, Event, Outcome, Verdict, export, log};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct HandleLeak;

impl Connector for HandleLeak {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        for opened in 0..20_000_u32 {
            match Endpoint::open("api") {
                Ok(endpoint) => std::mem::forget(endpoint),
                Err(error) => {
                    log::warn("refused", &[("opened", &opened), ("error", &error)]);
                    break;
                }
            }
        }
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(HandleLeak);
