//! The vault itself: the data keys in the store, wrapped.
//!
//! It never submits a commit of its own after opening, but for sealing records anew, which changes nothing that they say:
//! whoever changes state owns the commit, so that the change and its audit record are one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use sgen_model::{Entropy, SiteId};
use sgen_store::{Commit, Keyspace, Store};
use zeroize::Zeroizing;

use crate::data_key::DataKey;
use crate::envelope::derive;
use crate::error::VaultError;
use crate::fingerprint::Fingerprint;
use crate::key::KEY_BYTES;
use crate::key_check::{self, Verdict};
use crate::outer::{Outer, OuterKeys};
use crate::owner::KeyOwner;
use crate::ring::{self, DESTROYED};

/// Seals and opens what the store must not hold in plain.
pub struct Vault {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) deployment: String,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) outer: Outer,
    pub(crate) fingerprint: Fingerprint,
    /// Keys that the store has.
    keys: RwLock<HashMap<KeyOwner, Arc<DataKey>>>,
    /// What is under way: keys given to a commit that may not be on disk yet, with their wrapped form (making the same
    /// owner's key twice must give the same key).
    created: Mutex<Created>,
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
pub(crate) struct Created {
    made: HashMap<KeyOwner, (Arc<DataKey>, Vec<u8>)>,
    /// Owners whose destruction may not be on disk yet: their keys must not be loaded again.
    destroyed: HashSet<KeyOwner>,
}

enum Stored {
    Key(Arc<DataKey>),
    Destroyed,
    Nothing,
}

impl Vault {
    /// Opens the vault over a store. An empty store gets its key check; on any other the outer keys are verified against
    /// it first. A present key that the store does not know yet is added to the check, when the keys in use are there
    /// too: from then on it wraps.
    ///
    /// # Errors
    /// [`VaultError::WrongKey`], [`VaultError::KeyMissing`], [`VaultError::WrongDeployment`],
    /// [`VaultError::KeyCheckMissing`], or the store's.
    pub async fn open(
        store: Arc<dyn Store>,
        keys: impl Into<OuterKeys>,
        deployment: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Arc<Self>, VaultError> {
        let (vault, opening) = Self::prepare(store, keys.into(), deployment, entropy)?;
        let key = vault.key_id();
        match opening {
            Verdict::Known => {}
            Verdict::New(commit) => {
                vault.store.submit(commit).await?;
                tracing::info!(key, "the store is new: it is sealed under this vault key from now on");
            }
            Verdict::Joins { mut commit, before } => {
                vault.fingerprint.keep(&vault.outer, &mut commit)?;
                vault.store.submit(commit).await?;
                tracing::info!(
                    key,
                    before,
                    "a new vault key wraps from now on; `sgen-host keys rewrap` ends the use of the one before it"
                );
            }
        }
        Ok(Arc::new(vault))
    }

    /// A vault, and what has to be written before it may be used.
    pub(crate) fn prepare(
        store: Arc<dyn Store>,
        keys: OuterKeys,
        deployment: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Verdict), VaultError> {
        let outer = Outer::new(keys, deployment, &entropy)?;
        let verdict = key_check::verify(store.as_ref(), &outer, deployment)?;
        let first = match &verdict {
            Verdict::Joins { before, .. } => outer.by_id(before).unwrap_or(&outer.present),
            Verdict::Known | Verdict::New(_) => &outer.present,
        };
        let fingerprint = Fingerprint::open(&store, &outer, first)?;
        let vault = Self {
            store,
            deployment: deployment.to_owned(),
            entropy,
            outer,
            fingerprint,
            keys: RwLock::default(),
            created: Mutex::default(),
            turn: Arc::default(),
        };
        Ok((vault, verdict))
    }

    /// The public name of the present outer key, in hex.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.outer.present.id()
    }

    /// A key for one purpose of the host, such as authenticating its compile cache. The same outer key and purpose
    /// always give the same key; different purposes give unrelated ones. Another outer key gives another one.
    ///
    /// # Errors
    /// [`VaultError::Entropy`], which a 32-byte key never meets.
    pub fn derive_key(&self, purpose: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        derive(&self.outer.present.bytes, &[b"sgen vault purpose v1 ", purpose.as_bytes()], key.as_mut())?;
        Ok(key)
    }

    /// A keyed fingerprint of a value, in sixteen hex digits: equal for equal values of one purpose, and otherwise
    /// meaningless. It stays the same when the outer key is rotated.
    #[must_use]
    pub fn fingerprint(&self, purpose: &str, value: &[u8]) -> String {
        // Length first, so that no purpose flows into a value.
        let length = u32::try_from(purpose.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.fingerprint.of(&[b"sgen vault purpose v1 ".as_slice(), &length, purpose.as_bytes(), value].concat())
    }

    /// The data key of a site; nothing when the site has none, or no longer.
    ///
    /// # Errors
    /// [`VaultError::Unopenable`] or [`VaultError::Damaged`] when the store's record of it cannot be opened.
    pub fn site(&self, site: &SiteId) -> Result<Option<Arc<DataKey>>, VaultError> {
        self.data_key(&site.clone().into())
    }

    /// Whether a site was destroyed: then its id is spent and nothing of it can be read.
    ///
    /// # Errors
    /// The store's.
    pub fn is_destroyed(&self, site: &SiteId) -> Result<bool, VaultError> {
        let owner = KeyOwner::Site(site.clone());
        if self.created().destroyed.contains(&owner) {
            return Ok(true);
        }
        Ok(self.store.get(Keyspace::Key, &owner.key())?.as_deref() == Some(DESTROYED))
    }

    /// Makes a site's data key and adds it, wrapped, to the caller's commit. A site that has one keeps it.
    ///
    /// # Errors
    /// [`VaultError::SiteDestroyed`]; or randomness or the store failing.
    pub fn create_site(&self, site: &SiteId, commit: &mut Commit) -> Result<Arc<DataKey>, VaultError> {
        self.create(&site.clone().into(), commit)
    }

    pub(crate) fn create(&self, owner: &KeyOwner, commit: &mut Commit) -> Result<Arc<DataKey>, VaultError> {
        let mut created = self.created();
        match self.load(owner, &mut created)? {
            Stored::Key(key) => return Ok(key),
            Stored::Destroyed => return Err(owner.destroyed()),
            Stored::Nothing => {}
        }
        if let Some((key, wrapped)) = created.made.get(owner) {
            commit.put(Keyspace::Key, owner.key(), wrapped.clone());
            return Ok(Arc::clone(key));
        }
        let (held, wrapped) = ring::make(&self.outer, &self.deployment, owner, &[], &self.entropy)?;
        let key = Arc::new(DataKey::new(owner, vec![held]));
        commit.put(Keyspace::Key, owner.key(), wrapped.clone());
        created.made.insert(owner.clone(), (Arc::clone(&key), wrapped));
        Ok(key)
    }

    /// Destroys a site's data keys and its credentials in the caller's commit. Everything sealed for the site is
    /// unreadable from now on, for every holder of its key. The turn is held until that commit is on disk.
    ///
    /// Pages that the store has not reused yet may keep the wrapped keys until they are; they open only under the outer
    /// key.
    ///
    /// # Errors
    /// [`VaultError::UnknownSite`], or the store's.
    pub fn destroy_site(&self, _: &KeyTurn, site: &SiteId, commit: &mut Commit) -> Result<(), VaultError> {
        let owner = KeyOwner::Site(site.clone());
        let mut created = self.created();
        if !created.made.contains_key(&owner) && self.store.get(Keyspace::Key, &owner.key())?.is_none() {
            return Err(owner.unknown());
        }
        self.delete_credentials(format!("{site}/").as_bytes(), commit)?;
        let waiting = created.made.remove(&owner);
        created.destroyed.insert(owner.clone());
        commit.put(Keyspace::Key, owner.key(), DESTROYED);
        let loaded = self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&owner);
        for key in loaded.into_iter().chain(waiting.map(|(key, _)| key)) {
            key.destroy();
        }
        Ok(())
    }

    /// Waits until nobody else changes stored data keys. A change is made from what is stored, so whoever makes one keeps
    /// the turn until its commit is on disk.
    pub async fn turn(&self) -> KeyTurn {
        KeyTurn { _held: Arc::clone(&self.turn).lock_owned().await }
    }

    pub(crate) fn data_key(&self, owner: &KeyOwner) -> Result<Option<Arc<DataKey>>, VaultError> {
        if let Some(key) = self.loaded(owner) {
            return Ok(Some(key));
        }
        // Under one lock with `create` and `destroy_site`, so that an owner never has two keys in memory.
        let mut created = self.created();
        Ok(match self.load(owner, &mut created)? {
            Stored::Key(key) => Some(key),
            Stored::Destroyed | Stored::Nothing => None,
        })
    }

    /// An owner's key, also one that is made in the very commit at hand.
    pub(crate) fn required(&self, owner: &KeyOwner, within: Option<&Commit>) -> Result<Arc<DataKey>, VaultError> {
        if let Some(key) = self.loaded(owner) {
            return Ok(key);
        }
        let mut created = self.created();
        match self.load(owner, &mut created)? {
            Stored::Key(key) => return Ok(key),
            Stored::Destroyed => return Err(owner.destroyed()),
            Stored::Nothing => {}
        }
        let made = created.made.get(owner).filter(|(_, wrapped)| {
            within.is_some_and(|commit| commit.clone().into_ops().iter().any(|op| op.value.as_ref() == Some(wrapped)))
        });
        made.map(|(key, _)| Arc::clone(key)).ok_or_else(|| owner.unknown())
    }

    /// What the store has for an owner. Its key goes from `created` to `keys` here, once it is on disk.
    fn load(&self, owner: &KeyOwner, created: &mut Created) -> Result<Stored, VaultError> {
        if let Some(key) = self.loaded(owner) {
            return Ok(Stored::Key(key));
        }
        if created.destroyed.contains(owner) {
            return Ok(Stored::Destroyed);
        }
        let Some(record) = self.store.get(Keyspace::Key, &owner.key())? else { return Ok(Stored::Nothing) };
        if record == DESTROYED {
            return Ok(Stored::Destroyed);
        }
        let key = match created.made.remove(owner) {
            Some((key, own)) if own == record => key,
            _ => {
                let held = ring::unwrap(&record, &self.outer, &self.deployment, owner, &self.entropy)?;
                Arc::new(DataKey::new(owner, held))
            }
        };
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(owner.clone(), Arc::clone(&key));
        Ok(Stored::Key(key))
    }

    fn loaded(&self, owner: &KeyOwner) -> Option<Arc<DataKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(owner).map(Arc::clone)
    }

    fn created(&self) -> MutexGuard<'_, Created> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change stored data keys: one holder at a time.
pub struct KeyTurn {
    _held: tokio::sync::OwnedMutexGuard<()>,
}
