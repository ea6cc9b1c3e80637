//! Erasure of a site: its lanes are stopped, its keys destroyed, and what is left of it removed.
//!
//! Once the destruction of the keys is on disk nothing of the site can be read; that commit also has the audit record. What
//! follows only gives the space back: it may be cut off anywhere, and goes on after the next start, because the site's
//! instances and the events of its log are the last to go.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use sgen_audit::{Action, Actor, Draft};
use sgen_model::{AccountId, InstanceId, SiteId};
use sgen_store::{Commit, Keyspace};

use crate::error::DeliveryError;
use crate::keys;
use crate::records::{InstanceRecord, decode};
use crate::runtime::{PAGE, Runtime, Slot};

/// How long batches that are under way may take to end. What has not ended then ends without being noted.
const GRACE: Duration = Duration::from_secs(10);
/// How many entries are removed in one commit.
const REMOVED: usize = 256;

impl Runtime {
    /// Whether a site was erased: its id is spent.
    ///
    /// # Errors
    /// The store's.
    pub fn is_erased(&self, site: &SiteId) -> Result<bool, DeliveryError> {
        Ok(self.parts.vault.is_destroyed(site)?)
    }

    /// Erases a site for good. `commit` has what the rooms above keep of the site; it takes effect together with the
    /// destruction of the keys. Answers the instances that it had.
    ///
    /// # Errors
    /// [`DeliveryError::Vault`] when the site has no keys; the store's.
    pub async fn erase_site(
        self: &Arc<Self>,
        actor: &Actor,
        account: &AccountId,
        site: &SiteId,
        mut commit: Commit,
    ) -> Result<Vec<InstanceId>, DeliveryError> {
        let _turn = self.control.lock().await;
        let slots: Vec<Slot> =
            self.all_slots().into_iter().filter(|slot| slot.record.instance.place.site == *site).collect();
        slots.iter().for_each(|slot| slot.lane.stop());
        let ended = tokio::time::timeout(GRACE, join_all(slots.iter().map(|slot| slot.lane.ended()))).await;
        if ended.is_err() {
            tracing::warn!(%site, "batches of a site that is erased are still under way; nothing is noted of them");
        }
        let instances: Vec<InstanceId> = slots.iter().map(|slot| slot.record.instance.id.clone()).collect();
        let keys = self.parts.vault.turn().await;
        self.parts.vault.destroy_site(&keys, site, &mut commit)?;
        let draft = Draft {
            environment: None,
            actor: actor.clone(),
            instance: None,
            connector: None,
            catalog_version: self.catalog().map(|active| active.version.clone()),
            component_digest: None,
            action: Action::SiteErased { account: account.clone(), instances: instances.clone() },
        };
        self.parts.audit.append(site, vec![draft], commit)?.await?;
        drop(keys);
        let mut known = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        instances.iter().for_each(|id| drop(known.remove(id)));
        drop(known);
        self.forget_logs(site);
        tracing::info!(%site, instances = instances.len(), "a site was erased: its keys are destroyed");
        self.beside_lanes(sweep(Arc::clone(self), BTreeSet::from([site.clone()])));
        Ok(instances)
    }

    /// The sites of which something is left although their keys are destroyed, given those that have instances.
    pub(crate) fn remains(&self, mut sites: BTreeSet<SiteId>) -> Result<BTreeSet<SiteId>, DeliveryError> {
        for place in keys::logged_places(self.parts.store.as_ref())? {
            if !sites.contains(&place.site) && self.parts.vault.is_destroyed(&place.site)? {
                sites.insert(place.site);
            }
        }
        Ok(sites)
    }

    async fn remove_remains(&self, site: &SiteId) -> Result<(), DeliveryError> {
        let of_site = format!("{site}/").into_bytes();
        self.remove_bundles(site).await?;
        self.remove_all(Keyspace::Meta, format!("trimmed/{site}/").as_bytes()).await?;
        self.remove_all(Keyspace::LogIndex, &of_site).await?;
        for id in self.stored_instances(site)? {
            let own = keys::instance_prefix(&id);
            for keyspace in [Keyspace::Retry, Keyspace::Dead, Keyspace::Journal, Keyspace::Surfaced] {
                self.remove_all(keyspace, &own).await?;
            }
            let mut last = Commit::new();
            last.delete(Keyspace::Lane, keys::instance(&id)).delete(Keyspace::Instance, keys::instance(&id));
            self.parts.store.submit(last).await?;
        }
        self.remove_all(Keyspace::Log, &of_site).await
    }

    /// Removes what was handed to platform support: it quotes what downstreams answered.
    async fn remove_bundles(&self, site: &SiteId) -> Result<(), DeliveryError> {
        let mut from = Vec::new();
        loop {
            let page = self.parts.store.scan(Keyspace::Escalation, &from, b"", PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from.clone_from(last);
            from.push(0);
            let mut commit = Commit::new();
            for (key, bytes) in page {
                let bundle: Value = decode("support bundle", &bytes)?;
                if bundle.pointer("/place/site").and_then(Value::as_str) == Some(site.as_str()) {
                    commit.delete(Keyspace::Escalation, key);
                }
            }
            if !commit.is_empty() {
                self.parts.store.submit(commit).await?;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn remove_all(&self, keyspace: Keyspace, prefix: &[u8]) -> Result<(), DeliveryError> {
        loop {
            let page = self.parts.store.scan(keyspace, b"", prefix, REMOVED)?;
            if page.is_empty() {
                return Ok(());
            }
            let mut commit = Commit::new();
            for (key, _) in page {
                commit.delete(keyspace, key);
            }
            self.parts.store.submit(commit).await?;
            tokio::task::yield_now().await;
        }
    }

    fn stored_instances(&self, site: &SiteId) -> Result<Vec<InstanceId>, DeliveryError> {
        let (mut ids, mut from) = (Vec::new(), Vec::new());
        loop {
            let page = self.parts.store.scan(Keyspace::Instance, &from, b"", PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(ids) };
            from.clone_from(last);
            from.push(0);
            for (_, bytes) in &page {
                let InstanceRecord { instance, .. } = decode("connector instance", bytes)?;
                ids.extend((instance.place.site == *site).then_some(instance.id));
            }
        }
    }
}

/// Removes what is left of erased sites.
pub(crate) async fn sweep(runtime: Arc<Runtime>, sites: BTreeSet<SiteId>) {
    let stopping = runtime.stopping();
    for site in sites {
        let removed = tokio::select! {
            () = stopping.cancelled() => return,
            removed = runtime.remove_remains(&site) => removed,
        };
        match removed {
            Ok(()) => tracing::info!(%site, "what was left of an erased site is removed"),
            Err(error) => {
                tracing::error!(%site, %error, "what is left of an erased site stays until the next start");
            }
        }
    }
}
