//! A backup as a file: complete under its name, or not there under it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{BackupSummary, verify_backup};
use crate::embedded::files::sync_folder;
use crate::error::StoreError;

/// Makes the file `out`, readable by this user only: `fill` writes a backup into `out` with `.part` added, which is
/// synced, read again, compared with its closing line, and only then given its name. An existing file stays as it is, and
/// a crash leaves at most the `.part`, which the next backup to `out` replaces.
///
/// # Errors
/// `fill`'s own, or [`StoreError::Backup`] or [`StoreError::BadBackup`] as `E`. The `.part` is removed then.
pub fn write_backup_file<E: From<StoreError>>(
    out: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<BackupSummary, E> {
    let failed = |e: std::io::Error| StoreError::Backup(format!("{}: {e}", out.display()));
    if fs::symlink_metadata(out).is_ok() {
        return Err(StoreError::Backup(format!("{} exists; name a file that does not", out.display())).into());
    }
    let part = part_of(out);
    let mut file = make_part(&part)?;
    let result = fill(&mut file).and_then(|()| {
        file.sync_all().map_err(failed)?;
        let summary = verify_backup(&part, &mut |_| ())?;
        // A link, unlike a rename, never takes the place of another file.
        fs::hard_link(&part, out).and_then(|()| sync_folder(folder_of(out))).map_err(failed)?;
        Ok(summary)
    });
    fs::remove_file(&part).map_err(failed)?;
    result
}

fn part_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the `.part`, in place of one that nobody is writing any more.
fn make_part(part: &Path) -> Result<File, StoreError> {
    let failed = |e: std::io::Error| StoreError::Backup(format!("{} cannot be made: {e}", part.display()));
    let busy = || StoreError::Backup(format!("{} is being written by another backup", part.display()));
    match OpenOptions::new().write(true).open(part) {
        Ok(left) => {
            left.try_lock().map_err(|_| busy())?;
            fs::remove_file(part).map_err(failed)?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(failed)?;
    file.try_lock().map_err(|_| busy())?;
    Ok(file)
}
