//! What delivery writes into the store. Everything that holds captured or mapped data is sealed with the site's key.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sgen_model::{
    CaptureEvent, ConnectorInstance, DownstreamAccount, Environment, EventId, Failure, PauseCause, Sequence, SharedId,
    SlotName, Surface, Timestamp, Verdict,
};
use sgen_vault::{DataKey, SealContext};

use crate::account_guard::KnownAccount;
use crate::error::DeliveryError;
use crate::jobs::Job;
use crate::progress::Progress;

/// An event in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredEvent {
    pub(crate) received_at: Timestamp,
    pub(crate) event: CaptureEvent,
    /// The bytes of all events of the log up to and including this one: the difference of two is the size between them.
    #[serde(default)]
    pub(crate) total: u64,
    /// When its contents were erased; its id, surface and times stay, so that the log has no hole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) erased_at: Option<Timestamp>,
}

/// An instance with the positions of the log that it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstanceRecord {
    pub(crate) instance: ConnectorInstance,
    pub(crate) routing: Routing,
    /// The downstream account of its credentials; absent while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<KnownAccount>,
    /// Slots whose reference to a shared credential was revoked, and that have no credential since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) revoked: BTreeMap<SlotName, SharedId>,
}

/// Which positions of the log an instance takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Routing {
    /// Configured after this position.
    pub(crate) start: Sequence,
    /// While it was disabled: after the first, up to and including the second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gaps: Vec<(Sequence, Sequence)>,
    /// The position at which it was disabled, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disabled_after: Option<Sequence>,
}

impl Routing {
    /// Whether the position was captured while the instance was disabled.
    pub(crate) fn in_gap(&self, sequence: Sequence) -> bool {
        self.gaps.iter().any(|(after, to)| *after < sequence && sequence <= *to)
            || self.disabled_after.is_some_and(|after| sequence > after)
    }
}

/// What the runtime knows of an instance. Written by its lane alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaneState {
    pub(crate) progress: Progress,
    pub(crate) counters: Counters,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pause: Option<Pause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_delivery_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_failure: Option<AttemptFailure>,
    /// The lane's own time of the last write: it never goes back, whatever the wall clock does.
    #[serde(default)]
    pub(crate) written_at: Timestamp,
    /// The wall clock's time of that write: what has passed since is added when the host starts again.
    #[serde(default)]
    pub(crate) written_wall: Timestamp,
    /// Time in which nothing might be sent (paused, disabled, no connector), in milliseconds.
    #[serde(default)]
    pub(crate) idle_ms: u64,
    /// Since when nothing may be sent, while that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_since: Option<Timestamp>,
    /// The downstream asked for quiet until then, by the lane's time: no change of the operator's and no restart cuts it
    /// short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quiet_until: Option<Timestamp>,
    /// Replays and discards of dead letters under way, in the order in which they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<Job>,
    #[serde(default)]
    pub(crate) jobs_begun: u64,
    /// What the last health check found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<HealthRecord>,
    /// The state as it was last audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<Condition>,
    #[serde(default)]
    pub(crate) journal: JournalSize,
}

/// A state that was audited when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    pub(crate) state: String,
    pub(crate) since: Timestamp,
}

/// How much the integration log of an instance holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalSize {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// The time of the newest entry: entries are in order even when the wall clock goes back.
    #[serde(default)]
    pub(crate) newest: Timestamp,
    /// The time of the newest entry that was removed.
    #[serde(default)]
    pub(crate) trimmed_to: Timestamp,
}

/// What a health check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// When.
    pub at: Timestamp,
    /// The connector's verdict.
    pub verdict: Verdict,
    /// The downstream account that the credential belongs to, where the connector can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<DownstreamAccount>,
}

/// Counts since the instance was configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) delivered: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) skipped: u64,
    /// Events that wait for another attempt now, or for an earlier event of their key.
    pub(crate) retrying: u64,
    pub(crate) attempts: u64,
    /// Dead letters that are there now.
    #[serde(default)]
    pub(crate) dead: u64,
    /// Dead letters that were sent on their way again.
    #[serde(default)]
    pub(crate) replayed: u64,
    /// Dead letters that the operator gave up.
    #[serde(default)]
    pub(crate) discarded: u64,
    /// Events whose contents were erased before they were delivered.
    #[serde(default)]
    pub(crate) erased: u64,
}

/// A pause holds for the configuration under which it began: any change the operator makes ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pause {
    pub(crate) cause: PauseCause,
    pub(crate) revision: u64,
}

/// A failure with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailure {
    /// When.
    pub at: Timestamp,
    /// What.
    pub failure: Failure,
}

/// An event that waits for another attempt. What is sent was fixed at the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetryRecord {
    pub(crate) sequence: Sequence,
    pub(crate) event_id: EventId,
    pub(crate) surface: Surface,
    pub(crate) captured_at: Timestamp,
    pub(crate) fields: String,
    pub(crate) attempts: u32,
    /// When it first failed; absent when it has not been tried since it got here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_failure: Option<Timestamp>,
    /// The lane's idle time when it first failed, in milliseconds.
    #[serde(default)]
    pub(crate) idle_before_ms: u64,
    /// When it is tried; absent while it waits for an earlier event of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due: Option<Timestamp>,
    /// Why it is here; absent when it only waits for an earlier one, or is a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    /// The value by which it is kept in order, digested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

/// An event that was given up, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its position in the log.
    pub sequence: Sequence,
    /// Its id.
    pub event_id: EventId,
    /// Where it was captured.
    pub surface: Surface,
    /// When it was captured.
    pub captured_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// The last failure.
    pub failure: Failure,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// The cause in triage that counts it.
    #[serde(default)]
    pub cause: String,
    /// The mapped fields, a JSON object; absent when the mapping itself failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<String>,
    /// The capture, kept here because the event log may be trimmed before the letter is dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<CaptureEvent>,
}

impl DeadLetter {
    /// The cause in triage that counts it; letters of an earlier format do not name it.
    pub(crate) fn counted_under(&self) -> String {
        if self.cause.is_empty() { self.failure.cause() } else { self.cause.clone() }
    }
}

/// One batch attempt in the integration log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// When it ended.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The catalog version in force.
    pub catalog_version: String,
    /// The component that ran, as the hex SHA-256 of its code.
    pub component_digest: String,
    /// The positions of the events delivered.
    pub delivered: Vec<Sequence>,
    /// The positions of the events that failed, by failure.
    pub failed: Vec<JournalFailure>,
    /// What the connector logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// One failure of a batch attempt, with the events that it befell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalFailure {
    /// The failure.
    pub failure: Failure,
    /// The events' positions.
    pub events: Vec<Sequence>,
}

/// A failure that was surfaced and is not resolved: one per cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Surfaced {
    pub(crate) cause: String,
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Timestamp,
    pub(crate) count: u64,
    pub(crate) sample: Failure,
    /// Whether the next success resolves it: true for what ails the whole downstream, false for dead letters.
    pub(crate) passing: bool,
    /// Dead letters of this cause that are there now; a cause that does not pass is resolved with the last of them.
    #[serde(default)]
    pub(crate) dead: u64,
    /// When it was handed to platform support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) escalated_at: Option<Timestamp>,
}

/// Seals and opens the records of one environment.
#[derive(Clone)]
pub(crate) struct Sealer {
    pub(crate) key: std::sync::Arc<DataKey>,
    pub(crate) environment: Environment,
}

/// The kinds of sealed record; part of what each is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sealed {
    Event,
    Retry,
    Dead,
    Journal,
}

impl Sealed {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Retry => "retry",
            Self::Dead => "dead-letter",
            Self::Journal => "integration-log",
        }
    }
}

impl Sealer {
    /// Seals a record, bound to its kind, the instance it belongs to (empty for an event) and a number.
    pub(crate) fn seal<T: Serialize>(
        &self,
        kind: Sealed,
        id: &str,
        number: u64,
        record: &T,
    ) -> Result<Vec<u8>, DeliveryError> {
        let plain = encode(kind.name(), record)?;
        Ok(self.key.seal(&self.context(kind, id, number), &plain)?)
    }

    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        kind: Sealed,
        id: &str,
        number: u64,
        bytes: &[u8],
    ) -> Result<T, DeliveryError> {
        let plain = self.key.open(&self.context(kind, id, number), bytes)?;
        decode(kind.name(), &plain)
    }

    fn context<'a>(&'a self, kind: Sealed, id: &'a str, number: u64) -> SealContext<'a> {
        SealContext { environment: &self.environment, kind: kind.name(), id, version: number }
    }
}

pub(crate) fn encode<T: Serialize>(what: &'static str, record: &T) -> Result<Vec<u8>, DeliveryError> {
    serde_json::to_vec(record).map_err(|e| DeliveryError::record(what, e))
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DeliveryError> {
    serde_json::from_slice(bytes).map_err(|e| DeliveryError::record(what, e))
}
