//! Proofs of claims about the whole host. Each ends with one closing line of figures and a status that says whether the
//! claim holds.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use sgen_tests::paths;
use sgen_tests::proofs::injection::kind::Kind;
use sgen_tests::proofs::injection::stage::Stage;
use sgen_tests::proofs::{canary, crash, syscalls};

/// Proves one claim about the whole host, at any size.
#[derive(Parser)]
#[command(
    version,
    after_help = "Proofs with a program of their own; each has a --help:
  cargo xtask prove simulation       the delivery room on simulated time
  cargo xtask prove egress           what the gate must refuse, and what must pass
  cargo xtask prove hostile          hostile components beside a well-behaved neighbour
  cargo xtask prove oauth            grants that rotate, against an OAuth server
  cargo xtask prove sigv4            AWS signatures, against a server that verifies them
  cargo xtask prove service-account  assertions, against verifiers that are not ours"
)]
struct Arguments {
    #[command(subcommand)]
    proof: Proof,
}

#[derive(Subcommand)]
enum Proof {
    /// What was acknowledged survives SIGKILL at any moment, start-up included, and the host always starts again.
    Crash {
        /// How often the host is killed.
        #[arg(long, default_value_t = 50)]
        rounds: u64,
        /// Decides moments, sizes and contents; random when absent, and always printed.
        #[arg(long)]
        seed: Option<u64>,
        /// The folder of the run; emptied first, kept when the claim does not hold.
        #[arg(long, default_value_os_t = paths::target().join("prove/crash"))]
        folder: PathBuf,
    },
    /// A credential is where it was sent, and nowhere else: not in a component's memory, an answer, a log, the store, an
    /// export or a backup, though every downstream sends it back.
    Canary {
        /// How many secrets, through all schemes in turn.
        #[arg(long, default_value_t = 100, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(10..=20_000))]
        secrets: usize,
        /// Decides the secrets; random when absent, and always printed.
        #[arg(long)]
        seed: Option<u64>,
        /// The folder of the run; emptied first, kept when the claim does not hold.
        #[arg(long, default_value_os_t = paths::target().join("prove/canary"))]
        folder: PathBuf,
    },
    /// What was acknowledged survives SIGKILL at every single call that changes the store's folder, and the host always
    /// starts again.
    Syscalls(Sweep),
    /// When such a call fails (EIO, ENOSPC, a short write), the host says so, acknowledges nothing that is not durable,
    /// and starts again.
    Faults(Sweep),
}

/// Which points are swept.
#[derive(Args)]
struct Sweep {
    /// Only this life of the host; all when absent.
    #[arg(long)]
    stage: Option<Stage>,
    /// Only this kind; all of the proof's when absent.
    #[arg(long)]
    kind: Option<Kind>,
    /// The first point.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// The last point; the last that there is when absent.
    #[arg(long)]
    to: Option<u64>,
    /// Only every so many-th point, and in any case the first of each call on each file.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    step: u64,
    /// How many hosts at once.
    #[arg(long, default_value_t = 6)]
    jobs: usize,
    /// The folder of the run, emptied first, kept when the claim does not hold [default: target/prove/PROOF].
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Sweep {
    fn plan(self, name: &'static str, kinds: &[Kind]) -> Result<syscalls::Plan> {
        if let Some(kind) = self.kind
            && !kinds.contains(&kind)
        {
            bail!(
                "{kind} is no kind of the proof {name}; it has: {}",
                kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(syscalls::Plan {
            name,
            kinds: self.kind.map_or_else(|| kinds.into(), |kind| vec![kind]),
            stages: self.stage.map_or_else(|| Stage::ALL.into(), |stage| vec![stage]),
            from: self.from,
            to: self.to,
            step: self.step,
            jobs: self.jobs,
            folder: self.folder.unwrap_or_else(|| paths::target().join("prove").join(name)),
            catalog: paths::catalog()?,
        })
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a proof is there to be read")]
async fn main() -> ExitCode {
    let proof = Arguments::parse().proof;
    // Leaving this function ends the host, whose process belongs to what is dropped here.
    let result = tokio::select! {
        result = prove(proof) => result,
        _ = tokio::signal::ctrl_c() => {
            println!("interrupted");
            return ExitCode::from(130);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the proof failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a proof is there to be read")]
async fn prove(proof: Proof) -> Result<bool> {
    match proof {
        Proof::Crash { rounds, seed, folder } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..));
            println!("prove crash: seed {seed}");
            let plan = crash::Plan { rounds, seed, folder, catalog: paths::catalog()? };
            let figures = crash::run(&plan, |line| println!("{line}")).await?;
            println!("{figures}");
            Ok(figures.holds())
        }
        Proof::Canary { secrets, seed, folder } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..));
            println!("prove canary: seed {seed}");
            let figures = canary::run(&canary::Plan { secrets, seed, folder }, |line| println!("{line}")).await?;
            println!("{figures}");
            Ok(figures.holds())
        }
        Proof::Syscalls(sweep) => prove_at_every_call(&sweep.plan("syscalls", &Kind::KILLS)?).await,
        Proof::Faults(sweep) => prove_at_every_call(&sweep.plan("faults", &Kind::FAULTS)?).await,
    }
}

#[expect(clippy::print_stdout, reason = "a proof is there to be read")]
async fn prove_at_every_call(plan: &syscalls::Plan) -> Result<bool> {
    println!("prove {}: {} hosts at once", plan.name, plan.jobs);
    let figures = syscalls::run(plan, |line| println!("{line}")).await?;
    println!("{figures}");
    Ok(figures.holds())
}
