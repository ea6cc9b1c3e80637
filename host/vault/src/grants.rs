//! What an OAuth vendor granted, sealed like a credential. There is one record per slot, and it is replaced whole: an older
//! one is of no use to anybody.

use sgen_model::{InstanceId, Place, SlotName};
use sgen_store::{Commit, Keyspace};
use zeroize::Zeroizing;

use crate::credentials::{CREDENTIAL_MOST, CredentialPlace};
use crate::data_key::DataKey;
use crate::envelope::Bound;
use crate::error::VaultError;
use crate::vault::Vault;

/// What stands in the place of a version, which is ten digits, in the key of a grant.
pub(crate) const GRANT: &str = "grant";

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
        let key = self.required(&place.site.clone().into(), Some(commit))?;
        let at = CredentialPlace { place, instance, slot };
        commit.put(Keyspace::Credential, at.grant_key(), at.seal_grant(&key, version, granted)?);
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
        let (sealed, version) = numbered(&record).ok_or_else(|| VaultError::Damaged { what: what() })?;
        let key = self.required(&place.site.clone().into(), None)?;
        let granted = key.open_bound(at.grant_bound(version), sealed).map_err(|failure| failure.into_vault(what))?;
        Ok(Some(KeptGrant { version, granted: Zeroizing::new(granted) }))
    }

    /// What may be shown and audited of a secret: equal for equal ones, and otherwise meaningless.
    #[must_use]
    pub fn secret_fingerprint(&self, secret: &[u8]) -> String {
        self.fingerprint.of(secret)
    }
}

/// The sealed part of a record, and its version, which stands behind it: a sealed record begins with the tag of its key.
fn numbered(record: &[u8]) -> Option<(&[u8], u64)> {
    let (sealed, version) = record.split_last_chunk::<8>()?;
    Some((sealed, u64::from_be_bytes(*version)))
}

impl CredentialPlace<'_> {
    fn grant_key(&self) -> Vec<u8> {
        format!("{}{GRANT}", self.prefix()).into_bytes()
    }

    fn seal_grant(&self, key: &DataKey, version: u64, granted: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut record = key.seal_bound(self.grant_bound(version), granted)?;
        record.extend(version.to_be_bytes());
        Ok(record)
    }

    /// The same record under the present key; nothing when it does not open.
    pub(crate) fn reseal_grant(&self, key: &DataKey, record: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let Some((sealed, version)) = numbered(record) else { return Ok(None) };
        let plain = key.open_bound(self.grant_bound(version), sealed).map(Zeroizing::new);
        plain.ok().map(|plain| self.seal_grant(key, version, &plain)).transpose()
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
