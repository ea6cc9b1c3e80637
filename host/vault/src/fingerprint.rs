//! Keyed fingerprints: equal values are recognised, and nothing else is told of them.
//!
//! The key stays the same when the outer key is rotated, or every credential would look like another one from then on: it is
//! derived from the first outer key, and kept in the store, wrapped, from the first rotation on.

use std::sync::Arc;

use ring::hmac;
use sgen_store::{Commit, Keyspace, Store};
use zeroize::Zeroizing;

use crate::envelope::{Bound, derive};
use crate::error::VaultError;
use crate::key::KEY_BYTES;
use crate::outer::{Outer, Wrapper};

/// Where its key is, wrapped.
pub(crate) const KEY: &[u8] = b"fingerprint";

pub(crate) struct Fingerprint {
    key: hmac::Key,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Fingerprint {
    /// The store's, or the one that belongs to `first`, the outer key of a store that was never rewrapped.
    pub(crate) fn open(store: &Arc<dyn Store>, outer: &Outer, first: &Wrapper) -> Result<Self, VaultError> {
        let damaged = || VaultError::Damaged { what: "the store's fingerprint key".to_owned() };
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        match store.get(Keyspace::Key, KEY)? {
            Some(wrapped) => {
                let plain = outer.open(bound(), &wrapped).map_err(|_| damaged())?;
                *bytes = <[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_| damaged())?;
            }
            None => derive(&first.bytes, &[b"sgen vault fingerprint v1"], bytes.as_mut())?,
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref()), bytes })
    }

    /// Keeps the key in the store, wrapped under the present outer key.
    pub(crate) fn keep(&self, outer: &Outer, commit: &mut Commit) -> Result<(), VaultError> {
        commit.put(Keyspace::Key, KEY, outer.present.sealer.seal(bound(), self.bytes.as_ref())?);
        Ok(())
    }

    /// Sixteen hex digits.
    pub(crate) fn of(&self, value: &[u8]) -> String {
        let digest = hmac::sign(&self.key, value);
        hex::encode(digest.as_ref().get(..8).unwrap_or_default())
    }
}

fn bound<'a>() -> Bound<'a> {
    Bound { environment: "", kind: "fingerprint-key", id: "", slot: "", version: 1 }
}
