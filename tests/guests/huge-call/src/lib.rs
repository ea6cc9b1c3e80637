//! Hands the host more than anybody can want: for a batch of one event a body of 32 megabytes, for two events fifty
//! thousand requests in one call, for three a million headers in one request, for more one line of log of 32 megabytes.

use sgen_connector_sdk::{Connector, Endpoint, Event, Outcome, Request, Verdict, export, log};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct HugeCall;

impl Connector for HugeCall {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let endpoint = match Endpoint::open("api") {
            Ok(endpoint) => endpoint,
            Err(error) => return batch.iter().map(|_| Outcome::Failed(error.clone().into())).collect(),
        };
        match batch.len() {
            1 => drop(endpoint.send(Request::post("/echo").body(vec![b'b'; 32 << 20]))),
            2 => drop(endpoint.send_all(vec![Request::get("/echo"); 50_000])),
            3 => {
                let mut request = Request::get("/echo");
                for _ in 0..1_000_000 {
                    request = request.header("x", "y");
                }
                drop(endpoint.send(request));
            }
            _ => log::info("much", &[("text", &"t".repeat(32 << 20))]),
        }
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(HugeCall);
