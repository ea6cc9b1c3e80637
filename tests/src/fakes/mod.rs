//! Counterparts that behave as the real downstreams do, down to the error bodies, and keep records of their own.
//!
//! A fake refuses what the vendor refuses. Its records are the second witness: a test or a demo compares them with what
//! the host says. Each fake can be made to misbehave on the wire (see [`faults`]).

pub mod control;
pub mod faults;
pub mod hubspot;
pub mod journal;
pub mod server;
pub mod webhook;

pub use faults::{Fault, Faults, Rule};
pub use hubspot::HubspotFake;
pub use webhook::WebhookFake;
