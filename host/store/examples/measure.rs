//! What the store alone does on this machine: durable commits per second, alone and during a backup, and the disk before
//! and after a backlog.
//!
//! `cargo run --release -p sgen-store --example measure -- [singles|hundreds|backup|backlog|all] [EVENTS] [FOLDER]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::indexing_slicing, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sgen_store::{Commit, EmbeddedStore, Keyspace, Options, Store};

const VALUE: usize = 600;
const SUBMITTERS: u64 = 64;

fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_else(|| "all".to_owned());
    let events: u64 = words.next().map_or(1_000_000, |n| n.parse().expect("a number of events"));
    let folder = tempfile::tempdir_in(words.next().unwrap_or_else(|| ".".to_owned())).unwrap();
    if what == "singles" || what == "all" {
        singles(&folder.path().join("singles"), 1);
    }
    if what == "hundreds" || what == "all" {
        singles(&folder.path().join("hundreds"), 100);
    }
    if what == "backup" || what == "all" {
        backup(&folder.path().join("backup"), events);
    }
    if what == "backlog" || what == "all" {
        backlog(&folder.path().join("backlog"), events);
    }
}

/// A value that does not compress, different for each event.
fn value(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..VALUE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn key(sequence: u64) -> Vec<u8> {
    let mut key = b"acme-web/live/".to_vec();
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// What captures of `size` events each put in one commit: the event and its index entry.
fn capture(first: u64, size: u64) -> Commit {
    let mut commit = Commit::new();
    for sequence in first..first + size {
        commit.put(Keyspace::Log, key(sequence), value(sequence));
        commit.put(Keyspace::LogIndex, format!("acme-web/live/event-{sequence:09}"), sequence.to_be_bytes());
    }
    commit
}

fn singles(path: &Path, size: u64) {
    let store = Arc::new(EmbeddedStore::open(path, &Options::default()).unwrap());
    let cpu = cpu_seconds();
    let (commits, seconds) = submitters(&store, 0, size, || false, Duration::from_secs(10));
    let rate = commits as f64 / seconds;
    println!(
        "{size} per commit: {rate:.0} commits/s, {:.0} events/s, {:.1} us of CPU per event, {}",
        rate * size as f64,
        (cpu_seconds() - cpu) * 1e6 / (commits * size) as f64,
        disk(path)
    );
}

/// Commits of [`SUBMITTERS`] at a time, each after the one before was durable; answers their number and the seconds.
fn submitters(
    store: &Arc<EmbeddedStore>,
    first: u64,
    size: u64,
    done: impl Fn() -> bool,
    at_most: Duration,
) -> (u64, f64) {
    let next = AtomicU64::new(first);
    let begin = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let commits = runtime.block_on(async {
        let (next, done) = (&next, &done);
        let tasks = (0..SUBMITTERS).map(|_| {
            let store = store.clone();
            async move {
                let mut commits = 0_u64;
                while begin.elapsed() < at_most && !done() {
                    let first = next.fetch_add(size, Ordering::Relaxed);
                    store.submit(capture(first, size)).await.unwrap();
                    commits += 1;
                }
                commits
            }
        });
        futures_util::future::join_all(tasks).await.into_iter().sum::<u64>()
    });
    (commits, begin.elapsed().as_secs_f64())
}

fn fill(store: &EmbeddedStore, events: u64) {
    let mut tickets = std::collections::VecDeque::new();
    for first in (0..events).step_by(100) {
        tickets.push_back(store.submit(capture(first, 100)));
        if tickets.len() > 64 {
            tickets.pop_front().unwrap().wait().unwrap();
        }
    }
    for ticket in tickets {
        ticket.wait().unwrap();
    }
}

fn backup(path: &Path, events: u64) {
    let store = Arc::new(EmbeddedStore::open(path, &Options::default()).unwrap());
    fill(&store, events);
    println!("{events} events: {}", disk(path));
    let file = path.join("../backup.jsonl");
    let make = || {
        let begin = Instant::now();
        let summary =
            sgen_store::write_backup_file(&file, |sink| store.backup(sink, sgen_model::Timestamp(0)).map(drop))
                .unwrap();
        std::fs::remove_file(&file).unwrap();
        (begin.elapsed().as_secs_f64(), summary)
    };
    let (seconds, summary) = make();
    println!("idle: backup of {} entries, {} MB in {seconds:.1} s", summary.entries, summary.bytes / 1_000_000);
    let (commits, took) = submitters(&store, events, 1, || false, Duration::from_secs(10));
    println!("without a backup: {:.0} commits/s", commits as f64 / took);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            let made = make();
            ended.store(true, Ordering::Relaxed);
            made
        });
        let done = || ended.load(Ordering::Relaxed);
        let (commits, took) = submitters(&store, 2 * events, 1, done, Duration::from_secs(600));
        let (seconds, summary) = making.join().unwrap();
        println!(
            "during a backup of {} entries and {} redo ({seconds:.1} s): {:.0} commits/s, {}",
            summary.entries,
            summary.redo,
            commits as f64 / took,
            disk(path)
        );
    });
}

/// The CPU time that this process has used: on a shared machine it says more than the wall clock.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn backlog(path: &Path, events: u64) {
    let store = EmbeddedStore::open(path, &Options::default()).unwrap();
    let begin = Instant::now();
    fill(&store, events);
    let payload = events * VALUE as u64 / 1_000_000;
    println!("{events} events, {payload} MB, written in {:.1?}: {}", begin.elapsed(), disk(path));
    let (begin, mut highest) = (Instant::now(), 0);
    let mut tickets = std::collections::VecDeque::new();
    for first in (0..events).step_by(100) {
        let mut commit = Commit::new();
        for sequence in first..first + 100 {
            commit.delete(Keyspace::Log, key(sequence));
            commit.delete(Keyspace::LogIndex, format!("acme-web/live/event-{sequence:09}"));
        }
        tickets.push_back(store.submit(commit));
        if tickets.len() > 64 {
            tickets.pop_front().unwrap().wait().unwrap();
            highest = highest.max(bytes(path).0);
        }
    }
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    println!("deleted in {:.1?}, at most {} MB of files: {}", begin.elapsed(), highest / 1_000_000, disk(path));
    let begin = Instant::now();
    assert_eq!(store.scan(Keyspace::Log, b"", b"", 1).unwrap().len(), 0);
    println!("a scan of what was deleted took {:.1?}", begin.elapsed());
    while bytes(path).0 > 128_000_000 && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{:.1?} later: {}", begin.elapsed(), disk(path));
    drop(store);
    let begin = Instant::now();
    let store = EmbeddedStore::open(path, &Options::default()).unwrap();
    println!("opened again in {:.1?}: {}", begin.elapsed(), disk(path));
    drop(store);
}

/// The space of all files below a folder, as allocated and as their lengths say, and this process's memory.
fn disk(path: &Path) -> String {
    let (length, allocated) = bytes(path);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned();
    format!("files {} MB, allocated {} MB, {resident}", length / 1_000_000, allocated / 1_000_000)
}

/// The lengths of the files below a folder, and what is allocated for them. Files that go meanwhile are not counted.
fn bytes(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(path) else { return (0, 0) };
    entries.flatten().filter_map(|entry| entry.metadata().ok().map(|data| (entry, data))).fold(
        (0, 0),
        |(length, allocated), (entry, data)| {
            let (l, a) = if data.is_dir() { bytes(&entry.path()) } else { (data.len(), data.blocks() * 512) };
            (length + l, allocated + a)
        },
    )
}
