//! That an event is written once, however many instances take it: the entries of the store, counted before and after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lean::load::{Load, Plan};
use crate::lean::pace::Pace;
use crate::lean::sink::{Role, Sink};
use crate::options::Options;
use crate::report::{Figure, Reach};
use crate::stage::{Stage, Target};
use crate::usage::Usage;
use crate::window;

/// Instances that take every event.
const INSTANCES: usize = 10;
const CONNECTIONS: usize = 16;

/// What one run of events left in the store, and wrote.
struct Left {
    /// Entries per keyspace, per event.
    entries: BTreeMap<String, f64>,
    /// Bytes written to the disk, per event.
    written: f64,
}

pub(crate) async fn run(options: &Options) -> Result<Vec<Figure>> {
    let events = options.size(20_000, 3_000);
    println!("bench fanout: {events} events to 1 instance and to {INSTANCES}");
    let one = left(1, events).await?;
    let many = left(INSTANCES, events).await?;
    let of = |left: &Left, keyspace: &str| {
        left.entries.get(keyspace).copied().with_context(|| format!("the store has no keyspace {keyspace}"))
    };
    let entries: Vec<String> = many
        .entries
        .iter()
        .filter(|(_, entries)| **entries > 0.0)
        .map(|(keyspace, entries)| format!("{keyspace} {entries:.3}"))
        .collect();
    let detail = format!(
        "entries per event with {INSTANCES} instances: {}; bytes written to the disk per event: {:.0} with 1 instance, {:.0} \
         with {INSTANCES}",
        entries.join(", "),
        one.written,
        many.written
    );
    let log = of(&many, "log")? + of(&many, "log-index")?;
    let log_of_one = of(&one, "log")? + of(&one, "log-index")?;
    Ok(vec![
        Figure::new("fanout", "log writes of 10 instances to 1", log / log_of_one, "x", Reach::AtMost(1.0), detail),
        Figure::new(
            "fanout",
            "bytes written per further instance",
            (many.written - one.written) / 9.0 / one.written,
            "x of one's",
            Reach::Told,
            "cursors, integration log and what the engine of the store adds".to_owned(),
        ),
    ])
}

/// Delivers events to so many instances of one site, stops the host and has it count what the store holds.
async fn left(instances: usize, events: u64) -> Result<Left> {
    let sinks = (0..instances).map(|_| Sink::start(Role::Webhook)).collect::<Result<Vec<_>>>()?;
    let targets: Vec<Target> = sinks.iter().map(|sink| Target { role: Role::Webhook, address: sink.address }).collect();
    let mut stage = Stage::start("fanout", &targets).await?;
    stage.add_sites(1, &targets).await?;
    stage.stop().await?;
    let before = entries(&stage).await?;
    stage.start_again().await?;
    let from = stage.reading()?;
    let plan = Plan {
        address: stage.address()?,
        requests: stage.requests(CONNECTIONS, 1)?,
        pace: Pace::Free,
        numbers: Arc::default(),
        total: Some(events),
    };
    let load = Load::start("load", plan)?;
    while !load.has_ended() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.stop()?;
    let expected = events * u64::try_from(instances)?;
    let delivered = stage.settled(Duration::from_secs(300)).await?;
    let arrived: u64 = sinks.iter().map(|sink| sink.arrived.distinct()).sum();
    if delivered != expected || arrived != expected {
        bail!("of {expected} deliveries the host says that it made {delivered}, and {arrived} arrived");
    }
    let usage = Usage::between(&from, &stage.reading()?);
    stage.stop().await?;
    let after = entries(&stage).await?;
    let per_event = |(keyspace, after): (String, u64)| {
        let before = before.get(&keyspace).copied().unwrap_or(0);
        (keyspace, window::rate(after.saturating_sub(before), 1.0) / window::rate(events, 1.0))
    };
    Ok(Left {
        entries: after.into_iter().map(per_event).collect(),
        written: window::rate(usage.written, 1.0) / window::rate(events, 1.0),
    })
}

/// Entries per keyspace, as `store check` counts them.
async fn entries(stage: &Stage) -> Result<BTreeMap<String, u64>> {
    let said = stage.folder.run(&["store", "check"]).await?.expect_success()?;
    let mut entries = BTreeMap::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [keyspace, count, "entries", ..] = words.as_slice() {
            entries.insert((*keyspace).to_owned(), count.parse()?);
        }
    }
    if entries.is_empty() {
        bail!("`store check` lists no keyspace: {said}");
    }
    Ok(entries)
}
