//! What the sandbox costs: CPU time of this process per event, sandboxed against native.
//!
//! Both sides run the webhook connector, one HTTP request per event, through the same gate, and take turns in short
//! rounds, so that what else happens on the machine befalls both. Both have as many requests under way as a host under
//! load has: with a single one, a good part of the cost is that of waking an idle receiver, which hits the side that
//! takes longer between two requests. So batches of one are sent by several workers, each a thread with connections of
//! its own; a batch of 25 sends its requests concurrently by itself.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use sgen_connector_sdk::{Event as NativeEvent, backend, invoke};
use sgen_connector_webhook::Webhook;
use sgen_engine::{Engine, EngineConfig, Event, Invoker, Limits};
use sgen_model::Outcome;
use tokio::runtime::Runtime;

use crate::downstream::Receiver;
use crate::native::ThroughGate;
use crate::options::Options;
use crate::release;
use crate::report::{Figure, Reach, median};

/// Batch sizes, with the number of workers and the ratio that must be reached.
const REACHES: [(usize, usize, f64); 2] = [(1, 8, 2.5), (25, 1, 1.25)];

/// What is measured.
#[derive(Args)]
pub(crate) struct Sandbox {
    /// `sandbox`: events per round and side.
    #[arg(long, default_value_t = 3000)]
    events: usize,
    /// `sandbox`: one batch size alone.
    #[arg(long)]
    batch: Option<usize>,
}

/// Rounds of each side, per batch size.
const ROUNDS: usize = 31;
const QUICK_ROUNDS: usize = 5;

struct Sides {
    workers: Vec<Worker>,
    settings: String,
}

/// One thread's means, for either side.
struct Worker {
    runtime: Arc<Runtime>,
    invoker: Invoker,
    native: Arc<ThroughGate>,
}

impl Sandbox {
    pub(crate) fn run(&self, options: &Options) -> Result<Vec<Figure>> {
        let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
        let receiver = Receiver::start()?;
        let mut figures = Vec::new();
        let chosen = |batch: usize| self.batch.is_none_or(|only| only == batch);
        for (batch, workers, reach) in REACHES.into_iter().filter(|(batch, ..)| chosen(*batch)) {
            let sides = Sides::new(&receiver, workers)?;
            let count = self.events.div_ceil(batch * workers).max(1);
            // One side alone, for a profiler.
            if let Some(side) = &options.only {
                for _ in 0..rounds {
                    let cost =
                        if side == "native" { sides.native(batch, count)? } else { sides.sandboxed(batch, count)? };
                    println!("batches of {batch}, {side}: {cost:.1} µs of CPU per event");
                }
                continue;
            }
            // Connections are opened and code is touched before anything counts.
            sides.native(batch, count)?;
            sides.sandboxed(batch, count)?;
            let mut ratios = Vec::new();
            let (mut native, mut sandboxed) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let n = sides.native(batch, count)?;
                let s = sides.sandboxed(batch, count)?;
                ratios.push(s / n);
                native.push(n);
                sandboxed.push(s);
            }
            let detail = format!(
                "{:.1} µs of CPU per event sandboxed, {:.1} µs native, median of {} rounds of {} events",
                median(sandboxed),
                median(native),
                rounds,
                count * batch * workers
            );
            println!("batches of {batch}: {detail}");
            figures.push(Figure::new(
                "sandbox",
                &format!("batch-{batch}"),
                median(ratios),
                "x of native",
                Reach::AtMost(reach),
                detail,
            ));
        }
        Ok(figures)
    }
}

impl Sides {
    fn new(receiver: &Receiver, workers: usize) -> Result<Self> {
        let entry = release::entry("webhook")?;
        let engine = Engine::new(EngineConfig { cache: None, cache_key: [0; 32], limits: Limits::default() })?;
        let component = engine.load(*entry.digest.as_bytes(), &entry.wasm)?.component;
        let worker = || {
            let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
            anyhow::Ok(Worker {
                invoker: Invoker::new(component.clone(), receiver.grant()?),
                native: Arc::new(ThroughGate { grant: receiver.grant()?, runtime: runtime.clone() }),
                runtime,
            })
        };
        let workers = (0..workers).map(|_| worker()).collect::<Result<_>>()?;
        Ok(Self { workers, settings: serde_json::json!({ "url": receiver.url() }).to_string() })
    }

    /// Delivers `count` batches per worker through the component; µs of CPU per event.
    fn sandboxed(&self, batch: usize, count: usize) -> Result<f64> {
        let events: Vec<Event> = (0..batch)
            .map(|i| {
                let NativeEvent { id, idempotency_key, captured_at_ms, surface, fields } = event(i);
                Event { id, idempotency_key, captured_at_ms, surface, fields }
            })
            .collect();
        self.cpu_per_event(batch * count, |worker| {
            worker.runtime.block_on(async {
                for _ in 0..count {
                    let outcomes = worker.invoker.deliver(&self.settings, &events).await.result?;
                    if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Delivered(_))) {
                        bail!("the receiver refused an event: {outcomes:?}");
                    }
                }
                Ok(())
            })
        })
    }

    /// The same natively.
    fn native(&self, batch: usize, count: usize) -> Result<f64> {
        let events: Vec<NativeEvent> = (0..batch).map(event).collect();
        self.cpu_per_event(batch * count, |worker| {
            backend::with_backend(worker.native.clone(), || {
                for _ in 0..count {
                    let outcomes = invoke::deliver::<Webhook>(&self.settings, &events);
                    if !outcomes.iter().all(sgen_connector_sdk::Outcome::is_delivered) {
                        bail!("the receiver refused an event: {outcomes:?}");
                    }
                }
                Ok(())
            })
        })
    }

    /// Runs every worker to its end.
    fn cpu_per_event(&self, events: usize, work: impl Fn(&Worker) -> Result<()> + Sync) -> Result<f64> {
        let began = cpu();
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.workers.iter().map(|worker| scope.spawn(|| work(worker))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked"))))
        })?;
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let events = (events * self.workers.len()) as f64;
        Ok((cpu() - began) / events)
    }
}

/// A contact form's submission after mapping, as the demo's are.
fn event(i: usize) -> NativeEvent {
    NativeEvent {
        id: format!("0193c1d2-7b1e-7c3a-9f00-{i:012x}"),
        idempotency_key: format!("evt_{i:032x}"),
        captured_at_ms: 1_795_460_400_000,
        surface: "form:contact".to_owned(),
        fields: format!(
            r#"{{"email":"ada.lovelace{i}@example.com","firstname":"Ada","lastname":"Lovelace","phone":"+442071838750","message":"Please call me about the analytical engine."}}"#
        ),
    }
}

/// CPU time of this process so far, user and system, in µs.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "a process does not run for 285 years")]
    let micros = time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3;
    micros
}
