//! What any engine behind the seam must do: the same suite runs against the embedded engine and the model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sgen_model::Timestamp;
use sgen_store::{Commit, EmbeddedStore, Keyspace, MemoryStore, Options, Store, StoreError};

fn embedded(path: &std::path::Path) -> EmbeddedStore {
    EmbeddedStore::open(path, &Options::default()).unwrap()
}

fn each_engine(test: impl Fn(&dyn Store)) {
    test(&MemoryStore::new());
    let folder = tempfile::tempdir().unwrap();
    test(&embedded(folder.path()));
}

fn put(store: &dyn Store, key: &str, value: &[u8]) {
    let mut commit = Commit::new();
    commit.put(Keyspace::Log, key, value);
    store.submit(commit).wait().unwrap();
}

#[test]
fn a_later_write_wins_within_a_commit_and_across_commits() {
    each_engine(|store| {
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, "a", vec![1; 9000]).delete(Keyspace::Log, "a").put(Keyspace::Log, "a", "two");
        commit.put(Keyspace::Log, "b", "x").delete(Keyspace::Log, "b");
        store.submit(commit).wait().unwrap();
        assert_eq!(store.get(Keyspace::Log, b"a").unwrap().unwrap(), b"two");
        assert_eq!(store.get(Keyspace::Log, b"b").unwrap(), None);
        put(store, "a", &[7; 20_000]);
        put(store, "a", b"three");
        assert_eq!(store.get(Keyspace::Log, b"a").unwrap().unwrap(), b"three");
    });
}

#[test]
fn an_exchange_writes_only_over_the_value_that_it_was_made_from() {
    each_engine(|store| {
        let exchange = |commit: &mut Commit, key: &str, expected: &[u8], value: &[u8]| {
            commit.exchange(Keyspace::Log, key, expected, value);
        };
        put(store, "same", &[1; 9000]);
        put(store, "changed", b"old");
        put(store, "deleted", b"old");
        // Submitted together, so that an engine that groups commits has to look into the group.
        let (mut others, mut commit) = (Commit::new(), Commit::new());
        others.put(Keyspace::Log, "changed", "new").delete(Keyspace::Log, "deleted");
        for key in ["changed", "deleted"] {
            exchange(&mut commit, key, b"old", b"exchanged");
        }
        exchange(&mut commit, "same", &[1; 9000], &[2; 9000]);
        exchange(&mut commit, "never", b"", b"exchanged");
        commit.put(Keyspace::Log, "plain", "written");
        let tickets = [store.submit(others), store.submit(commit)];
        tickets.into_iter().for_each(|ticket| ticket.wait().unwrap());
        let get = |key: &str| store.get(Keyspace::Log, key.as_bytes()).unwrap();
        assert_eq!(get("same").unwrap(), [2; 9000]);
        assert_eq!(get("changed").unwrap(), b"new");
        assert_eq!((get("deleted"), get("never")), (None, None));
        assert_eq!(get("plain").unwrap(), b"written");
    });
}

#[test]
fn keyspaces_are_apart_and_scans_respect_prefix_from_and_limit() {
    each_engine(|store| {
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            put(store, key, key.as_bytes());
        }
        let mut commit = Commit::new();
        commit.put(Keyspace::Lane, "a/2x", "other");
        store.submit(commit).wait().unwrap();
        let keys = |entries: Vec<(Vec<u8>, Vec<u8>)>| {
            entries.into_iter().map(|(k, _)| String::from_utf8(k).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(keys(store.scan(Keyspace::Log, b"", b"a/", 9).unwrap()), ["a/1", "a/2", "a/3"]);
        assert_eq!(keys(store.scan(Keyspace::Log, b"a/2", b"a/", 9).unwrap()), ["a/2", "a/3"]);
        assert_eq!(keys(store.scan(Keyspace::Log, b"", b"a/", 2).unwrap()), ["a/1", "a/2"]);
        assert_eq!(keys(store.scan(Keyspace::Log, b"", b"", 9).unwrap()), ["a/1", "a/2", "a/3", "b/1"]);
        assert_eq!(keys(store.scan_back(Keyspace::Log, b"", b"a/", 2).unwrap()), ["a/3", "a/2"]);
        assert_eq!(keys(store.scan_back(Keyspace::Log, b"a/3", b"a/", 9).unwrap()), ["a/2", "a/1"]);
        assert_eq!(keys(store.scan_back(Keyspace::Log, b"a/1", b"a/", 9).unwrap()), Vec::<String>::new());
        assert_eq!(keys(store.scan(Keyspace::Log, b"", b"a/", 0).unwrap()), Vec::<String>::new());
    });
}

#[test]
fn a_value_over_the_limit_is_refused_and_the_store_goes_on() {
    each_engine(|store| {
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, "a", vec![0; Commit::VALUE_LIMIT + 1]);
        assert!(matches!(store.submit(commit).wait(), Err(StoreError::TooLarge { .. })));
        put(store, "a", &vec![5; Commit::VALUE_LIMIT]);
        assert_eq!(store.get(Keyspace::Log, b"a").unwrap().unwrap().len(), Commit::VALUE_LIMIT);
    });
}

#[test]
fn a_key_over_the_limit_is_refused_and_one_at_the_limit_is_kept() {
    each_engine(|store| {
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, vec![1; Commit::KEY_LIMIT + 1], "x");
        assert!(matches!(store.submit(commit).wait(), Err(StoreError::KeyTooLong { .. })));
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, vec![255; Commit::KEY_LIMIT], "x");
        store.submit(commit).wait().unwrap();
        assert_eq!(store.get(Keyspace::Log, &[255; Commit::KEY_LIMIT]).unwrap().unwrap(), b"x");
    });
}

/// sled 0.34.7 alone ends such a scan by a panic, after a million steps that lead nowhere.
#[test]
fn keys_with_many_bytes_of_255_are_scanned_in_both_directions() {
    each_engine(|store| {
        let mut expected = Vec::new();
        for i in 0..60_u8 {
            let mut commit = Commit::new();
            for j in 0..20_u8 {
                let key = [7, i, 255, 255, 255, 255, 255, 255, j];
                expected.push((key.to_vec(), vec![j]));
                commit.put(Keyspace::Log, key, [j]);
            }
            store.submit(commit).wait().unwrap();
        }
        assert_eq!(store.scan(Keyspace::Log, b"", b"", usize::MAX).unwrap(), expected);
        let within: Vec<_> = expected.iter().filter(|(key, _)| key[1] == 9).cloned().collect();
        assert_eq!(store.scan(Keyspace::Log, b"", &[7, 9, 255, 255, 255, 255], usize::MAX).unwrap(), within);
        expected.reverse();
        assert_eq!(store.scan_back(Keyspace::Log, b"", b"", usize::MAX).unwrap(), expected);
        assert_eq!(store.scan_back(Keyspace::Log, b"", &[7], 5).unwrap(), expected[..5]);
    });
}

/// Ends what waits for it, also when the one who holds it fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What nobody writes is in every scan, whatever is committed around it, in order and once.
#[test]
fn a_scan_under_commits_has_every_entry_that_is_not_written_meanwhile() {
    each_engine(|store| {
        let still = |i: u32| format!("k{:06}", 10 * i).into_bytes();
        let mut commit = Commit::new();
        for i in 0..2_000 {
            commit.put(Keyspace::Log, still(i), i.to_be_bytes());
        }
        store.submit(commit).wait().unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ending = Ending(&ended);
                // Fills the gaps with what makes pages split, and empties them so that pages merge.
                for round in 0..60_u32 {
                    let mut commit = Commit::new();
                    for i in 0..2_000 {
                        let key = format!("k{:06}", 10 * ((i * 7 + round * 131) % 2_000) + 1 + round % 9);
                        match round % 3 {
                            2 => commit.delete(Keyspace::Log, key),
                            _ => commit.put(Keyspace::Log, key, vec![1; (i as usize * 13) % 700]),
                        };
                        if i % 100 == 99 {
                            store.submit(std::mem::take(&mut commit)).wait().unwrap();
                        }
                    }
                }
            });
            let mut scans = 0;
            while scans < 4 || !ended.load(Ordering::Relaxed) {
                let mut found = store.scan(Keyspace::Log, b"", b"", usize::MAX).unwrap();
                if scans % 2 == 1 {
                    found = store.scan_back(Keyspace::Log, b"", b"", usize::MAX).unwrap();
                    found.reverse();
                }
                assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "not in order");
                let kept: Vec<_> = found.into_iter().filter(|(key, _)| key.ends_with(b"0")).collect();
                let expected = (0..2_000_u32).map(|i| (still(i), i.to_be_bytes().to_vec()));
                assert!(kept.into_iter().eq(expected), "an entry that nobody wrote is missing or different");
                scans += 1;
            }
        });
    });
}

/// A reader never sees a part of a commit in one entry: a value over the size of a chunk is old or new.
#[test]
fn a_large_value_that_is_replaced_is_read_whole() {
    each_engine(|store| {
        put(store, "large", &[0; 50_000]);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ending = Ending(&ended);
                for round in 1..200_u8 {
                    put(store, "large", &vec![round; 10_000 + 200 * usize::from(round)]);
                }
            });
            while !ended.load(Ordering::Relaxed) {
                let value = store.get(Keyspace::Log, b"large").unwrap().unwrap();
                assert!(value.iter().all(|byte| *byte == value[0]), "a mixture of two values");
            }
        });
    });
}

#[test]
fn a_failed_store_says_why_and_takes_nothing_more() {
    let store = MemoryStore::new();
    put(&store, "a", b"1");
    assert_eq!(*store.failure().borrow(), None);
    store.fail("no space left");
    let mut commit = Commit::new();
    commit.put(Keyspace::Log, "a", "2");
    assert!(matches!(store.submit(commit).wait(), Err(StoreError::Failed(reason)) if reason == "no space left"));
    assert_eq!(store.failure().borrow().as_deref(), Some("no space left"));
    assert_eq!(store.get(Keyspace::Log, b"a").unwrap().unwrap(), b"1");
    assert!(matches!(store.backup(&mut Vec::new(), Timestamp(0)), Err(StoreError::Failed(_))));
}

#[test]
fn an_export_holds_every_entry() {
    each_engine(|store| {
        put(store, "k", b"v");
        put(store, "large", &[1; 10_000]);
        let mut out = Vec::new();
        assert_eq!(store.export(&mut out).unwrap(), 2);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("{\"keyspace\":\"log\",\"key\":\"6b\",\"value\":\"76\"}\n"), "{text}");
    });
}

#[test]
fn what_was_acknowledged_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(folder.path());
    let tickets: Vec<_> = (0..2000_u32)
        .map(|i| {
            let mut commit = Commit::new();
            commit.put(Keyspace::Log, i.to_be_bytes(), vec![u8::try_from(i % 251).unwrap(); (i as usize * 37) % 9000]);
            store.submit(commit)
        })
        .collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    drop(store);
    let store = embedded(folder.path());
    assert_eq!(store.scan(Keyspace::Log, b"", b"", 9999).unwrap().len(), 2000);
    let report = store.check().unwrap();
    assert_eq!((report.damaged, report.orphan_chunks), (vec![], 0));
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _store = embedded(folder.path());
    let impatient = Options { patience: std::time::Duration::ZERO, ..Options::default() };
    assert!(matches!(EmbeddedStore::open(folder.path(), &impatient), Err(StoreError::Locked { .. })));
}

#[test]
fn what_a_crash_leaves_while_making_or_opening_a_store_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("sled.making/blobs")).unwrap();
    std::fs::write(folder.path().join("sled.making/db"), b"half").unwrap();
    let store = embedded(folder.path());
    put(&store, "a", b"1");
    drop(store);
    std::fs::write(folder.path().join("sled/snap.0000.generating"), b"half").unwrap();
    let store = embedded(folder.path());
    assert_eq!(store.get(Keyspace::Log, b"a").unwrap().unwrap(), b"1");
}

#[test]
fn files_of_something_else_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let other = sled::Config::new().path(folder.path().join("sled")).open().unwrap();
    other.insert("x", "y").unwrap();
    other.flush().unwrap();
    drop(other);
    let error = EmbeddedStore::open(folder.path(), &Options::default()).err().unwrap();
    assert!(error.to_string().contains("not the files of this store"), "{error}");
}

#[test]
fn a_damaged_file_never_yields_wrong_values() {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(folder.path());
    for i in 0..200 {
        put(&store, &format!("key{i:03}"), &[9; 3000]);
    }
    drop(store);
    let db = folder.path().join("sled/db");
    let length = std::fs::metadata(&db).unwrap().len();
    let mut file = std::fs::File::options().write(true).open(&db).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(length / 2)).unwrap();
    file.write_all(&[0xaa; 64]).unwrap();
    drop(file);
    // Whatever the engine makes of it, what is answered is what was written, or an error.
    if let Ok(store) = EmbeddedStore::open(folder.path(), &Options::default()) {
        for i in 0..200 {
            if let Ok(Some(value)) = store.get(Keyspace::Log, format!("key{i:03}").as_bytes()) {
                assert_eq!(value, [9; 3000]);
            }
        }
    }
}

#[test]
fn commits_of_many_threads_are_all_durable_and_in_each_threads_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(embedded(folder.path()));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                for i in 0..50 {
                    put(store.as_ref(), &format!("t{thread}"), format!("{i}").as_bytes());
                }
            });
        }
    });
    for thread in 0..8 {
        assert_eq!(store.get(Keyspace::Log, format!("t{thread}").as_bytes()).unwrap().unwrap(), b"49");
    }
}
