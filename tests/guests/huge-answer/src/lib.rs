//! Answers a list of a hundred thousand outcomes; for a batch of several events, one outcome per event with texts of
//! eight megabytes.

use sgen_connector_sdk::{Connector, Event, Failure, FailureClass, Outcome, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct HugeAnswer;

impl Connector for HugeAnswer {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        if batch.len() < 2 {
            return vec![Outcome::delivered_as("one of very many"); 100_000];
        }
        let huge = "h".repeat(8 << 20);
        let mut outcomes = vec![Outcome::Delivered(None); batch.len()];
        if let [first, second, ..] = outcomes.as_mut_slice() {
            *first = Outcome::delivered_as(huge.clone());
            *second = Outcome::Failed(
                Failure::new(FailureClass::Rejected, huge.clone()).with_code(huge.clone()).on_field(huge),
            );
        }
        outcomes
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("s".repeat(8 << 20))
    }
}

export!(HugeAnswer);
