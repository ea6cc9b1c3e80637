//! `test`: everything from a fresh clone to a verdict.

use std::process::Command;

use anyhow::Result;

use crate::steps::{run as command, step};
use crate::{cargo, guests, paths, release, toolchain};

/// Rounds of the crash proof that are run with the tests; `cargo xtask prove crash --rounds N` runs any number.
const CRASH_ROUNDS: &str = "10";

/// Seeds of the simulation that are run with the tests; always the same ones, so that a failure is one of the change.
const SIMULATION_SEEDS: &str = "2000";

/// All tests. Ends at the first failure, with the name of the step.
pub(crate) fn run() -> Result<()> {
    // What could be missing is looked at first, before anyone has waited for a build.
    step("compilation targets", || {
        toolchain::wasm_target(toolchain::WASM_TARGET)?;
        toolchain::wasm_target(toolchain::WASI_TARGET)
    })?;
    step("browser", toolchain::browser)?;
    step("independent verifier", toolchain::python)?;
    step("test guests", guests::run)?;
    step("test release", || release::run(&release::Plan::development(paths::test_catalog())))?;
    // Tests and proofs start the host as a process; `cargo test` alone would not build its program.
    step("programs", || command(cargo::cargo().args(["build", "--workspace", "--release", "--bins"])))?;
    step("tests", || {
        command(cargo::cargo().args(["test", "--workspace", "--release"]).env("SGEN_CATALOG", paths::test_catalog()))
    })?;
    step("proof: crash", || {
        let mut prove = Command::new(paths::program("sgen-prove"));
        prove.args(["crash", "--rounds", CRASH_ROUNDS]).env("SGEN_CATALOG", paths::test_catalog());
        command(prove.current_dir(paths::root()))
    })?;
    step("proof: simulation", || {
        let mut prove = Command::new(paths::program("sgen-simulation"));
        prove.args(["--seeds", SIMULATION_SEEDS]).env("SGEN_CATALOG", paths::test_catalog());
        command(prove.current_dir(paths::root()))
    })?;
    println!("all tests passed");
    Ok(())
}
