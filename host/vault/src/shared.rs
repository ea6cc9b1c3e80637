//! Credentials that the sites of one account share: sealed with the account's data key, bound to account and credential.
//!
//! The keys under which they lie begin with `@`, which no site's name has.

use sgen_model::{AccountId, CredentialRef, SecretBytes, SharedId, SharedRef, Timestamp};
use sgen_store::{Commit, Keyspace};
use zeroize::Zeroizing;

use crate::credential::{Credential, OVERLAP};
use crate::credentials::{PAGE, check_length, open_stamped, stamped};
use crate::data_key::DataKey;
use crate::envelope::Bound;
use crate::error::VaultError;
use crate::owner::KeyOwner;
use crate::reseal::Page;
use crate::vault::Vault;

const KIND: &str = "shared-credential";

impl Vault {
    /// Seals a shared credential into the caller's commit and answers what may be shown and audited of it. `version` counts
    /// from 1; the version before it is kept for [`OVERLAP`] and for instances that have not gone over yet, older ones are
    /// deleted. The account gets its data key with its first one.
    ///
    /// # Errors
    /// [`VaultError::SharedLength`], [`VaultError::CredentialVersion`], or the store's.
    pub fn seal_shared(
        &self,
        shared: &SharedRef,
        version: u32,
        secret: &SecretBytes,
        now: Timestamp,
        commit: &mut Commit,
    ) -> Result<CredentialRef, VaultError> {
        check_length(secret).map_err(|(length, least, most)| VaultError::SharedLength {
            id: shared.id.clone(),
            length,
            least,
            most,
        })?;
        let before = version.checked_sub(1).ok_or(VaultError::CredentialVersion)?;
        let key = self.create(&KeyOwner::Account(shared.account.clone()), commit)?;
        let record = key.seal_bound(bound(&shared.id, version), &stamped(secret, now))?;
        commit.put(Keyspace::Credential, at(shared, version), record);
        let kept = [at(shared, version), at(shared, before)];
        for (old, _) in self.store.scan(Keyspace::Credential, b"", prefix(shared).as_bytes(), PAGE)? {
            if !kept.contains(&old) {
                commit.delete(Keyspace::Credential, old);
            }
        }
        let fingerprint = self.fingerprint.of(secret.expose());
        Ok(CredentialRef { version, fingerprint, set_at: now, shared: Some(shared.clone()) })
    }

    /// Deletes every version of a shared credential in the caller's commit.
    ///
    /// # Errors
    /// The store's.
    pub fn delete_shared(&self, shared: &SharedRef, commit: &mut Commit) -> Result<(), VaultError> {
        self.delete_credentials(prefix(shared).as_bytes(), commit)
    }

    /// Opens what a reference to a shared credential refers to.
    ///
    /// # Errors
    /// [`VaultError::SharedMissing`], [`VaultError::Unopenable`], or the store's.
    pub fn shared(&self, reference: &CredentialRef) -> Result<Credential, VaultError> {
        let version = reference.version;
        let shared = reference.shared.as_ref().ok_or(VaultError::SharedMissing { version })?;
        self.open_shared(shared, version)?.ok_or(VaultError::SharedMissing { version })
    }

    /// Opens a shared credential in one version; nothing when it is not there.
    pub(crate) fn open_shared(&self, shared: &SharedRef, version: u32) -> Result<Option<Credential>, VaultError> {
        let key = self.required(&KeyOwner::Account(shared.account.clone()), None)?;
        let what = || format!("shared credential {} of account {}", shared.id, shared.account);
        let open = |version: u32| {
            let Some(record) = self.store.get(Keyspace::Credential, &at(shared, version))? else { return Ok(None) };
            let plain = key.open_bound(bound(&shared.id, version), &record);
            let plain = plain.map_err(|failure| failure.into_vault(what))?;
            open_stamped(plain).map(Some).ok_or_else(|| VaultError::Damaged { what: what() })
        };
        let Some((secret, set_at)) = open(version)? else { return Ok(None) };
        let mut credential = Credential::new(version, secret);
        if let Some((previous, _)) = open(version.saturating_sub(1))? {
            credential = credential.with_previous(previous, set_at.after(OVERLAP));
        }
        Ok(Some(credential))
    }

    pub(crate) fn reseal_shared(&self, key: &DataKey, account: &AccountId, from: &[u8]) -> Result<Page, VaultError> {
        self.page(key, Keyspace::Credential, format!("@{account}/").as_bytes(), from, |at, record| {
            let Some((id, version)) = shared_of(at) else { return Ok(None) };
            let Ok(plain) = key.open_bound(bound(&id, version), record).map(Zeroizing::new) else { return Ok(None) };
            key.seal_bound(bound(&id, version), &plain).map(Some)
        })
    }
}

fn bound(id: &SharedId, version: u32) -> Bound<'_> {
    Bound { environment: "", kind: KIND, id: id.as_str(), slot: "", version: u64::from(version) }
}

fn prefix(shared: &SharedRef) -> String {
    format!("@{}/{}/", shared.account, shared.id)
}

fn at(shared: &SharedRef, version: u32) -> Vec<u8> {
    format!("{}{version:010}", prefix(shared)).into_bytes()
}

/// `@ACCOUNT/ID/VERSION`.
fn shared_of(key: &[u8]) -> Option<(SharedId, u32)> {
    let mut parts = std::str::from_utf8(key).ok()?.split('/').skip(1);
    Some((SharedId::parse(parts.next()?).ok()?, parts.next()?.parse().ok()?))
}
