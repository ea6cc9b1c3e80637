//! Takes a megabyte at a time, writes to it and keeps it, until the host refuses.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct MemoryGrowth;

impl Connector for MemoryGrowth {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        loop {
            kept.push(vec![0xa5; 1 << 20]);
            if std::hint::black_box(&kept).len() == 4096 {
                // All that 32 bits can address: the host set no limit.
                return batch.iter().map(|_| Outcome::Delivered(None)).collect();
            }
        }
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(MemoryGrowth);
