//! Proofs of claims about the whole host. Each ends with one closing line of figures and a status that says whether the
//! claim holds.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use sgen_tests::paths;
use sgen_tests::proofs::crash;

/// Proves one claim about the whole host, at any size.
#[derive(Parser)]
#[command(version, after_help = "`cargo xtask prove simulation --help`: the delivery room on simulated time.")]
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
    }
}
