//! Steps that are announced, timed, and named when they fail.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// Does one step of a command; says its name before and how long it took after.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {name}");
    let begun = Instant::now();
    let outcome = work();
    let seconds = begun.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => println!("==> {name}: {seconds:.1} s"),
        Err(_) => println!("==> {name}: FAILED after {seconds:.1} s"),
    }
    outcome.with_context(|| format!("step {name:?} failed"))
}

/// Runs a program with its output shown and nothing to read from.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// The command as one could type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_failed_step_is_named_with_its_command() {
        let error = step("nothing", || run(Command::new("false").arg("x"))).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("step \"nothing\" failed") && text.contains("`false x` ended with"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let text = format!("{:#}", run(&mut Command::new("/nowhere/program")).unwrap_err());
        assert!(text.contains("cannot run `/nowhere/program`"), "{text}");
    }
}
