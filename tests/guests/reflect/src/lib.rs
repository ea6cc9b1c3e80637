//! Sends one request per event to `/echo` and logs everything that it can see: settings, events, status, response
//! headers and body. Delivers always. A test reads the log for what must not be there.

use sgen_connector_sdk::{Connector, Endpoint, Event, Outcome, Request, Verdict, export, log, serde_json};

/// The guest.
pub struct Reflect;

impl Connector for Reflect {
    /// Whatever they are.
    type Settings = serde_json::Value;

    fn deliver(settings: &serde_json::Value, batch: &[Event]) -> Vec<Outcome> {
        log::info("settings", &[("settings", settings)]);
        for event in batch {
            log::info(
                "event",
                &[
                    ("id", &event.id),
                    ("idempotency-key", &event.idempotency_key),
                    ("captured-at-ms", &event.captured_at_ms),
                    ("surface", &event.surface),
                    ("fields", &event.fields),
                ],
            );
        }
        let endpoint = match Endpoint::open("api") {
            Ok(endpoint) => endpoint,
            Err(error) => return batch.iter().map(|_| Outcome::Failed(error.clone().into())).collect(),
        };
        let request =
            |event: &Event| Request::post("/echo").header("x-event", event.id.clone()).json_text(event.fields_raw());
        for answer in endpoint.send_all(batch.iter().map(request).collect()) {
            match answer {
                Ok(response) => {
                    log::info("status", &[("status", &response.status)]);
                    for (name, value) in &response.headers {
                        log::info("header", &[("name", name), ("value", value)]);
                    }
                    log::info("body", &[("body", &response.text())]);
                }
                Err(error) => log::info("no response", &[("error", &error)]),
            }
        }
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &serde_json::Value) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(Reflect);
