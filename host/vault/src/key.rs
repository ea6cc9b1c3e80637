//! The outer key: where it comes from, and how a new one is made. Reads no environment by itself.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use sgen_model::{Entropy, SecretBytes};
use zeroize::Zeroizing;

use crate::error::VaultError;

/// The length of every key, in bytes.
pub const KEY_BYTES: usize = 32;

/// The name of the key in a service's credentials directory (systemd: `LoadCredential=sgen-key:…`).
const CREDENTIAL_NAME: &str = "sgen-key";
/// The name of the key before it, while data keys are being rewrapped.
const PREVIOUS_NAME: &str = "sgen-key-previous";

/// More than any accepted form; a larger file is something else.
const LARGEST_FILE: u64 = 1024;

/// The key that wraps every site's data key. It lives outside the store.
pub struct OuterKey(Zeroizing<[u8; KEY_BYTES]>);

impl OuterKey {
    /// A key from its bytes, for tests and simulations.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn into_bytes(self) -> Zeroizing<[u8; KEY_BYTES]> {
        self.0
    }
}

/// Finds the outer key.
pub struct KeySource;

impl KeySource {
    /// Takes the first key that is there, in this order:
    ///
    /// 1. `sgen-key` in `credentials_directory` (what systemd gives in `$CREDENTIALS_DIRECTORY`, and protects itself);
    /// 2. `key_file`, which must belong to this process's user and have mode 0600 or 0400;
    /// 3. `inline`, in hex or base64.
    ///
    /// A source that is there and unusable is an error; it is never passed over for the next.
    ///
    /// # Errors
    /// [`VaultError::NoKey`] and the `Key…` errors, each of which says what to do.
    pub fn load(
        credentials_directory: Option<&Path>,
        key_file: Option<&Path>,
        inline: Option<SecretBytes>,
    ) -> Result<OuterKey, VaultError> {
        find(CREDENTIAL_NAME, credentials_directory, key_file, inline)?.ok_or(VaultError::NoKey)
    }

    /// The key before the present one, when there is one: looked for as [`KeySource::load`] does, under the name
    /// `sgen-key-previous` in `credentials_directory`.
    ///
    /// # Errors
    /// The `Key…` errors, each of which says what to do.
    pub fn load_previous(
        credentials_directory: Option<&Path>,
        key_file: Option<&Path>,
        inline: Option<SecretBytes>,
    ) -> Result<Option<OuterKey>, VaultError> {
        find(PREVIOUS_NAME, credentials_directory, key_file, inline)
    }
}

fn find(
    name: &str,
    credentials_directory: Option<&Path>,
    key_file: Option<&Path>,
    inline: Option<SecretBytes>,
) -> Result<Option<OuterKey>, VaultError> {
    if let Some(directory) = credentials_directory {
        let path = directory.join(name);
        match File::open(&path) {
            Ok(file) => return read(file, &path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    if let Some(path) = key_file {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        // Of the opened file, so that nobody can exchange it between the check and the reading.
        let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o177 != 0 {
            return Err(VaultError::KeyPermissions { path: path.to_owned(), mode });
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(VaultError::KeyOwner { path: path.to_owned(), owner, user });
        }
        return read(file, path).map(Some);
    }
    let Some(text) = inline else { return Ok(None) };
    let malformed = || VaultError::KeyMalformed { origin: "the configuration".to_owned() };
    decode_text(text.expose()).map(Some).ok_or_else(malformed)
}

/// Makes a new key file, in hex, with mode 0600. An existing file is never touched.
///
/// # Errors
/// [`VaultError::KeyUnwritable`] when the file exists or cannot be written; [`VaultError::Entropy`].
pub fn generate_key_file(path: &Path, entropy: &dyn Entropy) -> Result<(), VaultError> {
    let unwritable =
        |error: std::io::Error| VaultError::KeyUnwritable { path: path.to_owned(), reason: error.to_string() };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    entropy.fill(key.as_mut())?;
    let mut text = Zeroizing::new(hex::encode(key.as_ref()));
    text.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unwritable)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)?;
    // The name must survive a power cut as well as the bytes.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)
}

fn unreadable(path: &Path, error: &std::io::Error) -> VaultError {
    VaultError::KeyUnreadable { path: path.to_owned(), reason: error.to_string() }
}

fn read(file: File, path: &Path) -> Result<OuterKey, VaultError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_FILE.try_into().unwrap_or(0)));
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    // Exactly 32 bytes are the key itself, whatever they look like; no text form has that length.
    let key = match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
        Ok(raw) => Some(OuterKey::from_bytes(raw)),
        Err(_) => decode_text(&bytes),
    };
    key.ok_or_else(|| VaultError::KeyMalformed { origin: path.display().to_string() })
}

/// Hex has 64 characters and base64 43 or 44, so the length tells them apart.
fn decode_text(text: &[u8]) -> Option<OuterKey> {
    let text = text.trim_ascii();
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match text.len() {
        64 => hex::decode_to_slice(text, key.as_mut()).ok()?,
        43 | 44 => {
            let bytes = STANDARD_PAD_INDIFFERENT
                .decode(text)
                .or_else(|_| URL_SAFE_PAD_INDIFFERENT.decode(text))
                .map(Zeroizing::new)
                .ok()?;
            *key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok()?;
        }
        _ => return None,
    }
    Some(OuterKey(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use sgen_model::SystemEntropy;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    fn file(folder: &Path, name: &str, mode: u32, content: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn bytes(key: Result<OuterKey, VaultError>) -> [u8; 32] {
        match key {
            Ok(key) => *key.into_bytes(),
            Err(error) => panic!("{error}"),
        }
    }

    fn error(key: Result<OuterKey, VaultError>) -> VaultError {
        match key {
            Ok(_) => panic!("a key was accepted"),
            Err(error) => error,
        }
    }

    #[test]
    fn the_sources_are_taken_in_order_and_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let own = file(root, "own", 0o600, &[2; 32]);
        let inline = || Some(SecretBytes::from("03".repeat(32)));
        assert_eq!(bytes(KeySource::load(Some(root), Some(&own), inline())), [2; 32], "no sgen-key there yet");
        assert_eq!(bytes(KeySource::load(None, None, inline())), [3; 32]);
        file(root, "sgen-key", 0o440, &[1; 32]);
        assert_eq!(bytes(KeySource::load(Some(root), Some(&own), inline())), [1; 32]);
        file(root, "sgen-key", 0o440, b"nonsense");
        assert!(matches!(error(KeySource::load(Some(root), Some(&own), inline())), VaultError::KeyMalformed { .. }));
        let missing = error(KeySource::load(None, Some(&root.join("none")), inline()));
        assert!(matches!(missing, VaultError::KeyUnreadable { .. }));
        assert!(matches!(error(KeySource::load(None, None, None)), VaultError::NoKey));
    }

    #[test]
    fn the_previous_key_has_the_same_sources_and_may_be_absent() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let own = file(root, "own", 0o600, &[2; 32]);
        let found = |directory, file, inline: Option<&str>| {
            let inline = inline.map(|text| SecretBytes::from(text.to_owned()));
            KeySource::load_previous(directory, file, inline).map(|key| key.map(|key| *key.into_bytes()))
        };
        file(root, "sgen-key", 0o440, &[9; 32]);
        assert_eq!(found(Some(root), None, None).unwrap(), None, "the present key is not the previous one");
        assert_eq!(found(Some(root), Some(&own), None).unwrap(), Some([2; 32]));
        assert_eq!(found(None, None, Some(&"03".repeat(32))).unwrap(), Some([3; 32]));
        file(root, "sgen-key-previous", 0o440, &[1; 32]);
        assert_eq!(found(Some(root), Some(&own), None).unwrap(), Some([1; 32]));
        assert!(matches!(found(None, Some(&root.join("none")), None), Err(VaultError::KeyUnreadable { .. })));
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660, 0o700, 0o601] {
            let path = file(folder.path(), "key", mode, &[1; 32]);
            let refusal = error(KeySource::load(None, Some(&path), None));
            assert!(matches!(refusal, VaultError::KeyPermissions { mode: m, .. } if m == mode), "{refusal}");
        }
        for mode in [0o600, 0o400] {
            let path = file(folder.path(), &format!("key-{mode:o}"), mode, &[1; 32]);
            assert!(KeySource::load(None, Some(&path), None).is_ok());
        }
    }

    #[test]
    fn a_key_is_read_raw_in_hex_and_in_base64() {
        let folder = tempfile::tempdir().unwrap();
        let key = [0xfb; 32];
        let hex = hex::encode(key);
        let standard = STANDARD_PAD_INDIFFERENT.encode(key);
        let url = URL_SAFE_PAD_INDIFFERENT.encode(key);
        assert_ne!(standard, url);
        let texts = [hex.clone(), hex.to_uppercase(), format!("{hex}\n"), standard.clone(), url];
        for text in texts.iter().chain([&standard.trim_end_matches('=').to_owned()]) {
            let path = file(folder.path(), "text", 0o600, text.as_bytes());
            assert_eq!(bytes(KeySource::load(None, Some(&path), None)), key, "{text}");
            assert_eq!(bytes(KeySource::load(None, None, Some(SecretBytes::from(text.clone())))), key, "{text}");
        }
        for bad in ["", "abcd", &hex[..62], &"g".repeat(64), &"a".repeat(2000)] {
            let path = file(folder.path(), "bad", 0o600, bad.as_bytes());
            let refusal = error(KeySource::load(None, Some(&path), None)).to_string();
            assert!(refusal.contains("32 bytes"), "{refusal}");
            assert!(bad.len() < 4 || !refusal.contains(bad), "an error must not quote the key");
        }
    }

    #[test]
    fn a_new_key_file_is_private_and_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.key");
        generate_key_file(&path, &SystemEntropy::default()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let first = bytes(KeySource::load(None, Some(&path), None));
        assert!(matches!(generate_key_file(&path, &SystemEntropy::default()), Err(VaultError::KeyUnwritable { .. })));
        assert_eq!(bytes(KeySource::load(None, Some(&path), None)), first);
    }
}
