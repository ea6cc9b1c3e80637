//! The compile cache: machine code on disk, admitted only when its MAC verifies.
//!
//! A file is `tag (16) ‖ salt (32) ‖ code`. The tag is AES-256-GCM's over the code as associated data (GMAC), under a key
//! derived from the deployment's cache key, a salt used once, the component's digest and the engine's configuration:
//! renaming a file, or moving it between versions, does not verify. GMAC because it is the fastest MAC in ring: half a
//! megabyte is checked at every load.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

const TAG: usize = 16;
const SALT: usize = 32;

/// One deployment's cache.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; 32],
    /// Identifies the engine's version and configuration.
    configuration: u64,
}

impl Cache {
    pub(crate) fn new(folder: PathBuf, key: [u8; 32], configuration: u64) -> Self {
        Self { folder, key, configuration }
    }

    fn path(&self, digest: &[u8; 32]) -> PathBuf {
        self.folder.join(format!("{}-{:016x}.cwasm", hex::encode(digest), self.configuration))
    }

    /// The file's contents, when there is one; its code is [`Sealed::code`] once it verifies.
    pub(crate) fn read(&self, digest: &[u8; 32]) -> Option<Sealed> {
        let path = self.path(digest);
        let bytes = fs::read(&path).ok()?;
        match self.verify(digest, bytes) {
            Some(sealed) => Some(sealed),
            None => {
                tracing::warn!(path = %path.display(), "cached machine code does not verify: compiling again");
                None
            }
        }
    }

    fn verify(&self, digest: &[u8; 32], bytes: Vec<u8>) -> Option<Sealed> {
        let (tag, rest) = bytes.split_first_chunk::<TAG>()?;
        let (salt, code) = rest.split_first_chunk::<SALT>()?;
        let key = self.key_for(digest, salt)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let mut nothing = [0; 0];
        key.open_in_place_separate_tag(nonce, Aad::from(code), Tag::from(*tag), &mut nothing, 0..).ok()?;
        Some(Sealed { bytes })
    }

    /// Keeps compiled code. A failure costs a compilation at the next start, no more.
    pub(crate) fn write(&self, digest: &[u8; 32], code: &[u8]) {
        let path = self.path(digest);
        if let Err(error) = self.try_write(digest, code, &path) {
            tracing::warn!(path = %path.display(), %error, "the compile cache cannot be written: check the folder's rights and space");
        }
    }

    fn try_write(&self, digest: &[u8; 32], code: &[u8], path: &Path) -> std::io::Result<()> {
        let random = || std::io::Error::other("no randomness");
        let mut salt = [0; SALT];
        SystemRandom::new().fill(&mut salt).map_err(|_| random())?;
        let key = self.key_for(digest, &salt).ok_or_else(random)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(code), &mut []).map_err(|_| random())?;
        fs::create_dir_all(&self.folder)?;
        // Written aside and renamed, so that a crash leaves no half file under the name.
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = fs::File::create(&aside)?;
        file.write_all(tag.as_ref())?;
        file.write_all(&salt)?;
        file.write_all(code)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    }

    /// A key for one file: the nonce is constant because the key is used once.
    fn key_for(&self, digest: &[u8; 32], salt: &[u8; SALT]) -> Option<LessSafeKey> {
        let configuration = self.configuration.to_be_bytes();
        let info: [&[u8]; 3] = [b"sgen compile cache 1", digest, &configuration];
        let secret = Salt::new(HKDF_SHA256, salt).extract(&self.key);
        let key = secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// A file that verified.
pub(crate) struct Sealed {
    bytes: Vec<u8>,
}

impl Sealed {
    /// The machine code.
    pub(crate) fn code(&self) -> &[u8] {
        self.bytes.get(TAG + SALT..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn only_what_was_written_for_this_component_key_and_configuration_is_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), [1; 32], 7);
        let digest = [9; 32];
        cache.write(&digest, b"code");
        assert_eq!(cache.read(&digest).unwrap().code(), b"code");

        let other_key = Cache::new(folder.path().to_owned(), [2; 32], 7);
        assert!(other_key.read(&digest).is_none());
        let other = [8; 32];
        fs::copy(cache.path(&digest), cache.path(&other)).unwrap();
        assert!(cache.read(&other).is_none());
        let other_configuration = Cache::new(folder.path().to_owned(), [1; 32], 8);
        fs::copy(cache.path(&digest), other_configuration.path(&digest)).unwrap();
        assert!(other_configuration.read(&digest).is_none());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), [1; 32], 7);
        let digest = [9; 32];
        cache.write(&digest, b"machine code");
        let whole = fs::read(cache.path(&digest)).unwrap();
        for i in 0..whole.len() {
            let mut changed = whole.clone();
            changed[i] ^= 0x40;
            fs::write(cache.path(&digest), &changed).unwrap();
            assert!(cache.read(&digest).is_none(), "bit in byte {i}");
            fs::write(cache.path(&digest), &whole[..i]).unwrap();
            assert!(cache.read(&digest).is_none(), "cut at {i}");
        }
    }
}
