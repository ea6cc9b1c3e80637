//! The gate: the only crate that opens sockets outward.
//!
//! A connector asks for an endpoint by name and sends a *relative* request. The gate composes the URL from the signed
//! manifest, resolves the name once, judges every address, dials exactly the one it judged, puts the credential in last,
//! follows no redirect, and scrubs what comes back. Pools, TLS sessions included, belong to one [`Grant`], that is to one
//! connector instance.
//!
//! A vendor's rate is kept here, per connector instance and endpoint, whatever a batch becomes: a request over it waits for
//! its turn, or is answered by the gate itself.
//!
//! Policy is pure and apart from I/O: [`address`], `host`, `path`, `headers`, `scrub`, `webhook`, `window` know no socket. Name
//! resolution, dialling and time come in through seams ([`Resolver`], [`Dialer`], [`sgen_model::Clock`]). Nothing here reads
//! the environment, so proxy variables have no effect.

pub mod address;
mod auth;
mod compiled;
mod connect;
mod endpoint;
mod error;
mod gate;
mod headers;
mod host;
mod limiter;
mod network;
mod path;
mod scrub;
mod sigv4;
mod spec;
mod token;
mod webhook;
mod window;

pub use endpoint::{Endpoint, Request, Response, Sent};
pub use error::{GateError, SendError, SendErrorKind};
pub use gate::{Gate, GateConfig, Grant, Limits, TlsTrust};
pub use http::Method;
pub use network::{Connection, Dialer, Duplex, Resolver, SystemResolver, TcpDialer};
pub use rustls::pki_types::CertificateDer;
pub use scrub::Scrubber;
pub use spec::{AllowRule, Auth, EndpointSpec, Rate, Timeouts};
pub use token::{AccessToken, LiveScrubber, TokenSource, Tokens};
