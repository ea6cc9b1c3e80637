//! What processes, the machine and folders use, from /proc and the file system.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Kernel ticks a second, in which /proc counts CPU time (USER_HZ; 100 on every platform that Linux runs on).
const TICKS: f64 = 100.0;

/// CPU time of `/proc/PID` or `/proc/PID/task/TID` so far, user and system, in seconds.
pub(crate) fn cpu_of(proc: &Path) -> Result<f64> {
    let stat = read(&proc.join("stat"))?;
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("/proc/…/stat has no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("/proc/…/stat has no times")?;
    Ok((user + system) / TICKS)
}

/// One moment of a process and of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    at: Instant,
    /// CPU time of the process, in seconds.
    cpu: f64,
    /// CPU time of the whole machine, in seconds: busy, and stolen by the hypervisor.
    busy: f64,
    stolen: f64,
    /// Resident memory of the process, in bytes.
    pub(crate) resident: u64,
    /// Bytes that the process has caused to be written to the disk.
    pub(crate) written: u64,
}

impl Reading {
    /// Reads a process and the machine.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let stat = read(Path::new("/proc/stat"))?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let times: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let time = |index: usize| times.get(index).copied().unwrap_or(0.0) / TICKS;
        Ok(Self {
            at: Instant::now(),
            cpu: cpu_of(&proc)?,
            // user, nice, system, irq, softirq.
            busy: [0, 1, 2, 5, 6].map(time).iter().sum(),
            stolen: time(7),
            resident: labelled(&proc.join("status"), "VmRSS:")?.saturating_mul(1024),
            written: labelled(&proc.join("io"), "write_bytes:")?,
        })
    }
}

/// What was used between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) elapsed: Duration,
    /// CPU time of the process, in seconds.
    pub(crate) cpu: f64,
    /// CPU time of everything else than the process, in seconds.
    pub(crate) others: f64,
    pub(crate) stolen: f64,
    pub(crate) written: u64,
}

impl Usage {
    pub(crate) fn between(from: &Reading, to: &Reading) -> Self {
        Self {
            elapsed: to.at.saturating_duration_since(from.at),
            cpu: to.cpu - from.cpu,
            others: (to.busy - from.busy) - (to.cpu - from.cpu),
            stolen: to.stolen - from.stolen,
            written: to.written.saturating_sub(from.written),
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64()
    }
}

/// The load average of the last minute.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// Where a process's resident memory is: heap and other anonymous memory, files, shared memory; in bytes.
pub(crate) fn resident_parts(pid: u32) -> Result<[(&'static str, u64); 3]> {
    let status = Path::new("/proc").join(pid.to_string()).join("status");
    let part = |label: &str| Ok::<_, anyhow::Error>(labelled(&status, label)?.saturating_mul(1024));
    Ok([("anonymous", part("RssAnon:")?), ("files", part("RssFile:")?), ("shared", part("RssShmem:")?)])
}

/// Bytes that the files in a folder take on the disk.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0_u64;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        // A file that the host has just removed takes nothing.
        let Ok(metadata) = entry.metadata() else { continue };
        let of_entry =
            if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks().saturating_mul(512) };
        bytes = bytes.saturating_add(of_entry);
    }
    Ok(bytes)
}

/// The number behind a label at the beginning of a line.
fn labelled(file: &Path, label: &str) -> Result<u64> {
    let text = read(file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(label)?.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("{} has no {label}", file.display()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_process_is_read() {
        let pid = std::process::id();
        let from = Reading::of(pid).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let usage = loop {
            let usage = Usage::between(&from, &Reading::of(pid).unwrap());
            if usage.cpu >= 0.02 || Instant::now() > until {
                break usage;
            }
        };
        assert!(usage.cpu >= 0.02 && usage.cpu < usage.seconds() * 64.0, "{usage:?}");
        assert!(from.resident > 100_000);
        let parts: u64 = resident_parts(pid).unwrap().iter().map(|(_, bytes)| bytes).sum();
        assert!(parts > 100_000);
    }

    #[test]
    fn files_are_counted_by_what_they_take_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), vec![1; 100_000]).unwrap();
        std::fs::File::open(folder.path().join("inner/file")).unwrap().sync_all().unwrap();
        assert!(disk_bytes(folder.path()).unwrap() >= 100_000);
    }
}
