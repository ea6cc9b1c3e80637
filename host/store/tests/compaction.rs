//! Disk space is given back while commits go on, and a kill at any moment of that leaves one whole store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sgen_store::{Commit, EmbeddedStore, Keyspace, MemoryStore, Options, Store};

const MIB: u64 = 1024 * 1024;
/// What is given to the process that is to be killed.
const CHILD: &str = "SGEN_COMPACTION_CHILD";

fn options(compact_above: Option<u64>) -> Options {
    Options { compact_above, cache: 4 * MIB, ..Options::default() }
}

fn open(path: &Path, compact_above: Option<u64>) -> EmbeddedStore {
    EmbeddedStore::open(path, &options(compact_above)).unwrap()
}

fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path.join("sled/db")).map_or(u64::MAX, |data| data.len())
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// Writes and deletes `events` of 600 bytes, except every 50th.
fn churn(store: &dyn Store, model: &dyn Store, first: u32, events: u32) {
    for from in (first..first + events).step_by(500) {
        let mut commit = Commit::new();
        for n in from..from + 500 {
            commit.put(Keyspace::Log, n.to_be_bytes(), vec![u8::try_from(n % 251).unwrap(); 600]);
        }
        commit.put(Keyspace::Journal, from.to_be_bytes(), vec![3; 20_000]);
        store.submit(commit.clone()).wait().unwrap();
        model.submit(commit).wait().unwrap();
    }
    for from in (first..first + events).step_by(500) {
        let mut commit = Commit::new();
        for n in (from..from + 500).filter(|n| n % 50 != 0) {
            commit.delete(Keyspace::Log, n.to_be_bytes());
        }
        commit.delete(Keyspace::Journal, from.to_be_bytes());
        store.submit(commit.clone()).wait().unwrap();
        model.submit(commit).wait().unwrap();
    }
}

fn export(store: &dyn Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.export(&mut bytes).unwrap();
    bytes
}

#[test]
fn space_is_given_back_while_commits_and_scans_go_on_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Arc::new(open(&path, Some(2 * MIB)));
    let model = MemoryStore::new();
    let ended = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let scanning = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let found = store.scan(Keyspace::Log, b"", b"", usize::MAX).unwrap();
                assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
                assert!(found.iter().all(|(_, value)| value.len() == 600));
            }
        });
        let counting = scope.spawn(|| {
            for n in 1_u64.. {
                let mut commit = Commit::new();
                commit.put(Keyspace::Lane, "count", n.to_be_bytes());
                store.submit(commit).wait().unwrap();
                let found = store.get(Keyspace::Lane, b"count").unwrap().unwrap();
                assert_eq!(found, n.to_be_bytes(), "an acknowledged commit is not there");
                if ended.load(Ordering::Relaxed) {
                    return n;
                }
            }
            0
        });
        for round in 0..4 {
            churn(store.as_ref(), &model, round * 10_000, 10_000);
        }
        wait_for("giving space back", || file_bytes(&path) < 6 * MIB);
        ended.store(true, Ordering::Relaxed);
        scanning.join().unwrap();
        counting.join().unwrap()
    });
    let mut commit = Commit::new();
    commit.put(Keyspace::Lane, "count", last.to_be_bytes());
    model.submit(commit).wait().unwrap();
    assert!(export(store.as_ref()) == export(&model), "the store and the model differ");
    drop(store);
    let store = open(&path, None);
    assert!(export(&store) == export(&model), "the store and the model differ after it was opened again");
    let report = store.check().unwrap();
    assert_eq!((report.damaged, report.orphan_chunks), (vec![], 0));
}

#[test]
fn space_that_an_earlier_run_left_is_given_back_after_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let model = MemoryStore::new();
    let store = open(folder.path(), None);
    churn(&store, &model, 0, 20_000);
    drop(store);
    assert!(file_bytes(folder.path()) > 8 * MIB, "{}", file_bytes(folder.path()));
    let store = open(folder.path(), Some(2 * MIB));
    wait_for("giving space back", || file_bytes(folder.path()) < 4 * MIB);
    assert!(export(&store) == export(&model));
}

/// Every state of the folder between two steps of an exchange.
#[test]
fn whatever_a_kill_leaves_of_an_exchange_is_one_whole_store_when_it_is_opened() {
    let put = |path: &Path, value: &str| {
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, "which", value);
        open(path, None).submit(commit).wait().unwrap();
    };
    // What of the old and of the new store is where, and which one is found.
    for (old, new, found) in [
        ("sled", Some("sled.making"), "old"),
        ("sled.old", Some("sled.making"), "old"),
        ("sled.old", Some("sled"), "new"),
        ("sled.old", None, "old"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, path) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("store"));
        put(&a, "old");
        put(&b, "new");
        std::fs::create_dir(&path).unwrap();
        std::fs::rename(a.join("sled"), path.join(old)).unwrap();
        if let Some(new) = new {
            std::fs::rename(b.join("sled"), path.join(new)).unwrap();
        }
        std::fs::write(path.join("redo.spool"), b"left").unwrap();
        let store = open(&path, None);
        assert_eq!(store.get(Keyspace::Log, b"which").unwrap().unwrap(), found.as_bytes(), "{old} {new:?}");
        let mut names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["lock", "sled"], "{old} {new:?}");
    }
}

/// Not a test of its own: what the next one starts as a process of its own and kills.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&path), Some(MIB));
    let start = store.get(Keyspace::Lane, b"round").unwrap().map_or(0, |n| u64::from_be_bytes(n.try_into().unwrap()));
    let mut out = std::io::stdout().lock();
    for round in start + 1.. {
        for delete in [false, true] {
            let mut commit = Commit::new();
            for i in 0..1500_u32 {
                match delete {
                    true => commit.delete(Keyspace::Log, i.to_be_bytes()),
                    false => commit.put(Keyspace::Log, i.to_be_bytes(), vec![u8::try_from(round % 251).unwrap(); 600]),
                };
            }
            commit.put(Keyspace::Lane, "round", round.to_be_bytes());
            commit.put(Keyspace::Audit, round.to_be_bytes(), vec![9; 5000]);
            store.submit(commit).wait().unwrap();
        }
        writeln!(out, "done {round}").unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    println!("seed {seed}");
    let (mut random, mut exchanged, mut last_file) = (seed | 1, 0, 0);
    for round in 0..25 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed while it reads on: after some rounds, at a moment within one.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let done = |line: String| line.rsplit_once("done ").and_then(|(_, n)| n.parse::<u64>().ok());
        let rounds = usize::try_from(random % 12).unwrap();
        let mut acknowledged = lines.by_ref().map_while(Result::ok).filter_map(done).take(rounds).last();
        std::thread::sleep(Duration::from_micros(random % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = lines.map_while(Result::ok).filter_map(done).last().or(acknowledged);
        let store = open(folder.path(), None);
        let number = store.get(Keyspace::Lane, b"round").unwrap();
        let found = number.map_or(0, |n| u64::from_be_bytes(n.try_into().unwrap()));
        assert!(
            found >= acknowledged.unwrap_or(0),
            "round {round}: {acknowledged:?} was acknowledged, {found} is there"
        );
        let report = store.check().unwrap();
        assert_eq!((report.damaged, report.orphan_chunks), (vec![], 0), "round {round}");
        assert_eq!(store.scan(Keyspace::Audit, b"", b"", usize::MAX).unwrap().len() as u64, found, "round {round}");
        let log = store.scan(Keyspace::Log, b"", b"", usize::MAX).unwrap();
        assert!(log.is_empty() || log.len() == 1500, "round {round}: a part of a commit, {} entries", log.len());
        let file = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(folder.path().join("sled/db")).unwrap());
        exchanged += u32::from(round > 0 && file != last_file);
        last_file = file;
    }
    assert!(exchanged > 5, "only {exchanged} of the rounds gave space back");
}
