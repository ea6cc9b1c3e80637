//! The key check: a value sealed under the outer key, by which a wrong key or a wrong store is told before anything is
//! read or written.

use serde::{Deserialize, Serialize};
use sgen_store::{Commit, Keyspace, Store};

use crate::envelope::{Bound, Sealer};
use crate::error::VaultError;

const KEY: &[u8] = b"vault/key-check";
const CONTENT: &[u8] = b"sgen vault";

/// Readable without a key, so that the error can name what is expected.
#[derive(Serialize, Deserialize)]
struct KeyCheck {
    deployment: String,
    key_id: String,
    /// Sealed, in hex.
    check: String,
}

fn bound<'a>() -> Bound<'a> {
    Bound { environment: "", kind: "key-check", id: "", slot: "", version: 1 }
}

/// Verifies the outer key against the store; on an empty store, answers the commit that makes the check.
pub(crate) fn verify(store: &dyn Store, outer: &Sealer, deployment: &str) -> Result<Option<Commit>, VaultError> {
    let damaged = || VaultError::Damaged { what: "the store's key check".to_owned() };
    let Some(bytes) = store.get(Keyspace::Meta, KEY)? else {
        // Sealed data without a check: a key made now could never open it, and would hide that something is missing.
        for keyspace in [Keyspace::Key, Keyspace::Credential] {
            if !store.scan(keyspace, b"", b"", 1)?.is_empty() {
                return Err(VaultError::KeyCheckMissing);
            }
        }
        let check = KeyCheck {
            deployment: deployment.to_owned(),
            key_id: outer.key_id().to_owned(),
            check: hex::encode(outer.seal(bound(), CONTENT)?),
        };
        let mut commit = Commit::new();
        commit.put(Keyspace::Meta, KEY, serde_json::to_vec(&check).map_err(|_| damaged())?);
        return Ok(Some(commit));
    };
    let check: KeyCheck = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if check.key_id != outer.key_id() {
        return Err(VaultError::WrongKey { expected: check.key_id, found: outer.key_id().to_owned() });
    }
    if check.deployment != deployment {
        return Err(VaultError::WrongDeployment { expected: check.deployment, found: deployment.to_owned() });
    }
    let sealed = hex::decode(&check.check).map_err(|_| damaged())?;
    match outer.open(bound(), &sealed) {
        Ok(content) if content == CONTENT => Ok(None),
        _ => Err(damaged()),
    }
}
