//! Sends one request per event to `/echo`, keeps all that it is given, and then sends its whole linear memory to `/dump`:
//! whatever a component could ever find is in there. Delivers always.

use sgen_connector_sdk::{Connector, Endpoint, Event, Outcome, Request, Verdict, export, log};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct MemoryDump;

/// How much is sent in one request.
const PIECE: usize = 128 * 1024;

impl Connector for MemoryDump {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let endpoint = match Endpoint::open("api") {
            Ok(endpoint) => endpoint,
            Err(error) => return batch.iter().map(|_| Outcome::Failed(error.clone().into())).collect(),
        };
        let request =
            |event: &Event| Request::post("/echo").header("x-event", event.id.clone()).json_text(event.fields_raw());
        let answers = endpoint.send_all(batch.iter().map(request).collect());
        for answer in &answers {
            match answer {
                Ok(response) => log::info("response", &[("body", &response.text())]),
                Err(error) => log::info("no response", &[("error", error)]),
            }
        }
        for piece in memory() {
            if let Err(error) = endpoint.send(Request::post("/dump").body(piece.to_vec())) {
                log::error("the memory was not sent", &[("error", &error)]);
            }
        }
        // The responses are still held while the memory is read.
        drop(answers);
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(MemoryDump);

/// The linear memory as it is now, in pieces. The first byte, at address zero, is left out: no reference may hold it.
#[cfg(target_arch = "wasm32")]
fn memory() -> impl Iterator<Item = &'static [u8]> {
    let size = core::arch::wasm32::memory_size::<0>() * 65536;
    let start = core::hint::black_box(1_usize) as *const u8;
    #[expect(unsafe_code, reason = "reading all of it is what this guest is for")]
    // SAFETY: a linear memory is readable from end to end, and never shrinks.
    let whole = unsafe { core::slice::from_raw_parts(start, size - 1) };
    whole.chunks(PIECE)
}

/// There is no linear memory outside the sandbox.
#[cfg(not(target_arch = "wasm32"))]
fn memory() -> impl Iterator<Item = &'static [u8]> {
    core::iter::empty()
}
