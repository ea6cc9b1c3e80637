//! Access tokens: obtained at a vendor's token endpoint, renewed ahead of their expiry, and kept where they rotate.
//!
//! [`Sources`] has one [`Source`] per credential slot of a connector instance, whatever becomes of the instance's
//! configuration: two renewals at a time would lose a rotating refresh token for good. A source sends its requests through
//! an internal grant of the gate, which no connector can open, and tells the gate's scrubber what it obtains before that is
//! used. What the vendors' answers mean is pure and in `answer`; what follows from time and failures is pure and in
//! `policy`.
//!
//! What a person consents to in a browser begins with [`Consents::begin`] and comes back to [`Source::connect`].

mod answer;
mod client;
mod consent;
mod error;
mod exchange;
mod forms;
mod policy;
mod record;
mod service_account;
mod setup;
mod source;
mod sources;

pub use client::Client;
pub use consent::{Consents, Pending, Started};
pub use error::TokenError;
pub use service_account::ServiceAccount;
pub use setup::{Application, ClientAuth, Facts, Means, Setup};
pub use source::{Change, Connected, Source, Upstream};
pub use sources::{Rooms, Sources};
