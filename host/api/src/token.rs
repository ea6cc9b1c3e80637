//! Tokens: made of 32 random bytes, shown once, kept as SHA-256 digests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sgen_model::{Entropy, EntropyError};
use subtle::ConstantTimeEq as _;

/// Random bytes in a token.
const RANDOM_BYTES: usize = 32;

/// The SHA-256 of a token: all that is stored of it. A digest of 32 random bytes cannot be searched, so no salt is
/// needed, and looking it up in a table tells nothing about the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token as it was presented.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
        Self(bytes)
    }

    /// Compares in constant time.
    pub(crate) fn is(&self, other: &[u8; 32]) -> bool {
        self.0.ct_eq(other).into()
    }

    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl From<TokenDigest> for [u8; 32] {
    fn from(digest: TokenDigest) -> Self {
        digest.0
    }
}

/// What a token opens; its first characters, so that a leaked one is recognised for what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An operator of one account.
    Operator,
    /// Capturing into one environment of one site.
    Ingest,
    /// The platform itself.
    Platform,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Operator => "sgo_",
            Self::Ingest => "sgi_",
            Self::Platform => "sgp_",
        }
    }
}

/// Makes a token: a prefix and 32 random bytes in base64url.
///
/// # Errors
/// When the source of randomness fails; no token exists then.
pub fn generate_token(kind: TokenKind, entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let mut random = [0_u8; RANDOM_BYTES];
    entropy.fill(&mut random)?;
    Ok(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(random)))
}

/// Makes a short id that is safe in a path.
pub(crate) fn generate_id(prefix: &str, entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let mut random = [0_u8; 9];
    entropy.fill(&mut random)?;
    Ok(format!("{prefix}{}", hex::encode(random)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sgen_model::SystemEntropy;

    #[test]
    fn tokens_are_distinct_and_say_what_they_open() {
        let entropy = SystemEntropy::default();
        let one = generate_token(TokenKind::Operator, &entropy).unwrap();
        let two = generate_token(TokenKind::Operator, &entropy).unwrap();
        assert_ne!(one, two);
        assert!(one.starts_with("sgo_") && one.len() == 4 + 43, "{one}");
    }

    #[test]
    fn a_digest_survives_hex_and_is_compared_whole() {
        let digest = TokenDigest::of(b"abc");
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(TokenDigest::from_hex(&digest.to_hex()).unwrap() == digest);
        assert!(TokenDigest::from_hex("ba78").is_none());
        let mut other: [u8; 32] = digest.into();
        assert!(digest.is(&other));
        other[31] ^= 1;
        assert!(!digest.is(&other));
    }
}
