//! Writing a backup into any sink.

use std::io::Write;

use ring::digest::{Context, SHA256};
use sgen_model::Timestamp;

use super::{BackupSummary, Closing, ClosingLine, FORMAT, Header};
use crate::embedded::files::FORMAT as STORE_FORMAT;
use crate::error::StoreError;
use crate::keyspace::Keyspace;

/// How much is gathered before the sink gets it, in bytes.
const BUFFER: usize = 256 * 1024;

/// Writes the lines and keeps count.
pub(crate) struct BackupWriter<'a> {
    sink: &'a mut dyn Write,
    buffer: Vec<u8>,
    digest: Context,
    created: Timestamp,
    entries: u64,
    redo: u64,
    bytes: u64,
}

impl<'a> BackupWriter<'a> {
    /// Writes the header. `created` is the time that the backup carries.
    pub(crate) fn begin(sink: &'a mut dyn Write, created: Timestamp) -> Result<Self, StoreError> {
        let header = Header {
            sgen_backup: FORMAT,
            store_format: STORE_FORMAT,
            host: env!("CARGO_PKG_VERSION").to_owned(),
            created,
        };
        let mut buffer = Vec::with_capacity(BUFFER.saturating_mul(2));
        line(&mut buffer, &header)?;
        Ok(Self { sink, buffer, digest: Context::new(&SHA256), created, entries: 0, redo: 0, bytes: 0 })
    }

    pub(crate) fn entry(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.entries = self.entries.saturating_add(1);
        crate::export_line(&mut self.buffer, keyspace, key, value);
        self.pass_on(BUFFER)
    }

    pub(crate) fn redo(&mut self, keyspace: Keyspace, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        self.redo = self.redo.saturating_add(1);
        let kind: &[u8] = if value.is_some() { b"put" } else { b"delete" };
        let buffer = &mut self.buffer;
        for part in [b"{\"redo\":\"", kind, b"\",\"keyspace\":\"", keyspace.name().as_bytes(), b"\",\"key\":\""] {
            buffer.extend_from_slice(part);
        }
        crate::write_hex(buffer, key);
        if let Some(value) = value {
            buffer.extend_from_slice(b"\",\"value\":\"");
            crate::write_hex(buffer, value);
        }
        buffer.extend_from_slice(b"\"}\n");
        self.pass_on(BUFFER)
    }

    /// Writes the closing line.
    pub(crate) fn finish(mut self) -> Result<BackupSummary, StoreError> {
        self.pass_on(0)?;
        let sha256 = hex::encode(self.digest.finish().as_ref());
        let Self { created, entries, redo, bytes, .. } = self;
        let mut last = Vec::new();
        line(&mut last, &ClosingLine { closing: Closing { entries, redo, bytes, sha256: sha256.clone() } })?;
        self.sink.write_all(&last).and_then(|()| self.sink.flush()).map_err(|e| unwritten(&e))?;
        Ok(BackupSummary { created, host: env!("CARGO_PKG_VERSION").to_owned(), entries, redo, bytes, sha256 })
    }

    /// Hands the buffer on once it has so many bytes.
    fn pass_on(&mut self, from: usize) -> Result<(), StoreError> {
        if self.buffer.len() >= from {
            self.digest.update(&self.buffer);
            self.bytes = self.bytes.saturating_add(self.buffer.len() as u64);
            self.sink.write_all(&self.buffer).map_err(|e| unwritten(&e))?;
            self.buffer.clear();
        }
        Ok(())
    }
}

fn line(buffer: &mut Vec<u8>, what: &impl serde::Serialize) -> Result<(), StoreError> {
    serde_json::to_writer(&mut *buffer, what).map_err(|e| StoreError::Backup(e.to_string()))?;
    buffer.push(b'\n');
    Ok(())
}

fn unwritten(error: &std::io::Error) -> StoreError {
    StoreError::Backup(format!("it cannot be written: {error}"))
}
