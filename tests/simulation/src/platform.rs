//! What all simulations of a thread share: the signed release, verified as the host does it, and an engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use sgen_catalog::{Catalog, Floor, TrustRoot};
use sgen_engine::{Engine, EngineConfig, Limits};

/// The connector that is simulated.
pub(crate) const CONNECTOR: &str = "webhook";

/// The release and where its compiled code is kept.
#[derive(Clone)]
pub(crate) struct Release {
    catalog: Catalog,
    cache: PathBuf,
    invocations: u32,
}

impl Release {
    /// Opens and verifies the release in a folder, as the host does.
    pub(crate) fn open(folder: &Path, cache: &Path, invocations: u32) -> Result<Self> {
        if !folder.join("release.dsse.json").is_file() {
            bail!("{} holds no release; make one with: cargo xtask release 2026.11.0", folder.display());
        }
        let root = TrustRoot::load(&folder.join("root.dsse.json"))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let mut catalog = sgen_catalog::open(folder, &root, u64::try_from(now)?, Floor::default())?;
        // The others would only be loaded at every start of every simulated host.
        catalog.connectors.retain(|id, _| id == CONNECTOR);
        if catalog.connectors.is_empty() {
            bail!("the release in {} has no connector {CONNECTOR}", folder.display());
        }
        Ok(Self { catalog, cache: cache.to_owned(), invocations })
    }

    pub(crate) fn catalog(&self) -> Catalog {
        self.catalog.clone()
    }

    /// An engine that knows no time. One per thread: what runs in another thread must not be felt here.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>> {
        let limits = Limits { instances: self.invocations, ..Limits::default() };
        Engine::timeless(EngineConfig { cache: Some(self.cache.clone()), cache_key: [7; 32], limits })
            .context("no engine")
    }
}
