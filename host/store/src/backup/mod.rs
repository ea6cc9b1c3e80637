//! Backup files: what a store holds at one moment, readable without this program.
//!
//! A backup is lines of JSON, each ended by a line feed. Keys and values are in hex.
//!
//! ```text
//! {"sgen_backup":1,"store_format":1,"host":"0.1.0","created":"2026-11-23T18:00:00.000Z"}
//! {"keyspace":"site","key":"61636d65","value":"7b7d"}
//! {"redo":"put","keyspace":"log","key":"61","value":"62"}
//! {"redo":"delete","keyspace":"log","key":"63"}
//! {"closing":{"entries":1,"redo":2,"bytes":233,"sha256":"…"}}
//! ```
//!
//! The first says what follows; the lines after it are applied in their order, a later one wins; `redo` marks what was
//! committed while the backup was made. The last line counts them, and has the length and the SHA-256 of everything
//! before it: a file without it was cut off, and one that differs from it was altered.
//!
//! Values are as the store holds them. What is sealed stays sealed, and the vault's key is not in the store.

mod file;
mod read;
mod write;

pub use file::write_backup_file;
pub use read::verify_backup;
pub(crate) use read::{BackupReader, Record};
pub(crate) use write::BackupWriter;

use serde::{Deserialize, Serialize};
use sgen_model::Timestamp;

/// The format of backup files.
const FORMAT: u32 = 1;

/// What a backup file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// When it was made.
    pub created: Timestamp,
    /// The version of the host that made it.
    pub host: String,
    /// Entries that were read.
    pub entries: u64,
    /// Writes that were committed while they were read.
    pub redo: u64,
    /// The length of what the digest covers, in bytes.
    pub bytes: u64,
    /// The SHA-256, in hex.
    pub sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    sgen_backup: u32,
    store_format: u32,
    host: String,
    created: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClosingLine {
    closing: Closing,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Closing {
    entries: u64,
    redo: u64,
    bytes: u64,
    sha256: String,
}
