//! The demo: one site's captures on their way to HubSpot and to a webhook, shown live and then accounted for.

pub mod account;
pub mod progress;
mod run;

pub use run::{Plan, Running, run};
