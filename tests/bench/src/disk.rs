//! What the disk can do by itself: the time of a sync, beside which durable figures are read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::lean::now;
use crate::samples::Samples;

/// What is written before each sync, in bytes: a page.
const PAGE: usize = 4096;

/// Appends a page and syncs, over and over; how long each took.
pub(crate) fn sync_times(folder: &Path, times: usize) -> Result<Samples> {
    let path = folder.join("sync-probe");
    let mut file = open(&path)?;
    let mut samples = Samples::default();
    for _ in 0..times {
        let began = now();
        file.write_all(&[0x5a; PAGE])?;
        file.sync_data()?;
        samples.push(now().saturating_sub(began));
    }
    std::fs::remove_file(&path)?;
    Ok(samples)
}

/// A new file that is written to its end.
pub(crate) fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))
}
