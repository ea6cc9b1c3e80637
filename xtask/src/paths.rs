//! Where everything is, relative to the workspace and not to where the command was given.

use std::path::{Path, PathBuf};

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// The build folder: `target`, or what `CARGO_TARGET_DIR` says.
pub(crate) fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where `release` writes unless told otherwise.
pub(crate) fn catalog() -> PathBuf {
    target().join("catalog")
}

/// The release that tests run against.
pub(crate) fn test_catalog() -> PathBuf {
    target().join("test-catalog")
}

/// The components of the test guests.
pub(crate) fn guests() -> PathBuf {
    target().join("guests")
}

/// The Python environment with what verifies independently.
pub(crate) fn venv() -> PathBuf {
    target().join("venv")
}

/// The RSA key of the tests of service accounts; never committed.
pub(crate) fn test_key() -> PathBuf {
    target().join("test-keys/rsa-2048.pem")
}

/// The packages for Node that the proofs run.
pub(crate) fn node() -> PathBuf {
    target().join("node")
}

/// Development keys; never committed.
pub(crate) fn keys() -> PathBuf {
    root().join("dev").join("keys")
}

/// A program of this workspace, as built for use.
pub(crate) fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}
