//! Sends one request per event to `/echo` and repeats what it is answered wherever a component can say something: in its
//! log, its outcomes, its verdict, its choices and the account. When an event's fields contain the word `dump`, it sends
//! its whole linear memory to `/dump` while it holds the answers.

use sgen_connector_sdk::{
    Account, Choice, Connector, Endpoint, Event, Failure, FailureClass, Finding, Identify, Outcome, Request, Response,
    SendError, Verdict, export, export_identity, log,
};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct Canary;

/// How far the pieces of memory lie apart.
const PIECE: usize = 128 * 1024;
/// How much of the next piece each has: what is searched for lies in one of them whole.
const OVERLAP: usize = 4 * 1024;

impl Connector for Canary {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let endpoint = match Endpoint::open("api") {
            Ok(endpoint) => endpoint,
            Err(error) => return batch.iter().map(|_| Outcome::Failed(error.clone().into())).collect(),
        };
        let request =
            |event: &Event| Request::post("/echo").header("webhook-id", event.id.clone()).json_text(event.fields_raw());
        let answers = endpoint.send_all(batch.iter().map(request).collect());
        answers.iter().for_each(repeat);
        if batch.iter().any(|event| event.fields.contains("dump")) {
            for (number, piece) in memory().enumerate() {
                let request =
                    Request::post("/dump").header("webhook-id", format!("piece-{number}")).body(piece.to_vec());
                if let Err(error) = endpoint.send(request) {
                    log::error("the memory was not sent", &[("error", &error)]);
                }
            }
        }
        // The answers are still held while the memory is read.
        answers.iter().map(outcome).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        match ask() {
            Ok(response) => Verdict {
                reachable: Finding::Yes,
                authorised: Finding::Yes,
                permitted: Finding::Yes,
                target_exists: Finding::Yes,
                summary: response.excerpt(2000),
                failure: None,
            },
            Err(error) => Verdict::from_failure(Failure::from_send_error(&error)),
        }
    }

    fn options(_settings: &Settings, _source: &str, _search: Option<&str>) -> Result<Vec<Choice>, Failure> {
        let response = ask().map_err(|error| Failure::from_send_error(&error))?;
        Ok(vec![Choice::new(response.excerpt(2000), response.text())])
    }
}

impl Identify for Canary {
    fn account(_settings: &Settings) -> Result<Account, Failure> {
        let response = ask().map_err(|error| Failure::from_send_error(&error))?;
        Ok(Account { id: response.excerpt(100), label: response.excerpt(2000), sandbox: false })
    }
}

export!(Canary);
export_identity!(Canary);

fn ask() -> Result<Response, SendError> {
    Endpoint::open("api")?.send(Request::get("/echo").header("webhook-id", "ask"))
}

fn repeat(answer: &Result<Response, SendError>) {
    match answer {
        Ok(response) => {
            log::warn("answered", &[("status", &response.status), ("body", &response.text())]);
            for (name, value) in &response.headers {
                log::warn("header", &[("name", name), ("value", value)]);
            }
        }
        Err(error) => log::error("no answer", &[("error", error)]),
    }
}

fn outcome(answer: &Result<Response, SendError>) -> Outcome {
    match answer {
        Ok(response) => match Failure::from_response(response) {
            Some(failure) => {
                let failure = failure.with_message(response.text()).with_code(response.excerpt(200));
                let of_event = matches!(failure.class, FailureClass::Rejected | FailureClass::SchemaMismatch);
                Outcome::Failed(if of_event { failure.on_field(response.excerpt(200)) } else { failure })
            }
            None => Outcome::Delivered(Some(response.text().into_owned())),
        },
        Err(error) => Outcome::Failed(Failure::from_send_error(error)),
    }
}

/// The linear memory as it is now, in pieces. The first byte, at address zero, is left out: no reference may hold it.
#[cfg(target_arch = "wasm32")]
fn memory() -> impl Iterator<Item = &'static [u8]> {
    let size = core::arch::wasm32::memory_size::<0>() * 65536;
    let start = core::hint::black_box(1_usize) as *const u8;
    #[expect(unsafe_code, reason = "reading all of it is what this guest is for")]
    // SAFETY: a linear memory is readable from end to end, and never shrinks.
    let whole = unsafe { core::slice::from_raw_parts(start, size - 1) };
    (0..whole.len()).step_by(PIECE).filter_map(|at| whole.get(at..whole.len().min(at + PIECE + OVERLAP)))
}

/// There is no linear memory outside the sandbox.
#[cfg(not(target_arch = "wasm32"))]
fn memory() -> impl Iterator<Item = &'static [u8]> {
    let _ = (PIECE, OVERLAP);
    core::iter::empty()
}
