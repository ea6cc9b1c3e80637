//! The key check: for every outer key in use a value sealed under it, by which a wrong key, a missing key or a wrong store
//! is told before anything is read or written.

use serde::{Deserialize, Serialize};
use sgen_store::{Commit, Keyspace, Store};

use crate::envelope::{Bound, Sealer};
use crate::error::VaultError;
use crate::outer::Outer;

const KEY: &[u8] = b"vault/key-check";
const CONTENT: &[u8] = b"sgen vault";

/// Readable without a key, so that the error can name what is expected.
#[derive(Serialize, Deserialize)]
struct KeyCheck {
    deployment: String,
    /// The key that new data keys are wrapped under.
    #[serde(flatten)]
    present: Proof,
    /// Keys that data keys may still be wrapped under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    older: Vec<Proof>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Proof {
    key_id: String,
    /// Sealed, in hex.
    check: String,
}

impl Proof {
    fn of(sealer: &Sealer) -> Result<Self, VaultError> {
        Ok(Self { key_id: sealer.key_id().to_owned(), check: hex::encode(sealer.seal(bound(), CONTENT)?) })
    }

    fn verify(&self, sealer: &Sealer) -> Result<(), VaultError> {
        let sealed = hex::decode(&self.check).map_err(|_| damaged())?;
        match sealer.open(bound(), &sealed) {
            Ok(content) if content == CONTENT => Ok(()),
            _ => Err(damaged()),
        }
    }
}

/// What a store says of the outer keys that a vault is opened with.
pub(crate) enum Verdict {
    /// They are the ones in use.
    Known,
    /// The store is empty: the commit makes the check.
    New(Commit),
    /// The present key is new here: the commit adds it to the check, and has to be durable before anything is wrapped
    /// under it. `before` is the key that was the present one.
    Joins { commit: Commit, before: String },
}

fn bound<'a>() -> Bound<'a> {
    Bound { environment: "", kind: "key-check", id: "", slot: "", version: 1 }
}

fn damaged() -> VaultError {
    VaultError::Damaged { what: "the store's key check".to_owned() }
}

/// Verifies the outer keys against the store.
pub(crate) fn verify(store: &dyn Store, outer: &Outer, deployment: &str) -> Result<Verdict, VaultError> {
    let present = &outer.present.sealer;
    let Some(check) = read(store)? else {
        // Sealed data without a check: a key made now could never open it, and would hide that something is missing.
        for keyspace in [Keyspace::Key, Keyspace::Credential] {
            if !store.scan(keyspace, b"", b"", 1)?.is_empty() {
                return Err(VaultError::KeyCheckMissing);
            }
        }
        let check = KeyCheck { deployment: deployment.to_owned(), present: Proof::of(present)?, older: Vec::new() };
        return Ok(Verdict::New(write(&check)?));
    };
    let in_use: Vec<&Proof> = std::iter::once(&check.present).chain(&check.older).collect();
    if !in_use.iter().any(|proof| outer.by_id(&proof.key_id).is_some()) {
        return Err(VaultError::WrongKey { expected: check.present.key_id, found: outer.ids() });
    }
    if check.deployment != deployment {
        return Err(VaultError::WrongDeployment { expected: check.deployment, found: deployment.to_owned() });
    }
    for proof in &in_use {
        let Some(wrapper) = outer.by_id(&proof.key_id) else {
            return Err(VaultError::KeyMissing { missing: proof.key_id.clone(), found: outer.ids() });
        };
        proof.verify(&wrapper.sealer)?;
    }
    if check.present.key_id == present.key_id() {
        return Ok(Verdict::Known);
    }
    let older = in_use.into_iter().filter(|proof| proof.key_id != present.key_id()).cloned().collect();
    let before = check.present.key_id.clone();
    let check = KeyCheck { deployment: deployment.to_owned(), present: Proof::of(present)?, older };
    Ok(Verdict::Joins { commit: write(&check)?, before })
}

/// The ids of the outer keys in use, the present one first.
pub(crate) fn in_use(store: &dyn Store) -> Result<Vec<String>, VaultError> {
    let check = read(store)?.ok_or(VaultError::KeyCheckMissing)?;
    Ok(std::iter::once(check.present).chain(check.older).map(|proof| proof.key_id).collect())
}

/// Takes every key but the present one out of the check, in the caller's commit: nothing is wrapped under them any more.
pub(crate) fn retire_older(store: &dyn Store, commit: &mut Commit) -> Result<(), VaultError> {
    let check = read(store)?.ok_or(VaultError::KeyCheckMissing)?;
    commit.extend(write(&KeyCheck { older: Vec::new(), ..check })?);
    Ok(())
}

fn read(store: &dyn Store) -> Result<Option<KeyCheck>, VaultError> {
    let bytes = store.get(Keyspace::Meta, KEY)?;
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|_| damaged())).transpose()
}

fn write(check: &KeyCheck) -> Result<Commit, VaultError> {
    let mut commit = Commit::new();
    commit.put(Keyspace::Meta, KEY, serde_json::to_vec(check).map_err(|_| damaged())?);
    Ok(commit)
}
