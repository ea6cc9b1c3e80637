//! How long an event takes from its capture to the downstream when the host has time: at a tenth of what it can do.

use std::sync::Arc;

use anyhow::Result;

use crate::deliver::{self, SINGLE};
use crate::disk;
use crate::lean::load::{Load, Plan};
use crate::lean::pace::Pace;
use crate::lean::relay::{Onward, Relay};
use crate::lean::sink::{Role, Sink};
use crate::lean::template::Template;
use crate::options::Options;
use crate::report::{Figure, Reach};
use crate::samples::Samples;
use crate::stage::Stage;
use crate::window;

/// Connections of the load.
const CONNECTIONS: usize = 16;
/// Syncs of the disk that are timed before and after.
const SYNCS: usize = 200;

/// `capacity` is what `deliver` measured in this run; without it, it is measured first.
pub(crate) async fn run(options: &Options, capacity: Option<f64>) -> Result<Vec<Figure>> {
    let sink = Sink::start(Role::Webhook)?;
    let stage = deliver::stage(&SINGLE, &sink, options).await?;
    let capacity = match capacity {
        Some(capacity) => capacity,
        None => deliver::sustain(&stage, &sink, &SINGLE, options.seconds(15, 5), options).await?.rate,
    };
    drop(sink);
    let mut stage = stage;
    stage.stop().await?;

    let sink = Sink::start(Role::Webhook)?;
    let mut stage = deliver::stage(&SINGLE, &sink, options).await?;
    let speed = capacity / 10.0;
    let seconds = options.seconds(60, 10);
    println!("bench latency: {speed:.0} events/s for {seconds} s");
    let before = disk::sync_times(stage.beside(), SYNCS)?;
    let load = Load::start("load", plan(stage.address()?, stage.requests(CONNECTIONS, 1)?, speed))?;
    window::wait(options.warm_up(), String::new).await;
    sink.arrived.record(true);
    load.sent.record(true);
    let said = || format!("{} events arrived downstream", sink.arrived.distinct());
    let cost = window::over(seconds, &stage, &load, Some(&sink), said).await?;
    let (ages, answers) = (sink.arrived.take_latencies(), load.sent.take_latencies());
    load.stop()?;
    let after = disk::sync_times(stage.beside(), SYNCS)?;
    let native = native(&stage, speed, options).await?;
    stage.stop().await?;

    let sync = f64::midpoint(before.percentile(50), after.percentile(50));
    let (p50, p99) = (ages.percentile(50), ages.percentile(99));
    let detail = format!(
        "{speed:.0} events/s, {} events; capture to downstream {}, to the 202 {}; native {}; the disk syncs in {} before and \
         {} after; {}",
        ages.count(),
        ages.described(),
        answers.described(),
        native.described(),
        before.described(),
        after.described(),
        cost.described(speed * cost.host.seconds())
    );
    Ok(vec![
        Figure::new("latency", "p50 above a sync of the disk", p50 - sync, "ms", Reach::AtMost(10.0), detail)
            .beside("append, sync, forward", native.percentile(50) - sync),
        Figure::new("latency", "p50", p50, "ms", Reach::Told, format!("the disk syncs in {sync:.2} ms"))
            .beside("append, sync, forward", native.percentile(50)),
        Figure::new("latency", "p99", p99, "ms", Reach::Told, "under the same load".to_owned())
            .beside("append, sync, forward", native.percentile(99)),
        Figure::new("latency", "p99 to p50", p99 / p50, "x", Reach::AtMost(5.0), "how even it is".to_owned())
            .beside("append, sync, forward", native.percentile(99) / native.percentile(50)),
    ])
}

/// The same load through a native relay.
async fn native(stage: &Stage, speed: f64, options: &Options) -> Result<Samples> {
    let sink = Sink::start(Role::Webhook)?;
    let request = Template::webhook(&sink.address.to_string());
    let onward = Onward { address: sink.address, request, connections: CONNECTIONS };
    let relay = Relay::start(stage.beside(), Some(onward))?;
    let load = Load::start("load", plan(relay.address, stage.requests(CONNECTIONS, 1)?, speed))?;
    window::wait(1, String::new).await;
    sink.arrived.record(true);
    window::wait(options.baseline(), String::new).await;
    load.stop()?;
    Ok(sink.arrived.take_latencies())
}

fn plan(address: std::net::SocketAddr, requests: Vec<Template>, speed: f64) -> Plan {
    Plan { address, requests, pace: Pace::Rate(speed), numbers: Arc::default(), total: None }
}
