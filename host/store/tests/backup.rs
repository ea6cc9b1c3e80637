//! Backups of stores that are being written, what a restore makes of them, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sgen_model::Timestamp;
use sgen_store::{
    BackupSummary, Commit, EmbeddedStore, Keyspace, MemoryStore, Options, RestoreProgress, Store, StoreError,
    verify_backup, write_backup_file,
};

const MADE: Timestamp = Timestamp(1_795_460_400_123);

fn embedded(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, &Options::default()).unwrap()
}

fn back_up(store: &dyn Store, out: &Path) -> BackupSummary {
    write_backup_file(out, |sink| store.backup(sink, MADE).map(drop)).unwrap()
}

fn restore(path: &Path, from: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::restore(path, from, &Options::default(), &mut |_| ())?;
    Ok(embedded(path))
}

fn export(store: &dyn Store) -> String {
    let mut bytes = Vec::new();
    store.export(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Some of everything: each keyspace, empty keys and values, chunked values, what was deleted.
fn fill(store: &dyn Store) {
    for (n, keyspace) in Keyspace::ALL.into_iter().enumerate() {
        let mut commit = Commit::new();
        commit.put(keyspace, "", "").put(keyspace, [255, 255, 255, 255, 0], vec![9; 100 * n]);
        commit.put(keyspace, "large", vec![7; 3000 * n]).put(keyspace, "gone", vec![1; 9000]);
        store.submit(commit).wait().unwrap();
        let mut commit = Commit::new();
        commit.delete(keyspace, "gone");
        store.submit(commit).wait().unwrap();
    }
}

struct Scene {
    folder: tempfile::TempDir,
    file: PathBuf,
}

/// A backup file of a filled store.
fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(&folder.path().join("store"));
    fill(&store);
    let file = folder.path().join("backup.jsonl");
    back_up(&store, &file);
    Scene { folder, file }
}

#[test]
fn a_restored_store_holds_what_was_backed_up_whichever_engine_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let (model, engine) = (MemoryStore::new(), embedded(&folder.path().join("one")));
    fill(&model);
    fill(&engine);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let (of_model, of_engine) = (back_up(&model, &a), back_up(&engine, &b));
    assert_eq!(of_model, of_engine);
    assert_eq!((of_engine.entries, of_engine.redo, of_engine.created), (48, 0, MADE));
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let restored = restore(&folder.path().join("two"), &a).unwrap();
    assert_eq!(export(&restored), export(&engine));
    assert_eq!(export(&MemoryStore::restored(&b).unwrap()), export(&engine));
    let report = restored.check().unwrap();
    assert_eq!((report.damaged, report.orphan_chunks), (vec![], 0));
    let mut commit = Commit::new();
    commit.put(Keyspace::Log, "after", vec![3; 9000]);
    restored.submit(commit).wait().unwrap();
    assert_eq!(restored.get(Keyspace::Log, b"large").unwrap().unwrap(), vec![7; 18_000]);
}

#[test]
fn a_backup_can_be_read_without_this_program() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let mut commit = Commit::new();
    commit.put(Keyspace::Site, "acme", "{}");
    store.submit(commit).wait().unwrap();
    let file = folder.path().join("b");
    let summary = back_up(&store, &file);
    let text = std::fs::read_to_string(&file).unwrap();
    let (covered, last) = text.split_at(usize::try_from(summary.bytes).unwrap());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        covered,
        format!(
            "{{\"sgen_backup\":1,\"store_format\":1,\"host\":\"{version}\",\"created\":\"2026-11-23T19:00:00.123Z\"}}\n\
             {{\"keyspace\":\"site\",\"key\":\"61636d65\",\"value\":\"7b7d\"}}\n"
        )
    );
    let sha256 = hex::encode(ring::digest::digest(&ring::digest::SHA256, covered.as_bytes()));
    let bytes = covered.len();
    assert_eq!(
        last,
        format!("{{\"closing\":{{\"entries\":1,\"redo\":0,\"bytes\":{bytes},\"sha256\":\"{sha256}\"}}}}\n")
    );
}

/// Ends what waits for it, also when the one who holds it fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each thread moves an amount between two accounts of its own and counts its commits, all in one commit: a backup that
/// is of one moment has the sum as it always was, every index entry with its event, and every count of its thread's last
/// event.
#[test]
fn a_backup_under_commits_is_the_store_of_one_moment_not_before_the_backup_began() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(embedded(&folder.path().join("store")));
    let mut commit = Commit::new();
    for i in 0..4_000_u32 {
        commit.put(Keyspace::Dead, i.to_be_bytes(), vec![1; 300]);
    }
    store.submit(commit).wait().unwrap();
    let (ended, committed) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 4]);
    std::thread::scope(|scope| {
        for (thread, committed) in committed.iter().enumerate() {
            let (store, ended) = (store.clone(), &ended);
            scope.spawn(move || {
                for n in 1_u64.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut commit = Commit::new();
                    let (rich, poor) = (n * 37 % 1000, 1000 - n * 37 % 1000);
                    commit.put(Keyspace::Site, format!("{thread}/a"), rich.to_string());
                    commit.put(Keyspace::Surfaced, format!("{thread}/b"), poor.to_string());
                    commit.put(Keyspace::Lane, format!("{thread}"), n.to_string());
                    commit.put(Keyspace::Log, format!("{thread}/{n:06}"), vec![5; (n as usize * 331) % 9000]);
                    commit.put(Keyspace::LogIndex, format!("{thread}/{n:06}"), "");
                    if n > 20 {
                        // What is old goes, from the log before the index of what is still to be read.
                        commit.delete(Keyspace::Log, format!("{thread}/{:06}", n - 20));
                        commit.delete(Keyspace::LogIndex, format!("{thread}/{:06}", n - 20));
                    }
                    store.submit(commit).wait().unwrap();
                    committed.store(n, Ordering::Relaxed);
                }
            });
        }
        let _ending = Ending(&ended);
        let mut redo = 0;
        for round in 0..6 {
            while committed.iter().any(|n| n.load(Ordering::Relaxed) < 5 * (round + 1)) {
                std::thread::yield_now();
            }
            let before: Vec<u64> = committed.iter().map(|n| n.load(Ordering::Relaxed)).collect();
            let file = folder.path().join(format!("backup-{round}"));
            redo += back_up(store.as_ref(), &file).redo;
            let copy = restore(&folder.path().join(format!("copy-{round}")), &file).unwrap();
            let number = |keyspace, key: String| -> u64 {
                String::from_utf8(copy.get(keyspace, key.as_bytes()).unwrap().unwrap()).unwrap().parse().unwrap()
            };
            for (thread, before) in before.into_iter().enumerate() {
                let last = number(Keyspace::Lane, thread.to_string());
                assert!(last >= before, "an acknowledged commit is missing");
                let rich = number(Keyspace::Site, format!("{thread}/a"));
                assert_eq!(rich, last * 37 % 1000);
                assert_eq!(rich + number(Keyspace::Surfaced, format!("{thread}/b")), 1000);
                let prefix = format!("{thread}/");
                let keys = |keyspace| -> Vec<Vec<u8>> {
                    let found = copy.scan(keyspace, b"", prefix.as_bytes(), usize::MAX).unwrap();
                    found.into_iter().map(|(key, _)| key).collect()
                };
                let kept: Vec<_> =
                    (last.saturating_sub(19).max(1)..=last).map(|n| format!("{thread}/{n:06}").into_bytes()).collect();
                assert_eq!((keys(Keyspace::Log), keys(Keyspace::LogIndex)), (kept.clone(), kept));
            }
        }
        assert!(redo > 0, "nothing was committed while the backups were made");
    });
}

#[test]
fn a_backup_that_is_cut_off_anywhere_is_refused_and_says_so() {
    let Scene { folder, file } = scene();
    let whole = std::fs::read(&file).unwrap();
    let cut = folder.path().join("cut");
    let lines: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(n, _)| n + 1).collect();
    for end in lines.iter().flat_map(|end| [end - 1, *end]).chain([0, 10, 1000]).filter(|end| *end < whole.len()) {
        std::fs::write(&cut, &whole[..end]).unwrap();
        let error = verify_backup(&cut, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("cut off") || error.contains("empty"), "{end}: {error}");
        assert!(restore(&folder.path().join("new"), &cut).is_err());
        assert!(!folder.path().join("new").exists(), "something was made before the file was verified");
    }
}

#[test]
fn a_backup_in_which_one_byte_is_other_is_refused() {
    let Scene { folder, file } = scene();
    let whole = std::fs::read(&file).unwrap();
    let altered = folder.path().join("altered");
    for at in (0..whole.len()).step_by(whole.len() / 400).chain(whole.len() - 170..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&altered, &bytes).unwrap();
        let error = verify_backup(&altered, &mut |_| ()).unwrap_err();
        assert!(matches!(error, StoreError::BadBackup { .. }), "{at}: {error}");
    }
    let text = String::from_utf8(whole).unwrap();
    for (from, to, says) in [
        ("{\"sgen_backup\":1", "{\"sgen_backup\":2", "backup format 2"),
        ("\"store_format\":1", "\"store_format\":9", "store format 9"),
        ("\"keyspace\":\"dead\"", "\"keyspace\":\"d\"", "does not know"),
        ("\"key\":\"6c61", "\"key\":\"6C61", "SHA-256"),
        ("\"entries\":48", "\"entries\":47", "counts 47 entries"),
    ] {
        std::fs::write(&altered, text.replacen(from, to, 1)).unwrap();
        let error = verify_backup(&altered, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{from}: {error}");
    }
    std::fs::write(&altered, format!("{text}\n")).unwrap();
    assert!(verify_backup(&altered, &mut |_| ()).unwrap_err().to_string().contains("follows"));
    let swapped: Vec<&str> = text.lines().collect();
    let order = [&swapped[..1], &[swapped[2], swapped[1]], &swapped[3..]].concat();
    std::fs::write(&altered, order.join("\n") + "\n").unwrap();
    assert!(verify_backup(&altered, &mut |_| ()).unwrap_err().to_string().contains("SHA-256"));
}

#[test]
fn a_restore_touches_no_folder_that_holds_something() {
    let Scene { folder, file } = scene();
    let store = folder.path().join("store");
    let before = export(&embedded(&store));
    let error = restore(&store, &file).err().unwrap();
    assert!(matches!(&error, StoreError::NotEmpty { found, .. } if found == "sled"), "{error}");
    assert_eq!(export(&embedded(&store)), before);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes"), "x").unwrap();
    assert!(restore(&other, &file).err().unwrap().to_string().contains("notes"));
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn a_restore_tells_how_far_it_is_and_the_same_call_is_made_again_after_a_crash() {
    let Scene { folder, file } = scene();
    let new = folder.path().join("new");
    // What a kill leaves while the store is made.
    std::fs::create_dir_all(new.join("sled.making/blobs")).unwrap();
    std::fs::write(new.join("sled.making/db"), b"half").unwrap();
    std::fs::write(new.join("lock"), b"").unwrap();
    let mut seen = Vec::new();
    let restored = EmbeddedStore::restore(&new, &file, &Options::default(), &mut |step| seen.push(step)).unwrap();
    assert!(seen.iter().any(|step| matches!(step, RestoreProgress::Verifying(_))));
    assert_eq!(seen.last(), Some(&RestoreProgress::Checking));
    assert_eq!(restored.report.keyspaces.iter().map(|(_, entries, _)| entries).sum::<u64>(), 48);
    assert!(!new.join("sled.making").exists());
    assert_eq!(export(&embedded(&new)), export(&embedded(&folder.path().join("store"))));
}

#[test]
fn a_backup_file_is_this_users_only_complete_under_its_name_and_never_written_over() {
    let Scene { folder, file } = scene();
    let store = embedded(&folder.path().join("store"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let error = write_backup_file(&file, |sink| store.backup(sink, MADE).map(drop)).unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
    // What a kill leaves is replaced; what somebody is writing is not.
    let (out, part) = (folder.path().join("out"), folder.path().join("out.part"));
    std::fs::write(&part, b"half").unwrap();
    back_up(&store, &out);
    assert!(!part.exists());
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&file).unwrap());
    std::fs::remove_file(&out).unwrap();
    let busy = std::fs::File::create(&part).unwrap();
    busy.try_lock().unwrap();
    assert!(write_backup_file(&out, |sink| store.backup(sink, MADE).map(drop)).is_err());
    drop(busy);
    // A failure, and bytes that are no backup, leave nothing.
    let failing = |sink: &mut dyn Write| -> Result<(), StoreError> {
        sink.write_all(b"{\"sgen_backup\":1}\n").map_err(|e| StoreError::Backup(e.to_string()))
    };
    assert!(matches!(write_backup_file(&out, failing), Err(StoreError::BadBackup { .. })));
    assert!(write_backup_file(&out, |_| Err(StoreError::Closed)).is_err());
    assert!(!out.exists() && !part.exists());
}

/// A sink that fails after so many bytes.
struct Short(usize);

impl Write for Short {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("the disk is full"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_backup_that_cannot_be_written_fails_alone_and_the_next_one_succeeds() {
    let Scene { folder, file } = scene();
    let store = embedded(&folder.path().join("store"));
    for length in [0, 100, 100_000] {
        let error = store.backup(&mut Short(length), MADE).unwrap_err().to_string();
        assert!(error.contains("the disk is full"), "{error}");
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, "still", format!("{length}"));
        store.submit(commit).wait().unwrap();
    }
    let again = folder.path().join("again");
    assert_eq!(back_up(&store, &again).entries, verify_backup(&file, &mut |_| ()).unwrap().entries + 1);
}
