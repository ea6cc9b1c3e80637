//! A webhook receiver that takes nothing it cannot verify: Standard Webhooks signatures, written from the specification
//! and independent of the code that signs.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::server::{Received, Server, Service};

/// How far a timestamp may be from now, in seconds (the specification's libraries use five minutes).
pub const TOLERANCE_SECONDS: i64 = 300;
/// How many complete requests are kept.
const REQUESTS_KEPT: usize = 2_000;

/// Why a request is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// A header is missing.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The timestamp is no number of seconds.
    #[error("the timestamp {0:?} is not a number of seconds")]
    Timestamp(String),
    /// Too old or too new.
    #[error("the timestamp is {0} s away from now; at most {TOLERANCE_SECONDS} s are believed")]
    Distance(i64),
    /// No signature fits.
    #[error("none of the signatures fits the request")]
    Signature,
}

/// A Standard Webhooks secret.
#[derive(Clone)]
pub struct Secret {
    text: String,
    key: hmac::Key,
}

impl Secret {
    /// Reads `whsec_BASE64`, 24 to 64 bytes.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let bytes = STANDARD.decode(encoded).map_err(|e| format!("the secret is not base64: {e}"))?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(format!("the secret has {} bytes; 24 to 64 are allowed", bytes.len()));
        }
        Ok(Self { text: text.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// A secret made from a seed: for tests and demos, whose runs are to be comparable.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bytes: [u8; 32] = std::array::from_fn(|_| rng.u8(..));
        let text = format!("whsec_{}", STANDARD.encode(bytes));
        Self { text, key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }
    }

    /// As an operator enters it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Signs, as a sender does: `v1,BASE64`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }

    /// Whether a request is signed with this secret, `now` in seconds since the epoch. Answers the webhook id.
    ///
    /// # Errors
    /// Why not.
    pub fn verify<'a>(&self, request: &'a Received, now: i64) -> Result<&'a str, Disbelief> {
        let header = |name: &'static str| request.header(name).ok_or(Disbelief::Missing(name));
        let id = header("webhook-id")?;
        let stamp = header("webhook-timestamp")?;
        let signatures = header("webhook-signature")?;
        let seconds: i64 = stamp.parse().map_err(|_| Disbelief::Timestamp(stamp.to_owned()))?;
        let distance = now.saturating_sub(seconds).saturating_abs();
        if distance > TOLERANCE_SECONDS {
            return Err(Disbelief::Distance(distance));
        }
        // The signed text holds the timestamp as it was sent, so it is built from the header and not from the number.
        let mut content = format!("{id}.{stamp}.").into_bytes();
        content.extend_from_slice(&request.body);
        let fits = signatures.split(' ').any(|signature| {
            signature
                .strip_prefix("v1,")
                .and_then(|encoded| STANDARD.decode(encoded).ok())
                .is_some_and(|tag| hmac::verify(&self.key, &content, &tag).is_ok())
        });
        if fits { Ok(id) } else { Err(Disbelief::Signature) }
    }
}

/// What was delivered under one webhook id.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// How often it was accepted.
    pub times: u64,
    /// The payload's `type`.
    pub kind: String,
    /// The payload's `data`, when payloads are kept.
    pub data: Value,
    /// Whether a later delivery under the same id had other contents.
    pub changed: bool,
}

/// Counts, for a demo, a bench or a control request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Webhook ids accepted at least once.
    pub delivered: u64,
    /// Accepted deliveries beyond the first of an id.
    pub repeated: u64,
    /// Requests refused, each for a reason.
    pub refused: u64,
    /// Requests of every kind.
    pub requests: u64,
}

#[derive(Default)]
struct State {
    secrets: Vec<Secret>,
    keep: bool,
    deliveries: BTreeMap<String, Delivery>,
    refusals: Vec<String>,
    requests: VecDeque<Received>,
}

struct Receiver(Mutex<State>);

impl Receiver {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    data: Value,
}

impl State {
    fn take(&mut self, request: &Received) -> (u16, Value) {
        let now = jiff::Timestamp::now().as_second();
        if self.keep {
            if self.requests.len() == REQUESTS_KEPT {
                self.requests.pop_front();
            }
            self.requests.push_back(request.clone());
        }
        if request.method != http::Method::POST {
            return self.refuse(405, format!("{} is not POST", request.method));
        }
        let mut disbelief = Disbelief::Signature;
        let mut believed = None;
        for secret in &self.secrets {
            match secret.verify(request, now) {
                Ok(id) => believed = Some(id.to_owned()),
                Err(why) => disbelief = why,
            }
        }
        let Some(id) = believed else { return self.refuse(401, disbelief.to_string()) };
        if request.header("content-type").is_none_or(|kind| !kind.starts_with("application/json")) {
            return self.refuse(415, "the payload is not application/json".to_owned());
        }
        let payload: Payload = match serde_json::from_slice(&request.body) {
            Ok(payload) => payload,
            Err(error) => return self.refuse(400, format!("the payload is not of the specified shape: {error}")),
        };
        if payload.timestamp.parse::<jiff::Timestamp>().is_err() {
            return self.refuse(400, format!("the payload's timestamp {:?} is not RFC 3339", payload.timestamp));
        }
        let data = if self.keep { payload.data } else { Value::Null };
        match self.deliveries.get_mut(&id) {
            Some(known) => {
                known.times += 1;
                known.changed |= known.kind != payload.kind || known.data != data;
            }
            None => {
                self.deliveries.insert(id, Delivery { times: 1, kind: payload.kind, data, changed: false });
            }
        }
        (200, json!({}))
    }

    fn refuse(&mut self, status: u16, why: String) -> (u16, Value) {
        let answer = json!({ "error": why });
        self.refusals.push(why);
        (status, answer)
    }
}

impl Service for Receiver {
    fn answer(&self, request: &Received) -> Response<Bytes> {
        let (status, body) = self.state().take(request);
        let mut answer = Response::new(Bytes::from(body.to_string()));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        answer
    }
}

/// A running receiver; also its [`Server`].
pub struct WebhookFake {
    server: Server,
    receiver: Arc<Receiver>,
}

impl Deref for WebhookFake {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

impl WebhookFake {
    /// Starts a receiver that believes this secret (port 0: any free one).
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(secret: &Secret, port: u16) -> io::Result<Self> {
        let state = State { secrets: vec![secret.clone()], keep: true, ..State::default() };
        let receiver = Arc::new(Receiver(Mutex::new(state)));
        Ok(Self { server: Server::start(receiver.clone(), port).await?, receiver })
    }

    /// The path of the receiver, for a connector's `url` setting.
    #[must_use]
    pub fn hook_url(&self) -> String {
        format!("{}/hooks/captures", self.server.url())
    }

    /// From now on these secrets are believed.
    pub fn set_secrets(&self, secrets: Vec<Secret>) {
        self.receiver.state().secrets = secrets;
    }

    /// Whether payloads and complete requests are kept; a bench that sends millions keeps none.
    pub fn set_keep(&self, keep: bool) {
        self.receiver.state().keep = keep;
    }

    /// What was delivered, by webhook id.
    #[must_use]
    pub fn deliveries(&self) -> BTreeMap<String, Delivery> {
        self.receiver.state().deliveries.clone()
    }

    /// How often each captured event was delivered, by the value of the payload's field `name` in `data`.
    ///
    /// The operator's mapping puts the capture's id there; deliveries without it are not counted.
    #[must_use]
    pub fn by_field(&self, name: &str) -> BTreeMap<String, u64> {
        let state = self.receiver.state();
        let mut counts = BTreeMap::new();
        for delivery in state.deliveries.values() {
            if let Some(value) = delivery.data.get(name).and_then(Value::as_str) {
                *counts.entry(value.to_owned()).or_default() += delivery.times;
            }
        }
        counts
    }

    /// Why requests were refused, in order.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        self.receiver.state().refusals.clone()
    }

    /// The most recent complete requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.receiver.state().requests.iter().cloned().collect()
    }

    /// Counts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let state = self.receiver.state();
        Summary {
            delivered: u64::try_from(state.deliveries.len()).unwrap_or(u64::MAX),
            repeated: state.deliveries.values().map(|d| d.times - 1).sum(),
            refused: u64::try_from(state.refusals.len()).unwrap_or(u64::MAX),
            requests: self.server.journal().total(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn secret() -> Secret {
        Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    fn request(id: &str, timestamp: &str, signature: &str, body: &str) -> Received {
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        Received {
            method: http::Method::POST,
            path: "/".to_owned(),
            query: String::new(),
            headers,
            body: Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn the_published_example_verifies() {
        // The example of the Standard Webhooks reference libraries.
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let received = request("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signature, r#"{"test": 2432232314}"#);
        assert_eq!(secret().verify(&received, 1_614_265_330), Ok("msg_p5jXN8AQM9LWM0D4loKWxJek"));
    }

    #[test]
    fn one_fitting_signature_among_several_is_enough() {
        let good = secret().sign("m", 1000, b"{}");
        for signatures in [format!("v1,AAAA {good}"), format!("v1a,ed25519 {good}"), good] {
            assert_eq!(secret().verify(&request("m", "1000", &signatures, "{}"), 1000), Ok("m"), "{signatures}");
        }
    }

    #[test]
    fn a_request_that_differs_in_anything_is_not_believed() {
        let good = secret().sign("m", 1000, b"{}");
        let verify = |id: &str, stamp: &str, signature: &str, body: &str, now| {
            secret().verify(&request(id, stamp, signature, body), now).map(str::to_owned)
        };
        assert_eq!(verify("other", "1000", &good, "{}", 1000), Err(Disbelief::Signature));
        assert_eq!(verify("m", "1001", &good, "{}", 1000), Err(Disbelief::Signature));
        assert_eq!(verify("m", "1000", &good, "{ }", 1000), Err(Disbelief::Signature));
        assert_eq!(verify("m", "1000", "v1,", "{}", 1000), Err(Disbelief::Signature));
        assert_eq!(verify("m", "1000", &good, "{}", 1600), Err(Disbelief::Distance(600)));
        assert_eq!(verify("m", "1000", &good, "{}", 600), Err(Disbelief::Distance(400)));
        assert_eq!(verify("m", "soon", &good, "{}", 600), Err(Disbelief::Timestamp("soon".to_owned())));
        let mut bare = request("m", "1000", &good, "{}");
        bare.headers.remove("webhook-id");
        assert_eq!(secret().verify(&bare, 1000), Err(Disbelief::Missing("webhook-id")));
        assert_eq!(Secret::from_seed(1).verify(&request("m", "1000", &good, "{}"), 1000), Err(Disbelief::Signature));
    }

    #[test]
    fn a_secret_of_the_wrong_size_is_refused() {
        assert!(Secret::parse("whsec_AAAA").is_err());
        assert!(Secret::parse("whsec_***").is_err());
        assert!(Secret::parse(Secret::from_seed(7).text()).is_ok());
    }

    #[tokio::test]
    async fn deliveries_are_counted_by_id_and_refusals_told_with_their_reason() {
        let fake = WebhookFake::start(&secret(), 0).await.unwrap();
        let client = reqwest::Client::new();
        let now = jiff::Timestamp::now().as_second();
        let post = |id: &str, body: &str, timestamp: i64| {
            let signature = secret().sign(id, timestamp, body.as_bytes());
            let request = client
                .post(fake.hook_url())
                .header("webhook-id", id)
                .header("webhook-timestamp", timestamp)
                .header("webhook-signature", signature)
                .header("content-type", "application/json")
                .body(body.to_owned());
            async move { request.send().await.unwrap().status().as_u16() }
        };
        let body = r#"{"type":"form:contact","timestamp":"2026-11-23T10:00:00Z","data":{"event_id":"e1"}}"#;
        assert_eq!(post("a", body, now).await, 200);
        assert_eq!(post("a", body, now).await, 200);
        assert_eq!(post("b", body, now - 600).await, 401);
        assert_eq!(post("c", "[]", now).await, 400);
        let deliveries = fake.deliveries();
        assert_eq!((deliveries.len(), deliveries["a"].times, deliveries["a"].changed), (1, 2, false));
        assert_eq!(fake.by_field("event_id"), BTreeMap::from([("e1".to_owned(), 2)]));
        assert_eq!(fake.refusals().len(), 2);
        assert_eq!(fake.summary(), Summary { delivered: 1, repeated: 1, refused: 2, requests: 4 });
        let other = r#"{"type":"form:contact","timestamp":"2026-11-23T10:00:00Z","data":{"event_id":"e2"}}"#;
        assert_eq!(post("a", other, now).await, 200);
        assert!(fake.deliveries()["a"].changed);
    }
}
