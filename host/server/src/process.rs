//! What the process asks of the system for itself.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids core dumps: an image of this process's memory holds credentials.
pub(crate) fn forbid_core_dumps() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("core dumps cannot be forbidden (setrlimit RLIMIT_CORE), and one would hold credentials")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::process::getrlimit;

    #[test]
    fn core_dumps_are_off_for_good() {
        forbid_core_dumps().unwrap();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        assert!(setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(0) }).is_err());
    }
}
