//! What a site notices of its neighbours: one floods the host, another's downstream hangs, and two that do what they
//! always do are compared with how it was before.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result};

use crate::lean::load::{Load, Plan};
use crate::lean::pace::Pace;
use crate::lean::sink::{Role, Sink};
use crate::options::Options;
use crate::report::{Figure, Reach};
use crate::samples::Samples;
use crate::stage::{Stage, Target};
use crate::window;

/// Events a second of each site that is measured, and of the one whose downstream hangs.
const QUIET: f64 = 50.0;
/// Connections of a quiet site, and of the one that floods.
const QUIET_CONNECTIONS: usize = 4;
const FLOOD_CONNECTIONS: usize = 16;
/// Events in a request of the flood.
const FLOOD_BATCH: usize = 100;

/// The sites, in the order in which they are added.
const FLOODING: usize = 0;
const HANGING: usize = 1;
const WATCHED: [usize; 2] = [2, 3];

pub(crate) async fn run(options: &Options) -> Result<Vec<Figure>> {
    let roles = [Role::Webhook, Role::Silent, Role::Webhook, Role::Webhook];
    let sinks = roles.into_iter().map(Sink::start).collect::<Result<Vec<_>>>()?;
    let targets: Vec<Target> =
        roles.into_iter().zip(&sinks).map(|(role, sink)| Target { role, address: sink.address }).collect();
    let mut stage = Stage::start("fairness", &targets).await?;
    for target in &targets {
        stage.add_sites(1, std::slice::from_ref(target)).await?;
    }
    let seconds = options.seconds(60, 10);
    println!(
        "bench fairness: two sites with {QUIET} events/s each, {seconds} s alone, {seconds} s beside a flood and a hang"
    );
    let quiet = |site| start(&stage, site, QUIET_CONNECTIONS, 1, Pace::Rate(QUIET));
    let loads = [quiet(WATCHED[0])?, quiet(WATCHED[1])?];
    window::wait(options.warm_up(), String::new).await;
    let before = watched(&sinks, seconds).await?;

    let hanging = quiet(HANGING)?;
    let flood = start(&stage, FLOODING, FLOOD_CONNECTIONS, FLOOD_BATCH, Pace::Free)?;
    window::wait(options.warm_up(), String::new).await;
    let (flooded_from, arrived_from) = (flood.sent.accepted(), arrived(&sinks, FLOODING));
    let during = watched(&sinks, seconds).await?;
    let flooded = window::rate(flood.sent.accepted() - flooded_from, 1.0) / window::rate(seconds, 1.0);
    let drained = window::rate(arrived(&sinks, FLOODING) - arrived_from, 1.0) / window::rate(seconds, 1.0);
    let hung = sinks.get(HANGING).map_or(0, |sink| sink.arrived.requests());
    let refused = flood.sent.refused.load(std::sync::atomic::Ordering::Relaxed);
    for load in loads.into_iter().chain([hanging, flood]) {
        load.stop()?;
    }
    // The backlog of the flood is not waited for.
    drop(stage);

    let mut figures = Vec::new();
    for ((name, before), during) in ["third site", "fourth site"].into_iter().zip(&before).zip(&during) {
        let detail = format!(
            "alone {}, beside them {}; the flood captured {flooded:.0} events/s ({refused} of its requests refused) and \
             delivered {drained:.0}/s; {hung} requests hung; {} events of the site beside them",
            before.described(),
            during.described(),
            during.count()
        );
        let times = |percent| during.percentile(percent) / before.percentile(percent);
        let p50 =
            Figure::new("fairness", &format!("{name} p50"), times(50), "x of alone", Reach::Told, "the same".into());
        let p99 = Figure::new("fairness", &format!("{name} p99"), times(99), "x of alone", Reach::AtMost(1.5), detail);
        figures.extend([p99, p50]);
    }
    Ok(figures)
}

fn start(stage: &Stage, site: usize, connections: usize, batch: usize, pace: Pace) -> Result<Load> {
    let site = stage.sites.get(site).context("the site was not added")?;
    let plan = Plan {
        address: stage.address()?,
        requests: vec![stage.request(site, batch)?; connections],
        pace,
        numbers: Arc::new(AtomicU64::new(0)),
        total: None,
    };
    Load::start("load", plan)
}

fn arrived(sinks: &[Sink], site: usize) -> u64 {
    sinks.get(site).map_or(0, |sink| sink.arrived.distinct())
}

/// How old the watched sites' events are at their downstreams, over some seconds.
async fn watched(sinks: &[Sink], seconds: u64) -> Result<Vec<Samples>> {
    let watched = WATCHED.map(|site| sinks.get(site));
    for sink in watched.into_iter().flatten() {
        sink.arrived.record(true);
    }
    window::wait(seconds, || format!("{} events of the third site arrived", arrived(sinks, WATCHED[0]))).await;
    let mut all = Vec::new();
    for sink in watched {
        let arrived = &sink.context("a watched site has no downstream")?.arrived;
        arrived.record(false);
        all.push(arrived.take_latencies());
    }
    Ok(all)
}
