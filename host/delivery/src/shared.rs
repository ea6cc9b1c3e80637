//! Credentials that the instances of one account's sites share: given once, referred to by each instance on its own.
//!
//! What is known of a shared credential is one record; the secret is the vault's. An instance refers to one version. A
//! rotation writes the new version first, and then takes every referring instance over, each with its audit record in its
//! own site's log; what a kill leaves undone is done after the next start, and until then the version before still opens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sgen_audit::{Action, Actor, Draft, PLATFORM_SITE};
use sgen_catalog::Manifest;
use sgen_model::{
    AccountId, ConnectorInstance, CredentialRef, Failure, FailureClass, InstanceId, SecretBytes, SharedId, SharedRef,
    SiteId, SlotName, Timestamp,
};
use sgen_store::{Commit, Keyspace};

use crate::account_guard::OtherEnvironment;
use crate::error::{DeliveryError, Problem};
use crate::grants;
use crate::records::{InstanceRecord, decode, encode};
use crate::runtime::{PAGE, Runtime};

/// What may be shown of a shared credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedCredential {
    /// Its id in the account.
    pub id: SharedId,
    /// Counts rotations, from 1.
    pub version: u32,
    /// A keyed digest, so that equal credentials can be recognised and nothing else.
    pub fingerprint: String,
    /// When it was given.
    pub set_at: Timestamp,
    /// The instances that refer to it, with the slot.
    #[serde(default, skip_deserializing)]
    pub referred_by: Vec<(InstanceId, SlotName)>,
}

fn key(shared: &SharedRef) -> Vec<u8> {
    format!("shared/{}/{}", shared.account, shared.id).into_bytes()
}

impl SharedCredential {
    fn reference(&self, account: &AccountId) -> CredentialRef {
        CredentialRef {
            version: self.version,
            fingerprint: self.fingerprint.clone(),
            set_at: self.set_at,
            shared: Some(SharedRef { account: account.clone(), id: self.id.clone() }),
        }
    }
}

/// Why an instance is paused for a reference that was revoked, when one was.
pub(crate) fn revoked(record: &InstanceRecord) -> Option<Failure> {
    let (slot, shared) = record.revoked.first_key_value()?;
    let said = format!(
        "the credential {slot} is missing: its reference to the shared credential {shared} was revoked; give the instance a \
         credential of its own or another reference"
    );
    let mut failure = Failure::new(FailureClass::AuthRevoked, said);
    failure.code = Some("reference-revoked".to_owned());
    Some(failure)
}

impl Runtime {
    /// Gives an account a shared credential, or rotates it: every instance that refers to it goes over, and those that were
    /// paused for it go on.
    ///
    /// # Errors
    /// [`DeliveryError::Invalid`] when the secret cannot be used by itself or by a referring instance's endpoints; the
    /// store's.
    pub async fn share(
        self: &Arc<Self>,
        actor: &Actor,
        account: &AccountId,
        id: &SharedId,
        secret: SecretBytes,
    ) -> Result<SharedCredential, DeliveryError> {
        let _turn = self.control.lock().await;
        let shared = SharedRef { account: account.clone(), id: id.clone() };
        let known = self.stored(&shared)?;
        let version = known.as_ref().map_or(0, |known| known.version).saturating_add(1);
        self.check_shared(&shared, &secret)?;
        let mut commit = Commit::new();
        let now = self.parts.clock.now();
        let sealed = self.parts.vault.seal_shared(&shared, version, &secret, now, &mut commit).map_err(|error| {
            match DeliveryError::from(error) {
                error if error.fault() == sgen_model::Fault::Operator => {
                    DeliveryError::Invalid(vec![Problem::new("secret", error.to_string())])
                }
                error => error,
            }
        })?;
        let CredentialRef { version, fingerprint, set_at, .. } = sealed;
        let mut credential = SharedCredential { id: id.clone(), version, fingerprint, set_at, referred_by: Vec::new() };
        commit.put(Keyspace::Meta, key(&shared), encode("shared credential", &credential)?);
        let action = Action::SharedCredentialSet {
            account: account.clone(),
            credential: id.clone(),
            version,
            fingerprint: credential.fingerprint.clone(),
        };
        self.submit_for_platform(actor, action, commit).await?;
        self.take_over(actor, account, &credential).await?;
        credential.referred_by = self.referring(&shared);
        Ok(credential)
    }

    /// The shared credentials of an account.
    ///
    /// # Errors
    /// The store's.
    pub fn shared_credentials(&self, account: &AccountId) -> Result<Vec<SharedCredential>, DeliveryError> {
        let mut found = self.stored_below(format!("shared/{account}/").as_bytes())?;
        for (shared, credential) in &mut found {
            credential.referred_by = self.referring(shared);
        }
        Ok(found.into_iter().map(|(_, credential)| credential).collect())
    }

    /// Deletes a shared credential that nobody refers to.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`]; [`DeliveryError::Conflict`] names the instances that refer to it.
    pub async fn unshare(&self, actor: &Actor, account: &AccountId, id: &SharedId) -> Result<(), DeliveryError> {
        let _turn = self.control.lock().await;
        let shared = SharedRef { account: account.clone(), id: id.clone() };
        self.stored(&shared)?.ok_or_else(|| unknown(&shared))?;
        let referring: Vec<String> = self.referring(&shared).iter().map(|(id, _)| id.to_string()).collect();
        if !referring.is_empty() {
            let said = format!("{} refer to it; revoke their references first", referring.join(", "));
            return Err(DeliveryError::Conflict(said));
        }
        let mut commit = Commit::new();
        self.parts.vault.delete_shared(&shared, &mut commit)?;
        commit.delete(Keyspace::Meta, key(&shared));
        let action = Action::SharedCredentialDeleted { account: account.clone(), credential: id.clone() };
        self.submit_for_platform(actor, action, commit).await
    }

    /// Lets a slot of an instance refer to a shared credential of its account.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`] when the account has no such credential, [`DeliveryError::UnknownSlot`],
    /// [`DeliveryError::AccountElsewhere`].
    pub async fn refer(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        slot: &SlotName,
        shared: &SharedId,
        other_environment: OtherEnvironment,
    ) -> Result<CredentialRef, DeliveryError> {
        let account = self.account_of_reference(id, slot, shared).await;
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut record = self.record(id)?;
        let connector = &record.instance.connector;
        let entry = active.entries.get(connector).ok_or_else(|| DeliveryError::UnknownConnector(connector.clone()))?;
        if !entry.manifest.credentials.contains_key(slot.as_str()) {
            return Err(DeliveryError::UnknownSlot { connector: connector.clone(), slot: slot.clone() });
        }
        let reference = self.reference(&entry.manifest, &record.instance.account, slot, shared)?;
        let own = record.instance.credentials.insert(slot.clone(), reference.clone());
        record.revoked.remove(slot);
        let allowed = self.admit_account(actor, &mut record, account, other_environment).await?;
        let mut commit = Commit::new();
        if own.is_some_and(|own| own.shared.is_none()) {
            self.parts.vault.delete_slot(&record.instance.place, id, slot, &mut commit)?;
        }
        let action = Action::ReferenceGranted {
            slot: slot.clone(),
            credential: shared.clone(),
            version: reference.version,
            fingerprint: reference.fingerprint.clone(),
        };
        self.store_with(actor, &active, record, action, allowed.into_iter().collect(), commit).await?;
        Ok(reference)
    }

    /// Revokes the reference of one slot of one instance: the instance is paused until it has a credential again. Others
    /// that refer to the same credential go on.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`] when the slot refers to no shared credential.
    pub async fn revoke_reference(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        slot: &SlotName,
    ) -> Result<ConnectorInstance, DeliveryError> {
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut record = self.record(id)?;
        let reference = record.instance.credentials.get(slot).and_then(|known| known.shared.clone());
        let SharedRef { id: shared, .. } = reference
            .ok_or_else(|| DeliveryError::Unknown(format!("reference to a shared credential in slot {slot}")))?;
        record.instance.credentials.remove(slot);
        record.revoked.insert(slot.clone(), shared.clone());
        record.account = None;
        let action = Action::ReferenceRevoked { slot: slot.clone(), credential: shared };
        self.store_change(actor, &active, record, action, Commit::new()).await
    }

    /// What an instance of the account gets for a shared credential, when its endpoints can use it.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`], or [`DeliveryError::Invalid`].
    pub(crate) fn reference(
        &self,
        manifest: &Manifest,
        account: &AccountId,
        slot: &SlotName,
        id: &SharedId,
    ) -> Result<CredentialRef, DeliveryError> {
        let shared = SharedRef { account: account.clone(), id: id.clone() };
        let reference = self.stored(&shared)?.ok_or_else(|| unknown(&shared))?.reference(account);
        let opened = self.parts.vault.shared(&reference)?;
        grants::check_credential(manifest, slot, opened.current())
            .map_err(|problem| DeliveryError::Invalid(vec![problem]))?;
        Ok(reference)
    }

    /// Takes instances over that a kill left behind the credentials that they refer to. The caller has the turn.
    pub(crate) async fn take_over_all(self: &Arc<Self>) -> Result<(), DeliveryError> {
        for (shared, credential) in self.stored_below(b"shared/")? {
            self.take_over(&Actor::Platform, &shared.account, &credential).await?;
        }
        Ok(())
    }

    /// Takes every instance over that refers to an earlier version.
    async fn take_over(
        self: &Arc<Self>,
        actor: &Actor,
        account: &AccountId,
        credential: &SharedCredential,
    ) -> Result<(), DeliveryError> {
        let Some(active) = self.catalog() else { return Ok(()) };
        let reference = credential.reference(account);
        for slot in self.all_slots() {
            let mut record = slot.record.as_ref().clone();
            let mut actions = Vec::new();
            for (slot, known) in &mut record.instance.credentials {
                if known.shared == reference.shared && known.version != reference.version {
                    known.clone_from(&reference);
                    actions.push(Action::CredentialsRotated {
                        slot: slot.clone(),
                        version: reference.version,
                        fingerprint: reference.fingerprint.clone(),
                    });
                }
            }
            let Some(action) = actions.pop() else { continue };
            // The next check learns whose account it is.
            record.account = None;
            let beside = actions.into_iter().map(|action| self.draft(actor, &record.instance, action)).collect();
            self.store_with(actor, &active, record, action, beside, Commit::new()).await?;
        }
        Ok(())
    }

    /// Whether every endpoint that would get the secret can use it.
    fn check_shared(&self, shared: &SharedRef, secret: &SecretBytes) -> Result<(), DeliveryError> {
        let Some(active) = self.catalog() else { return Ok(()) };
        for (id, slot) in self.referring(shared) {
            let connector = self.record(&id)?.instance.connector;
            let Some(entry) = active.entries.get(&connector) else { continue };
            grants::check_credential(&entry.manifest, &slot, secret).map_err(|problem| {
                let said = format!("instance {id} refers to it, and {}", problem.message);
                DeliveryError::Invalid(vec![Problem::new("secret", said)])
            })?;
        }
        Ok(())
    }

    fn referring(&self, shared: &SharedRef) -> Vec<(InstanceId, SlotName)> {
        let mut found = Vec::new();
        for slot in self.all_slots() {
            let instance = &slot.record.instance;
            let slots = instance.credentials.iter().filter(|(_, known)| known.shared.as_ref() == Some(shared));
            found.extend(slots.map(|(slot, _)| (instance.id.clone(), slot.clone())));
        }
        found
    }

    fn stored(&self, shared: &SharedRef) -> Result<Option<SharedCredential>, DeliveryError> {
        let bytes = self.parts.store.get(Keyspace::Meta, &key(shared))?;
        bytes.map(|bytes| decode("shared credential", &bytes)).transpose()
    }

    fn stored_below(&self, prefix: &[u8]) -> Result<Vec<(SharedRef, SharedCredential)>, DeliveryError> {
        let (mut found, mut from) = (Vec::new(), Vec::new());
        loop {
            let page = self.parts.store.scan(Keyspace::Meta, &from, prefix, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            from.clone_from(last);
            from.push(0);
            for (key, bytes) in &page {
                let credential: SharedCredential = decode("shared credential", bytes)?;
                let account = std::str::from_utf8(key).ok().and_then(|key| key.split('/').nth(1)).unwrap_or_default();
                let account = AccountId::parse(account).map_err(|e| DeliveryError::record("shared credential", e))?;
                found.push((SharedRef { account, id: credential.id.clone() }, credential));
            }
        }
    }

    /// What is of an account and no one site is recorded in the platform's own log.
    async fn submit_for_platform(&self, actor: &Actor, action: Action, commit: Commit) -> Result<(), DeliveryError> {
        let draft = Draft {
            environment: None,
            actor: actor.clone(),
            instance: None,
            connector: None,
            catalog_version: self.catalog().map(|active| active.version.clone()),
            component_digest: None,
            action,
        };
        let site = SiteId::parse(PLATFORM_SITE).map_err(|e| DeliveryError::record("platform site", e))?;
        Ok(self.parts.audit.append(&site, vec![draft], commit)?.await?)
    }
}

fn unknown(shared: &SharedRef) -> DeliveryError {
    DeliveryError::Unknown(format!("shared credential {} in account {}", shared.id, shared.account))
}
