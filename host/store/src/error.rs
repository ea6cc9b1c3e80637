//! What can go wrong with the store, and what the person in charge does then.

use std::path::PathBuf;

/// A failure of the store. The disk's or the platform's, never an operator's or a guest's.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store.
    #[error("the store {path} is in use by another process; stop it first, or point this one at another folder")]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error("the store's folder {path} cannot be used: {reason}; check that it exists, is writable and has space")]
    Folder {
        /// The store's folder.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// The engine cannot open its files.
    #[error(
        "the store {path} cannot be opened: {reason}; nothing was changed. Keep a copy of the folder, then restore from a backup or ask platform support"
    )]
    Open {
        /// The store's folder.
        path: PathBuf,
        /// The engine's message.
        reason: String,
    },
    /// Written by a newer version.
    #[error(
        "the store {path} has format {found}; this host knows {known}. Run the host version that wrote it, or a newer one"
    )]
    Format {
        /// The store's folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format known.
        known: u32,
    },
    /// A record is damaged.
    #[error(
        "a record in keyspace {keyspace} is damaged (key {key}): {reason}; run `sgen-host store check` and restore from a backup"
    )]
    Damaged {
        /// The keyspace.
        keyspace: &'static str,
        /// The key in hex.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The disk failed. The store takes nothing more.
    #[error(
        "the store failed and takes nothing more: {0}; free space or mend the disk, then start the host again. Nothing acknowledged is lost"
    )]
    Failed(String),
    /// A value exceeds what the store takes.
    #[error("a value of {size} bytes exceeds the store's limit of {limit}")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// A key exceeds what the store takes.
    #[error("a key of {size} bytes exceeds the store's limit of {limit}")]
    KeyTooLong {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// A read failed.
    #[error("the store cannot be read: {0}; mend the disk, then start the host again")]
    Read(String),
    /// The sink of an export failed.
    #[error("the export cannot be written: {0}")]
    Export(String),
    /// A backup could not be made. The store itself goes on.
    #[error("the backup cannot be made: {0}")]
    Backup(String),
    /// A file is no backup, or no longer the one that was written.
    #[error("{path} cannot be restored: {reason}. Nothing was changed; take another backup file")]
    BadBackup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// A restore would meet something that is there already.
    #[error(
        "a backup is restored into an empty or absent folder only, and {path} holds {found}; move it away, or point store.path at another folder"
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// The name of what is in the way.
        found: String,
    },
    /// The store was closed while the commit waited.
    #[error("the store is closed")]
    Closed,
}
