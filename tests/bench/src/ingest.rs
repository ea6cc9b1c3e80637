//! How many events a second the host accepts, which is to say has on disk: in requests of one event, and of 100.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;

use crate::lean::load::{Load, Plan};
use crate::lean::pace::Pace;
use crate::lean::relay::Relay;
use crate::lean::template::Template;
use crate::options::Options;
use crate::report::{Figure, Reach};
use crate::samples::Samples;
use crate::stage::Stage;
use crate::window::{self, rate};

/// Sites that capture. Nobody takes their events: delivery is measured by `deliver`.
const SITES: usize = 8;
/// Events in a request, connections, and events a second to be reached.
const WAYS: [(&str, usize, usize, f64); 2] = [("single", 1, 64, 10_000.0), ("batch-100", 100, 16, 40_000.0)];

pub(crate) async fn run(options: &Options) -> Result<Vec<Figure>> {
    let mut stage = Stage::start("ingest", &[]).await?;
    stage.add_sites(options.sites.unwrap_or(SITES), &[]).await?;
    let numbers = Arc::new(AtomicU64::new(0));
    let mut figures = Vec::new();
    for (what, batch, connections, reach) in WAYS {
        if !options.chosen(what) {
            continue;
        }
        let seconds = options.seconds(30, 5);
        let connections = options.connections.unwrap_or(connections);
        let sync = crate::disk::sync_times(stage.beside(), 100)?;
        println!(
            "bench ingest {what}: {seconds} s over {connections} connections; the disk syncs in {}",
            sync.described()
        );
        let requests = stage.requests(connections, batch)?;
        let load = Load::start("load", plan(stage.address()?, requests.clone(), &numbers))?;
        window::wait(options.warm_up(), String::new).await;
        load.sent.record(true);
        let from = load.sent.accepted();
        let said = || format!("{} events accepted", load.sent.accepted());
        let cost = window::over(seconds, &stage, &load, None, said).await?;
        let accepted = load.sent.accepted() - from;
        load.sent.record(false);
        let latencies = load.sent.take_latencies();
        load.stop()?;
        let speed = rate(accepted, cost.host.seconds());
        let (native, native_latencies) = native(&stage, requests, &numbers, options).await?;
        let detail = format!(
            "answers {}, native {}; the disk syncs in {}; {}",
            latencies.described(),
            native_latencies.described(),
            sync.described(),
            cost.described(speed * cost.host.seconds())
        );
        let latency = |percent| latencies.percentile(percent);
        let native_latency = |percent| native_latencies.percentile(percent);
        let told = |what: &str, percent| {
            let answered = format!("time to the 202 under full load, {connections} connections");
            Figure::new("ingest", what, latency(percent), "ms", Reach::Told, answered)
                .beside("append and sync", native_latency(percent))
        };
        figures.push(
            Figure::new("ingest", what, speed, "events/s", Reach::AtLeast(reach), detail)
                .beside("append and sync", native),
        );
        figures.push(told(&format!("{what} p50"), 50));
        figures.push(told(&format!("{what} p99"), 99));
    }
    stage.stop().await?;
    Ok(figures)
}

/// The same load on a server that appends and syncs, and nothing else.
async fn native(
    stage: &Stage,
    requests: Vec<Template>,
    numbers: &Arc<AtomicU64>,
    options: &Options,
) -> Result<(f64, Samples)> {
    let relay = Relay::start(stage.beside(), None)?;
    let load = Load::start("load", plan(relay.address, requests, numbers))?;
    window::wait(1, String::new).await;
    load.sent.record(true);
    let from = load.sent.accepted();
    let cost = window::over(options.baseline(), stage, &load, None, String::new).await?;
    let accepted = load.sent.accepted() - from;
    let latencies = load.sent.take_latencies();
    load.stop()?;
    Ok((rate(accepted, cost.host.seconds()), latencies))
}

fn plan(address: std::net::SocketAddr, requests: Vec<Template>, numbers: &Arc<AtomicU64>) -> Plan {
    Plan { address, requests, pace: Pace::Free, numbers: numbers.clone(), total: None }
}
