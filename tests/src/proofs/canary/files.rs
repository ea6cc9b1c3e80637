//! Everything on the disk, and what a process shows of itself: the host's folder, its log, exports and backups.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::scene::{SITE, Scene};
use super::search::Places;
use crate::host::HostFolder;

/// The kinds of files, and whether the decoy belongs in one.
pub(super) const KINDS: [(&str, bool); 8] = [
    ("process", false),
    ("backup", true),
    ("store files", true),
    ("host log", true),
    ("compile cache", false),
    ("configuration", false),
    ("store export", true),
    ("audit export", true),
];

/// What there is while the host runs: a backup, and its command line and environment.
pub(super) async fn search_running(scene: &Scene, folder: &Path, places: &mut Places<'_>) -> Result<()> {
    let out = folder.join("backup.jsonl");
    scene.folder.run(&["store", "backup", "--out", &text(&out)?]).await?.expect_success()?;
    lines(&out, "backup", places)?;
    let pid = scene.host.pid().context("the host has ended")?;
    for name in ["cmdline", "environ", "limits"] {
        let file = PathBuf::from(format!("/proc/{pid}/{name}"));
        let bytes = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        places.look("process", name, &bytes);
    }
    Ok(())
}

/// What is left when the host has ended.
pub(super) async fn search_stopped(host: &HostFolder, folder: &Path, places: &mut Places<'_>) -> Result<()> {
    for file in files(host.path())? {
        let kind = match file.strip_prefix(host.path()).ok().and_then(|file| file.iter().next()?.to_str()) {
            Some("store") => "store files",
            Some("cache") => "compile cache",
            Some("host.log") => "host log",
            _ => "configuration",
        };
        places.look(kind, &file.display().to_string(), &fs::read(&file)?);
    }
    let out = folder.join("export.jsonl");
    host.run(&["store", "export", "--out", &text(&out)?]).await?.expect_success()?;
    lines(&out, "store export", places)?;
    for site in [SITE, "platform"] {
        let out = folder.join(format!("audit-{site}.jsonl"));
        host.run(&["audit", "export", "--site", site, "--out", &text(&out)?]).await?.expect_success()?;
        places.look("audit export", site, &fs::read(&out)?);
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}

/// A file of entries in hex: searched as it is, and as what it stands for.
fn lines(file: &Path, kind: &'static str, places: &mut Places<'_>) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let name = file.display().to_string();
    places.look(kind, &name, &bytes);
    let decoded: Vec<u8> = bytes
        .split(|byte| !byte.is_ascii_hexdigit())
        .filter_map(|run| hex::decode(run).ok())
        .flat_map(|entry| entry.into_iter().chain([b'\n']))
        .collect();
    places.look(kind, &format!("{name}, decoded"), &decoded);
    Ok(())
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let item = item?;
            if item.file_type()?.is_dir() {
                folders.push(item.path());
            } else if item.file_type()?.is_file() {
                found.push(item.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
