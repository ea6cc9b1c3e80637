//! The data keys of one owner: the present one seals, and older ones open what has not been sealed anew yet. Knows nothing
//! of where records are stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use sgen_model::{Entropy, Environment};
use zeroize::Zeroizing;

use crate::envelope::{Bound, KEY_TAG, OVERHEAD, Sealer, Unopened, tag_of};
use crate::error::VaultError;
use crate::key::KEY_BYTES;
use crate::owner::KeyOwner;

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

/// One key, and whether this process has sealed anything with it. What another process sealed is on disk or was never
/// committed; what this one sealed may be on its way there.
pub(crate) struct Held {
    sealer: Sealer,
    used: AtomicBool,
}

impl Held {
    pub(crate) fn new(
        key: Zeroizing<[u8; KEY_BYTES]>,
        deployment: &str,
        owner: &KeyOwner,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, VaultError> {
        let sealer = Sealer::new(key, deployment, &owner.binding(), entropy)?;
        Ok(Self { sealer, used: AtomicBool::new(false) })
    }

    pub(crate) fn id(&self) -> &str {
        self.sealer.key_id()
    }

    pub(crate) fn tag(&self) -> [u8; KEY_TAG] {
        self.sealer.tag()
    }
}

/// The data key of one owner through all its rotations. Cheap to keep and to share; useless once it is destroyed.
pub struct DataKey {
    owner: KeyOwner,
    /// The present one first, then from the newest to the oldest. Empty once destroyed.
    ring: RwLock<Vec<Arc<Held>>>,
}

impl DataKey {
    /// What sealing adds to a plaintext, in bytes.
    pub const OVERHEAD: usize = OVERHEAD;

    pub(crate) fn new(owner: &KeyOwner, ring: Vec<Arc<Held>>) -> Self {
        Self { owner: owner.clone(), ring: RwLock::new(ring) }
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &KeyOwner {
        &self.owner
    }

    /// A public name of the present key, in hex. It tells nothing of the key. Empty once destroyed.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.ring().first().map(|held| held.id().to_owned()).unwrap_or_default()
    }

    /// The names of the keys before it that are still kept, from the newest to the oldest.
    #[must_use]
    pub fn older_ids(&self) -> Vec<String> {
        self.older().iter().map(|held| held.id().to_owned()).collect()
    }

    /// Seals a record.
    ///
    /// # Errors
    /// [`VaultError::SiteDestroyed`], or [`VaultError::Entropy`].
    pub fn seal(&self, context: &SealContext<'_>, plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.seal_bound(context.bound(), plaintext)
    }

    /// Opens a record that was sealed in the same context, under whichever of the keys.
    ///
    /// # Errors
    /// [`VaultError::SiteDestroyed`]; [`VaultError::Unopenable`] when it is damaged or belongs elsewhere.
    pub fn open(&self, context: &SealContext<'_>, record: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.open_bound(context.bound(), record)
            .map_err(|error| error.into_vault(|| format!("{} {} of {}", context.kind, context.id, self.owner)))
    }

    pub(crate) fn seal_bound(&self, bound: Bound<'_>, plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
        let present = {
            let ring = self.ring();
            let present = ring.first().ok_or_else(|| self.owner.destroyed())?;
            // Under the lock: once another key has taken its place, nothing begins to be sealed with this one.
            present.used.store(true, Ordering::Release);
            Arc::clone(present)
        };
        Ok(present.sealer.seal(bound, plaintext)?)
    }

    pub(crate) fn open_bound(&self, bound: Bound<'_>, record: &[u8]) -> Result<Vec<u8>, OpenFailure> {
        let tag = tag_of(record).ok_or(OpenFailure::Unopened(Unopened::Malformed));
        let held = {
            let ring = self.ring();
            if ring.is_empty() {
                return Err(OpenFailure::Destroyed(self.owner.clone()));
            }
            let tag = tag?;
            ring.iter().find(|held| held.tag() == tag).cloned().ok_or(OpenFailure::Unopened(Unopened::OtherKey))?
        };
        held.sealer.open(bound, record).map_err(OpenFailure::Unopened)
    }

    /// Whether a record was sealed under one of the older keys.
    pub(crate) fn is_older(&self, record: &[u8]) -> bool {
        let Some(tag) = tag_of(record) else { return false };
        self.ring().iter().skip(1).any(|held| held.tag() == tag)
    }

    /// The older keys.
    pub(crate) fn older(&self) -> Vec<Arc<Held>> {
        self.ring().iter().skip(1).cloned().collect()
    }

    /// The older keys with which this process has sealed nothing.
    pub(crate) fn idle(&self) -> Vec<Arc<Held>> {
        self.older().into_iter().filter(|held| !held.used.load(Ordering::Acquire)).collect()
    }

    /// From here on records are sealed with another key.
    pub(crate) fn begin(&self, held: Arc<Held>) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        // A key that was destroyed meanwhile stays so.
        if !ring.is_empty() {
            ring.insert(0, held);
        }
    }

    /// Forgets keys that nothing is sealed under.
    pub(crate) fn forget(&self, gone: &[Arc<Held>]) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        ring.retain(|held| !gone.iter().any(|gone| gone.id() == held.id()));
    }

    /// From here on every holder of this key is refused.
    pub(crate) fn destroy(&self) {
        self.ring.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn ring(&self) -> RwLockReadGuard<'_, Vec<Arc<Held>>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a record of an owner does not open.
pub(crate) enum OpenFailure {
    Destroyed(KeyOwner),
    Unopened(Unopened),
}

impl OpenFailure {
    pub(crate) fn into_vault(self, what: impl FnOnce() -> String) -> VaultError {
        match self {
            Self::Destroyed(owner) => owner.destroyed(),
            Self::Unopened(Unopened::Malformed) => VaultError::Damaged { what: what() },
            Self::Unopened(Unopened::OtherKey | Unopened::Refused) => VaultError::Unopenable { what: what() },
        }
    }
}
