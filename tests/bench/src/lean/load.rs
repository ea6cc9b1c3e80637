//! The load generator: connections that stay open, each with one request under way.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::lean::now;
use crate::lean::pace::{Pace, Permits};
use crate::lean::template::Template;
use crate::lean::thread::Lean;
use crate::lean::wire::{Wire, status};
use crate::samples::Samples;

/// How long a sender rests that was told it is too much: what a site's own client would do at the least.
const REFUSED_REST: Duration = Duration::from_millis(50);

/// What is sent where.
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// One per connection.
    pub(crate) requests: Vec<Template>,
    pub(crate) pace: Pace,
    /// The number of the next event, shared by loads whose events must differ.
    pub(crate) numbers: Arc<AtomicU64>,
    /// Events to send; without it the load goes on until it is stopped.
    pub(crate) total: Option<u64>,
}

/// What became of what was sent. Read while it runs.
#[derive(Default)]
pub(crate) struct Sent {
    /// Events in requests that were answered by a 2xx.
    pub(crate) accepted: AtomicU64,
    /// Requests that were answered by 429 or 503.
    pub(crate) refused: AtomicU64,
    recording: AtomicBool,
    latencies: Mutex<Samples>,
}

impl Sent {
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Records how long answers take from now on, or no longer.
    pub(crate) fn record(&self, on: bool) {
        self.recording.store(on, Ordering::Relaxed);
    }

    /// What was recorded since this was last asked.
    pub(crate) fn take_latencies(&self) -> Samples {
        std::mem::take(&mut self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running load.
pub(crate) struct Load {
    thread: Lean,
    pub(crate) sent: Arc<Sent>,
}

impl Load {
    pub(crate) fn start(name: &str, plan: Plan) -> Result<Self> {
        let sent = Arc::new(Sent::default());
        let tally = sent.clone();
        let thread = Lean::start(name, move |stop| run(plan, tally, stop))?;
        Ok(Self { thread, sent })
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.thread.cpu()
    }

    /// Whether everything was sent, or something has failed; `stop` tells which.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }

    /// Sends no more, waits for the answers that are due.
    pub(crate) fn stop(self) -> Result<Arc<Sent>> {
        self.thread.stop()?;
        Ok(self.sent)
    }
}

async fn run(plan: Plan, sent: Arc<Sent>, stop: watch::Receiver<bool>) -> Result<()> {
    let Plan { address, requests, pace, numbers, total } = plan;
    let permits = Permits::new(&pace);
    let last = total.map(|total| numbers.load(Ordering::Relaxed).saturating_add(total));
    let mut senders = JoinSet::new();
    for request in requests {
        let (permits, numbers, sent, stop) = (permits.clone(), numbers.clone(), sent.clone(), stop.clone());
        senders.spawn_local(async move {
            let sender = Sender { request, permits, numbers, last, sent };
            sender.send(address, stop).await
        });
    }
    tokio::select! {
        ended = async {
            while let Some(ended) = senders.join_next().await {
                ended.context("a sender panicked")??;
            }
            Ok(())
        } => ended,
        () = permits.give(pace) => Ok(()),
    }
}

struct Sender {
    request: Template,
    permits: Rc<Permits>,
    numbers: Arc<AtomicU64>,
    last: Option<u64>,
    sent: Arc<Sent>,
}

impl Sender {
    async fn send(mut self, address: SocketAddr, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut wire = Wire::new(TcpStream::connect(address).await.context("the load finds nobody to connect to")?)?;
        let events = self.request.events();
        let count = u64::try_from(events)?;
        while !*stop.borrow() {
            tokio::select! {
                permitted = self.permits.take(events) => permitted?,
                _ = stop.changed() => return Ok(()),
            }
            let first = self.numbers.fetch_add(count, Ordering::Relaxed);
            if self.last.is_some_and(|last| first.saturating_add(count) > last) {
                return Ok(());
            }
            loop {
                let began = now();
                wire.send(self.request.fill(first, began)).await?;
                let answer = wire.receive().await?.context("the connection was closed instead of an answer")?;
                match status(answer.head) {
                    200..=299 => {
                        self.sent.accepted.fetch_add(count, Ordering::Relaxed);
                        if self.sent.recording.load(Ordering::Relaxed) {
                            let mut latencies = self.sent.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                            latencies.push(now().saturating_sub(began));
                        }
                        break;
                    }
                    429 | 503 => {
                        self.sent.refused.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(REFUSED_REST).await;
                        if *stop.borrow() {
                            return Ok(());
                        }
                    }
                    other => bail!("the load was answered {other}: {}", String::from_utf8_lossy(answer.body)),
                }
            }
        }
        Ok(())
    }
}
