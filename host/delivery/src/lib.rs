//! Delivery: from the durable event log, through an instance's scope and field mapping, to the outcome of every event.
//!
//! [`Runtime`] is what the rooms above use. Inside, policy is apart from I/O: [`map`](crate::map), [`policy`] and
//! [`progress`] are pure; a [`lane`] per connector instance does what they decide.

mod account_guard;
mod batch;
mod breaker;
mod capture;
mod coerce;
mod concurrency;
mod condition;
mod consent;
mod control;
mod erasure;
mod error;
mod fair;
mod grants;
mod health;
mod inspect;
mod jobs;
mod keys;
mod lane;
mod ledger;
mod letters;
mod map;
mod moment;
mod obtaining;
mod ordered;
mod policy;
mod progress;
mod records;
mod release;
mod retention;
mod rotation;
mod runtime;
mod settle;
mod shared;
mod site_erasure;
mod surface;
mod triage;
mod validate;

pub use account_guard::{Elsewhere, KnownAccount, OtherEnvironment};
pub use capture::Receipt;
pub use consent::{Authorization, Consented};
pub use control::{EnableFrom, InstanceChange, NewInstance};
pub use erasure::Erasure;
pub use error::{DeliveryError, Problem};
pub use health::{CheckResult, HealthSchedule};
pub use inspect::{
    Capture, CaptureQuery, InstanceStatus, JournalPage, JournalQuery, Trace, TraceAttempt, TraceEntry, TraceOutcome,
};
pub use jobs::{Job, JobKind, Selection};
pub use ledger::JournalRetention;
pub use letters::{LetterDetail, Preview};
pub use policy::RetryPolicy;
pub use records::{AttemptFailure, DeadLetter, HealthRecord, JournalEntry, JournalFailure};
pub use release::{Activation, ActiveCatalog, ActiveEntry};
pub use retention::EventRetention;
pub use rotation::{KeyWork, RotatedKey};
pub use runtime::{DeliveryConfig, Parts, Runtime};
pub use sgen_tokens::Upstream;
pub use shared::SharedCredential;
pub use triage::{TriageAction, TriageItem};
