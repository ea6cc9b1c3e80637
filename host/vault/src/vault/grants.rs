//! What an OAuth vendor granted, sealed like a credential. There is one record per slot, and it is replaced whole: an older
//! one is of no use to anybody.

use ring::hmac;
use sgen_model::{InstanceId, Place, SlotName};
use sgen_store::{Commit, Keyspace};
use zeroize::Zeroizing;

use super::{CREDENTIAL_MOST, CredentialPlace, PAGE, Vault};
use crate::envelope::Bound;
use crate::error::VaultError;

/// What a vendor granted, opened.
pub struct KeptGrant {
    /// Counts writes.
    pub version: u64,
    /// As it was given to be sealed.
    pub granted: Zeroizing<Vec<u8>>,
}

impl Vault {
    /// Seals what a vendor granted into the caller's commit, in the place of what was granted before. `version` counts
    /// writes; it is a part of what the record is bound to.
    ///
    /// # Errors
    /// [`VaultError::CredentialLength`], [`VaultError::UnknownSite`], or randomness failing.
    pub fn seal_grant(
        &self,
        place: &Place,
        instance: &InstanceId,
        slot: &SlotName,
        version: u64,
        granted: &[u8],
        commit: &mut Commit,
    ) -> Result<(), VaultError> {
        if granted.len() > CREDENTIAL_MOST {
            let (length, least, most) = (granted.len(), 1, CREDENTIAL_MOST);
            return Err(VaultError::CredentialLength { slot: slot.clone(), length, least, most });
        }
        let key = self.required(&place.site, Some(commit))?;
        let at = CredentialPlace { place, instance, slot };
        let mut record = version.to_be_bytes().to_vec();
        record.extend(key.seal_bound(at.grant_bound(version), granted)?);
        commit.put(Keyspace::Credential, at.grant_key(), record);
        Ok(())
    }

    /// Opens what a vendor granted; nothing when there is none.
    ///
    /// # Errors
    /// [`VaultError::Unopenable`], [`VaultError::Damaged`], [`VaultError::UnknownSite`], or the store's.
    pub fn grant(
        &self,
        place: &Place,
        instance: &InstanceId,
        slot: &SlotName,
    ) -> Result<Option<KeptGrant>, VaultError> {
        let at = CredentialPlace { place, instance, slot };
        let Some(record) = self.store.get(Keyspace::Credential, &at.grant_key())? else { return Ok(None) };
        let what = || format!("the grant in slot {slot} of instance {instance}");
        let Some((version, sealed)) = record.split_first_chunk::<8>() else {
            return Err(VaultError::Damaged { what: what() });
        };
        let version = u64::from_be_bytes(*version);
        let key = self.required(&place.site, None)?;
        let granted = key.open_bound(at.grant_bound(version), sealed).map_err(|failure| failure.into_vault(what))?;
        Ok(Some(KeptGrant { version, granted: Zeroizing::new(granted) }))
    }

    /// Deletes everything that a slot holds, in the caller's commit.
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
        let prefix = CredentialPlace { place, instance, slot }.prefix();
        for (key, _) in self.store.scan(Keyspace::Credential, b"", prefix.as_bytes(), PAGE)? {
            commit.delete(Keyspace::Credential, key);
        }
        Ok(())
    }

    /// What may be shown and audited of a secret: equal for equal ones, and otherwise meaningless.
    #[must_use]
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        let digest = hmac::sign(&self.fingerprint, secret);
        hex::encode(digest.as_ref().get(..8).unwrap_or_default())
    }
}

impl CredentialPlace<'_> {
    /// Not a version, which is ten digits.
    fn grant_key(&self) -> Vec<u8> {
        format!("{}grant", self.prefix()).into_bytes()
    }

    fn grant_bound(&self, version: u64) -> Bound<'_> {
        Bound {
            environment: self.place.environment.as_str(),
            kind: "grant",
            id: self.instance.as_str(),
            slot: self.slot.as_str(),
            version,
        }
    }
}
