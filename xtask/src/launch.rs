//! `demo`, `prove` and `bench`: builds what they run on, then becomes the program that does it.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, guests, paths, release, steps, toolchain};

/// Runs a proof. What runs the host's rooms in its own process is a program of its own: the simulation, the hostile
/// components, and the proofs against real vendors' counterparts.
pub(crate) fn prove(arguments: &[OsString]) -> Result<()> {
    match arguments.split_first() {
        Some((first, rest)) if first == "simulation" => run("sgen-simulation", rest),
        Some((first, rest)) if first == "egress" => vectors(rest),
        Some((first, rest)) if first == "hostile" => {
            build_guests(rest)?;
            run("sgen-hostile", rest)
        }
        Some((first, rest)) if first == "canary" => {
            build_guests(rest)?;
            run("sgen-prove", arguments)
        }
        Some((first, _)) if ["oauth", "sigv4", "service-account"].iter().any(|name| first == name) => {
            if !asks_for_help(arguments) {
                steps::step("independent verifiers", toolchain::python)?;
                steps::step("OAuth server", toolchain::node)?;
            }
            run("sgen-vendors", arguments)
        }
        _ => run("sgen-prove", arguments),
    }
}

/// The gate's vectors are a test of its crate: they need neither a host nor a release.
fn vectors(arguments: &[OsString]) -> Result<()> {
    let test = ["test", "--quiet", "--release", "-p", "sgen-egress", "--test", "vectors", "--"];
    steps::run(cargo::cargo().args(test).args(arguments))
}

/// What a proof with components needs, unless it is only asked for its options.
fn build_guests(arguments: &[OsString]) -> Result<()> {
    if asks_for_help(arguments) { Ok(()) } else { steps::step("test guests", guests::run) }
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

/// The package that a program is of: what runs the host's rooms in its own process has a package of its own.
fn package(program: &str) -> &str {
    match program {
        "sgen-bench" | "sgen-hostile" | "sgen-simulation" | "sgen-vendors" => program,
        _ => "sgen-tests",
    }
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
