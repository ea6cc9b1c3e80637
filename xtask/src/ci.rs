//! `ci`: what the pipeline runs, and what to run before handing a change in.

use anyhow::Result;

use crate::steps::{run as command, step};
use crate::{cargo, suite, toolchain};

/// Format, lints, dependencies, tests.
pub(crate) fn run() -> Result<()> {
    step("format", || {
        command(cargo::cargo().args(["fmt", "--all", "--check"]))?;
        // The guests are a workspace of their own.
        command(cargo::cargo().args(["fmt", "--manifest-path", "tests/guests/Cargo.toml", "--all", "--check"]))
    })?;
    // With the profile of the tests, so that build scripts and macros are built once.
    step("lints", || {
        command(cargo::cargo().args(["clippy", "--workspace", "--release", "--all-targets", "--", "-D", "warnings"]))
    })?;
    step("dependencies", || {
        toolchain::cargo_deny()?;
        // The check reads every package that the lock file names, those of other platforms too.
        command(cargo::cargo().args(["fetch", "--locked"]))?;
        command(cargo::cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]))
    })?;
    suite::run()
}
