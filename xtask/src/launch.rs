//! `demo`, `prove` and `bench`: builds what they run on, then becomes the program that does it.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, paths, release, steps};

/// Builds a program of the tests crate with the host and a development release, and becomes it.
pub(crate) fn run(program: &str, arguments: &[OsString]) -> Result<()> {
    // Only to be listed, nothing needs to be released.
    let asks_for_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h" || argument == "help");
    if asks_for_help {
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
