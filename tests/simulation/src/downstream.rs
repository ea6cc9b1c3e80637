//! A simulated downstream: an HTTP/1 server on a pipe in memory, which behaves as its plan says and keeps a record.
//!
//! What befalls a request depends on the seed, its key, how often that key has come, and the course; never on the order
//! in which unrelated requests arrive.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sgen_model::{Clock as _, InstanceState, SecretBytes, Timestamp};
use tokio::io::DuplexStream;

use crate::clock::SimulatedClock;
use crate::dice::{mix, number};
use crate::fault::{Episode, Fault, Wait};
use crate::line::{Line, Spoiler};
use crate::scenario::Plan;
use crate::secret;
use crate::witness::{Answer, Arrival};

/// How long a request may be on its way once its batch was begun: the time limit in the webhook connector's manifest.
pub(crate) const REQUEST: u64 = 20_000;

/// Says what the host says of an instance at this moment.
pub(crate) type Ask = dyn Fn() -> Option<InstanceState> + Send + Sync;

/// One downstream.
pub(crate) struct Downstream {
    seed: u64,
    plan: Plan,
    clock: Arc<SimulatedClock>,
    ask: Box<Ask>,
    state: Mutex<State>,
}

struct State {
    arrivals: Vec<Arrival>,
    times: HashMap<String, u64>,
    /// The secrets that are accepted, by number.
    accepted: Vec<u32>,
    newest: u32,
    /// Lasting faults that were mended, by the index of their episode.
    mended: Vec<usize>,
    /// Revocations that have taken effect.
    revoked: Vec<usize>,
    /// Since when the instance is disabled, as its operator was told.
    disabled_since: Option<u64>,
}

/// The connection ends here.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the downstream breaks the connection")
    }
}

impl std::error::Error for Broken {}

impl Downstream {
    pub(crate) fn new(seed: u64, plan: Plan, clock: Arc<SimulatedClock>, ask: Box<Ask>) -> Arc<Self> {
        let state = State {
            arrivals: Vec::new(),
            times: HashMap::new(),
            accepted: vec![1],
            newest: 1,
            mended: Vec::new(),
            revoked: Vec::new(),
            disabled_since: None,
        };
        Arc::new(Self { seed, plan, clock, ask, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret that the operator would enter now.
    pub(crate) fn secret(&self) -> SecretBytes {
        SecretBytes::from(secret::text(self.seed, self.state().newest))
    }

    /// Makes another secret, which is accepted beside the ones before.
    pub(crate) fn issue(&self) -> SecretBytes {
        let mut state = self.state();
        state.newest += 1;
        let newest = state.newest;
        state.accepted.push(newest);
        SecretBytes::from(secret::text(self.seed, newest))
    }

    /// The operator has seen to it downstream that what lasts ends.
    pub(crate) fn mend(&self) {
        let now = self.clock.course();
        self.revoke(now);
        let begun =
            |(index, episode): (usize, &Episode)| (episode.fault.lasts() && episode.from <= now).then_some(index);
        let begun: Vec<usize> = self.plan.episodes.iter().enumerate().filter_map(begun).collect();
        self.state().mended.extend(begun);
    }

    pub(crate) fn disabled(&self, since: Option<u64>) {
        self.state().disabled_since = since;
    }

    /// Everything that arrived.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state().arrivals.clone()
    }

    /// What a dialler meets: an error, or nothing at all for ever.
    pub(crate) async fn knock(&self) -> io::Result<()> {
        match self.episode(self.clock.course()).map(|(_, episode)| episode.fault) {
            Some(Fault::Refused) => Err(io::ErrorKind::ConnectionRefused.into()),
            Some(Fault::Silent) => std::future::pending().await,
            _ => Ok(()),
        }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Arc<Self>, pipe: DuplexStream) {
        let (line, spoiler) = Line::new(pipe);
        let service = service_fn(move |request| self.clone().answer(request, spoiler.clone()));
        // An error is the end of a connection, which is part of what is simulated.
        let _ = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(line), service).await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        spoiler: Spoiler,
    ) -> Result<Response<Full<Bytes>>, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let (index, key, times) = self.note(&head.headers, &body);
        let (fault, answer, acts) = self.decide(&head.headers, &key, times, &body, index);
        // Acting comes first: what follows only decides whether the host learns of it.
        if acts && !matches!(fault, Some(Fault::Slow(_))) {
            self.settle(index, |arrival| arrival.acted = true);
        }
        self.settle(index, |arrival| arrival.answer = answer);
        match fault {
            Some(Fault::ResetBefore | Fault::ResetAfter | Fault::Refused) => return Err(Broken),
            Some(Fault::Hang | Fault::HangAfter | Fault::Silent) => std::future::pending::<()>().await,
            Some(Fault::Slow(by)) => {
                tokio::time::sleep(Duration::from_millis(by)).await;
                self.settle(index, |arrival| arrival.acted = true);
            }
            Some(Fault::Garbage) => spoiler.garbage(),
            Some(Fault::CutShort) => spoiler.cut(40),
            _ => tokio::time::sleep(Duration::from_millis(self.latency(&key, times))).await,
        }
        let (status, asked) = match answer {
            Answer::Status(status, _) => (status, fault.and_then(asked)),
            _ => (200, None),
        };
        let answered = (self.clock.course(), self.clock.now());
        self.settle(index, |arrival| arrival.answered = Some(answered));
        let mut response = Response::new(Full::new(Bytes::from(format!("answer {status}"))));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
        let headers = response.headers_mut();
        if matches!(answer, Answer::Nonsense) {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        let now = self.clock.true_time();
        headers.insert(http::header::DATE, date(now));
        match asked {
            Some(Wait::Seconds(seconds)) => {
                headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            // A date has whole seconds: the next one, so that the wait is not shorter than meant.
            Some(Wait::Date(seconds)) => {
                let at = now.0.div_ceil(1000).saturating_add(seconds).saturating_mul(1000);
                headers.insert(http::header::RETRY_AFTER, date(Timestamp(at)));
            }
            None => {}
        }
        Ok(response)
    }

    /// Puts the request on record. Answers its place there, its key, and how often the key came before.
    fn note(&self, headers: &HeaderMap, body: &Bytes) -> (usize, String, u64) {
        let at = self.clock.course();
        let key = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let event = said.as_ref().and_then(|said| said.get("data")?.get("event")?.as_str());
        let host_says = (self.ask)();
        let mut state = self.state();
        let trespass = self.trespass(host_says, state.disabled_since, at);
        let times = state.times.entry(key.clone()).or_default();
        let before = *times;
        *times += 1;
        state.arrivals.push(Arrival {
            at,
            wall: self.clock.now(),
            key: key.clone(),
            event: event.unwrap_or_default().to_owned(),
            body: body.chunks(8).fold(0, |digest, part| mix(&[digest, part.len() as u64, word(part)])),
            size: body.len(),
            acted: false,
            answer: Answer::Silence,
            answered: None,
            trespass,
        });
        (state.arrivals.len() - 1, key, before)
    }

    /// Why nothing should arrive now, beyond what was on its way when that began.
    fn trespass(&self, host_says: Option<InstanceState>, disabled_since: Option<u64>, at: u64) -> Option<String> {
        match host_says? {
            InstanceState::Active | InstanceState::Degraded(_) | InstanceState::Failing(_) => None,
            InstanceState::Disabled => {
                let since = at.saturating_sub(disabled_since?);
                (since > REQUEST).then(|| format!("the instance is disabled since {since} ms"))
            }
            InstanceState::Paused(cause) => {
                // The pause began by the host's clock, which says nothing of a time in which that clock has jumped.
                if self.clock.jumps().iter().any(|jump| jump.at + REQUEST >= at) {
                    return None;
                }
                let since = self.clock.now().since(cause.since).as_millis();
                (since > u128::from(REQUEST))
                    .then(|| format!("the instance is paused since {since} ms: {}", cause.failure))
            }
        }
    }

    fn settle(&self, index: usize, change: impl FnOnce(&mut Arrival)) {
        if let Some(arrival) = self.state().arrivals.get_mut(index) {
            change(arrival);
        }
    }

    /// What befalls a request: the fault at work, the answer, and whether the downstream acts.
    fn decide(
        &self,
        headers: &HeaderMap,
        key: &str,
        times: u64,
        body: &[u8],
        index: usize,
    ) -> (Option<Fault>, Answer, bool) {
        let now = self.clock.course();
        self.revoke(now);
        let accepted = self.state().accepted.clone();
        if !accepted.iter().any(|number| secret::signed(self.seed, *number, headers, body)) {
            return (Some(Fault::Revoked), Answer::Status(401, None), false);
        }
        if self.plan.body_limit.is_some_and(|limit| body.len() > limit) {
            return (None, Answer::Status(413, None), false);
        }
        let chance = mix(&[self.seed, 1, number(key), times]) % 100;
        let fault = self.episode(now).map(|(_, episode)| episode).filter(|episode| chance < episode.share);
        if let Some(Episode { fault, .. }) = fault.filter(|episode| episode.fault != Fault::Revoked) {
            let (answer, acts) = match fault {
                Fault::Refused | Fault::ResetBefore => (Answer::Reset, false),
                Fault::ResetAfter => (Answer::Reset, true),
                Fault::Silent | Fault::Hang => (Answer::Silence, false),
                Fault::HangAfter => (Answer::Silence, true),
                Fault::TooMany(asked) => (Answer::Status(429, asked.map(Wait::milliseconds)), false),
                Fault::Unavailable(asked) => (Answer::Status(503, asked.map(Wait::milliseconds)), false),
                Fault::Garbage | Fault::CutShort => (Answer::Nonsense, true),
                Fault::Forbidden => (Answer::Status(403, None), false),
                Fault::Gone => (Answer::Status(410, None), false),
                Fault::Slow(_) | Fault::Revoked => (Answer::Status(200, None), true),
            };
            return (Some(fault), answer, acts);
        }
        let event = self.state().arrivals.get(index).map_or(0, |arrival| number(&arrival.event));
        if mix(&[self.seed, 2, event]) % 1000 < self.plan.poison {
            return (None, Answer::Status(if event.is_multiple_of(2) { 400 } else { 422 }, None), false);
        }
        (None, Answer::Status(if event.is_multiple_of(3) { 204 } else { 200 }, None), true)
    }

    /// The episode in force: of several, the one that began last.
    fn episode(&self, now: u64) -> Option<(usize, Episode)> {
        let mended = self.state().mended.clone();
        self.plan.episodes.iter().copied().enumerate().rfind(|(index, episode)| {
            let over = if episode.fault.lasts() { mended.contains(index) } else { episode.until <= now };
            episode.from <= now && !over
        })
    }

    /// Lets revocations take effect whose time has come.
    fn revoke(&self, now: u64) {
        let mut state = self.state();
        for (index, episode) in self.plan.episodes.iter().enumerate() {
            if episode.fault == Fault::Revoked && episode.from <= now && !state.revoked.contains(&index) {
                state.revoked.push(index);
                state.newest += 1;
                state.accepted = vec![state.newest];
            }
        }
    }

    fn latency(&self, key: &str, times: u64) -> u64 {
        let (low, high) = self.plan.latency;
        low + mix(&[self.seed, 3, number(key), times]) % (high.saturating_sub(low) + 1)
    }
}

fn asked(fault: Fault) -> Option<Wait> {
    match fault {
        Fault::TooMany(asked) | Fault::Unavailable(asked) => asked,
        _ => None,
    }
}

fn word(part: &[u8]) -> u64 {
    part.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

/// A time as HTTP writes it.
fn date(at: Timestamp) -> HeaderValue {
    let written = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(at.0));
    HeaderValue::from_str(&written).unwrap_or_else(|_| HeaderValue::from_static(""))
}
