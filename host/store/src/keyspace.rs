//! The keyspaces, and the byte that each key starts with on disk.

/// A family of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Keyspace {
    /// Format version, key check, highest release seen.
    Meta = 1,
    /// Accounts' sites.
    Site = 2,
    /// Ingest keys and operator tokens, as digests.
    Access = 3,
    /// Connector instances.
    Instance = 4,
    /// Wrapped data keys.
    Key = 5,
    /// Sealed credentials.
    Credential = 6,
    /// The event log.
    Log = 7,
    /// From event id to log position.
    LogIndex = 8,
    /// Cursor, counters and pause of each instance.
    Lane = 9,
    /// Events that wait for another attempt.
    Retry = 10,
    /// Dead letters.
    Dead = 11,
    /// The integration log.
    Journal = 12,
    /// Audit records.
    Audit = 13,
    /// Hashes of the audit log's tree.
    AuditHash = 14,
    /// Failures that have been surfaced and are not resolved.
    Surfaced = 15,
    /// Failures handed to platform support, with their facts.
    Escalation = 16,
}

impl Keyspace {
    /// Every keyspace.
    pub const ALL: [Self; 16] = [
        Self::Meta,
        Self::Site,
        Self::Access,
        Self::Instance,
        Self::Key,
        Self::Credential,
        Self::Log,
        Self::LogIndex,
        Self::Lane,
        Self::Retry,
        Self::Dead,
        Self::Journal,
        Self::Audit,
        Self::AuditHash,
        Self::Surfaced,
        Self::Escalation,
    ];

    /// The name in exports and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Site => "site",
            Self::Access => "access",
            Self::Instance => "instance",
            Self::Key => "key",
            Self::Credential => "credential",
            Self::Log => "log",
            Self::LogIndex => "log-index",
            Self::Lane => "lane",
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Journal => "journal",
            Self::Audit => "audit",
            Self::AuditHash => "audit-hash",
            Self::Surfaced => "surfaced",
            Self::Escalation => "escalation",
        }
    }

    /// The keyspace with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|keyspace| keyspace.name() == name)
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|keyspace| keyspace.byte() == byte)
    }

    pub(crate) const fn byte(self) -> u8 {
        self as u8
    }
}
