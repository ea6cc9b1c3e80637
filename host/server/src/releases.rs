//! Releases from the folder that the configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sgen_api::{ReleaseRefused, ReleaseSource};
use sgen_catalog::{Catalog, Floor, TrustRoot};
use sgen_model::Clock;

/// A folder with a release, and the root document that it must verify against.
pub(crate) struct ReleaseFolder {
    pub(crate) folder: PathBuf,
    pub(crate) trust_root: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
}

impl ReleaseSource for ReleaseFolder {
    fn open(&self, floor: Floor) -> BoxFuture<'_, Result<Catalog, ReleaseRefused>> {
        let (folder, trust_root, now) = (self.folder.clone(), self.trust_root.clone(), self.clock.now().0);
        Box::pin(async move {
            // Reads and hashes megabytes.
            let opened = tokio::task::spawn_blocking(move || verify(&folder, &trust_root, now, floor)).await;
            opened.map_err(|e| ReleaseRefused(e.to_string()))?
        })
    }
}

/// Verifies a release. Both files are read anew: a root document may have been replaced by its successor.
pub(crate) fn verify(folder: &Path, trust_root: &Path, now_ms: u64, floor: Floor) -> Result<Catalog, ReleaseRefused> {
    let root = TrustRoot::load(trust_root)
        .map_err(|e| ReleaseRefused(format!("the trust root {}: {e}", trust_root.display())))?;
    sgen_catalog::open(folder, &root, now_ms, floor)
        .map_err(|e| ReleaseRefused(format!("the release in {}: {e}", folder.display())))
}
