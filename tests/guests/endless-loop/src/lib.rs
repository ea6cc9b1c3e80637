//! Computes for ever: `deliver` and `check` never return and never call the host. The host must end them by their CPU
//! budget.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct EndlessLoop;

impl Connector for EndlessLoop {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let _ = batch;
        spin()
    }

    fn check(_settings: &Settings) -> Verdict {
        spin()
    }
}

export!(EndlessLoop);

fn spin() -> ! {
    let mut count = 0_u64;
    loop {
        count = std::hint::black_box(count.wrapping_add(1));
    }
}
