//! `guests`: the hostile and odd components that the engine's tests run.
//!
//! They are a workspace of their own, outside this one: nothing that ships may depend on them, and they are not checked
//! against the allowed imports, since some exist to break that rule.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{cargo, package, paths, toolchain};

/// Builds every guest and wraps it; names it after its folder.
pub(crate) fn run() -> Result<()> {
    toolchain::wasm_target()?;
    let workspace = paths::root().join("tests/guests/Cargo.toml");
    let build = paths::target().join("guests-build");
    let modules = cargo::build_modules(&[
        "--manifest-path",
        path(&workspace)?,
        "--target-dir",
        path(&build)?,
        "--workspace",
        "--profile",
        "release",
        "--target",
        toolchain::WASM_TARGET,
    ])?;
    if modules.is_empty() {
        bail!("{} built no WebAssembly module", workspace.display());
    }
    let out = paths::guests();
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for (folder, module) in &modules {
        let name = folder.file_name().with_context(|| format!("{} has no name", folder.display()))?;
        let file = out.join(name).with_extension("wasm");
        fs::write(&file, package::component_of(module)?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{} test guests in {}", modules.len(), out.display());
    Ok(())
}

fn path(path: &std::path::Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8; move the checkout", path.display()))
}
