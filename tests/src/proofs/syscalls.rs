//! Two claims about every single call by which the host changes its store's folder.
//!
//! `syscalls`: killed there, it has lost nothing that it acknowledged, holds no request by half, and starts again.
//! `faults`: when the call fails, the host says so, acknowledges nothing that is not durable, and starts again.
//!
//! The points of a stage are swept from the first to the last: the sweep of a kind ends when a life has gone by without
//! being hit, because it made fewer calls than the number of the point.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::injection::interposer::{Interposer, Shot, Trace};
use super::injection::kind::Kind;
use super::injection::stage::Stage;
use super::injection::witness;
use super::injection::worker::{Outcome, Worker};
use crate::host::HostFolder;

/// After how many points a line is told.
const TOLD_EVERY: u64 = 50;

/// What to prove.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the claim is about, for the lines that replay a point: `syscalls` or `faults`.
    pub name: &'static str,
    /// What happens at the points.
    pub kinds: Vec<Kind>,
    /// The lives that are swept.
    pub stages: Vec<Stage>,
    /// The first point.
    pub from: u64,
    /// The last point; without one, the last that there is.
    pub to: Option<u64>,
    /// Only every so many-th point, and in any case the first of each call on each file.
    pub step: u64,
    /// How many hosts at once.
    pub jobs: usize,
    /// The folder of everything; emptied first, removed after a success.
    pub folder: PathBuf,
    /// The folder of the signed release.
    pub catalog: PathBuf,
}

/// What was found. Its text is the proof's closing line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Points that were hit.
    pub points: u64,
    /// Events and changes that were acknowledged in the lives that were hit.
    pub acked: u64,
    /// Acknowledged and not there, or acknowledged on top of a failed write.
    pub lost: u64,
    /// There in part or with other contents.
    pub torn: u64,
    /// Restarts that did not serve or did not work.
    pub unopenable: u64,
    /// Errors that nobody was told of; absent when nothing failed but the host.
    pub unsaid: Option<u64>,
}

impl Figures {
    /// Whether the claim holds, of at least one point.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.points > 0 && (self.lost, self.torn, self.unopenable, self.unsaid.unwrap_or(0)) == (0, 0, 0, 0)
    }

    fn add(&mut self, outcome: &Outcome) {
        let count = |findings: &Vec<String>| findings.len() as u64;
        self.points += 1;
        self.acked += outcome.acknowledged;
        self.lost += count(&outcome.verdict.lost);
        self.torn += count(&outcome.verdict.torn);
        self.unopenable += count(&outcome.verdict.unopenable);
        if let Some(unsaid) = &mut self.unsaid {
            *unsaid += count(&outcome.verdict.unsaid);
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { points, acked, lost, torn, unopenable, unsaid } = self;
        write!(f, "points {points}, acked {acked}, lost {lost}, torn {torn}, unopenable {unopenable}")?;
        match unsaid {
            None => Ok(()),
            Some(unsaid) => write!(f, ", unsaid {unsaid}"),
        }
    }
}

/// Runs the proof; `tell` is given a line now and then.
///
/// # Errors
/// When the proof itself cannot go on; what it proves or disproves is in the figures.
pub async fn run(plan: &Plan, mut tell: impl FnMut(String)) -> Result<Figures> {
    witness::available()?;
    if plan.folder.exists() {
        fs::remove_dir_all(&plan.folder).with_context(|| format!("{} cannot be emptied", plan.folder.display()))?;
    }
    let interposer = Interposer::compile(&plan.folder)?;
    let base = HostFolder::create_on(&plan.folder.join("base"), &plan.catalog).await?;
    warm(&base).await?;
    let first = Worker::prepare(interposer.clone(), &base, &plan.folder.join("worker-1")).await?;
    let mut sweeps = Vec::new();
    for stage in &plan.stages {
        let trace = witness::compare(&first, *stage).await?;
        tell(format!(
            "stage {stage}: {} calls, strace and the interposer agree: {}",
            trace.points.len(),
            witness::summary(&trace)
        ));
        sweeps.extend(plan.kinds.iter().map(|kind| Sweep::new(plan, *stage, *kind, &trace)));
    }
    let figures = sweep(plan, first, interposer, &base, sweeps, &mut tell).await?;
    if figures.holds() {
        fs::remove_dir_all(&plan.folder)?;
    } else {
        tell(format!("everything of the points with findings is kept in {}", plan.folder.display()));
    }
    Ok(figures)
}

/// Fills the compile cache that all hosts of the proof share.
async fn warm(base: &HostFolder) -> Result<()> {
    let status = base.start().await?.stop().await?;
    if !status.success() {
        bail!("the host did not stop cleanly: {status}");
    }
    Ok(())
}

/// One kind on one stage.
struct Sweep {
    stage: Stage,
    kind: Kind,
    next: u64,
    last: Option<u64>,
    step: u64,
    /// Points that are taken in any case: the first of each call on each file.
    kept: BTreeSet<u64>,
}

impl Sweep {
    fn new(plan: &Plan, stage: Stage, kind: Kind, trace: &Trace) -> Self {
        let mut seen = BTreeSet::new();
        let fits = trace.points.iter().filter(|point| kind.applies_to(point));
        let kept = (1..).zip(fits).filter(|(_, p)| seen.insert((p.call.clone(), p.path.clone()))).map(|(at, _)| at);
        Self { stage, kind, next: plan.from.max(1), last: plan.to, step: plan.step.max(1), kept: kept.collect() }
    }

    /// The next point; `None` when all are taken.
    fn take(&mut self) -> Option<u64> {
        loop {
            let at = self.next;
            if self.last.is_some_and(|last| at > last) {
                return None;
            }
            self.next += 1;
            if (at - 1).is_multiple_of(self.step) || self.kept.contains(&at) {
                return Some(at);
            }
        }
    }

    /// A life made fewer calls than this.
    fn ends_before(&mut self, at: u64) {
        self.last = Some(self.last.map_or(at - 1, |last| last.min(at - 1)));
    }
}

/// What is left to do, shared by the workers.
struct Queue(Mutex<Vec<Sweep>>);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Vec<Sweep>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<(Stage, Shot)> {
        self.lock().iter_mut().find_map(|sweep| {
            let at = sweep.take()?;
            Some((sweep.stage, Shot { kind: sweep.kind, at }))
        })
    }

    fn ends_before(&self, stage: Stage, shot: Shot) {
        let mut sweeps = self.lock();
        for sweep in sweeps.iter_mut().filter(|sweep| (sweep.stage, sweep.kind) == (stage, shot.kind)) {
            sweep.ends_before(shot.at);
        }
    }
}

async fn sweep(
    plan: &Plan,
    first: Worker,
    interposer: Interposer,
    base: &HostFolder,
    sweeps: Vec<Sweep>,
    tell: &mut impl FnMut(String),
) -> Result<Figures> {
    let queue = Arc::new(Queue(Mutex::new(sweeps)));
    let (done, mut outcomes) = mpsc::channel(plan.jobs.max(1));
    let mut workers = JoinSet::new();
    workers.spawn(work(first, queue.clone(), done.clone()));
    for number in 2..=plan.jobs {
        let (interposer, base, queue, done) = (interposer.clone(), base.clone(), queue.clone(), done.clone());
        let place = plan.folder.join(format!("worker-{number}"));
        workers.spawn(async move { work(Worker::prepare(interposer, &base, &place).await?, queue, done).await });
    }
    drop(done);
    let began = Instant::now();
    let mut figures =
        Figures { unsaid: plan.kinds.iter().any(|k| Kind::FAULTS.contains(k)).then_some(0), ..Figures::default() };
    while let Some((stage, shot, outcome)) = outcomes.recv().await {
        report(plan, stage, shot, &outcome, tell)?;
        figures.add(&outcome);
        if figures.points.is_multiple_of(TOLD_EVERY) {
            let seconds = began.elapsed().as_secs_f32();
            tell(format!("{} points, now {stage} {} {}: {seconds:.0} s", figures.points, shot.kind, shot.at));
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(figures)
}

type Done = mpsc::Sender<(Stage, Shot, Outcome)>;

async fn work(worker: Worker, queue: Arc<Queue>, done: Done) -> Result<()> {
    while let Some((stage, shot)) = queue.take() {
        let outcome = worker.run(stage, Some(shot)).await?;
        if outcome.trace.hit.is_none() {
            queue.ends_before(stage, shot);
            fs::remove_dir_all(&outcome.folder)?;
        } else if done.send((stage, shot, outcome)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Tells the findings of a point and how to have them again; removes what is left of a point without any.
fn report(plan: &Plan, stage: Stage, shot: Shot, outcome: &Outcome, tell: &mut impl FnMut(String)) -> Result<()> {
    if outcome.verdict.is_clean() {
        return Ok(fs::remove_dir_all(&outcome.folder)?);
    }
    let Shot { kind, at } = shot;
    let place = outcome.trace.hit.as_ref().map(|hit| hit.point.to_string()).unwrap_or_default();
    for (finding, what) in outcome.verdict.findings() {
        tell(format!("{finding} stage {stage}, {kind} at point {at}, {place}: {what}"));
    }
    tell(format!(
        "  kept in {}; again with: cargo xtask prove {} --stage {stage} --kind {kind} --from {at} --to {at}",
        outcome.folder.display(),
        plan.name
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::injection::interposer::Point;
    use super::*;

    fn plan(step: u64) -> Plan {
        Plan {
            name: "faults",
            kinds: Kind::FAULTS.into(),
            stages: Stage::ALL.into(),
            from: 1,
            to: None,
            step,
            jobs: 1,
            folder: PathBuf::new(),
            catalog: PathBuf::new(),
        }
    }

    fn trace(calls: &[&str]) -> Trace {
        let point = |call: &&str| Point { call: (*call).to_owned(), bytes: 8, path: "sled/db".to_owned() };
        Trace { points: calls.iter().map(point).collect(), hit: None }
    }

    fn taken(sweep: &mut Sweep, end: u64) -> Vec<u64> {
        let mut taken = Vec::new();
        while let Some(at) = sweep.take() {
            if at > end {
                sweep.ends_before(at);
                break;
            }
            taken.push(at);
        }
        assert_eq!(sweep.take(), None, "after its end a sweep has no points");
        taken
    }

    #[test]
    fn a_sweep_takes_every_point_until_a_life_was_not_hit() {
        let calls = ["open", "write", "write", "fsync", "write"];
        let mut sweep = Sweep::new(&plan(1), Stage::First, Kind::Eio, &trace(&calls));
        assert_eq!(taken(&mut sweep, 5), [1, 2, 3, 4, 5]);
        let mut one = Sweep::new(&Plan { from: 3, to: Some(3), ..plan(1) }, Stage::First, Kind::Eio, &trace(&calls));
        assert_eq!(taken(&mut one, 5), [3]);
    }

    #[test]
    fn a_step_leaves_no_call_out() {
        let calls = ["open", "write", "write", "fsync", "write", "write", "rename", "write"];
        let mut sweep = Sweep::new(&plan(4), Stage::First, Kind::Eio, &trace(&calls));
        assert_eq!(taken(&mut sweep, 8), [1, 2, 4, 5, 7]);
        // Only writes can be short.
        let mut short = Sweep::new(&plan(4), Stage::First, Kind::Short, &trace(&calls));
        assert_eq!(taken(&mut short, 5), [1, 5]);
    }

    #[test]
    fn the_closing_line_has_its_figures_in_order() {
        let killed = Figures { points: 400, acked: 1234, ..Figures::default() };
        assert_eq!(killed.to_string(), "points 400, acked 1234, lost 0, torn 0, unopenable 0");
        let failed = Figures { unsaid: Some(0), ..killed.clone() };
        assert_eq!(failed.to_string(), "points 400, acked 1234, lost 0, torn 0, unopenable 0, unsaid 0");
        assert!(killed.holds() && failed.holds());
        for broken in [
            Figures { points: 0, ..killed.clone() },
            Figures { lost: 1, ..killed.clone() },
            Figures { torn: 1, ..killed.clone() },
            Figures { unopenable: 1, ..killed },
            Figures { unsaid: Some(1), ..failed },
        ] {
            assert!(!broken.holds(), "{broken}");
        }
    }
}
