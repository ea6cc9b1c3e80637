//! `cargo xtask prove simulation`: the delivery room as it is, on paused time, through scenarios that seeds decide.
//!
//! A scenario runs in one thread, on a runtime of its own whose time passes only when nothing is left to do. Store,
//! network and downstreams are in memory; lanes, ledger, mapping, engine, component and gate are the real ones. Nothing
//! but the seed decides what happens, so a violation comes back with its seed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a proof is there to be read")]

mod books;
mod check;
mod clock;
mod crowd;
mod dice;
mod downstream;
mod draw;
mod fault;
mod host;
mod line;
mod network;
mod platform;
mod run;
mod scenario;
mod secret;
mod verdict;
mod witness;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::platform::Release;

/// Runs the delivery room through random faults, operators' changes, clock jumps and restarts on simulated time, and
/// holds it to its invariants. Ends with `seeds N, violations M`.
#[derive(Parser)]
#[command(version, name = "cargo xtask prove simulation")]
struct Arguments {
    /// How many scenarios [default: 200, or 1 with --seed].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first scenario's seed; alone, replays exactly that scenario and prints it.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints everything that happened, for a replay.
    #[arg(long, requires = "seed")]
    record: bool,
    /// Threads [default: one per processor].
    #[arg(long)]
    threads: Option<usize>,
    /// How many invocations a simulated host runs at a time.
    #[arg(long, default_value_t = sgen_engine::Limits::default().instances)]
    invocations: u32,
    /// The folder of the signed release.
    #[arg(long, env = "SGEN_CATALOG")]
    catalog: PathBuf,
}

fn main() -> ExitCode {
    match prove(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the proof failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prove(arguments: &Arguments) -> Result<bool> {
    let cache = tempfile::tempdir()?;
    let release = Release::open(&arguments.catalog, cache.path(), arguments.invocations)?;
    let plan = crowd::Plan {
        first: arguments.seed.unwrap_or(1),
        seeds: arguments.seeds.unwrap_or(if arguments.seed.is_some() { 1 } else { 200 }),
        threads: arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        told: arguments.seed.is_some() && arguments.seeds.is_none(),
        record: arguments.record,
    };
    if arguments.record {
        tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    }
    crowd::run(&plan, &release)
}
