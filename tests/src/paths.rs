//! Where the built artefacts are, and which command makes a missing one.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_path_buf()
}

/// The build folder: `target` beside the workspace's manifest, or what `CARGO_TARGET_DIR` says.
#[must_use]
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The host's program; `SGEN_HOST_BINARY` overrides it.
///
/// # Errors
/// When it has not been built; the error names the command.
pub fn host_binary() -> Result<PathBuf> {
    let path = match std::env::var_os("SGEN_HOST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => target().join("release/sgen-host"),
    };
    built(path, "cargo build --release -p sgen-host")
}

/// A program of this crate, by its name.
///
/// # Errors
/// When it has not been built; the error names the command.
pub fn own_binary(name: &str) -> Result<PathBuf> {
    built(target().join("release").join(name), "cargo build --release -p sgen-tests")
}

/// The folder of a signed release: `SGEN_CATALOG`, else the tests' own, else the development release.
///
/// # Errors
/// When there is none; the error names the command.
pub fn catalog() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("SGEN_CATALOG") {
        return built(PathBuf::from(folder), "cargo xtask release 2026.11.0 --out \"$SGEN_CATALOG\"");
    }
    let of_tests = target().join("test-catalog");
    if of_tests.join("release.dsse.json").is_file() {
        return Ok(of_tests);
    }
    development_catalog()
}

/// The folder of the signed development release.
///
/// # Errors
/// When there is none; the error names the command.
pub fn development_catalog() -> Result<PathBuf> {
    let folder = target().join("catalog");
    built(folder.join("release.dsse.json"), "cargo xtask release 2026.11.0")?;
    Ok(folder)
}

/// The component of a test guest, by its folder's name.
///
/// # Errors
/// When it has not been built; the error names the command.
pub fn guest(name: &str) -> Result<PathBuf> {
    built(target().join("guests").join(format!("{name}.wasm")), "cargo xtask guests")
}

/// The Python of the environment that holds the independent `standardwebhooks` library.
///
/// # Errors
/// When the environment is missing; the error names the command.
pub fn python() -> Result<PathBuf> {
    built(
        target().join("venv/bin/python"),
        "python3 -m venv target/venv && target/venv/bin/pip install standardwebhooks",
    )
}

fn built(path: PathBuf, command: &str) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path);
    }
    bail!("{} does not exist; make it with: {command}", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_artefact_is_named_with_the_command_that_makes_it() {
        let error = built(PathBuf::from("/nowhere/sgen-host"), "cargo build").unwrap_err().to_string();
        assert_eq!(error, "/nowhere/sgen-host does not exist; make it with: cargo build");
    }

    #[test]
    fn the_root_is_the_folder_of_the_workspace() {
        assert!(root().join("wit/connector.wit").is_file());
    }
}
