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

/// Of so many seeds one is run twice.
const REPEATED: u64 = 20;

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
                            judge(nth, seed, release, engine)
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

/// Runs a seed, and now and then once more: the same seed has to come to the same record.
fn judge(nth: u64, seed: u64, release: &Release, engine: &Arc<Engine>) -> Result<Verdict> {
    let mut verdict = one(seed, release, engine.clone())?;
    if nth.is_multiple_of(REPEATED) {
        let again = one(seed, release, engine.clone())?;
        if let Some(said) = difference(&verdict.record, &again.record) {
            verdict.violations.push(Violation::new("one seed, one record", said));
        }
    }
    Ok(verdict)
}

/// The first line in which two records differ.
fn difference(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    Some(match differs {
        Some((one, other)) => format!("{one:?} and then {other:?}"),
        None => format!("{} lines and then {}", one.lines().count(), other.lines().count()),
    })
}

/// One simulation on a runtime of its own.
fn one(seed: u64, release: &Release, engine: Arc<Engine>) -> Result<Verdict> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time();
    builder.start_paused(true);
    let runtime = builder.build()?;
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
    use super::*;

    #[test]
    fn the_first_difference_of_two_records_is_told() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n").as_deref(), Some("\"b\" and then \"c\""));
        assert_eq!(difference("a\n", "a\nb\n").as_deref(), Some("1 lines and then 2"));
    }
}
