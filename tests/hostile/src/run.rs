//! The rounds: quiet and hostile ones in turn, so that what else happens on the machine befalls both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::cases::CASES;
use crate::stage::{Run, Stage};

/// How much is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) invocations: usize,
    pub(crate) at_once: usize,
    pub(crate) hostile: usize,
    pub(crate) latency: Duration,
}

/// What was found. Its text is the proof's closing line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub(crate) components: usize,
    pub(crate) contained: usize,
    /// The neighbour's p99 beside hostile components, as a multiple of its p99 without.
    pub(crate) factor: f64,
}

impl Figures {
    /// Whether all are contained, and the neighbour's p99 is at most so many times its own.
    pub(crate) fn holds(&self, most: f64) -> bool {
        self.components > 0 && self.contained == self.components && self.factor <= most
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { components, contained, factor } = self;
        write!(f, "components {components}, contained {contained}, neighbour p99 ×{factor:.2}")
    }
}

/// What the runs of each component came to.
#[derive(Default)]
struct Account {
    runs: BTreeMap<&'static str, usize>,
    complaints: BTreeMap<&'static str, String>,
}

impl Account {
    fn add(&mut self, name: &'static str, run: Run) {
        *self.runs.entry(name).or_default() += 1;
        if let Some(complaint) = run.complaint {
            self.complaints.entry(name).or_insert(complaint);
        }
    }

    /// Whether it was run, and every run was contained.
    fn is_contained(&self, name: &str) -> bool {
        self.runs.get(name).is_some_and(|runs| *runs > 0) && !self.complaints.contains_key(name)
    }
}

/// Runs the proof.
pub(crate) async fn run(plan: &Plan, mut say: impl FnMut(&str)) -> Result<Figures> {
    let stage = Arc::new(Stage::set(plan.latency).await?);
    let mut account = Account::default();
    // Each alone first: what it comes to is then nobody else's doing.
    for case in &CASES {
        let run = stage.hostile(case).await?;
        say(&format!(
            "{}: {:.0?}{}",
            case.name,
            run.took,
            if run.complaint.is_some() { ", not contained" } else { "" }
        ));
        account.add(case.name, run);
    }
    // Connections are opened and code is touched before anything counts.
    p99(&stage, plan).await?;
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        quiet.push(p99(&stage, plan).await?);
        let (loaded, runs) = beside_hostile(&stage, plan, round).await?;
        beside.push(loaded);
        runs.into_iter().for_each(|(name, run)| account.add(name, run));
    }
    let (baseline, loaded) = (median(&mut quiet), median(&mut beside));
    say(&format!(
        "neighbour p99: {baseline:.2?} without and {loaded:.2?} beside {} hostile components at a time, medians of {} \
         rounds of {} invocations",
        plan.hostile, plan.rounds, plan.invocations
    ));
    for case in &CASES {
        let runs = account.runs.get(case.name).copied().unwrap_or_default();
        let complaint = account.complaints.get(case.name).map(|text| format!(", not contained: {text}"));
        say(&format!("{}: {runs} runs{}", case.name, complaint.unwrap_or_default()));
    }
    let contained = CASES.iter().filter(|case| account.is_contained(case.name)).count();
    let factor = loaded.as_secs_f64() / baseline.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(Figures { components: CASES.len(), contained, factor })
}

/// One round of the neighbour alone.
async fn p99(stage: &Arc<Stage>, plan: &Plan) -> Result<Duration> {
    let left = Arc::new(AtomicUsize::new(plan.invocations));
    let mut workers = JoinSet::new();
    for _ in 0..plan.at_once {
        let (stage, left) = (stage.clone(), left.clone());
        workers.spawn(async move {
            let mut took = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                took.push(stage.neighbour().await?);
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = workers.join_next().await {
        all.extend(took??);
    }
    all.sort_unstable();
    let at = (all.len() * 99).div_ceil(100).saturating_sub(1);
    Ok(all.get(at).copied().unwrap_or_default())
}

/// The same while hostile components run one after the other, `plan.hostile` of them at a time.
async fn beside_hostile(stage: &Arc<Stage>, plan: &Plan, round: usize) -> Result<(Duration, Vec<(&'static str, Run)>)> {
    let over = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicUsize::new(round));
    let mut attackers = JoinSet::new();
    for _ in 0..plan.hostile {
        let (stage, over, next) = (stage.clone(), over.clone(), next.clone());
        attackers.spawn(async move {
            let mut runs = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed) % CASES.len();
                let Some(case) = CASES.get(at) else { continue };
                runs.push((case.name, stage.hostile(case).await?));
            }
            anyhow::Ok(runs)
        });
    }
    let loaded = p99(stage, plan).await;
    over.store(true, Ordering::Relaxed);
    let mut runs = Vec::new();
    while let Some(attacker) = attackers.join_next().await {
        runs.extend(attacker??);
    }
    Ok((loaded?, runs))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_holds_only_when_all_are_contained_and_the_neighbour_is_not_slowed() {
        let sound = Figures { components: 21, contained: 21, factor: 1.2 };
        assert_eq!(sound.to_string(), "components 21, contained 21, neighbour p99 ×1.20");
        assert!(sound.holds(1.5));
        assert!(!Figures { contained: 20, ..sound }.holds(1.5));
        assert!(!Figures { factor: 1.51, ..sound }.holds(1.5));
        assert!(!Figures { factor: f64::NAN, ..sound }.holds(1.5));
        assert!(!Figures { components: 0, contained: 0, ..sound }.holds(1.5));
    }

    #[test]
    fn a_component_that_was_never_run_or_once_not_contained_is_not_contained() {
        let mut account = Account::default();
        let run = |complaint: Option<&str>| Run { complaint: complaint.map(str::to_owned), took: Duration::ZERO };
        assert!(!account.is_contained("a"));
        account.add("a", run(None));
        assert!(account.is_contained("a"));
        account.add("a", run(Some("it got away")));
        account.add("a", run(None));
        assert!(!account.is_contained("a"));
    }
}
