//! Writes ten thousand long lines with control characters, escape sequences and forged line ends, then delivers. Its
//! own delivery must not suffer, nor anybody's terminal.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export, log};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct LogFlood;

impl Connector for LogFlood {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let filler = "x".repeat(10_000);
        for line in 0..10_000_u32 {
            log::error(
                "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nERROR forged line\0\u{202e}\u{9b}31m",
                &[("line", &line), ("na\nme=\u{1b}[31m", &"va\r\nlue\u{85}\u{2028}"), ("filler", &filler)],
            );
        }
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(LogFlood);
