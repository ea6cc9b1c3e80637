//! Credentials in the store, sealed with their site's data key, in versions.

use std::collections::BTreeMap;

use sgen_model::{CredentialRef, InstanceId, Place, SecretBytes, SlotName, Timestamp};
use sgen_store::{Commit, Keyspace};
use zeroize::Zeroizing;

use crate::credential::{Credential, Credentials, OVERLAP};
use crate::data_key::DataKey;
use crate::envelope::Bound;
use crate::error::VaultError;
use crate::vault::Vault;

/// The fewest bytes of a credential. Shorter ones could not be told from ordinary text when answers are scrubbed.
const CREDENTIAL_LEAST: usize = 8;
/// The most bytes of a credential: room for any service account's key file.
pub(crate) const CREDENTIAL_MOST: usize = 64 * 1024;
/// How many credentials are looked at at a time.
pub(crate) const PAGE: usize = 256;

impl Vault {
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
        check_length(&secret).map_err(|(length, least, most)| VaultError::CredentialLength {
            slot: slot.clone(),
            length,
            least,
            most,
        })?;
        let before = version.checked_sub(1).ok_or(VaultError::CredentialVersion)?;
        let key = self.required(&place.site.clone().into(), Some(commit))?;
        let plaintext = stamped(&secret, now);
        let at = CredentialPlace { place, instance, slot };
        let record = at.with_bound(version, |bound| key.seal_bound(bound, &plaintext))?;
        commit.put(Keyspace::Credential, at.key(version), record);
        for (old, _) in self.store.scan(Keyspace::Credential, b"", at.prefix().as_bytes(), PAGE)? {
            if old != at.key(version) && old != at.key(before) {
                commit.delete(Keyspace::Credential, old);
            }
        }
        let fingerprint = self.fingerprint.of(secret.expose());
        Ok(CredentialRef { version, fingerprint, set_at: now, shared: None })
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
        let key = self.required(&place.site.clone().into(), None)?;
        slots
            .iter()
            .map(|(slot, reference)| {
                let version = reference.version;
                let missing =
                    || VaultError::CredentialMissing { instance: instance.clone(), slot: slot.clone(), version };
                if let Some(shared) = &reference.shared {
                    return Ok((slot.clone(), self.open_shared(shared, version)?.ok_or_else(missing)?));
                }
                let at = CredentialPlace { place, instance, slot };
                let (secret, set_at) = self.open_credential(&key, at, version)?.ok_or_else(missing)?;
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

    /// Deletes every version of one slot's own credential in the caller's commit.
    ///
    /// # Errors
    /// The store's.
    pub fn delete_slot(
        &self,
        place: &Place,
        instance: &InstanceId,
        slot: &SlotName,
        commit: &mut Commit,
    ) -> Result<(), VaultError> {
        self.delete_credentials(CredentialPlace { place, instance, slot }.prefix().as_bytes(), commit)
    }

    pub(crate) fn delete_credentials(&self, prefix: &[u8], commit: &mut Commit) -> Result<(), VaultError> {
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
        key: &DataKey,
        at: CredentialPlace<'_>,
        version: u32,
    ) -> Result<Option<(SecretBytes, Timestamp)>, VaultError> {
        if version == 0 {
            return Ok(None);
        }
        let what = || format!("credential {} of instance {}", at.slot, at.instance);
        let Some(record) = self.store.get(Keyspace::Credential, &at.key(version))? else { return Ok(None) };
        let plain = at.with_bound(version, |bound| key.open_bound(bound, &record));
        let plain = plain.map_err(|failure| failure.into_vault(what))?;
        open_stamped(plain).map(Some).ok_or_else(|| VaultError::Damaged { what: what() })
    }
}

/// # Errors
/// The length with the least and the most that are accepted.
pub(crate) fn check_length(secret: &SecretBytes) -> Result<(), (usize, usize, usize)> {
    let length = secret.expose().len();
    let fits = (CREDENTIAL_LEAST..=CREDENTIAL_MOST).contains(&length);
    if fits { Ok(()) } else { Err((length, CREDENTIAL_LEAST, CREDENTIAL_MOST)) }
}

/// What is sealed of a credential: the secret and when it was given.
pub(crate) fn stamped(secret: &SecretBytes, now: Timestamp) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(secret.expose().len().saturating_add(8)));
    plain.extend_from_slice(secret.expose());
    plain.extend_from_slice(&now.0.to_be_bytes());
    plain
}

pub(crate) fn open_stamped(mut plain: Vec<u8>) -> Option<(SecretBytes, Timestamp)> {
    let set_at = plain.split_last_chunk::<8>().map(|(_, set_at)| Timestamp(u64::from_be_bytes(*set_at)));
    plain.truncate(plain.len().saturating_sub(8));
    // Wiped whether or not it was one.
    let secret = SecretBytes::new(plain);
    Some((secret, set_at?))
}

/// Where a credential belongs. Ids have no `/`, so keys and prefixes are unambiguous.
#[derive(Clone, Copy)]
pub(crate) struct CredentialPlace<'a> {
    pub(crate) place: &'a Place,
    pub(crate) instance: &'a InstanceId,
    pub(crate) slot: &'a SlotName,
}

impl CredentialPlace<'_> {
    pub(crate) fn prefix(&self) -> String {
        format!("{}/{}/{}/", self.place, self.instance, self.slot)
    }

    fn key(&self, version: u32) -> Vec<u8> {
        format!("{}{version:010}", self.prefix()).into_bytes()
    }

    pub(crate) fn with_bound<T>(&self, version: u32, then: impl FnOnce(Bound<'_>) -> T) -> T {
        then(Bound {
            environment: self.place.environment.as_str(),
            kind: "credential",
            id: self.instance.as_str(),
            slot: self.slot.as_str(),
            version: u64::from(version),
        })
    }
}
