//! `cargo xtask`: everything that is done with this repository besides writing it.
//!
//! Each command builds what it needs, says what it does, and stops at the first thing that is missing with the command
//! that provides it. Nothing is ever skipped in silence.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program for people")]

mod cargo;
mod ci;
mod guests;
mod keys;
mod launch;
mod package;
mod paths;
mod release;
mod steps;
mod suite;
mod toolchain;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, releases, demonstrates, tests and measures SGEN Connectors.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build every connector, check it, and write a signed release to a folder.
    ///
    /// Signs with development keys, which are made under dev/keys on first use. Refuses, with every reason, when a
    /// manifest is invalid or a component imports what no connector may.
    Release {
        /// The platform version: YEAR.MONTH.PATCH, such as 2026.11.0.
        version: String,
        /// The folder to write [default: target/catalog].
        #[arg(long)]
        out: Option<PathBuf>,
        /// Its place in the order of releases [default: one more than the release in the folder].
        #[arg(long)]
        sequence: Option<u64>,
        /// For how many days hosts activate it.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        expires_days: u32,
    },
    /// Build the test guests (tests/guests) as components into target/guests.
    Guests,
    /// Run all tests: prerequisites, guests, a development release, the test suite, and the small proofs.
    Test,
    /// Run what the pipeline runs: format, lints, licences and sources of dependencies, and all tests.
    Ci,
    /// Show the whole way of an event on this machine: a form, the host, a downstream like HubSpot's, and a webhook
    /// receiver. `cargo xtask demo --help` lists its options.
    #[command(disable_help_flag = true)]
    Demo {
        #[command(flatten)]
        passed: Passed,
    },
    /// Run one proof at any size. `cargo xtask prove --help` lists them.
    #[command(disable_help_flag = true)]
    Prove {
        #[command(flatten)]
        passed: Passed,
    },
    /// Measure speed, memory and disk beside native baselines. `cargo xtask bench --help` lists what.
    #[command(disable_help_flag = true)]
    Bench {
        #[command(flatten)]
        passed: Passed,
    },
}

/// Arguments that are handed on unchanged, `--help` included: the program that has the commands lists them, so that
/// the list cannot differ from what there is.
#[derive(clap::Args)]
struct Passed {
    /// Handed on.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Release { version, out, sequence, expires_days } => {
            release::run(&release::Plan { version, out: out.unwrap_or_else(paths::catalog), sequence, expires_days })
        }
        Command::Guests => guests::run(),
        Command::Test => suite::run(),
        Command::Ci => ci::run(),
        Command::Demo { passed } => launch::run("sgen-demo", &passed.arguments),
        Command::Prove { passed } => launch::prove(&passed.arguments),
        Command::Bench { passed } => launch::run("sgen-bench", &passed.arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_its_sentence() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
        }
    }

    #[test]
    fn whatever_follows_a_delegated_command_is_handed_on() {
        for line in [vec!["--help"], vec!["crash", "--rounds", "10"], vec!["--exit"], vec![]] {
            let parsed = Arguments::try_parse_from([vec!["cargo xtask", "prove"], line.clone()].concat()).unwrap();
            let Command::Prove { passed } = parsed.command else { panic!() };
            assert_eq!(passed.arguments, line);
        }
    }
}
