//! The data keys of one owner as stored: each wrapped under an outer key, one after another, the present one first. One
//! record, so that it changes as a whole.

use std::sync::Arc;

use sgen_model::Entropy;
use zeroize::Zeroizing;

use crate::data_key::Held;
use crate::envelope::{Bound, OVERHEAD, tag_of};
use crate::error::VaultError;
use crate::key::KEY_BYTES;
use crate::outer::Outer;
use crate::owner::KeyOwner;

/// A wrapped key, in bytes.
const WRAPPED: usize = KEY_BYTES + OVERHEAD;

/// The most keys of one owner.
pub(crate) const MOST: usize = 32;

/// Left in the place of destroyed data keys, so that a site's id is never given another key.
pub(crate) const DESTROYED: &[u8] = b"destroyed";

/// Whether a record holds more than the present key.
pub(crate) fn has_older(record: &[u8]) -> bool {
    record.len() > WRAPPED
}

/// Makes a key and wraps it; `taken` are the keys from which records must be told by their tag.
pub(crate) fn make(
    outer: &Outer,
    deployment: &str,
    owner: &KeyOwner,
    taken: &[Arc<Held>],
    entropy: &Arc<dyn Entropy>,
) -> Result<(Arc<Held>, Vec<u8>), VaultError> {
    loop {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        entropy.fill(bytes.as_mut())?;
        let wrapped = outer.present.sealer.seal(wrapping(&owner.binding()), bytes.as_ref())?;
        let held = Held::new(bytes, deployment, owner, Arc::clone(entropy))?;
        if taken.iter().all(|other| other.tag() != held.tag()) {
            return Ok((Arc::new(held), wrapped));
        }
    }
}

/// Unwraps every key of a record.
pub(crate) fn unwrap(
    record: &[u8],
    outer: &Outer,
    deployment: &str,
    owner: &KeyOwner,
    entropy: &Arc<dyn Entropy>,
) -> Result<Vec<Arc<Held>>, VaultError> {
    let binding = owner.binding();
    pieces(record, owner)?
        .map(|wrapped| {
            let what = || format!("the data key of {owner}");
            let plain = outer.open(wrapping(&binding), wrapped).map_err(|_| VaultError::Unopenable { what: what() })?;
            let bytes = <[u8; KEY_BYTES]>::try_from(plain.as_slice())
                .map(Zeroizing::new)
                .map_err(|_| VaultError::Damaged { what: what() })?;
            Held::new(bytes, deployment, owner, Arc::clone(entropy)).map(Arc::new)
        })
        .collect()
}

/// The record with every key wrapped under the present outer key; nothing when that is so already.
pub(crate) fn rewrap(record: &[u8], outer: &Outer, owner: &KeyOwner) -> Result<Option<Vec<u8>>, VaultError> {
    let binding = owner.binding();
    let (mut rewrapped, mut changed) = (Vec::with_capacity(record.len()), false);
    for wrapped in pieces(record, owner)? {
        if tag_of(wrapped) == Some(outer.present.sealer.tag()) {
            rewrapped.extend_from_slice(wrapped);
            continue;
        }
        let plain = outer
            .open(wrapping(&binding), wrapped)
            .map_err(|_| VaultError::Unopenable { what: format!("the data key of {owner}") })?;
        rewrapped.extend_from_slice(&outer.present.sealer.seal(wrapping(&binding), &plain)?);
        changed = true;
    }
    Ok(changed.then_some(rewrapped))
}

/// The record with only those keys for which `keeps` says so, by their position.
pub(crate) fn filter(
    record: &[u8],
    owner: &KeyOwner,
    mut keeps: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, VaultError> {
    let kept = pieces(record, owner)?.enumerate().filter(|(at, _)| keeps(*at));
    Ok(kept.flat_map(|(_, wrapped)| wrapped.iter().copied()).collect())
}

/// The ids of the outer keys that a record is wrapped under.
pub(crate) fn outer_ids(record: &[u8], outer: &Outer, owner: &KeyOwner) -> Result<Vec<String>, VaultError> {
    let mut ids: Vec<String> = pieces(record, owner)?
        .map(|wrapped| outer.of(wrapped).map_or_else(|| "unknown".to_owned(), |wrapper| wrapper.id().to_owned()))
        .collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn pieces<'a>(record: &'a [u8], owner: &KeyOwner) -> Result<std::slice::ChunksExact<'a, u8>, VaultError> {
    let pieces = record.chunks_exact(WRAPPED);
    if record.is_empty() || !pieces.remainder().is_empty() {
        return Err(VaultError::Damaged { what: format!("the data key of {owner}") });
    }
    Ok(pieces)
}

fn wrapping(binding: &str) -> Bound<'_> {
    Bound { environment: "", kind: "data-key", id: binding, slot: "", version: 1 }
}
