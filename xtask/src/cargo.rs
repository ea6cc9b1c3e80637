//! Cargo, called from within: in the workspace, and asked what it built instead of guessing file names.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{paths, steps};

/// Cargo, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    // This program was started by `cargo run`, which describes its package in the environment. Build scripts that watch
    // these variables (ring's does) would take them for a change and have half of the dependencies built again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(describes_a_package) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_a_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| variable.starts_with(prefix))
        || ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&variable)
}

/// The folder of a package and the core module built from it.
pub(crate) type Modules = BTreeMap<PathBuf, PathBuf>;

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Runs a `cargo build` and answers the WebAssembly modules that it made, by the folder of their package.
pub(crate) fn build_modules(arguments: &[&str]) -> Result<Modules> {
    let mut command = cargo();
    command.arg("build").args(arguments).arg("--message-format=json-render-diagnostics");
    command.args(["--config", &reproducible()?]);
    let shown = steps::show(&command);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let mut modules = Modules::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            take(&line.with_context(|| format!("`{shown}` cannot be read"))?, &mut modules)?;
        }
    }
    let status = child.wait().with_context(|| format!("`{shown}` cannot be waited for"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(modules)
}

/// Panic locations name source files: without the folders of the machine that built them, a component is the same
/// wherever it is built.
fn reproducible() -> Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("this user has no home folder")?;
    let flags: Vec<String> = [(paths::root(), "source"), (home, "cargo")]
        .iter()
        .map(|(folder, name)| format!("{:?}", format!("--remap-path-prefix={}={name}", folder.display())))
        .collect();
    Ok(format!("target.'cfg(target_family = \"wasm\")'.rustflags = [{}]", flags.join(", ")))
}

fn take(line: &str, modules: &mut Modules) -> Result<()> {
    let message: Message = serde_json::from_str(line).with_context(|| format!("cargo said something else: {line}"))?;
    if message.reason != "compiler-artifact" {
        return Ok(());
    }
    let folder = message.manifest_path.parent().map(Path::to_owned).unwrap_or_default();
    for file in message.filenames {
        if file.extension().is_some_and(|extension| extension == "wasm")
            && let Some(other) = modules.insert(folder.clone(), file.clone())
        {
            bail!(
                "{} builds two modules, {} and {}; one is a connector",
                folder.display(),
                other.display(),
                file.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_build_within_does_not_see_which_package_started_it() {
        let command = cargo();
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        // Tests are started by cargo, which sets these as `cargo run` does.
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"] {
            assert!(removed.iter().any(|removed| *removed == name), "{name}");
        }
        assert!(!describes_a_package("CARGO_TARGET_DIR") && !describes_a_package("CARGO_HOME"));
    }

    #[test]
    fn modules_are_found_by_the_folder_of_their_package() {
        let mut modules = Modules::new();
        take(r#"{"reason":"build-finished","success":true}"#, &mut modules).unwrap();
        take(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","filenames":["/t/liba.rlib"]}"#,
            &mut modules,
        )
        .unwrap();
        take(r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","filenames":["/t/b.wasm","/t/libb.rlib"]}"#, &mut modules)
            .unwrap();
        assert_eq!(modules, [(PathBuf::from("/w/b"), PathBuf::from("/t/b.wasm"))].into());
        let second = r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","filenames":["/t/c.wasm"]}"#;
        assert!(take(second, &mut modules).is_err());
        assert!(take("warning: not JSON", &mut modules).is_err());
    }
}
