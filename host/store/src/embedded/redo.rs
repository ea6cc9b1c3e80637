//! What is committed while a copy of the store is made.
//!
//! The committer appends every write here once it is on disk; whoever makes the copy takes what has gathered from time to
//! time. Writes wait in a file without a name, so that memory stays bounded and a crash leaves nothing behind. Whatever
//! goes wrong here fails the copy and never the store: [`Redo::append`] keeps the error for the one who takes.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::commit::Op;
use crate::error::StoreError;
use crate::keyspace::Keyspace;

/// The name that the file has for the moment between making and unlinking it.
pub(super) const FILE: &str = "redo.spool";
/// The most bytes that may wait. A copy that is taken away slower than this gathers must not fill the store's disk.
const LIMIT: u64 = 1024 * 1024 * 1024;

/// Writes that wait to be taken, in the order of their commits.
pub(super) struct Redo(Mutex<Spool>);

struct Spool {
    /// Where the committer writes.
    file: File,
    /// The other one, empty, to be exchanged for it.
    spare: Option<File>,
    bytes: u64,
    failure: Option<String>,
}

impl Redo {
    /// Makes the files in `folder`.
    pub(super) fn new(folder: &Path) -> std::io::Result<Self> {
        let spool = Spool { file: nameless(folder)?, spare: Some(nameless(folder)?), bytes: 0, failure: None };
        Ok(Self(Mutex::new(spool)))
    }

    /// Adds writes that are on disk.
    pub(super) fn append<'a>(&self, ops: impl Iterator<Item = &'a Op>) {
        let mut spool = self.spool();
        if spool.failure.is_some() {
            return;
        }
        let mut buffer = Vec::new();
        for op in ops {
            encode(&mut buffer, op);
        }
        spool.bytes = spool.bytes.saturating_add(buffer.len() as u64);
        if spool.bytes > LIMIT {
            spool.failure = Some(format!(
                "it is taken away too slowly: {LIMIT} bytes of new commits wait for it; write it to a faster place"
            ));
        } else if let Err(error) = spool.file.write_all(&buffer) {
            spool.failure = Some(format!("the commits made meanwhile cannot be kept: {error}"));
        }
        if spool.failure.is_some() {
            // What the disk holds for a copy that cannot be finished is given back at once.
            drop(spool.file.set_len(0));
        }
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.spool().bytes
    }

    /// Takes what waits, in order. Answers the number of writes.
    pub(super) fn take(
        &self,
        mut visit: impl FnMut(Keyspace, &[u8], Option<&[u8]>) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let failed = |e: std::io::Error| StoreError::Backup(format!("the commits made meanwhile cannot be read: {e}"));
        let (mut file, bytes) = {
            let mut spool = self.spool();
            if let Some(reason) = &spool.failure {
                return Err(StoreError::Backup(reason.clone()));
            }
            if spool.bytes == 0 {
                return Ok(0);
            }
            let Some(spare) = spool.spare.take() else {
                return Err(StoreError::Backup("the commits made meanwhile are taken twice at a time".to_owned()));
            };
            (std::mem::replace(&mut spool.file, spare), std::mem::take(&mut spool.bytes))
        };
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut source = BufReader::with_capacity(256 * 1024, Read::take(&mut file, bytes));
        let mut count = 0_u64;
        while let Some((keyspace, key, value)) = decode(&mut source).map_err(failed)? {
            visit(keyspace, &key, value.as_deref())?;
            count = count.saturating_add(1);
        }
        drop(source);
        file.seek(SeekFrom::Start(0)).and_then(|_| file.set_len(0)).map_err(failed)?;
        self.spool().spare = Some(file);
        Ok(count)
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nameless(folder: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join(FILE);
    // One that a crash left between the two calls below.
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// `keyspace ‖ 1 or 0 ‖ key length u32 ‖ value length u32 ‖ key ‖ value`; 0 deletes.
fn encode(buffer: &mut Vec<u8>, op: &Op) {
    let value = op.value.as_deref();
    buffer.extend_from_slice(&[op.keyspace.byte(), u8::from(value.is_some())]);
    for part in [op.key.as_slice(), value.unwrap_or_default()] {
        // Keys and values are far below 4 GiB: `Commit::check` sees to it.
        buffer.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    buffer.extend_from_slice(&op.key);
    buffer.extend_from_slice(value.unwrap_or_default());
}

type Write = (Keyspace, Vec<u8>, Option<Vec<u8>>);

fn decode(source: &mut impl Read) -> std::io::Result<Option<Write>> {
    let mut head = [0_u8; 10];
    match source.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => source.read_exact(&mut head[1..])?,
    }
    let [keyspace, present, k0, k1, k2, k3, v0, v1, v2, v3] = head;
    let keyspace = Keyspace::from_byte(keyspace).ok_or_else(|| std::io::Error::other("an unknown keyspace"))?;
    let mut part = |length: [u8; 4]| {
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        source.read_exact(&mut bytes).map(|()| bytes)
    };
    let key = part([k0, k1, k2, k3])?;
    let value = part([v0, v1, v2, v3])?;
    Ok(Some((keyspace, key, (present == 1).then_some(value))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn op(key: &[u8], value: Option<&[u8]>) -> Op {
        Op { keyspace: Keyspace::Log, key: key.to_vec(), value: value.map(<[u8]>::to_vec), absent: false }
    }

    fn taken(redo: &Redo) -> Vec<Op> {
        let mut ops = Vec::new();
        let count = redo.take(|keyspace, key, value| {
            ops.push(Op { keyspace, key: key.to_vec(), value: value.map(<[u8]>::to_vec), absent: false });
            Ok(())
        });
        assert_eq!(count.unwrap(), ops.len() as u64);
        ops
    }

    #[test]
    fn writes_are_taken_once_in_order_with_deletes_and_empty_values() {
        let folder = tempfile::tempdir().unwrap();
        let redo = Redo::new(folder.path()).unwrap();
        let first = [op(b"a", Some(b"1")), op(b"", None), op(b"b", Some(b""))];
        let second = [op(b"a", None)];
        redo.append(first.iter());
        assert_eq!(taken(&redo), first);
        redo.append(second.iter());
        redo.append(first.iter());
        assert_eq!(taken(&redo), [second.as_slice(), first.as_slice()].concat());
        assert_eq!((taken(&redo).len(), redo.bytes()), (0, 0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn more_than_the_limit_fails_the_copy_and_gives_the_disk_back() {
        let folder = tempfile::tempdir().unwrap();
        let redo = Redo::new(folder.path()).unwrap();
        let large = [op(b"a", Some(&[7; 4 * 1024 * 1024]))];
        redo.spool().bytes = LIMIT - 1024;
        redo.append(large.iter());
        redo.append(large.iter());
        assert!(matches!(redo.take(|_, _, _| Ok(())), Err(StoreError::Backup(_))));
        assert_eq!(redo.spool().file.metadata().unwrap().len(), 0);
    }
}
