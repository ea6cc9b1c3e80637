//! `cargo xtask bench NAME`: measures one thing as a ratio against its baseline in the same run.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]

mod downstream;
mod instantiate;
mod native;
mod release;
mod report;
mod sandbox;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures one thing and compares it with what it must reach. Ends with a line per figure; fails when one falls short.
#[derive(Parser)]
#[command(version, name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// CPU per event through a component, in batches of 1 and 25, against the same connector code run natively through
    /// the same gate.
    Sandbox(sandbox::Sandbox),
    /// Time to make and drop an instance, and to load a component from the compile cache.
    Instantiate(instantiate::Instantiate),
}

fn main() -> Result<ExitCode> {
    let figures = match Arguments::parse().bench {
        Bench::Sandbox(sandbox) => sandbox.run()?,
        Bench::Instantiate(instantiate) => instantiate.run()?,
    };
    report::keep(&figures)?;
    for figure in &figures {
        println!("{figure}");
    }
    Ok(if figures.iter().all(report::Figure::reached) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
