//! Built for `wasm32-wasip2`: looks with the standard library for arguments, environment, files, standard input, the
//! network, clock and randomness, writes to standard output, and logs what it found. It must find nothing that belongs
//! to the host.

use sgen_connector_sdk::{Connector, Event, Outcome, Verdict, export, log};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct WasiStd;

impl Connector for WasiStd {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        println!("written to standard output by a guest");
        eprintln!("written to standard error by a guest");
        log::info(
            "found",
            &[("what", &"arguments"), ("found", &format!("{:?}", std::env::args().collect::<Vec<_>>()))],
        );
        log::info(
            "found",
            &[("what", &"environment"), ("found", &format!("{:?}", std::env::vars().collect::<Vec<_>>()))],
        );
        for path in ["/", ".", "/etc/passwd", "/proc/self/environ", "Cargo.toml"] {
            let entries = std::fs::read_dir(path).map(Iterator::count).map_err(|error| error.kind());
            let bytes = std::fs::read(path).map(|bytes| bytes.len()).map_err(|error| error.kind());
            log::info("found", &[("what", &path), ("found", &format!("entries {entries:?}, bytes {bytes:?}"))]);
        }
        let written = std::fs::write("/tmp/guest-was-here", "x").map_err(|error| error.kind());
        log::info("found", &[("what", &"write"), ("found", &format!("{written:?}"))]);
        let mut input = String::new();
        let read = std::io::stdin().read_line(&mut input).map_err(|error| error.kind());
        log::info("found", &[("what", &"standard input"), ("found", &format!("{read:?}"))]);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|since| since.as_secs());
        log::info("found", &[("what", &"clock"), ("found", &format!("{since:?}"))]);
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(WasiStd);
