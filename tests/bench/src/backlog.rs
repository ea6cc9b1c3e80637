//! A million events that wait while their instances are disabled, and how they drain: how fast, in what memory, and on
//! how much disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::deliver::{self, BATCHING};
use crate::lean::load::{Load, Plan};
use crate::lean::pace::Pace;
use crate::lean::sink::Sink;
use crate::options::Options;
use crate::report::{Figure, Reach};
use crate::stage::Stage;
use crate::usage;
use crate::window::{self, rate};

/// How often memory and disk are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A drain at this share of `deliver` takes longer than it ever should.
const SLOWEST: f64 = 500.0;
const MEGABYTE: f64 = 1e6;

/// Memory and disk, looked at again and again.
#[derive(Default)]
struct Watched {
    resident: Vec<u64>,
    disk_peak: u64,
}

impl Watched {
    fn look(&mut self, stage: &Stage) -> Result<()> {
        self.resident.push(stage.reading()?.resident);
        self.disk_peak = self.disk_peak.max(usage::disk_bytes(&stage.store())?);
        Ok(())
    }

    fn peak(&self) -> u64 {
        self.resident.iter().copied().max().unwrap_or(0)
    }

    /// Every so many looks, in MB.
    fn course(&self) -> String {
        let step = self.resident.len().div_ceil(10).max(1);
        let looks: Vec<String> =
            self.resident.iter().step_by(step).map(|bytes| (bytes / 1_000_000).to_string()).collect();
        looks.join(" ")
    }
}

/// `capacity` is what `deliver` measured in this run; without it, it is measured first.
pub(crate) async fn run(options: &Options, capacity: Option<f64>) -> Result<Vec<Figure>> {
    // Whole requests.
    let batch = u64::try_from(BATCHING.captured)?;
    let events = options.size(1_000_000, 100_000).next_multiple_of(batch);
    let capacity = match capacity {
        Some(capacity) => capacity,
        None => {
            let sink = Sink::start(BATCHING.role)?;
            let mut stage = deliver::stage(&BATCHING, &sink, options).await?;
            let sustained = deliver::sustain(&stage, &sink, &BATCHING, options.seconds(15, 5), options).await?;
            stage.stop().await?;
            sustained.rate
        }
    };
    let sink = Sink::start(BATCHING.role)?;
    let mut stage = deliver::stage(&BATCHING, &sink, options).await?;
    println!("bench backlog: {events} events, of which {capacity:.0} a second can be delivered");
    for_all(&stage, false).await?;
    let idle = stage.reading()?.resident;
    let mut filling = Watched::default();
    let event_bytes = fill(&stage, events, &mut filling).await?;
    let full = usage::disk_bytes(&stage.store())?;

    let mut draining = Watched::default();
    for_all(&stage, true).await?;
    let began = Instant::now();
    let mut told = began;
    let bound = Duration::from_secs_f64(window::rate(events, 1.0) / SLOWEST);
    while sink.arrived.distinct() < events {
        tokio::time::sleep(LOOK).await;
        draining.look(&stage)?;
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            println!("    {} events drained", sink.arrived.distinct());
        }
        if began.elapsed() > bound {
            bail!("only {} of {events} events were delivered in {} s", sink.arrived.distinct(), bound.as_secs());
        }
    }
    let delivered = stage.settled(Duration::from_secs(60)).await?;
    let speed = rate(events, began.elapsed().as_secs_f64());
    if delivered != events {
        bail!("{events} events were accepted, and the host says that it delivered {delivered}");
    }
    let drained = usage::disk_bytes(&stage.store())?;
    stage.stop().await?;
    stage.start_again().await?;
    let again = stage.reading()?.resident;
    let after = usage::disk_bytes(&stage.store())?;
    stage.stop().await?;
    Ok(figures(&Measured {
        events,
        event_bytes,
        capacity,
        speed,
        idle,
        filling,
        draining,
        again,
        disk: [full, drained, after],
    }))
}

struct Measured {
    events: u64,
    /// Of one event's JSON.
    event_bytes: u64,
    capacity: f64,
    speed: f64,
    idle: u64,
    filling: Watched,
    draining: Watched,
    /// Resident after a restart.
    again: u64,
    /// When full, when drained, and after a restart.
    disk: [u64; 3],
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts")]
fn figures(measured: &Measured) -> Vec<Figure> {
    let Measured { events, event_bytes, capacity, speed, idle, filling, draining, again, disk } = measured;
    let mb = |bytes: u64| bytes as f64 / MEGABYTE;
    let peak = filling.peak().max(draining.peak());
    let of_events = (*events * *event_bytes) as f64;
    let disk_peak = filling.disk_peak.max(draining.disk_peak);
    let memory = format!(
        "resident {:.0} MB before; while filling {} MB; while draining {} MB; {:.0} MB after a restart; {events} events of \
         {event_bytes} bytes",
        mb(*idle),
        filling.course(),
        draining.course(),
        mb(*again)
    );
    let on_disk = format!(
        "{:.0} MB at the peak, {:.0} when full, {:.0} when drained, {:.0} after a restart, for {:.0} MB of events, which stay \
         as the source of record",
        mb(disk_peak),
        mb(disk[0]),
        mb(disk[1]),
        mb(disk[2]),
        of_events / MEGABYTE
    );
    let drain = format!("{speed:.0} events/s of {capacity:.0}");
    vec![
        Figure::new("backlog", "drain of deliver", speed / capacity, "x", Reach::AtLeast(0.8), drain),
        Figure::new("backlog", "memory above idle", mb(peak.saturating_sub(*idle)), "MB", Reach::AtMost(FLAT), memory),
        Figure::new(
            "backlog",
            "disk of the events' bytes",
            disk_peak as f64 / of_events,
            "x",
            Reach::AtMost(3.0),
            on_disk,
        ),
        Figure::new(
            "backlog",
            "disk after a restart",
            disk[2] as f64 / of_events,
            "x",
            Reach::Told,
            "what the events' retention does not hold is given back".to_owned(),
        ),
    ]
}

/// Memory counts as flat while it grows by no more than this, in MB: the store's cache, and room for what is on its way.
/// A million events have 400 MB by themselves.
const FLAT: f64 = 150.0;

/// Captures the events at disabled instances; answers the bytes of one.
async fn fill(stage: &Stage, events: u64, watched: &mut Watched) -> Result<u64> {
    let requests = stage.requests(BATCHING.sites, BATCHING.captured)?;
    let event_bytes = requests.first().map_or(0, |request| request.event_bytes);
    let plan =
        Plan { address: stage.address()?, requests, pace: Pace::Free, numbers: Arc::default(), total: Some(events) };
    let load = Load::start("load", plan)?;
    let began = Instant::now();
    let mut told = began;
    while !load.has_ended() {
        tokio::time::sleep(LOOK).await;
        watched.look(stage)?;
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            println!("    {} events captured", load.sent.accepted());
        }
        if began.elapsed() > Duration::from_secs(1_800) {
            bail!("only {} of {events} events were captured in half an hour", load.sent.accepted());
        }
    }
    let speed = rate(events, began.elapsed().as_secs_f64());
    let accepted = load.stop()?.accepted();
    println!("    {accepted} events captured, {speed:.0} a second");
    Ok(u64::try_from(event_bytes)?)
}

/// Enables or disables every instance.
async fn for_all(stage: &Stage, enable: bool) -> Result<()> {
    let client = stage.client()?;
    for instance in stage.sites.iter().flat_map(|site| &site.instances) {
        if enable {
            client.enable(instance, "meanwhile").await?;
        } else {
            client.disable(instance, "the bench fills a backlog").await?;
        }
    }
    Ok(())
}
