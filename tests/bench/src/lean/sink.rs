//! The downstream: takes what is delivered, notes which event it was and when it was sent, and answers as little as the
//! vendor would. Its count is the second witness of what the host says that it delivered.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::lean::thread::Lean;
use crate::lean::wire::Wire;
use crate::lean::{now, template};
use crate::samples::Samples;

/// Who is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A webhook receiver: one event a request.
    Webhook,
    /// HubSpot's batch upsert: up to 100 contacts a request, each of which it names in its answer.
    Hubspot,
    /// Takes a request and never answers.
    Silent,
}

/// What has arrived. Read while the sink runs.
#[derive(Default)]
pub(crate) struct Arrived {
    /// Events, each counted once.
    distinct: Arc<AtomicU64>,
    repeated: AtomicU64,
    requests: AtomicU64,
    recording: AtomicBool,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    /// A bit per event's number.
    seen: Vec<u64>,
    latencies: Samples,
}

impl Arrived {
    /// Events that have arrived at least once.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct.load(Ordering::Relaxed)
    }

    /// The same as it counts on.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        self.distinct.clone()
    }

    /// Arrivals of an event that had arrived before.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Records how old events are when they arrive, from now on or no longer.
    pub(crate) fn record(&self, on: bool) {
        self.recording.store(on, Ordering::Relaxed);
    }

    /// What was recorded since this was last asked.
    pub(crate) fn take_latencies(&self) -> Samples {
        std::mem::take(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner).latencies)
    }

    fn note(&self, body: &[u8], mark: &[u8]) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let arrived = now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for number in template::numbers(body, mark) {
            if noted.first_time(number) {
                self.distinct.fetch_add(1, Ordering::Relaxed);
            } else {
                self.repeated.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.recording.load(Ordering::Relaxed) {
            for sent in template::moments(body) {
                noted.latencies.push(arrived.saturating_sub(sent));
            }
        }
    }
}

impl Noted {
    fn first_time(&mut self, number: u64) -> bool {
        let (word, bit) = (usize::try_from(number / 64).unwrap_or(usize::MAX), 1_u64 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word.saturating_add(1024), 0);
        }
        let Some(word) = self.seen.get_mut(word) else { return false };
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// A running downstream on a thread of its own.
pub(crate) struct Sink {
    thread: Lean,
    pub(crate) address: SocketAddr,
    pub(crate) arrived: Arc<Arrived>,
}

impl Sink {
    pub(crate) fn start(role: Role) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let arrived = Arc::new(Arrived::default());
        let noted = arrived.clone();
        let thread = Lean::start("downstream", move |stop| accept(listener, role, noted, stop))?;
        Ok(Self { thread, address, arrived })
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.thread.cpu()
    }
}

async fn accept(
    listener: std::net::TcpListener,
    role: Role,
    arrived: Arc<Arrived>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("the downstream accepts no more connections")?;
                let arrived = arrived.clone();
                // How a connection ends is the host's affair: what it had delivered is noted.
                tokio::task::spawn_local(async move { let _ = serve(stream, role, &arrived).await; });
            }
            _ = stop.changed() => return Ok(()),
        }
    }
}

async fn serve(stream: TcpStream, role: Role, arrived: &Arrived) -> Result<()> {
    let mut wire = Wire::new(stream)?;
    let mut answer = String::new();
    while let Some(request) = wire.receive().await? {
        answer.clear();
        match role {
            Role::Webhook => {
                arrived.note(request.body, template::ID);
                answer.push_str("HTTP/1.1 204 No Content\r\n\r\n");
            }
            // The host asks for it when it checks an instance's health.
            Role::Hubspot if request.head.starts_with(b"GET /account-info/v3/details ") => {
                account_details(&mut answer)?
            }
            Role::Hubspot => {
                arrived.note(request.body, template::TRACE);
                upserted(request.body, &mut answer)?;
            }
            Role::Silent => {
                arrived.requests.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        }
        wire.send(answer.as_bytes()).await?;
    }
    Ok(())
}

fn account_details(answer: &mut String) -> Result<()> {
    json_answer(
        answer,
        r#"{"portalId":1,"accountType":"STANDARD","timeZone":"Europe/Berlin","uiDomain":"app-eu1.hubspot.com"}"#,
    )
}

fn json_answer(answer: &mut String, body: &str) -> Result<()> {
    let length = body.len();
    write!(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")?;
    Ok(())
}

/// HubSpot's answer to a batch in which every contact was written, in the shape of its API reference.
fn upserted(body: &[u8], answer: &mut String) -> Result<()> {
    let mut results = String::with_capacity(body.len());
    results.push_str(r#"{"status":"COMPLETE","results":["#);
    for (index, number) in template::numbers(body, template::TRACE).enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(
            results,
            r#"{separator}{{"id":"{number}","properties":{{"email":"ada.lovelace.{number:012}@example.com","hs_object_id":"{number}"}},"createdAt":"2026-11-23T18:00:00.000Z","updatedAt":"2026-11-23T18:00:00.000Z","archived":false,"new":true,"objectWriteTraceId":"e{number:012}"}}"#
        )?;
    }
    results.push_str("]}");
    json_answer(answer, &results)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::lean::load::{Load, Plan};
    use crate::lean::pace::Pace;
    use crate::lean::template::Template;

    #[test]
    fn every_event_of_a_load_is_counted_once_however_often_it_arrives() {
        let sink = Sink::start(Role::Hubspot).unwrap();
        sink.arrived.record(true);
        for _ in 0..2 {
            let request = Template::hubspot(&sink.address.to_string(), 10);
            let load = Load::start(
                "load",
                Plan {
                    address: sink.address,
                    requests: vec![request; 3],
                    pace: Pace::Free,
                    numbers: Arc::default(),
                    total: Some(120),
                },
            )
            .unwrap();
            while !load.has_ended() {
                std::thread::yield_now();
            }
            assert_eq!(load.stop().unwrap().accepted(), 120);
        }
        assert_eq!((sink.arrived.distinct(), sink.arrived.repeated()), (120, 120));
        assert_eq!((sink.arrived.requests(), sink.arrived.take_latencies().count()), (24, 240));
    }

    #[test]
    fn the_answer_names_every_contact_in_json_of_the_announced_length() {
        let mut answer = String::new();
        let request = Template::hubspot("h", 2).fill(7, 0).to_vec();
        upserted(&request, &mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body.pointer("/results/1/objectWriteTraceId").unwrap(), "e000000000008");
        assert_eq!(body.pointer("/results/0/properties/email").unwrap(), "ada.lovelace.000000000007@example.com");
    }
}
