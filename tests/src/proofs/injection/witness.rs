//! The second witness: strace, which sees every call that reaches the kernel. What it counts, the interposer must have
//! counted; otherwise there would be points that are never hit.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::interposer::{Interposer, Trace};
use super::stage::Stage;
use super::worker::Worker;
use crate::host::HostFolder;
use crate::wait::until;

/// Every call of Linux that changes files or folders, or that would let a program do so unseen. Not every machine has
/// all of them.
const CALLS: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "copy_file_range",
    "sendfile",
    "splice",
    "vmsplice",
    "truncate",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "syncfs",
    "msync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "unlink",
    "unlinkat",
    "rmdir",
    "ioctl",
    "mmap",
    "io_uring_setup",
    "io_submit",
];

/// How many of each call.
type Counts = BTreeMap<String, u64>;

/// Makes sure that strace is there and may be used.
///
/// # Errors
/// The command that provides it.
pub fn available() -> Result<()> {
    let mut probe = Command::new("strace");
    probe.args(["-f", "-e", "trace=write", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let advice = "strace is the second witness of what the host does; install it with: apt-get install -y strace";
    if !probe.status().context(advice)?.success() {
        bail!("strace cannot trace a program here (ptrace is not permitted?); {advice}");
    }
    Ok(())
}

/// Plays a stage under strace and the interposer at once, and compares. Answers what was seen.
///
/// # Errors
/// When one of them has seen what the other has not, or the host does not do what it is asked for.
pub async fn compare(worker: &Worker, stage: Stage) -> Result<Trace> {
    let outcome = worker.watched(stage, under_strace).await?;
    let file = outcome.folder.join("strace.log");
    let ended = || fs::read_to_string(&file).is_ok_and(|text| text.lines().last().is_some_and(is_the_end));
    until("the end of strace's log", Duration::from_secs(20), ended).await?;
    let store = fs::canonicalize(&outcome.folder)?.join("store");
    let seen_by_strace = count(&fs::read_to_string(&file)?, &store.to_string_lossy());
    let mut seen_by_us = Counts::new();
    for point in &outcome.trace.points {
        *seen_by_us.entry(point.call.clone()).or_default() += 1;
    }
    if seen_by_strace != seen_by_us {
        bail!(
            "strace and the interposer do not agree on what the host does to its store; see {}\n  strace:     {}\n  \
             interposer: {}",
            outcome.folder.display(),
            show(&seen_by_strace),
            show(&seen_by_us)
        );
    }
    if !seen_by_us.contains_key("fdatasync") {
        bail!("neither strace nor the interposer has seen the host sync its store: neither can be right");
    }
    fs::remove_dir_all(&outcome.folder)?;
    Ok(outcome.trace)
}

/// `open 9, pwrite64 30, …`
#[must_use]
pub fn summary(trace: &Trace) -> String {
    let mut counts = Counts::new();
    for point in &trace.points {
        *counts.entry(point.call.clone()).or_default() += 1;
    }
    show(&counts)
}

fn show(counts: &Counts) -> String {
    counts.iter().map(|(call, times)| format!("{call} {times}")).collect::<Vec<_>>().join(", ")
}

/// The host as the traced program, with the interposer in it and not in strace.
fn under_strace(interposer: &Interposer, folder: &HostFolder, points: &Path) -> HostFolder {
    let log = folder.path().join("strace.log");
    // -D: the host has the process id that is waited for and told to stop. -y: descriptors are shown with their paths.
    // A question mark admits calls that this machine does not have.
    let calls: Vec<String> = CALLS.iter().map(|call| format!("?{call}")).collect();
    let mut words: Vec<OsString> =
        ["strace", "-f", "-D", "-y", "-s", "0", "-e", "signal=none", "-o"].map(OsString::from).into();
    words.push(log.into());
    words.extend(["-e".into(), format!("trace={}", calls.join(",")).into()]);
    for (name, value) in interposer.environment(folder, points) {
        words.extend(["-E".into(), format!("{name}={}", value.display()).into()]);
    }
    folder.clone().with_launcher(words)
}

fn is_the_end(line: &str) -> bool {
    line.contains("+++ exited with") || line.contains("+++ killed by")
}

/// The calls in a log of strace that change the store's folder, under the interposer's names.
fn count(log: &str, store: &str) -> Counts {
    let mut counts = Counts::new();
    for line in log.lines() {
        // `PID call(arguments) = answer`, or in two parts: `PID call(arguments <unfinished ...>` and `PID <... call resumed>`.
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let Some((name, arguments)) = call.split_once('(') else { continue };
        if name == "io_uring_setup" || name == "io_submit" {
            *counts.entry(name.to_owned()).or_default() += 1;
            continue;
        }
        let touches = arguments.match_indices(store).any(|(at, _)| {
            let next = arguments.get(at + store.len()..).and_then(|rest| rest.chars().next());
            matches!(next, Some('/' | '"' | '>'))
        });
        if touches && let Some(name) = changes(name, arguments) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// The interposer's name of a call that changes something; `None` for one that only reads.
fn changes<'a>(call: &'a str, arguments: &str) -> Option<&'a str> {
    let flags = |flags: &[&str]| flags.iter().any(|flag| arguments.contains(flag));
    match call {
        "open" | "openat" | "openat2" => flags(&["O_CREAT", "O_TRUNC"]).then_some("open"),
        "creat" => Some("open"),
        "renameat" | "renameat2" => Some("rename"),
        "linkat" => Some("link"),
        "symlinkat" => Some("symlink"),
        "mkdirat" => Some("mkdir"),
        "unlinkat" => Some(if flags(&["AT_REMOVEDIR"]) { "rmdir" } else { "unlink" }),
        // A shared mapping that may be written would change a file without any call.
        "mmap" => (flags(&["MAP_SHARED"]) && flags(&["PROT_WRITE"])).then_some("mmap"),
        "ioctl" => flags(&["FICLONE", "FS_IOC_SETFLAGS"]).then_some("ioctl"),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_on_the_store_are_counted_under_the_interposers_names() {
        let log = r#"
71 openat(AT_FDCWD</w>, "/t/store/lock", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 9</t/store/lock>
71 openat(AT_FDCWD</w>, "/t/store/sled/db", O_RDWR|O_CLOEXEC) = 10</t/store/sled/db>
72 pwrite64(10</t/store/sled/db>, ""..., 4096, 0 <unfinished ...>
71 write(2</t/host.log>, ""..., 80) = 80
72 <... pwrite64 resumed>) = 4096
72 renameat2(AT_FDCWD</w>, "/t/store/sled.making", AT_FDCWD</w>, "/t/store/sled", 0) = 0
72 unlinkat(11</t/store/sled>, "db", 0) = 0
72 unlinkat(11</t/store/sled>, "blobs", AT_REMOVEDIR) = 0
72 mkdir("/t/store", 0777) = 0
72 mkdir("/t/store-of-another", 0777) = 0
72 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 10</t/store/sled/db>, 0) = 0x7f
71 +++ exited with 0 +++
"#;
        let expected = [("open", 1), ("pwrite64", 1), ("rename", 1), ("unlink", 1), ("rmdir", 1), ("mkdir", 1)];
        assert_eq!(count(log, "/t/store"), expected.map(|(call, times)| (call.to_owned(), times)).into());
        assert_eq!(count("7 io_uring_setup(8, 0x7f) = 4", "/t/store"), [("io_uring_setup".to_owned(), 1)].into());
        assert_eq!(
            count("7 mmap(NULL, 9, PROT_WRITE, MAP_SHARED, 4</t/store/x>, 0) = 0", "/t/store"),
            [("mmap".to_owned(), 1)].into()
        );
    }
}
