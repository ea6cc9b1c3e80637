//! Signed envelopes over exact bytes: DSSE 1.0 (<https://github.com/secure-systems-lab/dsse>).
//!
//! The payload is verified first and parsed afterwards, so no canonical form of JSON is needed; its type is part of
//! what is signed, so a document signed for one role is worthless for another.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::key::{KeyId, PublicKey, SigningKey};

/// The most signatures that an envelope can carry: each one costs a verification.
const MOST_SIGNATURES: usize = 64;

/// Why an envelope is not accepted. The platform must act: sign again with the right keys, or deliver an undamaged copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// It is damaged or something else altogether.
    #[error("it is no signed envelope ({0})")]
    Malformed(String),
    /// It was signed for another purpose.
    #[error("it holds {found:?} where {expected:?} is expected")]
    PayloadType {
        /// The type of the role.
        expected: &'static str,
        /// The type of the envelope.
        found: String,
    },
    /// Not enough keys of the role signed it.
    #[error(
        "{valid} of the {needed} signatures needed are valid; it is unsigned, damaged, or signed by keys that are not trusted for this"
    )]
    Signatures {
        /// How many distinct trusted keys signed it.
        valid: usize,
        /// How many must.
        needed: usize,
    },
}

/// An envelope whose signatures have not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

/// The bytes that are signed: the pre-authentication encoding of DSSE 1.0.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

impl Envelope {
    /// Signs a payload with every key given.
    #[must_use]
    pub fn sign(payload_type: &str, payload: Vec<u8>, keys: &[&SigningKey]) -> Self {
        let message = pae(payload_type, &payload);
        let signatures = keys.iter().map(|key| (key.id().to_string(), key.sign(&message))).collect();
        Self { payload_type: payload_type.to_owned(), payload, signatures }
    }

    /// Reads an envelope. Strict: what a later reader could understand differently is refused.
    ///
    /// # Errors
    /// [`DsseError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DsseError> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|e| DsseError::Malformed(e.to_string()))?;
        if wire.signatures.len() > MOST_SIGNATURES {
            return Err(DsseError::Malformed(format!("more than {MOST_SIGNATURES} signatures")));
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|e| DsseError::Malformed(e.to_string()));
        let payload = decode(&wire.payload)?;
        let signatures =
            wire.signatures.into_iter().map(|s| Ok((s.keyid, decode(&s.sig)?))).collect::<Result<_, DsseError>>()?;
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// The envelope as JSON, on one line.
    ///
    /// # Errors
    /// Never in practice; serialising to memory is fallible by type.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Wire {
            payload: STANDARD.encode(&self.payload),
            payload_type: self.payload_type.clone(),
            signatures: self
                .signatures
                .iter()
                .map(|(id, sig)| WireSignature { keyid: id.clone(), sig: STANDARD.encode(sig) })
                .collect(),
        })
    }

    /// The keys that signed this payload as this type, each once however often it signed.
    #[must_use]
    pub fn signers(&self, payload_type: &str, keys: &BTreeMap<KeyId, PublicKey>) -> BTreeSet<KeyId> {
        let message = pae(payload_type, &self.payload);
        let mut valid = BTreeSet::new();
        for (id, signature) in &self.signatures {
            let Some((id, key)) = id.parse().ok().and_then(|id: KeyId| keys.get_key_value(&id)) else { continue };
            if !valid.contains(id) && key.verifies(&message, signature) {
                valid.insert(*id);
            }
        }
        valid
    }

    /// The payload, if at least `threshold` distinct keys of `keys` signed it as `payload_type`.
    ///
    /// # Errors
    /// [`DsseError::PayloadType`] and [`DsseError::Signatures`].
    pub fn verify(
        &self,
        payload_type: &'static str,
        keys: &BTreeMap<KeyId, PublicKey>,
        threshold: usize,
    ) -> Result<&[u8], DsseError> {
        if self.payload_type != payload_type {
            return Err(DsseError::PayloadType { expected: payload_type, found: self.payload_type.clone() });
        }
        let valid = self.signers(payload_type, keys).len();
        if threshold == 0 || valid < threshold {
            return Err(DsseError::Signatures { valid, needed: threshold.max(1) });
        }
        Ok(&self.payload)
    }

    /// The payload without any proof: to find the keys of a root document, or a sequence to count on from.
    #[must_use]
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    const TYPE: &str = "application/vnd.test+json";

    fn keys(n: usize) -> (tempfile::TempDir, Vec<SigningKey>, BTreeMap<KeyId, PublicKey>) {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<_> =
            (0..n).map(|i| SigningKey::generate(&folder.path().join(format!("{i}.key"))).unwrap()).collect();
        let public = keys.iter().map(|k| (k.id(), k.public())).collect();
        (folder, keys, public)
    }

    #[test]
    fn the_encoding_is_the_published_one() {
        // The test vector of DSSE's protocol.md, and lengths counted in bytes, not in characters.
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        assert_eq!(pae("\u{e9}", "\u{20ac}".as_bytes()), "DSSEv1 2 \u{e9} 3 \u{20ac}".as_bytes());
    }

    #[test]
    fn the_published_envelope_is_read() {
        // protocol.md of DSSE: an ECDSA signature over "hello world"; the shape is what matters here.
        let text = r#"{"payload": "aGVsbG8gd29ybGQ=", "payloadType": "http://example.com/HelloWorld",
            "signatures": [{"keyid": "66301bbf", "sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}"#;
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!(envelope.unverified_payload(), b"hello world");
        let (_folder, _, public) = keys(1);
        let error = envelope.verify("http://example.com/HelloWorld", &public, 1).unwrap_err();
        assert_eq!(error, DsseError::Signatures { valid: 0, needed: 1 });
    }

    #[test]
    fn a_threshold_counts_distinct_keys() {
        let (_folder, keys, public) = keys(3);
        let two = Envelope::sign(TYPE, b"x".to_vec(), &[&keys[0], &keys[1]]);
        assert_eq!(two.verify(TYPE, &public, 2).unwrap(), b"x");
        assert_eq!(two.verify(TYPE, &public, 3).unwrap_err(), DsseError::Signatures { valid: 2, needed: 3 });
        let same = Envelope::sign(TYPE, b"x".to_vec(), &[&keys[0], &keys[0], &keys[0]]);
        assert_eq!(same.verify(TYPE, &public, 2).unwrap_err(), DsseError::Signatures { valid: 1, needed: 2 });
        let none = Envelope::sign(TYPE, b"x".to_vec(), &[]);
        assert!(none.verify(TYPE, &public, 1).is_err());
        assert!(none.verify(TYPE, &public, 0).is_err(), "no threshold of zero");
    }

    #[test]
    fn a_signature_under_another_keys_name_counts_for_nobody() {
        let (_folder, keys, public) = keys(2);
        let mut envelope = Envelope::sign(TYPE, b"x".to_vec(), &[&keys[0]]);
        envelope.signatures[0].0 = keys[1].id().to_string();
        assert!(envelope.verify(TYPE, &public, 1).is_err());
    }

    #[test]
    fn a_payload_signed_as_one_type_is_worthless_as_another() {
        let (_folder, keys, public) = keys(1);
        let mut envelope = Envelope::sign(TYPE, b"x".to_vec(), &[&keys[0]]);
        assert!(matches!(envelope.verify("application/other", &public, 1), Err(DsseError::PayloadType { .. })));
        envelope.payload_type = "application/other".into();
        assert!(matches!(envelope.verify("application/other", &public, 1), Err(DsseError::Signatures { .. })));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (_folder, keys, public) = keys(1);
        let good = Envelope::sign(TYPE, b"{\"a\":1}".to_vec(), &[&keys[0]]).to_json().unwrap();
        assert!(Envelope::parse(&good).unwrap().verify(TYPE, &public, 1).is_ok());
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let accepted = Envelope::parse(&bad).is_ok_and(|e| e.verify(TYPE, &public, 1).is_ok());
                assert!(!accepted, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_envelope() {
        let good = json!({ "payload": "eA==", "payloadType": TYPE, "signatures": [] });
        assert!(Envelope::parse(good.to_string().as_bytes()).is_ok());
        for bad in [
            String::new(),
            "null".into(),
            format!("{good}{good}"),
            r#"{"payload":"eA==","payload":"eQ==","payloadType":"t","signatures":[]}"#.into(),
            r#"{"payload":"eA==","payloadType":"t","signatures":[],"more":1}"#.into(),
            r#"{"payload":"eA","payloadType":"t","signatures":[]}"#.into(),
            r#"{"payload":"eB==","payloadType":"t","signatures":[]}"#.into(),
            r#"{"payload":"e A==","payloadType":"t","signatures":[]}"#.into(),
            json!({ "payload": "eA==", "payloadType": TYPE, "signatures": vec![json!({ "keyid": "", "sig": "" }); 65] }).to_string(),
        ] {
            assert!(matches!(Envelope::parse(bad.as_bytes()), Err(DsseError::Malformed(_))), "{bad}");
        }
    }
}
