//! The vault itself: data keys and credentials in the store, sealed.
//!
//! It never submits a commit of its own after opening: whoever changes state owns the commit, so that the change and its
//! audit record are one.

mod grants;

pub use grants::KeptGrant;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ring::hmac;
use sgen_model::{CredentialRef, Entropy, InstanceId, Place, SecretBytes, SiteId, SlotName, Timestamp};
use sgen_store::{Commit, Keyspace, Store};
use zeroize::Zeroizing;

use crate::credential::{Credential, Credentials, OVERLAP};
use crate::envelope::{Bound, Sealer, derive};
use crate::error::VaultError;
use crate::key::{KEY_BYTES, OuterKey};
use crate::key_check;
use crate::site::SiteKey;

/// The fewest bytes of a credential. Shorter ones could not be told from ordinary text when answers are scrubbed.
const CREDENTIAL_LEAST: usize = 8;
/// The most bytes of a credential: room for any service account's key file.
const CREDENTIAL_MOST: usize = 64 * 1024;

/// Left in the place of a destroyed data key, so that a site's id is never given a second key.
const DESTROYED: &[u8] = b"destroyed";

const PAGE: usize = 256;

/// Seals and opens what the store must not hold in plain.
pub struct Vault {
    store: Arc<dyn Store>,
    deployment: String,
    entropy: Arc<dyn Entropy>,
    outer: Sealer,
    outer_bytes: Zeroizing<[u8; KEY_BYTES]>,
    fingerprint: hmac::Key,
    /// Keys that the store has.
    sites: RwLock<HashMap<SiteId, Arc<SiteKey>>>,
    /// What is under way: keys given to a commit that may not be on disk yet, with their wrapped form (making the same
    /// site's key twice must give the same key).
    created: Mutex<Created>,
}

#[derive(Default)]
struct Created {
    made: HashMap<SiteId, (Arc<SiteKey>, Vec<u8>)>,
    /// Sites whose destruction may not be on disk yet: their keys must not be loaded again.
    destroyed: HashSet<SiteId>,
}

enum Stored {
    Key(Arc<SiteKey>),
    Destroyed,
    Nothing,
}

impl Vault {
    /// Opens the vault over a store. An empty store gets its key check; on any other the outer key is verified against
    /// it first.
    ///
    /// # Errors
    /// [`VaultError::WrongKey`], [`VaultError::WrongDeployment`], [`VaultError::KeyCheckMissing`], or the store's.
    pub async fn open(
        store: Arc<dyn Store>,
        key: OuterKey,
        deployment: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Arc<Self>, VaultError> {
        let bytes = key.into_bytes();
        let outer = Sealer::new(Zeroizing::new(*bytes), deployment, "", Arc::clone(&entropy))?;
        let first = key_check::verify(store.as_ref(), &outer, deployment)?;
        if let Some(commit) = first {
            store.submit(commit).await?;
            tracing::info!(key = outer.key_id(), "the store is new: it is sealed under this vault key from now on");
        }
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        derive(&bytes, &[b"sgen vault fingerprint v1"], secret.as_mut())?;
        Ok(Arc::new(Self {
            store,
            deployment: deployment.to_owned(),
            entropy,
            outer,
            outer_bytes: bytes,
            fingerprint: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()),
            sites: RwLock::default(),
            created: Mutex::default(),
        }))
    }

    /// The public name of the outer key, in hex.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.outer.key_id()
    }

    /// A key for one purpose of the host, such as authenticating its compile cache. The same outer key and purpose
    /// always give the same key; different purposes give unrelated ones.
    ///
    /// # Errors
    /// [`VaultError::Entropy`], which a 32-byte key never meets.
    pub fn derive_key(&self, purpose: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        derive(&self.outer_bytes, &[b"sgen vault purpose v1 ", purpose.as_bytes()], key.as_mut())?;
        Ok(key)
    }

    /// The data key of a site; nothing when the site has none, or no longer.
    ///
    /// # Errors
    /// [`VaultError::Unopenable`] or [`VaultError::Damaged`] when the store's record of it cannot be opened.
    pub fn site(&self, site: &SiteId) -> Result<Option<Arc<SiteKey>>, VaultError> {
        if let Some(key) = self.sites.read().unwrap_or_else(PoisonError::into_inner).get(site) {
            return Ok(Some(Arc::clone(key)));
        }
        // Under one lock with `create_site` and `destroy_site`, so that a site never has two keys in memory.
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match self.load(site, &mut created)? {
            Stored::Key(key) => Some(key),
            Stored::Destroyed | Stored::Nothing => None,
        })
    }

    /// Makes a site's data key and adds it, wrapped, to the caller's commit. A site that has one keeps it.
    ///
    /// # Errors
    /// [`VaultError::SiteDestroyed`]; or randomness or the store failing.
    pub fn create_site(&self, site: &SiteId, commit: &mut Commit) -> Result<Arc<SiteKey>, VaultError> {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        match self.load(site, &mut created)? {
            Stored::Key(key) => return Ok(key),
            Stored::Destroyed => return Err(VaultError::SiteDestroyed { site: site.clone() }),
            Stored::Nothing => {}
        }
        if let Some((key, wrapped)) = created.made.get(site) {
            commit.put(Keyspace::Key, site_key(site), wrapped.clone());
            return Ok(Arc::clone(key));
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        self.entropy.fill(bytes.as_mut())?;
        let wrapped = self.outer.seal(wrapping(site), bytes.as_ref())?;
        let key = Arc::new(SiteKey::new(bytes, &self.deployment, site, Arc::clone(&self.entropy))?);
        commit.put(Keyspace::Key, site_key(site), wrapped.clone());
        created.made.insert(site.clone(), (Arc::clone(&key), wrapped));
        Ok(key)
    }

    /// Destroys a site's data key and its credentials in the caller's commit. Everything sealed for the site is
    /// unreadable from now on, for every holder of its key.
    ///
    /// Pages that the store has not reused yet may keep the wrapped key until they are; it opens only under the outer key.
    ///
    /// # Errors
    /// [`VaultError::UnknownSite`], or the store's.
    pub fn destroy_site(&self, site: &SiteId, commit: &mut Commit) -> Result<(), VaultError> {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        if !created.made.contains_key(site) && self.store.get(Keyspace::Key, &site_key(site))?.is_none() {
            return Err(VaultError::UnknownSite { site: site.clone() });
        }
        self.delete_credentials(format!("{site}/").as_bytes(), commit)?;
        let waiting = created.made.remove(site);
        created.destroyed.insert(site.clone());
        commit.put(Keyspace::Key, site_key(site), DESTROYED);
        let loaded = self.sites.write().unwrap_or_else(PoisonError::into_inner).remove(site);
        for key in loaded.into_iter().chain(waiting.map(|(key, _)| key)) {
            key.destroy();
        }
        Ok(())
    }

    /// Seals a credential into the caller's commit and answers what may be shown and audited of it. `version` counts
    /// from 1; the version before it is kept for [`OVERLAP`], older ones are deleted.
    ///
    /// # Errors
    /// [`VaultError::CredentialLength`], [`VaultError::CredentialVersion`], [`VaultError::UnknownSite`], or the store's.
    #[expect(clippy::too_many_arguments, reason = "each is a part of what the credential is bound to")]
    pub fn seal_credential(
        &self,
        place: &Place,
        instance: &InstanceId,
        slot: &SlotName,
        version: u32,
        secret: SecretBytes,
        now: Timestamp,
        commit: &mut Commit,
    ) -> Result<CredentialRef, VaultError> {
        let length = secret.expose().len();
        if !(CREDENTIAL_LEAST..=CREDENTIAL_MOST).contains(&length) {
            let (least, most) = (CREDENTIAL_LEAST, CREDENTIAL_MOST);
            return Err(VaultError::CredentialLength { slot: slot.clone(), length, least, most });
        }
        let before = version.checked_sub(1).ok_or(VaultError::CredentialVersion)?;
        let key = self.required(&place.site, Some(commit))?;
        let mut plaintext = Zeroizing::new(Vec::with_capacity(length.saturating_add(8)));
        plaintext.extend_from_slice(secret.expose());
        plaintext.extend_from_slice(&now.0.to_be_bytes());
        let at = CredentialPlace { place, instance, slot };
        let record = at.with_bound(version, |bound| key.seal_bound(bound, &plaintext))?;
        commit.put(Keyspace::Credential, at.key(version), record);
        for (old, _) in self.store.scan(Keyspace::Credential, b"", at.prefix().as_bytes(), PAGE)? {
            if old != at.key(version) && old != at.key(before) {
                commit.delete(Keyspace::Credential, old);
            }
        }
        Ok(CredentialRef { version, fingerprint: self.fingerprint(secret.expose()), set_at: now })
    }

    /// Opens the credentials that an instance refers to, exactly in the versions it refers to.
    ///
    /// # Errors
    /// [`VaultError::CredentialMissing`], [`VaultError::Unopenable`], [`VaultError::UnknownSite`], or the store's.
    pub fn credentials(
        &self,
        place: &Place,
        instance: &InstanceId,
        slots: &BTreeMap<SlotName, CredentialRef>,
    ) -> Result<Credentials, VaultError> {
        if slots.is_empty() {
            return Ok(Credentials::none());
        }
        let key = self.required(&place.site, None)?;
        slots
            .iter()
            .map(|(slot, reference)| {
                let at = CredentialPlace { place, instance, slot };
                let version = reference.version;
                let (secret, set_at) = self.open_credential(&key, at, version)?.ok_or_else(|| {
                    VaultError::CredentialMissing { instance: instance.clone(), slot: slot.clone(), version }
                })?;
                let mut credential = Credential::new(version, secret);
                if let Some((previous, _)) = self.open_credential(&key, at, version.saturating_sub(1))? {
                    credential = credential.with_previous(previous, set_at.after(OVERLAP));
                }
                Ok((slot.clone(), credential))
            })
            .collect()
    }

    /// Deletes every credential of an instance in the caller's commit.
    ///
    /// # Errors
    /// The store's.
    pub fn delete_instance(&self, place: &Place, instance: &InstanceId, commit: &mut Commit) -> Result<(), VaultError> {
        self.delete_credentials(format!("{place}/{instance}/").as_bytes(), commit)
    }

    fn delete_credentials(&self, prefix: &[u8], commit: &mut Commit) -> Result<(), VaultError> {
        let mut from = Vec::new();
        loop {
            let page = self.store.scan(Keyspace::Credential, &from, prefix, PAGE)?;
            let full = page.len() == PAGE;
            for (key, _) in page {
                from.clone_from(&key);
                commit.delete(Keyspace::Credential, key);
            }
            if !full {
                return Ok(());
            }
            from.push(0);
        }
    }

    fn open_credential(
        &self,
        key: &SiteKey,
        at: CredentialPlace<'_>,
        version: u32,
    ) -> Result<Option<(SecretBytes, Timestamp)>, VaultError> {
        if version == 0 {
            return Ok(None);
        }
        let what = || format!("credential {} of instance {}", at.slot, at.instance);
        let Some(record) = self.store.get(Keyspace::Credential, &at.key(version))? else { return Ok(None) };
        let mut plaintext = at
            .with_bound(version, |bound| key.open_bound(bound, &record))
            .map_err(|failure| failure.into_vault(what))?;
        let Some((_, set_at)) = plaintext.split_last_chunk::<8>() else {
            return Err(VaultError::Damaged { what: what() });
        };
        let set_at = Timestamp(u64::from_be_bytes(*set_at));
        plaintext.truncate(plaintext.len().saturating_sub(8));
        Ok(Some((SecretBytes::new(plaintext), set_at)))
    }

    /// A site's key, also one that is made in the very commit at hand.
    fn required(&self, site: &SiteId, within: Option<&Commit>) -> Result<Arc<SiteKey>, VaultError> {
        if let Some(key) = self.sites.read().unwrap_or_else(PoisonError::into_inner).get(site) {
            return Ok(Arc::clone(key));
        }
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        match self.load(site, &mut created)? {
            Stored::Key(key) => return Ok(key),
            Stored::Destroyed => return Err(VaultError::SiteDestroyed { site: site.clone() }),
            Stored::Nothing => {}
        }
        let made = created.made.get(site).filter(|(_, wrapped)| {
            within.is_some_and(|commit| commit.clone().into_ops().iter().any(|op| op.value.as_ref() == Some(wrapped)))
        });
        made.map(|(key, _)| Arc::clone(key)).ok_or_else(|| VaultError::UnknownSite { site: site.clone() })
    }

    /// What the store has for a site. Its key goes from `created` to `sites` here, once it is on disk.
    fn load(&self, site: &SiteId, created: &mut Created) -> Result<Stored, VaultError> {
        if let Some(key) = self.sites.read().unwrap_or_else(PoisonError::into_inner).get(site) {
            return Ok(Stored::Key(Arc::clone(key)));
        }
        if created.destroyed.contains(site) {
            return Ok(Stored::Destroyed);
        }
        let Some(wrapped) = self.store.get(Keyspace::Key, &site_key(site))? else { return Ok(Stored::Nothing) };
        if wrapped == DESTROYED {
            return Ok(Stored::Destroyed);
        }
        let key = match created.made.remove(site) {
            Some((key, own)) if own == wrapped => key,
            _ => Arc::new(self.unwrap(site, &wrapped)?),
        };
        self.sites.write().unwrap_or_else(PoisonError::into_inner).insert(site.clone(), Arc::clone(&key));
        Ok(Stored::Key(key))
    }

    fn unwrap(&self, site: &SiteId, wrapped: &[u8]) -> Result<SiteKey, VaultError> {
        let what = || format!("the data key of site {site}");
        let plain = self
            .outer
            .open(wrapping(site), wrapped)
            .map(Zeroizing::new)
            .map_err(|_| VaultError::Unopenable { what: what() })?;
        let bytes = <[u8; KEY_BYTES]>::try_from(plain.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| VaultError::Damaged { what: what() })?;
        SiteKey::new(bytes, &self.deployment, site, Arc::clone(&self.entropy))
    }
}

fn site_key(site: &SiteId) -> Vec<u8> {
    format!("site/{site}").into_bytes()
}

fn wrapping(site: &SiteId) -> Bound<'_> {
    Bound { environment: "", kind: "data-key", id: site.as_str(), slot: "", version: 1 }
}

/// Where a credential belongs. Ids have no `/`, so keys and prefixes are unambiguous.
#[derive(Clone, Copy)]
struct CredentialPlace<'a> {
    place: &'a Place,
    instance: &'a InstanceId,
    slot: &'a SlotName,
}

impl CredentialPlace<'_> {
    fn prefix(&self) -> String {
        format!("{}/{}/{}/", self.place, self.instance, self.slot)
    }

    fn key(&self, version: u32) -> Vec<u8> {
        format!("{}{version:010}", self.prefix()).into_bytes()
    }

    fn with_bound<T>(&self, version: u32, then: impl FnOnce(Bound<'_>) -> T) -> T {
        then(Bound {
            environment: self.place.environment.as_str(),
            kind: "credential",
            id: self.instance.as_str(),
            slot: self.slot.as_str(),
            version: u64::from(version),
        })
    }
}
