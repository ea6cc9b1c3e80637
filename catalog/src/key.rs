//! Signing keys and public keys: Ed25519, by ring.
//!
//! A private key lives in a PKCS#8 file that only its owner can read, is never overwritten and never shown.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::Digest;

/// The longest PKCS#8 file that is read, in bytes; an Ed25519 key has 85 or fewer.
const LONGEST: u64 = 4096;

/// The name of a public key: the SHA-256 of its 32 bytes, in hexadecimal. A signature carries it to say which key to
/// try; it proves nothing by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for KeyId {
    type Err = crate::digest::DigestError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An Ed25519 public key, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of(&self.0))
    }

    /// Whether `signature` is this key's over exactly `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        // The same spelling rules as a digest: 32 bytes in lower-case hexadecimal.
        text.parse::<Digest>().map(|bytes| Self(*bytes.as_bytes())).map_err(|_| KeyError::Public(text.to_owned()))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A text that is no public key.
    #[error("{0:?} is no public key: 64 lower-case hexadecimal digits are expected")]
    Public(String),
    /// There is a file already.
    #[error("{} exists; a key is never overwritten: move it away first if a new one is really wanted", .0.display())]
    Exists(PathBuf),
    /// The file could not be read or written.
    #[error("the key {} cannot be used: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Others could read the private key.
    #[error("the key {} can be read by others (mode {mode:o}); if it is still secret run chmod 600 on it, else replace it", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no Ed25519 key.
    #[error("{} holds no Ed25519 private key in PKCS#8 form", .0.display())]
    Content(PathBuf),
    /// The system's source of randomness failed.
    #[error("no key was made: the system's source of randomness failed")]
    Entropy,
}

/// A private signing key. Has neither `Debug` nor `Clone` nor a way to its bytes.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key and writes it to a new file with mode 0600.
    ///
    /// # Errors
    /// [`KeyError`]; in particular when the file exists.
    pub fn generate(path: &Path) -> Result<Self, KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).map_err(|_| KeyError::Entropy)?;
        let key = Self::from_pkcs8(document.as_ref()).ok_or_else(|| KeyError::Content(path.to_owned()))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let fail = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
            _ => KeyError::File { path: path.to_owned(), source },
        };
        let mut file = options.open(path).map_err(fail)?;
        file.write_all(document.as_ref()).and_then(|()| file.sync_all()).map_err(fail)?;
        Ok(key)
    }

    /// Reads a key from its file.
    ///
    /// # Errors
    /// [`KeyError`]; in particular when others than the owner may read the file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let fail = |source| KeyError::File { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(fail)?;
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().map_err(fail)?.permissions()) & 0o777;
            if mode & 0o077 != 0 {
                return Err(KeyError::Open { path: path.to_owned(), mode });
            }
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(128));
        file.take(LONGEST).read_to_end(&mut bytes).map_err(fail)?;
        Self::from_pkcs8(&bytes).ok_or_else(|| KeyError::Content(path.to_owned()))
    }

    fn from_pkcs8(bytes: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The name of the public half.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// Signs exactly these bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let made = SigningKey::generate(&path).unwrap();
        let read = SigningKey::load(&path).unwrap();
        assert_eq!(made.id(), read.id());
        assert!(made.public().verifies(b"message", &read.sign(b"message")));
        assert!(!made.public().verifies(b"massage", &read.sign(b"message")));
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(SigningKey::generate(&path), Err(KeyError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        SigningKey::generate(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Open { mode: 0o640, .. })));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        assert!(matches!(SigningKey::load(&path), Err(KeyError::File { .. })));
        SigningKey::generate(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(40);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Content(_))));
    }

    #[test]
    fn a_signature_is_checked_as_rfc_8032_says() {
        // RFC 8032, section 7.1, test 2.
        let key: PublicKey = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c".parse().unwrap();
        let signature = hex::decode("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00").unwrap();
        assert!(key.verifies(&[0x72], &signature));
        assert!(!key.verifies(&[0x73], &signature));
    }
}
