//! `guests`: the hostile and odd components that the engine's tests run.
//!
//! They are a workspace of their own, outside this one: nothing that ships may depend on them, and they are not checked
//! against the allowed imports, since some exist to break that rule.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, package, paths, toolchain};

/// The one guest that a standard library's WASI is compiled into: its toolchain makes the component.
const WASI_GUEST: &str = "guest-wasi-std";

/// A core module as text: what a guest is made of that does what Rust has no words for.
const TEXT: &str = "module.wat";

/// Builds every guest and wraps it; names it after its folder.
pub(crate) fn run() -> Result<()> {
    let out = paths::guests();
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut count = 0_usize;
    for (folder, module) in build(toolchain::WASM_TARGET, &[])? {
        write(&out, &folder, &package::component_of(&module)?)?;
        count += 1;
    }
    for folder in texts()? {
        write(&out, &folder, &package::component_of_text(&folder.join(TEXT))?)?;
        count += 1;
    }
    for (folder, component) in build(toolchain::WASI_TARGET, &["--package", WASI_GUEST])? {
        let bytes = fs::read(&component).with_context(|| format!("cannot read {}", component.display()))?;
        write(&out, &folder, &bytes)?;
        count += 1;
    }
    println!("{count} test guests in {}", out.display());
    Ok(())
}

/// The guests that are written as core modules.
fn texts() -> Result<Vec<PathBuf>> {
    let guests = paths::root().join("tests/guests");
    let mut folders = Vec::new();
    for item in fs::read_dir(&guests).with_context(|| format!("cannot read {}", guests.display()))? {
        let folder = item?.path();
        if folder.join(TEXT).is_file() {
            folders.push(folder);
        }
    }
    if folders.is_empty() {
        bail!("no folder of {} has a {TEXT}", guests.display());
    }
    Ok(folders)
}

/// Builds the workspace's default members, or the packages named, for a target.
fn build(target: &str, packages: &[&str]) -> Result<cargo::Modules> {
    toolchain::wasm_target(target)?;
    let manifest = paths::root().join("tests/guests/Cargo.toml");
    let folder = paths::target().join("guests-build");
    let mut arguments = vec!["--manifest-path", path(&manifest)?, "--target-dir", path(&folder)?, "--release"];
    arguments.extend(["--target", target]);
    arguments.extend(packages);
    let modules = cargo::build_modules(&arguments)?;
    if modules.is_empty() {
        bail!("{} built no WebAssembly module for {target}", manifest.display());
    }
    Ok(modules)
}

fn write(out: &Path, folder: &Path, component: &[u8]) -> Result<()> {
    let name = folder.file_name().with_context(|| format!("{} has no name", folder.display()))?;
    let file = out.join(name).with_extension("wasm");
    fs::write(&file, component).with_context(|| format!("cannot write {}", file.display()))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8; move the checkout", path.display()))
}
