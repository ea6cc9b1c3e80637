//! Rotation of the vault's keys as the host does it: where everything sealed is, what is recorded, and the work that goes on
//! beside the lanes until nothing is left under an older data key.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use sgen_audit::{Action, Actor, AuditLog, Draft, PLATFORM_SITE};
use sgen_model::{Environment, InstanceId, SiteId};
use sgen_store::{Commit, Keyspace, Store, Ticket};
use sgen_vault::{
    Begun, KeyChange, KeyOwner, KeyRecord, KeyStatus, Numbering, Resealed, Rewrapped, Rotation, Shelf, Vault,
    VaultError,
};

use crate::error::DeliveryError;
use crate::keys;
use crate::records::{InstanceRecord, Sealed, decode};
use crate::runtime::{PAGE, Runtime};

/// How long work that failed waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(600);

/// A site's new data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotatedKey {
    /// The site, when it is a site's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// The account, when it is an account's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<sgen_model::AccountId>,
    /// The keys.
    #[serde(flatten)]
    pub begun: Begun,
}

/// Records changes of keys in the audit log of the site, or in the platform's own when they are of no one site.
struct Audited {
    audit: Arc<AuditLog>,
    catalog_version: Option<String>,
}

impl KeyRecord for Audited {
    fn submit(&self, change: KeyChange, commit: Commit) -> Result<Ticket, VaultError> {
        let unrecorded = |reason: &dyn std::fmt::Display| VaultError::Unrecorded(reason.to_string());
        let (owner, action) = match change {
            KeyChange::Rotated { owner, key, previous } => {
                let account = account_of(&owner);
                (Some(owner), Action::DataKeyRotated { key, previous, account })
            }
            KeyChange::Removed { owner, keys } => {
                let account = account_of(&owner);
                (Some(owner), Action::DataKeysRemoved { keys, account })
            }
            KeyChange::Rewrapped { outer, owners } => (None, Action::DataKeysRewrapped { vault_key: outer, owners }),
            KeyChange::OuterRetired { outer, retired } => (None, Action::VaultKeyRetired { vault_key: outer, retired }),
        };
        let site = match owner {
            Some(KeyOwner::Site(site)) => site,
            Some(KeyOwner::Account(_)) | None => SiteId::parse(PLATFORM_SITE).map_err(|e| unrecorded(&e))?,
        };
        let draft = Draft {
            environment: None,
            actor: Actor::Platform,
            instance: None,
            connector: None,
            catalog_version: self.catalog_version.clone(),
            component_digest: None,
            action,
        };
        self.audit.append(&site, vec![draft], commit).map_err(|e| unrecorded(&e))
    }
}

fn account_of(owner: &KeyOwner) -> Option<sgen_model::AccountId> {
    if let KeyOwner::Account(account) = owner { Some(account.clone()) } else { None }
}

/// Rotates the keys of a store, whether a host has it open or not.
pub struct KeyWork {
    store: Arc<dyn Store>,
    rotation: Rotation,
}

impl KeyWork {
    /// `catalog_version` is the one in force, for the audit records; absent for a host that is stopped.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        audit: Arc<AuditLog>,
        catalog_version: Option<String>,
    ) -> Self {
        Self { store, rotation: Rotation::new(vault, Arc::new(Audited { audit, catalog_version })) }
    }

    /// Begins a new data key for one site, or for every site and account.
    ///
    /// # Errors
    /// [`DeliveryError::Vault`] with [`VaultError::UnknownSite`], [`VaultError::SiteDestroyed`] or
    /// [`VaultError::TooManyKeys`]; keys that have begun by then stay.
    pub async fn rotate(&self, site: Option<&SiteId>) -> Result<Vec<RotatedKey>, DeliveryError> {
        let owners = match site {
            Some(site) => vec![KeyOwner::Site(site.clone())],
            None => self.rotation.owners()?,
        };
        let mut rotated = Vec::new();
        for owner in owners {
            let begun = self.rotation.begin(&owner).await?;
            let (site, account) = match owner {
                KeyOwner::Site(site) => (Some(site), None),
                KeyOwner::Account(account) => (None, Some(account)),
            };
            rotated.push(RotatedKey { site, account, begun });
        }
        Ok(rotated)
    }

    /// Seals everything under older data keys anew, and removes those keys as far as that can be done before the next
    /// start. `told` hears how far it is.
    ///
    /// # Errors
    /// The store's or the vault's; another call goes on from there.
    pub async fn reseal(&self, told: &mut (dyn FnMut(Resealed) + Send)) -> Result<Resealed, DeliveryError> {
        let mut done = Resealed::default();
        let pending = self.rotation.pending()?;
        if pending.is_empty() {
            return Ok(done);
        }
        let shelves = self.shelves()?;
        for owner in pending {
            let shelves = match &owner {
                KeyOwner::Site(site) => shelves.get(site).map(Vec::as_slice).unwrap_or_default(),
                KeyOwner::Account(_) => &[],
            };
            let before = done;
            let more = self.rotation.reseal(&owner, shelves, &mut |now| told(sum(before, now))).await;
            match more {
                Ok(more) => done = sum(before, more),
                Err(VaultError::SiteDestroyed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.rotation.remove_idle(&mut |_| told(done)).await?;
        Ok(done)
    }

    /// Wraps every data key under the present vault key; `told` hears of how many sites and accounts so far.
    ///
    /// # Errors
    /// The store's or the vault's; another call goes on from there.
    pub async fn rewrap(&self, told: &mut (dyn FnMut(u64) + Send)) -> Result<Rewrapped, DeliveryError> {
        Ok(self.rotation.rewrap(told).await?)
    }

    /// Where the sealed records of each site are.
    fn shelves(&self) -> Result<BTreeMap<SiteId, Vec<Shelf>>, DeliveryError> {
        let mut shelves: BTreeMap<SiteId, Vec<Shelf>> = BTreeMap::new();
        for place in keys::logged_places(self.store.as_ref())? {
            shelves.entry(place.site.clone()).or_default().push(Shelf {
                keyspace: Keyspace::Log,
                prefix: keys::place_prefix(&place),
                environment: place.environment,
                kind: Sealed::Event.name(),
                id: String::new(),
                numbering: Numbering::Last,
            });
        }
        let mut from = Vec::new();
        loop {
            let page = self.store.scan(Keyspace::Instance, &from, b"", PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(shelves) };
            from.clone_from(last);
            from.push(0);
            for (_, bytes) in &page {
                let InstanceRecord { instance, .. } = decode("connector instance", bytes)?;
                let own = shelves.entry(instance.place.site).or_default();
                own.extend(of_instance(&instance.id, &instance.place.environment));
            }
        }
    }
}

fn of_instance(id: &InstanceId, environment: &Environment) -> [Shelf; 3] {
    let shelf = |keyspace, prefix, sealed: Sealed, numbering| Shelf {
        keyspace,
        prefix,
        environment: environment.clone(),
        kind: sealed.name(),
        id: id.to_string(),
        numbering,
    };
    [
        shelf(Keyspace::Retry, keys::retry_prefix(id), Sealed::Retry, Numbering::Last),
        shelf(Keyspace::Dead, keys::instance_prefix(id), Sealed::Dead, Numbering::Last),
        // Time and count; an entry is sealed with its time.
        shelf(Keyspace::Journal, keys::instance_prefix(id), Sealed::Journal, Numbering::BeforeLast),
    ]
}

fn sum(one: Resealed, other: Resealed) -> Resealed {
    Resealed {
        looked_at: one.looked_at.saturating_add(other.looked_at),
        resealed: one.resealed.saturating_add(other.resealed),
        unreadable: one.unreadable.saturating_add(other.unreadable),
    }
}

/// What the work beside the lanes is about.
#[derive(Default)]
pub(crate) struct Resealing {
    /// Tells that there is something to do.
    pub(crate) wanted: tokio::sync::Notify,
    /// How far it is, while it goes on.
    pub(crate) progress: std::sync::Mutex<Option<Resealed>>,
}

impl Resealing {
    fn tell(&self, progress: Option<Resealed>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

impl Runtime {
    /// Begins a new data key for one site, or for every site and account. What is under the keys before is sealed anew
    /// beside the deliveries.
    ///
    /// # Errors
    /// As [`KeyWork::rotate`].
    pub async fn rotate_keys(&self, site: Option<&SiteId>) -> Result<Vec<RotatedKey>, DeliveryError> {
        let rotated = self.key_work().rotate(site).await;
        // Under way from here on, for whoever waits for its end.
        self.resealing.tell(Some(Resealed::default()));
        self.resealing.wanted.notify_one();
        rotated
    }

    /// Wraps every data key under the present vault key.
    ///
    /// # Errors
    /// As [`KeyWork::rewrap`].
    pub async fn rewrap_keys(&self) -> Result<Rewrapped, DeliveryError> {
        self.key_work().rewrap(&mut |_| ()).await
    }

    /// Which keys are in use; with `count` how many records are under each, for which the whole store is read.
    ///
    /// # Errors
    /// The store's or the vault's.
    pub async fn key_status(&self, count: bool) -> Result<KeyStatus, DeliveryError> {
        Ok(self.parts.vault.key_status(count, &mut |_| ()).await?)
    }

    /// How far sealing anew is; nothing when it is not under way.
    #[must_use]
    pub fn resealing(&self) -> Option<Resealed> {
        *self.resealing.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key_work(&self) -> KeyWork {
        let version = self.catalog().map(|active| active.version.clone());
        KeyWork::new(self.parts.store.clone(), self.parts.vault.clone(), self.parts.audit.clone(), version)
    }
}

/// Seals anew what is under older keys: after a start, and whenever keys were rotated.
pub(crate) async fn run(runtime: Weak<Runtime>) {
    loop {
        let Some(this) = runtime.upgrade() else { return };
        let (stopping, resealing) = (this.stopping(), Arc::clone(&this.resealing));
        let work = this.key_work();
        drop(this);
        let mut told = |progress| resealing.tell(Some(progress));
        let ended = tokio::select! {
            () = stopping.cancelled() => return,
            ended = work.reseal(&mut told) => ended,
        };
        resealing.tell(None);
        drop(work);
        let failed = match ended {
            Ok(done) => {
                if done.resealed > 0 || done.unreadable > 0 {
                    tracing::info!(resealed = done.resealed, unreadable = done.unreadable, "records were sealed anew");
                }
                false
            }
            Err(error) => {
                tracing::error!(%error, "records could not be sealed anew; that is tried again");
                true
            }
        };
        tokio::select! {
            () = stopping.cancelled() => return,
            () = resealing.wanted.notified() => {}
            () = tokio::time::sleep(AGAIN), if failed => {}
        }
    }
}
