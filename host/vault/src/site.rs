//! A site's data key: seals and opens the site's records. Knows nothing of where they are stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sgen_model::{Entropy, Environment, SiteId};
use zeroize::Zeroizing;

use crate::envelope::{Bound, OVERHEAD, Sealer, Unopened};
use crate::error::VaultError;

/// Where a record belongs, within its site. A record sealed in one context opens in no other.
#[derive(Debug, Clone, Copy)]
pub struct SealContext<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// What kind of record it is: `event`, `capture`. `credential` is the vault's own.
    pub kind: &'a str,
    /// Which one it is, such as its log position.
    pub id: &'a str,
    /// The version of the record, or of its format.
    pub version: u64,
}

impl<'a> SealContext<'a> {
    fn bound(self) -> Bound<'a> {
        let Self { environment, kind, id, version } = self;
        Bound { environment: environment.as_str(), kind, id, slot: "", version }
    }
}

/// The data key of one site. Cheap to keep and to share; useless once the site is destroyed.
pub struct SiteKey {
    site: SiteId,
    sealer: Sealer,
    destroyed: AtomicBool,
}

impl SiteKey {
    /// What sealing adds to a plaintext, in bytes.
    pub const OVERHEAD: usize = OVERHEAD;

    pub(crate) fn new(
        key: Zeroizing<[u8; 32]>,
        deployment: &str,
        site: &SiteId,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, VaultError> {
        let sealer = Sealer::new(key, deployment, site.as_str(), entropy)?;
        Ok(Self { site: site.clone(), sealer, destroyed: AtomicBool::new(false) })
    }

    /// The site.
    #[must_use]
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// A public name of the key, in hex. It tells nothing of the key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.sealer.key_id()
    }

    /// Seals a record.
    ///
    /// # Errors
    /// [`VaultError::SiteDestroyed`], or [`VaultError::Entropy`].
    pub fn seal(&self, context: &SealContext<'_>, plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.seal_bound(context.bound(), plaintext)
    }

    /// Opens a record that was sealed in the same context.
    ///
    /// # Errors
    /// [`VaultError::SiteDestroyed`]; [`VaultError::Unopenable`] when it is damaged or belongs elsewhere.
    pub fn open(&self, context: &SealContext<'_>, record: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.open_bound(context.bound(), record)
            .map_err(|error| error.into_vault(|| format!("{} {} of site {}", context.kind, context.id, self.site)))
    }

    pub(crate) fn seal_bound(&self, bound: Bound<'_>, plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
        if self.destroyed.load(Ordering::Acquire) {
            return Err(VaultError::SiteDestroyed { site: self.site.clone() });
        }
        Ok(self.sealer.seal(bound, plaintext)?)
    }

    pub(crate) fn open_bound(&self, bound: Bound<'_>, record: &[u8]) -> Result<Vec<u8>, OpenFailure> {
        if self.destroyed.load(Ordering::Acquire) {
            return Err(OpenFailure::Destroyed(self.site.clone()));
        }
        self.sealer.open(bound, record).map_err(OpenFailure::Unopened)
    }

    /// From here on every holder of this key is refused.
    pub(crate) fn destroy(&self) {
        self.destroyed.store(true, Ordering::Release);
    }
}

/// Why a record of a site does not open.
pub(crate) enum OpenFailure {
    Destroyed(SiteId),
    Unopened(Unopened),
}

impl OpenFailure {
    pub(crate) fn into_vault(self, what: impl FnOnce() -> String) -> VaultError {
        match self {
            Self::Destroyed(site) => VaultError::SiteDestroyed { site },
            Self::Unopened(Unopened::Malformed) => VaultError::Damaged { what: what() },
            Self::Unopened(Unopened::OtherKey | Unopened::Refused) => VaultError::Unopenable { what: what() },
        }
    }
}
