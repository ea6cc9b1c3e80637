//! The audit log: who changed what, and which failures were surfaced, per site, tamper-evident.
//!
//! Whoever changes state hands its commit to [`AuditLog::append`], which adds the records and submits everything as one
//! commit: there is no change without its record and no record without its change. Each site's records are the leaves of
//! a Merkle tree (RFC 9162 hashes), whose interior hashes and head are written in the same commit.

mod error;
mod export;
mod log;
mod record;
mod tree;

pub use error::AuditError;
pub use log::{AuditLog, Filter, Verification};
pub use record::{Action, Actor, AuditRecord, Draft, FieldChange};

/// The reserved site that holds the platform's own records: releases, operators.
pub const PLATFORM_SITE: &str = "platform";
