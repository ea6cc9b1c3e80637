//! The platform's token, and the vault's keys: from the environment or from files that only this user can read.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use sgen_api::TokenDigest;
use sgen_model::SecretBytes;
use sgen_vault::{KeySource, OuterKeys, VaultError};

use crate::config::{self, ConfigError, HandedKeys};

/// The shortest token taken, in bytes. Generated ones have 47.
const LEAST: usize = 16;
/// The longest file read, in bytes.
const FILE_LIMIT: u64 = 4096;

/// The vault key, and the one before it while that one is needed.
///
/// # Errors
/// [`VaultError::NoKey`] and the `Key…` errors, which say what to do.
pub(crate) fn vault_keys(configured: &config::Vault, handed: HandedKeys) -> Result<OuterKeys, VaultError> {
    let HandedKeys { credentials_directory, vault_key, previous_vault_key } = handed;
    let directory = credentials_directory.as_deref();
    // A key handed over for this start stands for the configured file; a credential of the service manager's for both.
    let key_file = configured.key_file.as_deref().filter(|_| vault_key.is_none());
    let present = KeySource::load(directory, key_file, vault_key)?;
    let previous_file = configured.previous_key_file.as_deref().filter(|_| previous_vault_key.is_none());
    let previous = KeySource::load_previous(directory, previous_file, previous_vault_key)?;
    Ok(OuterKeys::new(present, previous))
}

/// The digest of the platform's token: `handed` by the environment, or read from `file`.
///
/// # Errors
/// [`ConfigError`], which says how to give one.
pub(crate) fn platform_token_digest(handed: Option<SecretBytes>, file: Option<&Path>) -> Result<[u8; 32], ConfigError> {
    let secret = platform_token(handed, file)?;
    let token = secret.expose().trim_ascii();
    if token.len() < LEAST {
        return Err(ConfigError::WeakPlatformToken { length: token.len(), least: LEAST });
    }
    Ok(TokenDigest::of(token).into())
}

/// The platform's token itself, with the white space that a file ends in.
///
/// # Errors
/// [`ConfigError`], which says how to give one.
pub(crate) fn platform_token(handed: Option<SecretBytes>, file: Option<&Path>) -> Result<SecretBytes, ConfigError> {
    match (handed, file) {
        (Some(secret), _) => Ok(secret),
        (None, Some(path)) => read(path),
        (None, None) => Err(ConfigError::NoPlatformToken),
    }
}

fn read(path: &Path) -> Result<SecretBytes, ConfigError> {
    let unusable = |reason: String| ConfigError::PlatformTokenFile { path: path.to_owned(), reason };
    let file = File::open(path)
        .map_err(|e| unusable(format!("{e}; make one with `sgen-host token generate --out {}`", path.display())))?;
    // Of the opened file, so that nobody can exchange it between the check and the reading.
    let mode = file.metadata().map_err(|e| unusable(e.to_string()))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(unusable(format!("others may read it (mode {mode:04o}); `chmod 600 {}`", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut bytes).map_err(|e| unusable(e.to_string()))?;
    Ok(SecretBytes::new(bytes))
}

/// Writes a secret into a new file that only this user can read.
pub(crate) fn write_new(path: &Path, secret: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const TOKEN: &str = "sgp_0123456789abcdefghij";

    #[test]
    fn a_token_comes_from_the_environment_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        write_new(&file, TOKEN).unwrap();
        let expected: [u8; 32] = TokenDigest::of(TOKEN.as_bytes()).into();
        assert_eq!(platform_token_digest(None, Some(&file)).unwrap(), expected);
        let other: [u8; 32] = TokenDigest::of(b"another token entirely").into();
        let handed = SecretBytes::new(b"another token entirely\n".to_vec());
        assert_eq!(platform_token_digest(Some(handed), Some(&file)).unwrap(), other);
    }

    #[test]
    fn a_token_that_is_missing_short_or_readable_by_others_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let refused = |handed: Option<&str>, file: Option<&Path>| {
            let handed = handed.map(|text| SecretBytes::new(text.as_bytes().to_vec()));
            platform_token_digest(handed, file).unwrap_err().to_string()
        };
        assert!(refused(None, None).contains("token generate"));
        assert!(refused(None, Some(&file)).contains("token generate"));
        assert!(refused(Some("short"), None).contains("at least 16"));
        write_new(&file, TOKEN).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused(None, Some(&file)).contains("chmod 600"));
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        write_new(&file, TOKEN).unwrap();
        assert_eq!(write_new(&file, "other").unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), TOKEN);
    }
}
