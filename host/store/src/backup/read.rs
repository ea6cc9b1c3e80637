//! Reading a backup, and refusing one that is not what was written.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::{BackupSummary, ClosingLine, FORMAT, Header};
use crate::embedded::files::FORMAT as STORE_FORMAT;
use crate::error::StoreError;
use crate::keyspace::Keyspace;

/// The longest line, in bytes: a value at the limit of a commit in hex, with room for the rest.
const LINE: u64 = 2 * crate::Commit::VALUE_LIMIT as u64 + 64 * 1024;

/// One line between the first and the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) keyspace: Keyspace,
    pub(crate) key: Vec<u8>,
    /// `None` deletes.
    pub(crate) value: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    redo: Option<&'a str>,
    keyspace: &'a str,
    key: &'a str,
    value: Option<&'a str>,
}

/// Reads a backup from its first line to its last.
pub(crate) struct BackupReader {
    path: PathBuf,
    source: BufReader<File>,
    /// The line at hand.
    line: Vec<u8>,
    number: u64,
    digest: Context,
    summary: BackupSummary,
    ended: bool,
}

/// Reads a whole backup and compares it with what its last line says. `progress` gets the bytes read so far.
///
/// # Errors
/// [`StoreError::BadBackup`], which says what is wrong.
pub fn verify_backup(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<BackupSummary, StoreError> {
    let mut reader = BackupReader::open(path)?;
    while reader.next()?.is_some() {
        progress(reader.bytes());
    }
    Ok(reader.summary)
}

impl BackupReader {
    /// Opens a file and reads its first line.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let bad = |reason: String| StoreError::BadBackup { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|e| bad(format!("it cannot be opened: {e}")))?;
        let mut reader = Self {
            path: path.to_owned(),
            source: BufReader::with_capacity(256 * 1024, file),
            line: Vec::new(),
            number: 0,
            digest: Context::new(&SHA256),
            summary: BackupSummary {
                created: sgen_model::Timestamp(0),
                host: String::new(),
                entries: 0,
                redo: 0,
                bytes: 0,
                sha256: String::new(),
            },
            ended: false,
        };
        if !reader.read_line()? {
            return Err(bad("it is empty".to_owned()));
        }
        // Versions are looked at before anything else, so that a newer format is called that.
        let versions: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&reader.line)
            .map_err(|_| bad("its first line is not that of a backup".to_owned()))?;
        let number = |name: &str| versions.get(name).and_then(serde_json::Value::as_u64);
        for (name, what, known) in
            [("sgen_backup", "backup format", FORMAT), ("store_format", "store format", STORE_FORMAT)]
        {
            match number(name) {
                Some(found) if found == u64::from(known) => {}
                Some(found) => {
                    return Err(bad(format!(
                        "it has {what} {found} and this host knows {known}; use the host version that made it, or a newer one"
                    )));
                }
                None => return Err(bad("its first line is not that of a backup".to_owned())),
            }
        }
        let header: Header =
            serde_json::from_slice(&reader.line).map_err(|e| bad(format!("its first line is not valid: {e}")))?;
        (reader.summary.created, reader.summary.host) = (header.created, header.host);
        reader.cover();
        Ok(reader)
    }

    /// The next record; `None` once the closing line was read and agrees with everything before it.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        if !self.read_line()? {
            return Err(self.bad(format!(
                "it was cut off: it ends after line {} without the closing line that counts and sums up",
                self.number
            )));
        }
        if self.line.starts_with(b"{\"closing\"") {
            self.close()?;
            return Ok(None);
        }
        let record = self.record()?;
        self.cover();
        Ok(Some(record))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.summary.bytes
    }

    pub(crate) fn summary(&self) -> &BackupSummary {
        &self.summary
    }

    fn record(&mut self) -> Result<Record, StoreError> {
        let parsed = serde_json::from_slice::<Line<'_>>(&self.line)
            .map_err(|e| self.here(&format!("is not valid (column {})", e.column())))?;
        let Some(keyspace) = Keyspace::from_name(parsed.keyspace) else {
            return Err(self.here("names a keyspace that this host does not know"));
        };
        let bytes = |text: &str| hex::decode(text).map_err(|_| self.here("holds something that is not hex"));
        let key = bytes(parsed.key)?;
        let value = parsed.value.map(bytes).transpose()?;
        let redo = match (parsed.redo, &value) {
            (None, Some(_)) => false,
            (Some("put"), Some(_)) | (Some("delete"), None) => true,
            _ => return Err(self.here("is neither an entry nor a redo")),
        };
        let count = if redo { &mut self.summary.redo } else { &mut self.summary.entries };
        *count = count.saturating_add(1);
        Ok(Record { keyspace, key, value })
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let closing = serde_json::from_slice::<ClosingLine>(&self.line)
            .map_err(|_| self.here("is a closing line that is not valid"))?
            .closing;
        let mut rest = [0];
        match self.source.read(&mut rest) {
            Ok(0) => {}
            Ok(_) => return Err(self.bad("something follows its closing line".to_owned())),
            Err(e) => return Err(self.bad(format!("it cannot be read: {e}"))),
        }
        let sha256 = hex::encode(self.digest.clone().finish().as_ref());
        let found = &self.summary;
        if (closing.entries, closing.redo, closing.bytes) != (found.entries, found.redo, found.bytes) {
            return Err(self.bad(format!(
                "it was altered: its closing line counts {} entries, {} redo and {} bytes, and there are {}, {} and {}",
                closing.entries, closing.redo, closing.bytes, found.entries, found.redo, found.bytes
            )));
        }
        if closing.sha256 != sha256 {
            return Err(self.bad(format!(
                "it was altered: its SHA-256 is {sha256}, and its closing line says {}",
                closing.sha256
            )));
        }
        self.summary.sha256 = sha256;
        self.ended = true;
        Ok(())
    }

    /// Reads a line with its line feed; answers whether there was one.
    fn read_line(&mut self) -> Result<bool, StoreError> {
        self.line.clear();
        let read = (&mut self.source).take(LINE).read_until(b'\n', &mut self.line);
        let read = read.map_err(|e| self.bad(format!("it cannot be read after line {}: {e}", self.number)))?;
        if read == 0 {
            return Ok(false);
        }
        self.number = self.number.saturating_add(1);
        if self.line.last() == Some(&b'\n') {
            Ok(true)
        } else if read as u64 == LINE {
            Err(self.here("is longer than any line of a backup"))
        } else {
            Err(self.bad(format!("it was cut off within line {}", self.number)))
        }
    }

    /// Adds the line at hand to what the closing line is about.
    fn cover(&mut self) {
        self.digest.update(&self.line);
        self.summary.bytes = self.summary.bytes.saturating_add(self.line.len() as u64);
    }

    fn here(&self, what: &str) -> StoreError {
        self.bad(format!("it was altered: line {} {what}", self.number))
    }

    fn bad(&self, reason: String) -> StoreError {
        StoreError::BadBackup { path: self.path.clone(), reason }
    }
}
