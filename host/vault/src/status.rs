//! Which keys are in use, and how many records are under them.

use std::sync::Arc;

use serde::Serialize;
use sgen_model::{AccountId, Entropy, SiteId};
use sgen_store::Store;

use crate::error::VaultError;
use crate::key_check;
use crate::outer::OuterKeys;
use crate::owner::KeyOwner;
use crate::ring::{self, DESTROYED};
use crate::vault::Vault;

/// The keys of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    /// The id of the outer key that wraps.
    pub outer_key: String,
    /// The ids of outer keys before it that something may still be wrapped under.
    pub older_outer_keys: Vec<String>,
    /// The data keys, by owner.
    pub owners: Vec<OwnerKeys>,
}

/// The data keys of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnerKeys {
    /// The site, when they are a site's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// The account, when they are an account's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Whether they were destroyed: then there are none.
    pub destroyed: bool,
    /// The ids of the outer keys that they are wrapped under.
    pub wrapped_under: Vec<String>,
    /// The present key first, then from the newest to the oldest.
    pub keys: Vec<DataKeyStatus>,
}

/// One data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataKeyStatus {
    /// Its id.
    pub id: String,
    /// How many records are sealed under it; absent when they were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

impl Vault {
    /// Which keys are in use; with `count`, how many records are under each, for which the whole store is read and `told`
    /// hears how many records were looked at.
    ///
    /// # Errors
    /// [`VaultError::Unopenable`] or [`VaultError::Damaged`] for keys that do not open, or the store's.
    pub async fn key_status(&self, count: bool, told: &mut (dyn FnMut(u64) + Send)) -> Result<KeyStatus, VaultError> {
        let census = if count { Some(self.census(told).await?) } else { None };
        let mut owners = Vec::new();
        for (owner, record) in self.owners()? {
            let destroyed = record == DESTROYED;
            let (wrapped_under, held) = if destroyed {
                (Vec::new(), Vec::new())
            } else {
                let held = ring::unwrap(&record, &self.outer, &self.deployment, &owner, &self.entropy)?;
                (ring::outer_ids(&record, &self.outer, &owner)?, held)
            };
            let keys = held.iter().map(|held| DataKeyStatus {
                id: held.id().to_owned(),
                records: census.as_ref().map(|census| census.under(held.tag())),
            });
            let keys = keys.collect();
            let (site, account) = match owner {
                KeyOwner::Site(site) => (Some(site), None),
                KeyOwner::Account(account) => (None, Some(account)),
            };
            owners.push(OwnerKeys { site, account, destroyed, wrapped_under, keys });
        }
        let in_use = key_check::in_use(self.store.as_ref())?;
        let older_outer_keys = in_use.into_iter().filter(|id| id != self.key_id()).collect();
        Ok(KeyStatus { outer_key: self.key_id().to_owned(), older_outer_keys, owners })
    }

    /// The status of a store that no host has open. Unlike opening a vault, this changes nothing: a present key that the
    /// store does not know yet is not made known to it.
    ///
    /// # Errors
    /// As [`Vault::open`], and [`VaultError::KeyCheckMissing`] for a store that was never sealed; as
    /// [`Vault::key_status`].
    pub async fn look(
        store: Arc<dyn Store>,
        keys: impl Into<OuterKeys>,
        deployment: &str,
        entropy: Arc<dyn Entropy>,
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<KeyStatus, VaultError> {
        let (vault, _unwritten) = Self::prepare(store, keys.into(), deployment, entropy)?;
        vault.key_status(true, told).await
    }
}
