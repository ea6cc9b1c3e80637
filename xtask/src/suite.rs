//! `test`: everything from a fresh clone to a verdict.

use std::process::Command;

use anyhow::Result;

use crate::steps::{run as command, step};
use crate::{cargo, guests, paths, release, toolchain};

/// The proofs that are run with the tests, with their program; `cargo xtask prove NAME` runs each at any size. The seeds of
/// the simulation are always the same ones, so that a failure is one of the change. `prove egress` is one of the tests, and
/// `sgen-vendors` has those against real counterparts.
const PROOFS: [(&str, &[&str]); 6] = [
    ("sgen-simulation", &["--seeds", "2000"]),
    // Whether each is contained; times are judged where nothing else runs.
    ("sgen-hostile", &["--rounds", "3", "--most", "10"]),
    ("sgen-prove", &["canary", "--secrets", "1000"]),
    ("sgen-prove", &["crash", "--rounds", "300"]),
    ("sgen-prove", &["syscalls"]),
    ("sgen-prove", &["faults"]),
];

/// All tests. Ends at the first failure, with the name of the step.
pub(crate) fn run() -> Result<()> {
    // What could be missing is looked at first, before anyone has waited for a build.
    step("compilation targets", || {
        toolchain::wasm_target(toolchain::WASM_TARGET)?;
        toolchain::wasm_target(toolchain::WASI_TARGET)
    })?;
    step("browser", toolchain::browser)?;
    step("independent verifiers", toolchain::python)?;
    step("key of the tests", toolchain::rsa_key)?;
    step("OAuth server", toolchain::node)?;
    step("compiler and tracer of the proofs", toolchain::tracing)?;
    step("test guests", guests::run)?;
    step("test release", || release::run(&release::Plan::development(paths::test_catalog())))?;
    // Tests and proofs start the host as a process; `cargo test` alone would not build its program.
    step("programs", || command(cargo::cargo().args(["build", "--workspace", "--release", "--bins"])))?;
    step("tests", || {
        command(cargo::cargo().args(["test", "--workspace", "--release"]).env("SGEN_CATALOG", paths::test_catalog()))
    })?;
    for (program, arguments) in PROOFS {
        step(&format!("proof: {program} {}", arguments.join(" ")), || {
            let mut prove = Command::new(paths::program(program));
            prove.args(arguments).env("SGEN_CATALOG", paths::test_catalog());
            command(prove.current_dir(paths::root()))
        })?;
    }
    println!("all tests passed");
    Ok(())
}
