//! The components of the development release, verified as the host does.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use sgen_catalog::{Catalog, Entry, Floor, TrustRoot};

/// The release's entry of a connector.
pub(crate) fn entry(connector: &str) -> Result<Arc<Entry>> {
    let folder = sgen_tests::paths::catalog()?;
    let root = TrustRoot::load(&folder.join("root.dsse.json"))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let catalog: Catalog = sgen_catalog::open(&folder, &root, u64::try_from(now)?, Floor::default())?;
    catalog.connectors.get(connector).cloned().with_context(|| format!("the release has no connector {connector}"))
}
