//! Many simulations: seeds shared out over threads, progress, and what is told of violations.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sgen_engine::Engine;
use std::sync::Arc;

use crate::check::Violation;
use crate::draw;
use crate::platform::Release;
use crate::run;
use crate::verdict::Verdict;
use crate::words::span;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(10);
/// The longest that one simulation may take in real time: beyond, it does not come to rest at all.
const STUCK: Duration = Duration::from_secs(120);
/// The most violations of one seed that are printed.
const PRINTED: usize = 12;

/// Which seeds are run, and what is told.
pub(crate) struct Plan {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) threads: usize,
    /// Whether scenarios are told also when nothing is wrong.
    pub(crate) told: bool,
    /// Whether everything that happened is printed.
    pub(crate) record: bool,
}

enum News {
    Began(usize, u64),
    Ended(usize, u64, Result<Verdict>),
}

/// Runs all seeds; whether no invariant was violated.
pub(crate) fn run(plan: &Plan, release: &Release) -> Result<bool> {
    let next = AtomicU64::new(0);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..plan.threads.max(1) {
            let (next, tell) = (&next, tell.clone());
            scope.spawn(move || {
                let engine = release.engine();
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= plan.seeds {
                        return;
                    }
                    let seed = plan.first.wrapping_add(nth);
                    let verdict = match &engine {
                        Ok(engine) => {
                            let _ = tell.send(News::Began(thread, seed));
                            one(seed, release, engine.clone())
                        }
                        Err(error) => Err(anyhow::anyhow!("{error:#}")),
                    };
                    if tell.send(News::Ended(thread, seed, verdict)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        listen(plan, &told)
    })
}

/// One simulation on a runtime of its own.
pub(crate) fn one(seed: u64, release: &Release, engine: Arc<Engine>) -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let simulated =
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(run::run(draw::scenario(seed), release, engine))));
    match simulated {
        Ok(verdict) => verdict,
        Err(_) => bail!("the simulation panicked"),
    }
}

fn listen(plan: &Plan, told: &mpsc::Receiver<News>) -> Result<bool> {
    let began = Instant::now();
    let mut said = began;
    let mut under_way: BTreeMap<usize, (u64, Instant)> = BTreeMap::new();
    let mut rules: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    let (mut done, mut violations, mut requests, mut course) = (0_u64, 0_u64, 0_u64, 0_u64);
    loop {
        match told.recv_timeout(Duration::from_secs(1)) {
            Ok(News::Began(thread, seed)) => {
                under_way.insert(thread, (seed, Instant::now()));
            }
            Ok(News::Ended(thread, seed, verdict)) => {
                under_way.remove(&thread);
                done += 1;
                let verdict = verdict.with_context(|| format!("seed {seed}\n{}", draw::scenario(seed)))?;
                requests += verdict.requests as u64;
                course += verdict.course;
                violations += verdict.violations.len() as u64;
                for violation in &verdict.violations {
                    let (count, first) = rules.entry(violation.rule).or_insert((0, seed));
                    *count += 1;
                    *first = seed.min(*first);
                }
                tell(plan, seed, &verdict);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        for (seed, since) in under_way.values() {
            if since.elapsed() > STUCK {
                // Its thread cannot be ended, so the process is.
                eprintln!("seed {seed} does not come to rest within {STUCK:?} of real time\n{}", draw::scenario(*seed));
                std::process::exit(1);
            }
        }
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            println!("{done} of {} seeds, {requests} requests, {} simulated", plan.seeds, span(course));
        }
    }
    for (rule, (count, first)) in &rules {
        println!("{rule}: {count} violations, the first with seed {first}");
    }
    let took = began.elapsed().as_secs_f64();
    println!("{requests} requests and {} were simulated in {took:.1} s", span(course));
    println!("seeds {done}, violations {violations}");
    Ok(violations == 0)
}

fn tell(plan: &Plan, seed: u64, verdict: &Verdict) {
    if plan.record {
        print!("{}", verdict.record);
    }
    if verdict.violations.is_empty() && !plan.told {
        return;
    }
    println!("seed {seed}, record {}:\n{}", verdict.fingerprint, draw::scenario(seed));
    for Violation { rule, said } in verdict.violations.iter().take(PRINTED) {
        println!("  VIOLATION of {rule}: {said}");
    }
    if let Some(more) = verdict.violations.len().checked_sub(PRINTED).filter(|more| *more > 0) {
        println!("  and {more} more");
    }
    if !verdict.violations.is_empty() {
        println!("  replay: cargo xtask prove simulation --seed {seed}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::path::{Path, PathBuf};

    use super::*;

    /// The release that tests run against: `SGEN_CATALOG`, else what `cargo xtask release` wrote.
    fn release(cache: &Path) -> Release {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/catalog");
        let folder = std::env::var_os("SGEN_CATALOG").map_or_else(beside, PathBuf::from);
        Release::open(&folder, cache, sgen_engine::Limits::default().instances).expect("cargo xtask release 2026.11.0")
    }

    #[test]
    fn a_seed_always_comes_to_the_same_record() {
        let cache = tempfile::tempdir().unwrap();
        let release = release(cache.path());
        let seeds = 1..=16;
        let records = |seeds: std::ops::RangeInclusive<u64>| {
            let engine = release.engine().unwrap();
            seeds.map(|seed| (seed, one(seed, &release, engine.clone()).unwrap().record)).collect::<Vec<_>>()
        };
        // Beside each other, so that each is disturbed by the other, and in another thread the other time.
        let (first, second) = std::thread::scope(|scope| {
            let (first, second) = (scope.spawn(|| records(seeds.clone())), scope.spawn(|| records(seeds.clone())));
            (first.join().unwrap(), second.join().unwrap())
        });
        for ((seed, one), (_, other)) in first.iter().zip(&second) {
            let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
            assert!(one == other, "seed {seed}: {differs:?}");
            assert!(one.lines().any(|line| line.starts_with("arrival")), "seed {seed}: nothing happened");
        }
    }
}
