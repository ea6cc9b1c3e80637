//! Secret bytes: no `Debug`, `Display`, `Serialize` or `Clone`, wiped when dropped.

use zeroize::Zeroizing;

/// A secret in memory. It cannot be printed, serialised or copied by accident; reading it takes an explicit
/// [`SecretBytes::expose`].
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of the bytes; the caller must not keep another copy.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret itself. For the vault, and for the gate that injects it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}
