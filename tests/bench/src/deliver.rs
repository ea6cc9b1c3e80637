//! The whole way, sustained: captured, on disk, through the component, to the downstream, and settled on disk.
//!
//! Capture and delivery go on at once. The load keeps a bounded number of events on their way, so that what is captured
//! and what is delivered are the same rate: that of durable settlements, as the instances' own status has it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sgen_tests::client::Status;

use crate::lean::load::{Load, Plan};
use crate::lean::pace::Pace;
use crate::lean::relay::{Onward, Relay};
use crate::lean::sink::{Role, Sink};
use crate::lean::template::Template;
use crate::options::Options;
use crate::report::{Figure, Reach};
use crate::stage::{Stage, Target};
use crate::window::{self, Cost, rate};

/// One way of delivering.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) what: &'static str,
    pub(crate) role: Role,
    /// Events in a captured request.
    pub(crate) captured: usize,
    connections: usize,
    /// Sites, each with one instance: as many as it takes that the gate, which keeps each instance to its manifest's rate,
    /// is not what is measured. At 500 requests a second 20 instances of the webhook connector may send 10,000; at 100
    /// requests in 10 s, of 100 contacts each, 40 of HubSpot's may write 40,000.
    pub(crate) sites: usize,
    /// Events on their way at most: as many as all lanes can have with their connectors, and as many captured meanwhile.
    pub(crate) window: u64,
    reach: f64,
}

/// One request per event.
pub(crate) const SINGLE: Way = Way {
    what: "one request per event",
    role: Role::Webhook,
    captured: 1,
    connections: 64,
    sites: 20,
    window: 4_000,
    reach: 6_000.0,
};
/// A downstream that takes batches.
pub(crate) const BATCHING: Way = Way {
    what: "batching downstream",
    role: Role::Hubspot,
    captured: 100,
    connections: 40,
    sites: 40,
    window: 40_000,
    reach: 30_000.0,
};

/// What a sustained delivery came to.
pub(crate) struct Sustained {
    /// Events settled a second.
    pub(crate) rate: f64,
    cost: Cost,
    /// Events per invocation.
    batch: f64,
    /// From the moment of sending to the downstream, under full load.
    ages: String,
}

pub(crate) async fn run(options: &Options) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (short, way) in [("single", SINGLE), ("batching", BATCHING)] {
        if !options.chosen(short) {
            continue;
        }
        let sink = Sink::start(way.role)?;
        let mut stage = stage(&way, &sink, options).await?;
        let sync = crate::disk::sync_times(stage.beside(), 100)?;
        let seconds = options.seconds(60, 10);
        println!("bench deliver, {}: {seconds} s; the disk syncs in {}", way.what, sync.described());
        let sustained = sustain(&stage, &sink, &way, seconds, options).await?;
        let native = native(&stage, &way, options).await?;
        stage.stop().await?;
        let detail = format!(
            "{} sites, {:.1} events per invocation; age at arrival {}; the native relay takes {:.1} µs of CPU per event; the \
             load sends the downstream {:.0} events/s without anything between; the disk syncs in {}; {}",
            stage.sites.len(),
            sustained.batch,
            sustained.ages,
            native.cpu * 1e6,
            native.direct,
            sync.described(),
            sustained.cost.described(sustained.rate * sustained.cost.host.seconds()),
        );
        let reach = Reach::AtLeast(way.reach);
        let figure = Figure::new("deliver", way.what, sustained.rate, "events/s", reach, detail);
        figures.push(figure.beside("append, sync, forward", native.relayed));
    }
    Ok(figures)
}

/// A host with the way's sites and instances.
pub(crate) async fn stage(way: &Way, sink: &Sink, options: &Options) -> Result<Stage> {
    let target = Target { role: way.role, address: sink.address };
    let mut stage = Stage::start("deliver", &[target]).await?;
    stage.add_sites(options.sites.unwrap_or(way.sites), &[target]).await?;
    Ok(stage)
}

/// Delivers for `seconds` and verifies afterwards that every accepted event was delivered.
pub(crate) async fn sustain(
    stage: &Stage,
    sink: &Sink,
    way: &Way,
    seconds: u64,
    options: &Options,
) -> Result<Sustained> {
    let requests = stage.requests(options.connections.unwrap_or(way.connections), way.captured)?;
    let plan = Plan {
        address: stage.address()?,
        requests,
        pace: Pace::Window(way.window, sink.arrived.counter()),
        numbers: Arc::new(AtomicU64::new(0)),
        total: None,
    };
    let load = Load::start("load", plan)?;
    window::wait(options.warm_up(), String::new).await;
    sink.arrived.record(true);
    let from = stage.statuses().await?;
    let said = || format!("{} events arrived downstream", sink.arrived.distinct());
    let cost = window::over(seconds, stage, &load, Some(sink), said).await?;
    let to = stage.statuses().await?;
    sink.arrived.record(false);
    let ages = sink.arrived.take_latencies().described();
    let sent = load.stop()?;
    let delivered = stage.settled(Duration::from_secs(120)).await?;
    if delivered != sent.accepted() || sink.arrived.distinct() != sent.accepted() {
        bail!(
            "{} events were accepted, the host says that it delivered {delivered}, and {} arrived",
            sent.accepted(),
            sink.arrived.distinct()
        );
    }
    if sink.arrived.repeated() > 0 {
        println!("    {} events arrived more than once", sink.arrived.repeated());
    }
    let batch = counted(&from, &to, "delivered") / counted(&from, &to, "attempts");
    Ok(Sustained { rate: settled_rate(&from, &to), cost, batch, ages })
}

type Statuses = [(Instant, Status)];

/// Settlements a second over all instances, each between the two moments at which it was asked.
fn settled_rate(from: &Statuses, to: &Statuses) -> f64 {
    let rates = from.iter().zip(to).map(|((began, before), (ended, after))| {
        let settled = after.count("delivered").saturating_sub(before.count("delivered"));
        rate(settled, ended.duration_since(*began).as_secs_f64())
    });
    rates.sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts of events")]
fn counted(from: &Statuses, to: &Statuses, name: &str) -> f64 {
    let sum = |statuses: &Statuses| statuses.iter().map(|(_, status)| status.count(name)).sum::<u64>();
    sum(to).saturating_sub(sum(from)) as f64
}

/// What the same load comes to natively, in events a second.
struct Native {
    /// Through a relay that keeps, forwards and settles.
    relayed: f64,
    /// Its CPU time per event, in seconds.
    cpu: f64,
    /// Straight to the downstream.
    direct: f64,
}

/// The same load through a native relay, and straight to the downstream.
async fn native(stage: &Stage, way: &Way, options: &Options) -> Result<Native> {
    let sink = Sink::start(way.role)?;
    let onward = |connections| Onward {
        address: sink.address,
        request: match way.role {
            Role::Hubspot => Template::hubspot(&sink.address.to_string(), way.captured),
            Role::Webhook | Role::Silent => Template::webhook(&sink.address.to_string()),
        },
        connections,
    };
    let connections = options.connections.unwrap_or(way.connections);
    let relay = Relay::start(stage.beside(), Some(onward(connections)))?;
    let plan = |address, requests, pace| Plan { address, requests, pace, numbers: Arc::default(), total: None };
    let pace = Pace::Window(way.window, sink.arrived.counter());
    let load = Load::start("load", plan(relay.address, stage.requests(connections, way.captured)?, pace))?;
    window::wait(1, String::new).await;
    let (from, cpu_from) = (relay.settled(), relay.cpu()?);
    let cost = window::over(options.baseline(), stage, &load, Some(&sink), String::new).await?;
    let settled = relay.settled() - from;
    let (relayed, cpu) = (rate(settled, cost.host.seconds()), (relay.cpu()? - cpu_from) / rate(settled, 1.0));
    load.stop()?;
    drop(relay);
    let requests = vec![onward(0).request; connections];
    let load = Load::start("load", plan(sink.address, requests, Pace::Free))?;
    window::wait(1, String::new).await;
    let from = load.sent.accepted();
    let cost = window::over(options.baseline(), stage, &load, Some(&sink), String::new).await?;
    let direct = rate(load.sent.accepted() - from, cost.host.seconds());
    load.stop()?;
    Ok(Native { relayed, cpu, direct })
}
