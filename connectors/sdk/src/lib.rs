//! What a connector is written with.
//!
//! A connector is a type that implements [`Connector`]: it turns a batch of captured events into requests to a granted
//! [`Endpoint`], and the responses into one [`Outcome`] per event. [`export!`] makes it the component that the host runs;
//! the same code built natively runs against a [`testing::ScriptedEndpoints`], so that a connector is unit-tested without
//! a sandbox.
//!
//! ```
//! use sgen_connector_sdk::{Connector, Event, Failure, Outcome, Request, Verdict, deliver_each, export};
//!
//! #[derive(serde::Deserialize)]
//! struct Settings {
//!     channel: String,
//! }
//!
//! struct Notify;
//!
//! impl Connector for Notify {
//!     type Settings = Settings;
//!
//!     fn deliver(settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
//!         deliver_each(
//!             "api",
//!             batch,
//!             |event| Request::post("/messages").json(&(&settings.channel, &event.surface)),
//!             |_event, response| Outcome::from_status(response),
//!         )
//!     }
//!
//!     fn check(_settings: &Settings) -> Verdict {
//!         Verdict::unverifiable("The downstream offers no probe.")
//!     }
//! }
//!
//! export!(Notify);
//! ```
//!
//! There is no clock, no randomness, no file and no socket here, and no way to see a credential: an endpoint's `auth` in
//! the manifest makes the host add it on the way out.

mod connector;
mod endpoint;
mod event;
mod failure;
mod health;
mod http;
pub mod invoke;
pub mod log;
pub mod timestamps;

#[cfg(not(target_arch = "wasm32"))]
pub mod backend;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(any(test, all(target_arch = "wasm32", target_os = "unknown")))]
mod allocator;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;

pub use connector::{Connector, Erase, Identify, Migrate, Revoke, deliver_each};
pub use endpoint::Endpoint;
pub use event::{Event, Outcome};
pub use failure::{Failure, FailureClass, classify_status};
pub use health::{Account, Choice, Finding, Verdict};
pub use http::{Header, Method, Request, Response, SendError, SendErrorKind, encode_component};
pub use serde_json;

/// Makes a [`Connector`] the component that the host runs (world `sgen:connector/connector`).
///
/// Expands to nothing in a native build.
#[macro_export]
macro_rules! export {
    ($connector:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::guest::Adapter<$connector>;
    $crate::guest::connector::export!(Exported with_types_in $crate::guest::connector);
        };
    };
}

/// Adds the ability [`Identify`] to the component (world `sgen:connector/can-identify`).
#[macro_export]
macro_rules! export_identity {
    ($connector:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::guest::Adapter<$connector>;
    $crate::guest::identity::export!(Exported with_types_in $crate::guest::identity);
        };
    };
}

/// Adds the ability [`Revoke`] to the component (world `sgen:connector/can-revoke`).
#[macro_export]
macro_rules! export_revocation {
    ($connector:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::guest::Adapter<$connector>;
    $crate::guest::revocation::export!(Exported with_types_in $crate::guest::revocation);
        };
    };
}

/// Adds the ability [`Erase`] to the component (world `sgen:connector/can-erase`).
#[macro_export]
macro_rules! export_erasure {
    ($connector:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::guest::Adapter<$connector>;
    $crate::guest::erasure::export!(Exported with_types_in $crate::guest::erasure);
        };
    };
}

/// Adds the ability [`Migrate`] to the component (world `sgen:connector/can-migrate`).
#[macro_export]
macro_rules! export_migration {
    ($connector:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::guest::Adapter<$connector>;
    $crate::guest::migration::export!(Exported with_types_in $crate::guest::migration);
        };
    };
}
