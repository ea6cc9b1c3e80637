//! `demo`, `prove` and `bench`: builds what they run on, then becomes the program that does it.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, paths, release, steps};

/// Runs a proof: the simulation is a program of its own, because it alone is built with time that can be paused.
pub(crate) fn prove(arguments: &[OsString]) -> Result<()> {
    match arguments.split_first() {
        Some((first, rest)) if first == "simulation" => simulation(rest),
        _ => run("sgen-prove", arguments),
    }
}

/// Builds the simulation, and a development release for it unless it is only asked for help, and becomes it.
fn simulation(arguments: &[OsString]) -> Result<()> {
    if !asks_for_help(arguments) {
        steps::step("development release", || release::run(&release::Plan::development(paths::catalog())))?;
    }
    steps::step("simulation", build_simulation)?;
    let mut command = Command::new(paths::program("sgen-simulation"));
    command.args(arguments).env("SGEN_CATALOG", paths::catalog());
    replace(command)
}

/// Builds the simulation's program. Beside the other programs' packages, so that what they depend on, the engine above
/// all, is the same and is not built once more; only what stands on tokio is.
pub(crate) fn build_simulation() -> Result<()> {
    steps::run(cargo::cargo().args([
        "build",
        "--release",
        "-p",
        "sgen-simulation",
        "-p",
        "sgen-tests",
        "-p",
        "sgen-host",
        "--features",
        "sgen-simulation/paused-time",
        "--bin",
        "sgen-simulation",
    ]))
}

/// Only to be listed, nothing needs to be released.
fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "--help" || argument == "-h" || argument == "help")
}

/// Builds a program of the tests crate with the host and a development release, and becomes it.
pub(crate) fn run(program: &str, arguments: &[OsString]) -> Result<()> {
    if asks_for_help(arguments) {
        steps::run(cargo::cargo().args(["build", "--quiet", "--release", "-p", package(program), "--bin", program]))?;
    } else {
        steps::step("development release", || release::run(&release::Plan::development(paths::catalog())))?;
        steps::step("host and programs", || {
            steps::run(cargo::cargo().args([
                "build",
                "--release",
                "-p",
                "sgen-host",
                "-p",
                "sgen-tests",
                "-p",
                package(program),
                "--bins",
            ]))
        })?;
    }
    let mut command = Command::new(paths::program(program));
    command.args(arguments).env("SGEN_CATALOG", paths::catalog());
    replace(command)
}

/// The package that a program is of: the bench runs the host's rooms in its own process and has a package of its own.
fn package(program: &str) -> &'static str {
    if program == "sgen-bench" { "sgen-bench" } else { "sgen-tests" }
}

/// Becomes the program, so that signals reach it and its status is ours.
#[cfg(unix)]
fn replace(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run `{}`", steps::show(&command)))
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> Result<()> {
    steps::run(&mut command)
}
