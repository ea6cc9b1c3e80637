//! What has to be on the machine. Installed when that is simple; otherwise the command that does it is named.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, paths, steps};

/// What connectors and guests are compiled for.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// What the guest with a standard library's WASI is compiled for.
pub(crate) const WASI_TARGET: &str = "wasm32-wasip2";
/// The independent implementations that signatures, assertions and AWS requests are checked with, and how Python knows them.
const PYTHON: [(&str, &str); 5] = [
    ("standardwebhooks>=1,<2", "standardwebhooks"),
    ("PyJWT>=2,<3", "jwt"),
    ("cryptography", "cryptography"),
    ("google-auth>=2,<3", "google.auth.jwt"),
    ("moto[server]>=5.2,<6", "moto.server"),
];
/// The OAuth server that grants are proved against.
const OIDC_PROVIDER: &str = "oidc-provider@9.13";
/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// Makes sure that the compiler has a target.
pub(crate) fn wasm_target(target: &str) -> Result<()> {
    let output = Command::new("rustc")
        .current_dir(paths::root())
        .args(["--print", "target-libdir", "--target", target])
        .stdin(Stdio::null())
        .output()
        .context("cannot run rustc; install Rust from https://rustup.rs")?;
    let libraries = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    println!("    the compilation target {target} is missing; adding it");
    steps::run(Command::new("rustup").current_dir(paths::root()).args(["target", "add", target]))
        .with_context(|| format!("add the target with `rustup target add {target}` or your distribution's package"))
}

/// Makes sure that there is a Python environment with the independent implementations.
pub(crate) fn python() -> Result<()> {
    let venv = paths::venv();
    let python = venv.join("bin/python");
    if has_packages(&python) {
        return Ok(());
    }
    let packages = PYTHON.map(|(package, _)| package);
    let shown =
        format!("python3 -m venv {0} && {0}/bin/python -m pip install '{1}'", venv.display(), packages.join("' '"));
    let advice =
        || format!("signatures are verified by independent libraries in Python; make its environment with: {shown}");
    println!("    making a Python environment in {}", venv.display());
    steps::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .with_context(advice)
        .context("on Debian, first: apt-get install -y python3-venv")?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    steps::run(Command::new(&python).args(install).args(packages)).with_context(advice)?;
    if !has_packages(&python) {
        bail!("{} cannot import what was installed; remove {} and try again", python.display(), venv.display());
    }
    Ok(())
}

/// Makes the RSA key of the tests of service accounts: no library of the host's makes one, and none is committed.
pub(crate) fn rsa_key() -> Result<()> {
    const MAKE: &str = "\
import sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
open(sys.argv[1], 'wb').write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
";
    let file = paths::test_key();
    if file.is_file() {
        return Ok(());
    }
    let folder = file.parent().context("the key has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    steps::run(Command::new(paths::venv().join("bin/python")).args(["-c", MAKE]).arg(&file))
}

fn has_packages(python: &Path) -> bool {
    let mut command = Command::new(python);
    let import = format!("import {}", PYTHON.map(|(_, module)| module).join(", "));
    command.args(["-c", &import]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Makes sure that there is the OAuth server that grants are proved against.
pub(crate) fn node() -> Result<()> {
    debian("a real OAuth server is written for Node", &["node", "npm"], &["nodejs", "npm"])?;
    let folder = paths::node();
    if folder.join("node_modules/oidc-provider/package.json").is_file() {
        return Ok(());
    }
    println!("    installing {OIDC_PROVIDER} in {}", folder.display());
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"]).arg(&folder).arg(OIDC_PROVIDER);
    steps::run(&mut npm)
        .with_context(|| format!("install it with: npm install --prefix {} {OIDC_PROVIDER}", folder.display()))
}

/// Makes sure that there is a browser to submit a real form with, and its driver.
pub(crate) fn browser() -> Result<()> {
    let why = "a real browser submits the form in a test";
    debian(why, &["chromium", "chromedriver"], &["chromium", "chromium-driver"])
}

/// Makes sure that there is what the proofs about single calls need: a C compiler, and strace as their second witness.
pub(crate) fn tracing() -> Result<()> {
    debian("a shared object of the proofs is compiled from C", &["cc"], &["gcc", "libc6-dev"])?;
    debian("strace is the second witness of what the host does to its files", &["strace"], &["strace"])
}

/// Installs these packages of Debian's unless the programs are there.
fn debian(why: &str, programs: &[&str], packages: &[&str]) -> Result<()> {
    const INSTALL: [&str; 3] = ["install", "-y", "--no-install-recommends"];
    let missing = || programs.iter().copied().filter(|name| !on_path(name)).collect::<Vec<_>>().join(" and ");
    if missing().is_empty() {
        return Ok(());
    }
    let advice = format!("{why}; install it with: apt-get {} {}", INSTALL.join(" "), packages.join(" "));
    if !on_path("apt-get") || !root_user() {
        bail!("{} not found; {advice} (as root)", missing());
    }
    println!("    installing {}", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        steps::run(apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments)).with_context(|| advice.clone())
    };
    apt(&["update"])?;
    apt(&[&INSTALL[..], packages].concat())?;
    if !missing().is_empty() {
        bail!("{} not found after installing; {advice}", missing());
    }
    Ok(())
}

/// Makes sure that there is `cargo deny`.
pub(crate) fn cargo_deny() -> Result<()> {
    let mut probe = cargo::cargo();
    probe.args(["deny", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("    cargo-deny is missing; installing it");
    steps::run(cargo::cargo().args(["install", "--locked", CARGO_DENY]))
        .with_context(|| format!("install it with: cargo install --locked {CARGO_DENY}"))
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn root_user() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
