//! Rotation of keys while the host serves. What is durable at any moment opens with the keys at hand: a key is stored
//! before anything is sealed with it, and removed after nothing is.
//!
//! A new *data key* seals what is written from then on; a pass seals the rest anew; an older key goes when no record in the
//! whole store bears its tag, and this process never sealed with it. What this process did seal with it may still be on its
//! way to the disk, and there is no moment at which that is known not to be so: such a key goes after the next start.
//!
//! A new *outer key* is used from the start that brings it; rewrapping puts the keys wrapped under the one before it under
//! the new one.

use std::sync::Arc;

use serde::Serialize;
use sgen_store::{Commit, Keyspace, Ticket};

use crate::data_key::{DataKey, Held};
use crate::error::VaultError;
use crate::fingerprint;
use crate::key_check;
use crate::owner::KeyOwner;
use crate::reseal::{Page, Resealed, Shelf};
use crate::ring::{self, DESTROYED, MOST};
use crate::vault::{KeyTurn, Vault};

/// How many owners' keys are rewrapped in one commit.
const PAGE: usize = 128;

/// A change of keys, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Another data key of an owner seals from now on.
    Rotated {
        /// Whose.
        owner: KeyOwner,
        /// Its id.
        key: String,
        /// The id of the one before it.
        previous: String,
    },
    /// Data keys under which no record was left were removed.
    Removed {
        /// Whose.
        owner: KeyOwner,
        /// Their ids.
        keys: Vec<String>,
    },
    /// Data keys were wrapped under the present outer key.
    Rewrapped {
        /// The outer key's id.
        outer: String,
        /// Whose keys.
        owners: u64,
    },
    /// Nothing is wrapped under these outer keys any more.
    OuterRetired {
        /// The present outer key's id.
        outer: String,
        /// Their ids.
        retired: Vec<String>,
    },
}

/// Records changes of keys: what is recorded and what is changed is one commit.
pub trait KeyRecord: Send + Sync {
    /// Adds the record to the commit and submits it.
    ///
    /// # Errors
    /// [`VaultError::Unrecorded`]; nothing is submitted then.
    fn submit(&self, change: KeyChange, commit: Commit) -> Result<Ticket, VaultError>;
}

/// A data key that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Begun {
    /// The key's id.
    pub key: String,
    /// The id of the one before it.
    pub previous: String,
}

/// What rewrapping did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewrapped {
    /// The present outer key's id.
    pub key: String,
    /// How many owners' keys were wrapped under it.
    pub owners: u64,
    /// The outer keys that are not needed any more.
    pub retired: Vec<String>,
}

/// Rotates the keys of one vault.
pub struct Rotation {
    vault: Arc<Vault>,
    record: Arc<dyn KeyRecord>,
}

impl Rotation {
    /// A rotation that records what it does.
    #[must_use]
    pub fn new(vault: Arc<Vault>, record: Arc<dyn KeyRecord>) -> Self {
        Self { vault, record }
    }

    /// Whose keys there are, those that were destroyed left out.
    ///
    /// # Errors
    /// The store's.
    pub fn owners(&self) -> Result<Vec<KeyOwner>, VaultError> {
        let owners = self.vault.owners()?.into_iter();
        Ok(owners.filter(|(_, record)| record != DESTROYED).map(|(owner, _)| owner).collect())
    }

    /// The owners that have older keys beside the present one.
    ///
    /// # Errors
    /// The store's.
    pub fn pending(&self) -> Result<Vec<KeyOwner>, VaultError> {
        let owners = self.vault.owners()?.into_iter();
        Ok(owners.filter(|(_, record)| ring::has_older(record)).map(|(owner, _)| owner).collect())
    }

    /// Begins a new data key: it seals from the moment at which this returns.
    ///
    /// # Errors
    /// [`VaultError::UnknownSite`], [`VaultError::SiteDestroyed`], [`VaultError::TooManyKeys`], or the store's.
    pub async fn begin(&self, owner: &KeyOwner) -> Result<Begun, VaultError> {
        let vault = &self.vault;
        let turn = vault.turn().await;
        let key = vault.required(owner, None)?;
        let (held, commit) = vault.next_key(&turn, &key)?;
        let begun = Begun { key: held.id().to_owned(), previous: key.key_id() };
        let change =
            KeyChange::Rotated { owner: owner.clone(), key: begun.key.clone(), previous: begun.previous.clone() };
        self.record.submit(change, commit)?.await?;
        key.begin(held);
        Ok(begun)
    }

    /// Seals what is under older keys of an owner anew: its credentials and what is on the shelves. Does nothing when there
    /// are no older keys. `told` hears how far it is, page by page.
    ///
    /// # Errors
    /// The store's. What is done stays done, and another call goes on.
    pub async fn reseal(
        &self,
        owner: &KeyOwner,
        shelves: &[Shelf],
        told: &mut (dyn FnMut(Resealed) + Send),
    ) -> Result<Resealed, VaultError> {
        let mut done = Resealed::default();
        let Some(key) = self.vault.data_key(owner)? else { return Ok(done) };
        if key.older_ids().is_empty() {
            return Ok(done);
        }
        let credentials = |from: &[u8]| self.vault.reseal_credentials(&key, from);
        run(credentials, &mut done, told).await?;
        for shelf in shelves {
            run(|from: &[u8]| self.vault.reseal_page(&key, shelf, from), &mut done, told).await?;
        }
        Ok(done)
    }

    /// Removes older data keys that nothing needs any more. Answers how many.
    ///
    /// Reads the whole store when there is anything to remove; `told` hears how many records were looked at.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_idle(&self, told: &mut (dyn FnMut(u64) + Send)) -> Result<usize, VaultError> {
        let mut candidates = Vec::new();
        for owner in self.pending()? {
            if let Some(key) = self.vault.data_key(&owner)? {
                // From here on nothing new can bear the tag of these.
                let idle = key.idle();
                candidates.extend((!idle.is_empty()).then_some((key, idle)));
            }
        }
        if candidates.is_empty() {
            return Ok(0);
        }
        let census = self.vault.census(told).await?;
        let mut removed = 0_usize;
        for (key, mut idle) in candidates {
            idle.retain(|held| census.under(held.tag()) == 0);
            removed = removed.saturating_add(self.remove(&key, &idle).await?);
        }
        Ok(removed)
    }

    async fn remove(&self, key: &DataKey, gone: &[Arc<Held>]) -> Result<usize, VaultError> {
        let turn = self.vault.turn().await;
        let Some(commit) = self.vault.without(&turn, key, gone)? else { return Ok(0) };
        let keys = gone.iter().map(|held| held.id().to_owned()).collect();
        self.record.submit(KeyChange::Removed { owner: key.owner().clone(), keys }, commit)?.await?;
        key.forget(gone);
        Ok(gone.len())
    }

    /// Wraps every data key under the present outer key. When that is done the outer keys before it are not needed any
    /// more. `told` hears how many owners' keys were wrapped so far.
    ///
    /// # Errors
    /// The store's, or [`VaultError::Unopenable`] for a key that is damaged. What is done stays done, and another call goes
    /// on.
    pub async fn rewrap(&self, told: &mut (dyn FnMut(u64) + Send)) -> Result<Rewrapped, VaultError> {
        let vault = &self.vault;
        let outer = vault.key_id().to_owned();
        let mut wrapped = 0_u64;
        loop {
            let turn = vault.turn().await;
            let (commit, owners) = vault.rewrap_page(&turn)?;
            if commit.is_empty() {
                // Under the same turn in which nothing was found: only the present key wraps, so nothing comes after.
                let retired: Vec<String> =
                    key_check::in_use(vault.store.as_ref())?.into_iter().filter(|id| *id != outer).collect();
                if !retired.is_empty() {
                    let mut commit = Commit::new();
                    key_check::retire_older(vault.store.as_ref(), &mut commit)?;
                    let change = KeyChange::OuterRetired { outer: outer.clone(), retired: retired.clone() };
                    self.record.submit(change, commit)?.await?;
                }
                return Ok(Rewrapped { key: outer, owners: wrapped, retired });
            }
            self.record.submit(KeyChange::Rewrapped { outer: outer.clone(), owners }, commit)?.await?;
            wrapped = wrapped.saturating_add(owners);
            told(wrapped);
        }
    }
}

/// Goes through pages to the last.
async fn run(
    page: impl Fn(&[u8]) -> Result<Page, VaultError>,
    done: &mut Resealed,
    told: &mut (dyn FnMut(Resealed) + Send),
) -> Result<(), VaultError> {
    let mut from = Vec::new();
    loop {
        let Page { done: more, ticket, next } = page(&from)?;
        if let Some(ticket) = ticket {
            ticket.await?;
        }
        done.add(more);
        told(*done);
        let Some(next) = next else { return Ok(()) };
        from = next;
        // Deliveries come first.
        tokio::task::yield_now().await;
    }
}

impl Vault {
    /// Every owner that has keys, with what is stored of them.
    pub(crate) fn owners(&self) -> Result<Vec<(KeyOwner, Vec<u8>)>, VaultError> {
        let (mut owners, mut from) = (Vec::new(), Vec::new());
        loop {
            let page = self.store.scan(Keyspace::Key, &from, b"", PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(owners) };
            from.clone_from(last);
            from.push(0);
            owners.extend(page.into_iter().filter_map(|(key, record)| Some((KeyOwner::of_key(&key)?, record))));
        }
    }

    fn next_key(&self, _: &KeyTurn, key: &DataKey) -> Result<(Arc<Held>, Commit), VaultError> {
        let owner = key.owner();
        let stored = self.store.get(Keyspace::Key, &owner.key())?.ok_or_else(|| owner.unknown())?;
        let held = ring::unwrap(&stored, &self.outer, &self.deployment, owner, &self.entropy)?;
        if held.len() >= MOST {
            return Err(VaultError::TooManyKeys { owner: owner.to_string(), count: held.len() });
        }
        let (fresh, mut record) = ring::make(&self.outer, &self.deployment, owner, &held, &self.entropy)?;
        record.extend_from_slice(&stored);
        let mut commit = Commit::new();
        commit.put(Keyspace::Key, owner.key(), record);
        Ok((fresh, commit))
    }

    /// A commit that removes keys from what is stored; nothing when there is nothing to remove.
    fn without(&self, _: &KeyTurn, key: &DataKey, gone: &[Arc<Held>]) -> Result<Option<Commit>, VaultError> {
        let owner = key.owner();
        let stored = self.store.get(Keyspace::Key, &owner.key())?.filter(|stored| stored != DESTROYED);
        let (Some(stored), false) = (stored, gone.is_empty()) else { return Ok(None) };
        let held = ring::unwrap(&stored, &self.outer, &self.deployment, owner, &self.entropy)?;
        let goes = |at: usize| held.get(at).is_some_and(|held| gone.iter().any(|gone| gone.id() == held.id()));
        let mut commit = Commit::new();
        commit.put(Keyspace::Key, owner.key(), ring::filter(&stored, owner, |at| at == 0 || !goes(at))?);
        Ok(Some(commit))
    }

    /// The keys of some owners wrapped anew, and of how many; none when all are.
    fn rewrap_page(&self, _: &KeyTurn) -> Result<(Commit, u64), VaultError> {
        let (mut commit, mut count) = (Commit::new(), 0_u64);
        let stale = |record: &[u8]| self.outer.of(record).is_none_or(|by| by.id() != self.key_id());
        if self.store.get(Keyspace::Key, fingerprint::KEY)?.is_some_and(|record| stale(&record)) {
            self.fingerprint.keep(&self.outer, &mut commit)?;
        }
        for (owner, record) in self.owners()? {
            if record == DESTROYED {
                continue;
            }
            if let Some(record) = ring::rewrap(&record, &self.outer, &owner)? {
                commit.put(Keyspace::Key, owner.key(), record);
                count = count.saturating_add(1);
            }
            if count >= PAGE as u64 {
                break;
            }
        }
        Ok((commit, count))
    }
}
