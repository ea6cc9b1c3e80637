//! Captured events, made once: for each request only an event's number and the moment of sending are written over.

use memchr::memmem;
use serde_json::{Value, json};

/// Digits of an event's number.
const NUMBER: usize = 12;
/// Digits of a moment, in nanoseconds.
const MOMENT: usize = 20;

/// The field in which a downstream finds an event's number: the capture's id, `e` and the number.
pub(crate) const ID: &[u8] = b"\"event_id\":\"e";
/// How HubSpot's connector hands the capture's id on.
pub(crate) const TRACE: &[u8] = b"\"objectWriteTraceId\":\"e";
/// The field in which a downstream finds the moment of sending.
const SENT: &[u8] = b"\"sent\":\"";

/// A contact form's submission, with its places marked.
fn event(captured_at: u64) -> Value {
    json!({
        "id": format!("e{}", "#".repeat(NUMBER)),
        "surface": "form:contact",
        "captured_at": captured_at,
        "fields": {
            "email": format!("ada.lovelace.{}@example.com", "#".repeat(NUMBER)),
            "first_name": "Ada",
            "last_name": "Lovelace",
            "phone": "+442071838750",
            "message": "Please call me about the analytical engine, in the afternoon if that is possible.",
            "sent": "@".repeat(MOMENT),
        },
        "context": { "page": { "url": "https://www.example.com/contact?campaign=autumn" } },
    })
}

/// What an instance of the webhook connector maps of it.
pub(crate) fn webhook_mapping() -> Value {
    json!({
        "event_id": { "from": "id" },
        "email": { "from": "fields.email" },
        "first_name": { "from": "fields.first_name" },
        "last_name": { "from": "fields.last_name" },
        "phone": { "from": "fields.phone" },
        "message": { "from": "fields.message" },
        "sent": { "from": "fields.sent" },
    })
}

/// What an instance of the HubSpot connector maps of it.
pub(crate) fn hubspot_mapping() -> Value {
    json!({
        "email": { "from": "fields.email" },
        "firstname": { "from": "fields.first_name" },
        "lastname": { "from": "fields.last_name" },
        "phone": { "from": "fields.phone" },
        "message": { "from": "fields.message" },
        "sent": { "from": "fields.sent" },
    })
}

/// A whole request of a fixed size, with the places that are written over.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Per event: where its number stands.
    numbers: Vec<Vec<usize>>,
    moments: Vec<usize>,
    /// Bytes of one event's JSON.
    pub(crate) event_bytes: usize,
}

impl Template {
    /// A request that captures `batch` events at once.
    pub(crate) fn capture(host: &str, site: &str, environment: &str, key: &str, batch: usize) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let one = event(u64::try_from(now.as_millis()).unwrap_or(0)).to_string();
        let body = if batch == 1 { one.clone() } else { format!("[{}]", vec![one.as_str(); batch].join(",")) };
        let head = format!(
            "POST /v1/sites/{site}/environments/{environment}/events HTTP/1.1\r\nhost: {host}\r\n\
             authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self::new(&head, &body, batch, one.len())
    }

    /// What the webhook connector sends for one event, as near as a load can have it without the host.
    pub(crate) fn webhook(host: &str) -> Self {
        let mapped = format!(
            r#"{{"email":"ada.lovelace.{0}@example.com","event_id":"e{0}","first_name":"Ada","last_name":"Lovelace","message":"Please call me about the analytical engine, in the afternoon if that is possible.","phone":"+442071838750","sent":"{1}"}}"#,
            "#".repeat(NUMBER),
            "@".repeat(MOMENT)
        );
        let body = format!(r#"{{"type":"form:contact","timestamp":"2026-11-23T18:00:00.000Z","data":{mapped}}}"#);
        let head = format!(
            "POST /hook HTTP/1.1\r\nwebhook-id: evt_0123456789abcdef0123456789abcdef\r\ncontent-type: application/json\r\n\
             webhook-timestamp: 1795460400\r\nwebhook-signature: v1,{}\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n",
            "A".repeat(44),
            body.len()
        );
        Self::new(&head, &body, 1, mapped.len())
    }

    /// What the HubSpot connector sends for a batch.
    pub(crate) fn hubspot(host: &str, batch: usize) -> Self {
        let one = format!(
            r#"{{"id":"ada.lovelace.{0}@example.com","idProperty":"email","objectWriteTraceId":"e{0}","properties":{{"email":"ada.lovelace.{0}@example.com","firstname":"Ada","lastname":"Lovelace","message":"Please call me about the analytical engine, in the afternoon if that is possible.","phone":"+442071838750","sent":"{1}"}}}}"#,
            "#".repeat(NUMBER),
            "@".repeat(MOMENT)
        );
        let body = format!(r#"{{"inputs":[{}]}}"#, vec![one.as_str(); batch].join(","));
        let head = format!(
            "POST /crm/v3/objects/contacts/batch/upsert HTTP/1.1\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n",
            "t".repeat(44),
            body.len()
        );
        Self::new(&head, &body, batch, one.len())
    }

    fn new(head: &str, body: &str, batch: usize, event_bytes: usize) -> Self {
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        let numbers: Vec<usize> = memmem::find_iter(&bytes, &[b'#'; NUMBER]).collect();
        let moments = memmem::find_iter(&bytes, &[b'@'; MOMENT]).collect();
        let each = numbers.len() / batch.max(1);
        let numbers = numbers.chunks(each.max(1)).map(<[usize]>::to_vec).collect();
        Self { bytes, numbers, moments, event_bytes }
    }

    /// Events in the request.
    pub(crate) fn events(&self) -> usize {
        self.numbers.len()
    }

    /// The request with events numbered from `first`, sent at `moment`.
    pub(crate) fn fill(&mut self, first: u64, moment: u64) -> &[u8] {
        let mut digits = [0; NUMBER];
        for (number, places) in (first..).zip(&self.numbers) {
            write_digits(number, &mut digits);
            for place in places {
                put(&mut self.bytes, *place, &digits);
            }
        }
        let mut digits = [0; MOMENT];
        write_digits(moment, &mut digits);
        for place in &self.moments {
            put(&mut self.bytes, *place, &digits);
        }
        &self.bytes
    }
}

fn put(bytes: &mut [u8], at: usize, digits: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + digits.len()) {
        place.copy_from_slice(digits);
    }
}

fn write_digits(mut number: u64, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The numbers of the events in a delivered body, behind each occurrence of `mark`, with where each was found.
pub(crate) fn numbers<'a>(body: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = u64> + 'a {
    memmem::find_iter(body, mark)
        .filter_map(move |at| read_digits(body.get(at + mark.len()..at + mark.len() + NUMBER)?))
}

/// The moments at which the events in a delivered body were sent.
pub(crate) fn moments(body: &[u8]) -> impl Iterator<Item = u64> + '_ {
    memmem::find_iter(body, SENT).filter_map(|at| read_digits(body.get(at + SENT.len()..at + SENT.len() + MOMENT)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn body(request: &[u8]) -> &[u8] {
        request.get(memmem::find(request, b"\r\n\r\n").unwrap() + 4..).unwrap()
    }

    #[test]
    fn every_event_of_a_request_has_its_own_number_and_the_moment_of_sending() {
        let mut template = Template::capture("h:1", "s", "live", "k", 3);
        let events: Value = serde_json::from_slice(body(template.fill(41, 7))).unwrap();
        for (number, event) in (41..).zip(events.as_array().unwrap()) {
            assert_eq!(event.get("id").unwrap(), &json!(format!("e{number:012}")));
            let fields = event.get("fields").unwrap();
            assert_eq!(fields.get("email").unwrap(), &json!(format!("ada.lovelace.{number:012}@example.com")));
            assert_eq!(fields.get("sent").unwrap(), &json!(format!("{:020}", 7)));
        }
        let single: Value = serde_json::from_slice(body(Template::capture("h", "s", "e", "k", 1).fill(5, 0))).unwrap();
        assert_eq!(single.get("id").unwrap(), "e000000000005");
    }

    #[test]
    fn a_delivered_body_tells_which_events_it_holds_and_when_they_were_sent() {
        let mut hubspot = Template::hubspot("h", 2);
        let sent = hubspot.fill(9, 123).to_vec();
        assert_eq!(numbers(body(&sent), TRACE).collect::<Vec<_>>(), [9, 10]);
        assert_eq!(moments(body(&sent)).collect::<Vec<_>>(), [123, 123]);
        serde_json::from_slice::<Value>(body(&sent)).unwrap();
        let mut webhook = Template::webhook("h");
        let sent = webhook.fill(3, 55).to_vec();
        assert_eq!(numbers(body(&sent), ID).collect::<Vec<_>>(), [3]);
        assert_eq!(moments(body(&sent)).collect::<Vec<_>>(), [55]);
    }
}
