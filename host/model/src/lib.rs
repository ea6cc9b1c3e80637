//! The vocabulary of the host: ids, capture events, connector instances, failure classes and outcomes.
//!
//! Pure data and pure functions. No I/O, no clock, no randomness: those come in through the seams of [`seam`].

pub mod event;
pub mod failure;
pub mod id;
pub mod instance;
pub mod mapping;
pub mod scope;
pub mod seam;
pub mod secret;
pub mod time;

pub use event::{CaptureEvent, EventError, Surface, SurfaceKind};
pub use failure::{Choice, DownstreamAccount, Failure, FailureClass, Fault, Finding, LogLine, Outcome, Verdict};
pub use id::{
    AccountId, ConnectorId, Environment, EventId, IdError, InstanceId, OperatorId, Place, Sequence, SharedId, SiteId,
    SlotName,
};
pub use instance::{ConnectorInstance, CredentialRef, InstanceState, Order, PauseCause, SharedRef};
pub use mapping::{FieldMapping, MappingSource};
pub use scope::Scope;
pub use seam::{Clock, Entropy, EntropyError, SystemClock, SystemEntropy};
pub use secret::SecretBytes;
pub use time::Timestamp;
