//! Delivery: from the durable event log, through an instance's scope and field mapping, to the outcome of every event.
//!
//! [`Runtime`] is what the rooms above use. Inside, policy is apart from I/O: [`map`](crate::map), [`policy`] and
//! [`progress`] are pure; a [`lane`] per connector instance does what they decide.

mod capture;
mod coerce;
mod control;
mod error;
mod fair;
mod grants;
mod inspect;
mod keys;
mod lane;
mod map;
mod policy;
mod progress;
mod records;
mod release;
mod runtime;
mod settle;
mod validate;

pub use capture::Receipt;
pub use control::{EnableFrom, InstanceChange, NewInstance};
pub use error::{DeliveryError, Problem};
pub use inspect::{
    Capture, CheckResult, InstanceStatus, SurfacedFailure, Trace, TraceAttempt, TraceEntry, TraceOutcome,
};
pub use policy::RetryPolicy;
pub use records::{AttemptFailure, DeadLetter, JournalEntry, JournalFailure};
pub use release::{Activation, ActiveCatalog, ActiveEntry};
pub use runtime::{DeliveryConfig, Parts, Runtime};
