//! A disk that fails: whoever waits for a commit is told, every time.
//!
//! The disk is a real one that takes no more: files of the process are limited in size, so that a write beyond it fails.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use sgen_store::{Commit, EmbeddedStore, Keyspace, Options, Store, StoreError};

/// Where the process with limited files has its store.
const FOLDER: &str = "FAILING_DISK_FOLDER";
/// Limits in blocks of 512 bytes: from one that a new store just fits into.
const LIMITS: std::ops::Range<u32> = 4..64;
/// Far more than the few commits take.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_commit_whose_write_fails_is_answered_with_the_error_wherever_the_disk_ends() {
    let place = tempfile::tempdir().unwrap();
    for blocks in LIMITS {
        // A shell sets the limit, and has the signal of a write beyond it ignored: then the write fails with EFBIG.
        let child = Command::new("sh")
            .args(["-c", r#"trap '' XFSZ; ulimit -f "$1"; shift; exec "$@""#, "sh", &blocks.to_string()])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "commits_until_the_disk_ends", "--ignored"])
            .env(FOLDER, place.path().join(blocks.to_string()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ended, end) = mpsc::channel();
        let pid = child.id();
        std::thread::spawn(move || ended.send(child.wait_with_output()));
        match end.recv_timeout(BOUND) {
            Ok(output) => {
                let output = output.unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "with {blocks} blocks the store did not end as it must: {said}");
            }
            Err(_) => {
                Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
                panic!("with {blocks} blocks a commit was never answered");
            }
        }
    }
}

/// The other half of the test above, in a process whose files are limited.
#[test]
#[ignore = "run by the other test, with limited files"]
fn commits_until_the_disk_ends() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = match EmbeddedStore::open(Path::new(&folder), &Options::default()) {
        Ok(store) => store,
        // A store that does not even fit says so.
        Err(error) => return assert!(is_full(&error.to_string()), "{error}"),
    };
    for number in 0_u32..10_000 {
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, number.to_be_bytes(), vec![7; 60]);
        match store.submit(commit).wait() {
            Ok(()) => {}
            Err(StoreError::Failed(reason)) => {
                assert!(is_full(&reason), "{reason}");
                let told = store.failure().borrow().clone();
                assert_eq!(told.as_deref(), Some(reason.as_str()));
                // Its files cannot be closed in order on this disk.
                std::process::exit(0);
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never ended");
}

fn is_full(text: &str) -> bool {
    text.contains("File too large")
}
