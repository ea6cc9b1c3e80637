//! What a crowd of idle instances costs: memory and CPU of a host that has nothing to do.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lean::sink::{Role, Sink};
use crate::options::Options;
use crate::report::{Figure, Reach};
use crate::stage::{Stage, Target};
use crate::usage::{self, Reading, Usage};
use crate::window;

/// Instances on one site.
const PER_SITE: usize = 10;
/// Sites added between two lines of progress.
const STEP: usize = 100;
/// Seconds of rest after a start, before anything counts.
const SETTLE: u64 = 5;
const MEGABYTE: f64 = 1e6;

pub(crate) async fn run(options: &Options) -> Result<Vec<Figure>> {
    let instances = options.size(10_000, 2_000);
    let sites = usize::try_from(instances)?.div_ceil(PER_SITE);
    let (webhook, hubspot) = (Sink::start(Role::Webhook)?, Sink::start(Role::Hubspot)?);
    let both = [(Role::Webhook, &webhook), (Role::Hubspot, &hubspot)]
        .map(|(role, sink)| Target { role, address: sink.address });
    let mut stage = Stage::start("density", &both).await?;
    let alone = stage.reading()?.resident;
    println!("bench density: {instances} instances on {sites} sites");
    let began = Instant::now();
    let on_a_site: Vec<Target> = both.iter().copied().cycle().take(PER_SITE).collect();
    while stage.sites.len() < sites {
        stage.add_sites(STEP.min(sites - stage.sites.len()), &on_a_site).await?;
        println!("    {} sites after {} s", stage.sites.len(), began.elapsed().as_secs());
    }
    let configured = stage.reading()?;
    // What is measured is a host that was started with them: configuring them leaves its own traces.
    stage.stop().await?;
    let began = Instant::now();
    stage.start_again().await?;
    let start = began.elapsed();
    window::wait(SETTLE, String::new).await;
    let from = stage.reading()?;
    window::wait(options.seconds(60, 10), String::new).await;
    let to = stage.reading()?;
    let usage = Usage::between(&from, &to);
    let parts = usage::resident_parts(stage.pid()?)?;
    stage.stop().await?;
    Ok(figures(instances, alone, &configured, &to, &usage, start, &parts))
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts")]
fn figures(
    instances: u64,
    alone: u64,
    configured: &Reading,
    to: &Reading,
    usage: &Usage,
    start: Duration,
    parts: &[(&'static str, u64)],
) -> Vec<Figure> {
    let resident = to.resident as f64 / MEGABYTE;
    let parts: Vec<String> =
        parts.iter().map(|(part, bytes)| format!("{part} {:.0} MB", *bytes as f64 / MEGABYTE)).collect();
    let detail = format!(
        "{instances} instances: {:.1} kB each above the {:.0} MB of a host without any; {}; {:.0} MB after configuring them; \
         a start takes {:.1} s",
        (to.resident.saturating_sub(alone)) as f64 / instances as f64 / 1e3,
        alone as f64 / MEGABYTE,
        parts.join(", "),
        configured.resident as f64 / MEGABYTE,
        start.as_secs_f64()
    );
    // The targets are those of 10,000 instances; with another number the figures are there to be read.
    let target = |reach| if instances == 10_000 { Reach::AtMost(reach) } else { Reach::Told };
    let share = usage.cpu / usage.seconds() * 100.0;
    vec![
        Figure::new("density", "resident memory", resident, "MB", target(500.0), detail),
        Figure::new("density", "CPU", share, "% of a core", target(1.0), format!("over {:.0} s", usage.seconds())),
    ]
}
