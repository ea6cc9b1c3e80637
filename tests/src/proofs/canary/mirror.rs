//! The downstream: it sends every credential back, in every encoding, in bodies and headers, with whatever status an event
//! asks for; and it is where a component sends its memory.
//!
//! It tells instances apart by the path that the operator configured: `/i/NUMBER`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Response};
use serde_json::Value;

use super::encodings::ENCODINGS;
use super::scheme::Scheme;
use super::search::{Hit, Search, Searched};
use crate::fakes::server::{Received, Service};

/// What one instance authenticates with: its secret, and the one that it is rotated to.
pub(super) struct Holder {
    pub(super) scheme: &'static Scheme,
    pub(super) secrets: Vec<(usize, String)>,
}

/// The downstream of all instances.
pub(super) struct Mirror {
    holders: Vec<Holder>,
    search: Arc<Search>,
    decoy: String,
    kept: Mutex<Kept>,
}

/// What it keeps account of.
#[derive(Default)]
struct Kept {
    /// Numbers of secrets that have arrived.
    arrived: HashSet<usize>,
    /// How often one has.
    carried: usize,
    /// Requests without the instance's credential.
    strangers: usize,
    /// Events that failed once.
    failed_once: HashSet<(usize, String)>,
    memory: Searched,
    hits: Vec<Hit>,
    rng: Option<Rng>,
}

impl Mirror {
    pub(super) fn new(holders: Vec<Holder>, search: Arc<Search>, decoy: &str, seed: u64) -> Arc<Self> {
        let kept = Kept { rng: Some(Rng::with_seed(seed)), ..Kept::default() };
        Arc::new(Self { holders, search, decoy: decoy.to_owned(), kept: Mutex::new(kept) })
    }

    pub(super) fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// How many secrets have arrived, and how many requests came without one.
    pub(super) fn arrivals(&self) -> (usize, usize) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.arrived.len(), kept.strangers)
    }

    /// What was searched of components' memory, with what was found.
    pub(super) fn memory(&self) -> (Searched, Vec<Hit>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.memory, kept.hits.clone())
    }

    /// Everything that a component could be told: the decoy, and those of the instance's secrets that have arrived, in all
    /// encodings. They begin at another one for each instance, since what is shown of a text is its beginning.
    fn body(&self, number: usize, holder: &Holder) -> Vec<u8> {
        let arrived = self.kept.lock().unwrap_or_else(PoisonError::into_inner).arrived.clone();
        let mut body = format!("{} ", self.decoy).into_bytes();
        for (_, secret) in holder.secrets.iter().filter(|(secret, _)| arrived.contains(secret)) {
            for part in (holder.scheme.parts)(secret) {
                let from = number % ENCODINGS.len();
                let encodings = ENCODINGS.iter().cycle().skip(from).take(ENCODINGS.len());
                for encoding in encodings.filter(|encoding| encoding.reflected) {
                    body.extend((encoding.needle)(&part));
                    body.push(b' ');
                }
            }
        }
        body
    }

    fn echo(&self, number: usize, holder: &Holder, request: &Received) -> Response<Bytes> {
        let event = request.header("webhook-id").unwrap_or_default().to_owned();
        let case = serde_json::from_slice::<Value>(&request.body).ok();
        let case = case.as_ref().and_then(|fields| fields.get("case")).and_then(Value::as_str).unwrap_or_default();
        let status = match case {
            "once-500" => {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.failed_once.insert((number, event)) { 500 } else { 200 }
            }
            case => case.rsplit('-').next().and_then(|status| status.parse().ok()).unwrap_or(200),
        };
        let body = self.body(number, holder);
        let secret = holder.secrets.first().map(|(_, secret)| secret.as_str()).unwrap_or_default();
        let mut answer = Response::builder().status(status).header("content-type", "text/plain");
        for (name, value) in [
            ("x-request-id", format!("{}-{secret}", self.decoy)),
            ("etag", format!("\"{secret}\"")),
            ("location", format!("https://elsewhere.example/?token={secret}")),
            ("set-cookie", format!("session={secret}")),
            ("www-authenticate", format!("Bearer error=\"{secret}\"")),
        ] {
            answer = answer.header(name, value);
        }
        answer.body(Bytes::from(body)).unwrap_or_else(|_| answer_of(500))
    }
}

impl Service for Mirror {
    fn answer(&self, request: &Received) -> Response<Bytes> {
        let mut parts = request.path.split('/').skip(1);
        let (Some("i"), Some(number), Some(action), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return answer_of(404);
        };
        let number = number.parse::<usize>().unwrap_or(usize::MAX);
        let Some(holder) = self.holders.get(number) else { return answer_of(404) };
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            // While a signing secret rotates, a request carries both.
            let carried = holder.secrets.iter().filter(|(_, secret)| (holder.scheme.carried)(request, secret));
            let before = kept.carried;
            for (secret, _) in carried {
                kept.carried += 1;
                kept.arrived.insert(*secret);
            }
            kept.strangers += usize::from(kept.carried == before);
        }
        match (action, &request.method) {
            ("echo", _) => self.echo(number, holder, request),
            ("dump", &Method::POST) => {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(mut rng) = kept.rng.take() else { return answer_of(500) };
                let hit = kept.memory.piece(&self.search, self.decoy.as_bytes(), &request.body, &mut rng);
                kept.hits.extend(hit);
                kept.rng = Some(rng);
                answer_of(204)
            }
            _ => answer_of(404),
        }
    }
}

fn answer_of(status: u16) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer
}
