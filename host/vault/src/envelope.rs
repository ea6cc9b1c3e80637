//! Sealing: HKDF-SHA256 to a single-use key, then AES-256-GCM, bound to where the record belongs.
//!
//! A record is `format (1) ‖ key tag (4) ‖ salt (32) ‖ ciphertext ‖ authentication tag (16)`. Each record has a key of its
//! own, derived with its random salt, so the nonce can be constant and no number of records wears a key out.
//! Pure but for the randomness that comes in; knows nothing of stores.

use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use sgen_model::{Entropy, EntropyError};
use zeroize::Zeroizing;

/// The format written today.
const FORMAT: u8 = 1;
/// The length of a key's tag, in bytes.
pub(crate) const KEY_TAG: usize = 4;
const SALT: usize = 32;
const HEAD: usize = 1 + KEY_TAG + SALT;

/// What sealing adds to a plaintext, in bytes.
pub(crate) const OVERHEAD: usize = HEAD + MAX_TAG_LEN;

const RECORD_KEY: &[u8] = b"sgen vault record key v1";
const KEY_ID: &[u8] = b"sgen vault key id v1";

/// Where a record belongs. Opening it anywhere else fails.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    pub(crate) environment: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
    pub(crate) slot: &'a str,
    pub(crate) version: u64,
}

/// Why a record does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Not a sealed record at all, or one of an unknown format.
    Malformed,
    /// Sealed under another key.
    OtherKey,
    /// Damaged, or bound to another place.
    Refused,
}

/// A key with what its records are bound to.
pub(crate) struct Sealer {
    key: Zeroizing<[u8; 32]>,
    tag: [u8; KEY_TAG],
    /// Format, deployment, site and key id, each length-prefixed: the part of the associated data that never changes.
    prefix: Vec<u8>,
    id: String,
    entropy: Arc<dyn Entropy>,
}

impl Sealer {
    /// `site` is empty for the outer key.
    pub(crate) fn new(
        key: Zeroizing<[u8; 32]>,
        deployment: &str,
        site: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, EntropyError> {
        let mut short = [0_u8; 8];
        derive(&key, &[KEY_ID], &mut short)?;
        let id = hex::encode(short);
        let mut tag = [0; KEY_TAG];
        tag.iter_mut().zip(short).for_each(|(to, from)| *to = from);
        let mut prefix = Vec::with_capacity(64);
        for field in [&[FORMAT], deployment.as_bytes(), site.as_bytes(), id.as_bytes()] {
            push(&mut prefix, field);
        }
        Ok(Self { key, tag, prefix, id, entropy })
    }

    /// A public name of the key, in hex. It tells nothing of the key.
    pub(crate) fn key_id(&self) -> &str {
        &self.id
    }

    /// The beginning of the key's id, which every record sealed under it bears.
    pub(crate) fn tag(&self) -> [u8; KEY_TAG] {
        self.tag
    }

    pub(crate) fn seal(&self, bound: Bound<'_>, plaintext: &[u8]) -> Result<Vec<u8>, EntropyError> {
        let mut salt = [0; SALT];
        self.entropy.fill(&mut salt)?;
        let mut record = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD));
        record.push(FORMAT);
        record.extend_from_slice(&self.tag);
        record.extend_from_slice(&salt);
        record.extend_from_slice(plaintext);
        let key = self.record_key(&salt)?;
        let body = record.get_mut(HEAD..).unwrap_or_default();
        let tag = key
            .seal_in_place_separate_tag(nonce(), Aad::from(self.associated(bound)), body)
            .map_err(|_| EntropyError)?;
        record.extend_from_slice(tag.as_ref());
        Ok(record)
    }

    pub(crate) fn open(&self, bound: Bound<'_>, record: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (head, sealed) = record.split_at_checked(HEAD).ok_or(Unopened::Malformed)?;
        let (format, head) = head.split_first().ok_or(Unopened::Malformed)?;
        let (tag, salt) = head.split_at_checked(KEY_TAG).ok_or(Unopened::Malformed)?;
        if *format != FORMAT || sealed.len() < MAX_TAG_LEN {
            return Err(Unopened::Malformed);
        }
        if tag != self.tag {
            return Err(Unopened::OtherKey);
        }
        let key = self.record_key(salt).map_err(|_| Unopened::Refused)?;
        let mut plaintext = sealed.to_vec();
        let length = key
            .open_in_place(nonce(), Aad::from(self.associated(bound)), &mut plaintext)
            .map_err(|_| Unopened::Refused)?
            .len();
        plaintext.truncate(length);
        Ok(plaintext)
    }

    fn record_key(&self, salt: &[u8]) -> Result<LessSafeKey, EntropyError> {
        let prk = Salt::new(HKDF_SHA256, salt).extract(self.key.as_ref());
        let okm = prk.expand(&[RECORD_KEY], &AES_256_GCM).map_err(|_| EntropyError)?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }

    fn associated(&self, bound: Bound<'_>) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.prefix.len().saturating_add(160));
        data.extend_from_slice(&self.prefix);
        for field in [bound.environment, bound.kind, bound.id, bound.slot] {
            push(&mut data, field.as_bytes());
        }
        push(&mut data, &bound.version.to_be_bytes());
        data
    }
}

/// The tag of the key that a record was sealed under; nothing when it is no sealed record.
pub(crate) fn tag_of(record: &[u8]) -> Option<[u8; KEY_TAG]> {
    let (format, rest) = record.split_first()?;
    let tag = rest.first_chunk::<KEY_TAG>()?;
    (*format == FORMAT && record.len() >= OVERHEAD).then_some(*tag)
}

/// Derives bytes from a key for one purpose.
///
/// # Errors
/// Only when more bytes are asked for than HKDF can give.
pub(crate) fn derive(key: &[u8; 32], info: &[&[u8]], out: &mut [u8]) -> Result<(), EntropyError> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    // The key is uniform already, so it is the pseudo-random key of RFC 5869 as it stands.
    let prk = Prk::new_less_safe(HKDF_SHA256, key);
    prk.expand(info, Length(out.len())).and_then(|okm| okm.fill(out)).map_err(|_| EntropyError)
}

/// Constant: every key seals one record only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// Length first, so that no two lists of fields give the same bytes.
fn push(data: &mut Vec<u8>, field: &[u8]) {
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;
    use sgen_model::SystemEntropy;

    fn sealer(key: u8, deployment: &str, site: &str) -> Sealer {
        Sealer::new(Zeroizing::new([key; 32]), deployment, site, Arc::new(SystemEntropy::default())).unwrap()
    }

    fn bound<'a>() -> Bound<'a> {
        Bound { environment: "live", kind: "credential", id: "crm-1", slot: "token", version: 3 }
    }

    #[test]
    fn a_record_opens_only_where_it_belongs() {
        let own = sealer(1, "dev", "acme");
        let record = own.seal(bound(), b"secret").unwrap();
        assert_eq!(own.open(bound(), &record).unwrap(), b"secret");
        assert_eq!(record.len(), 6 + OVERHEAD);
        for (what, other) in [
            ("environment", Bound { environment: "staging", ..bound() }),
            ("kind", Bound { kind: "event", ..bound() }),
            ("id", Bound { id: "crm-2", ..bound() }),
            ("slot", Bound { slot: "secret", ..bound() }),
            ("version", Bound { version: 4, ..bound() }),
        ] {
            assert_eq!(own.open(other, &record).unwrap_err(), Unopened::Refused, "{what}");
        }
        // The same key in another deployment or site: the associated data alone must refuse it.
        assert_eq!(sealer(1, "prod", "acme").open(bound(), &record).unwrap_err(), Unopened::Refused);
        assert_eq!(sealer(1, "dev", "other").open(bound(), &record).unwrap_err(), Unopened::Refused);
        assert_eq!(sealer(2, "dev", "acme").open(bound(), &record).unwrap_err(), Unopened::OtherKey);
    }

    #[test]
    fn the_key_id_is_part_of_the_binding() {
        let (own, mut other) = (sealer(1, "dev", "acme"), sealer(1, "dev", "acme"));
        other.prefix = sealer(2, "dev", "acme").prefix;
        let record = own.seal(bound(), b"secret").unwrap();
        assert_eq!(other.open(bound(), &record).unwrap_err(), Unopened::Refused);
    }

    #[test]
    fn fields_cannot_flow_into_each_other() {
        let own = sealer(1, "dev", "acme");
        let record = own.seal(Bound { id: "ab", slot: "c", ..bound() }, b"x").unwrap();
        assert!(own.open(Bound { id: "a", slot: "bc", ..bound() }, &record).is_err());
        assert!(sealer(1, "deva", "cme").open(bound(), &own.seal(bound(), b"x").unwrap()).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let own = sealer(1, "dev", "acme");
        let record = own.seal(bound(), b"some secret").unwrap();
        for at in 0..record.len() {
            for bit in 0..8 {
                let mut bad = record.clone();
                bad[at] ^= 1 << bit;
                assert!(own.open(bound(), &bad).is_err(), "byte {at} bit {bit}");
            }
            assert!(own.open(bound(), &record[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_plaintext_never_gives_the_same_record() {
        let own = sealer(1, "dev", "acme");
        assert_ne!(own.seal(bound(), b"x").unwrap(), own.seal(bound(), b"x").unwrap());
    }

    #[test]
    fn nothing_is_sealed_without_randomness() {
        struct Broken;
        impl Entropy for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
                Err(EntropyError)
            }
        }
        let sealer = Sealer::new(Zeroizing::new([1; 32]), "dev", "acme", Arc::new(Broken)).unwrap();
        assert!(sealer.seal(bound(), b"x").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_comes_back(plaintext in proptest::collection::vec(any::<u8>(), 0..5000), version: u64) {
            let own = sealer(7, "dev", "acme");
            let at = Bound { version, ..bound() };
            prop_assert_eq!(own.open(at, &own.seal(at, &plaintext).unwrap()).unwrap(), plaintext);
        }

        #[test]
        fn no_input_makes_opening_panic(record in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(sealer(7, "dev", "acme").open(bound(), &record).is_err());
        }
    }
}
