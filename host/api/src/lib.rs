//! The HTTP API: ingest of captured events, and the administration of sites, connector instances and releases.
//!
//! Translates between HTTP and the rooms below, and keeps the directory of sites and tokens. It decides who may ask; what
//! is asked for is done by `delivery`. It opens no sockets: [`router`] is handed to whoever does. Errors are problem
//! details (RFC 9457), and the OpenAPI document at `/openapi.json` is made from the handlers.

mod access;
mod accounts;
mod backup;
mod consent;
mod directory;
mod error;
mod ingest;
mod instances;
mod keys;
mod letters;
mod observe;
mod openapi;
mod probes;
mod problem;
mod records;
mod releases;
mod request;
mod shared;
mod state;
mod token;
mod triage;

pub use error::ApiError;
pub use problem::{FieldProblem, Problem, ProblemFault};
pub use releases::{ReleaseRefused, ReleaseSource};
pub use token::{TokenDigest, TokenKind, generate_token};

use std::sync::Arc;

use sgen_audit::AuditLog;
use sgen_delivery::Runtime;
use sgen_model::{Clock, Entropy};
use sgen_store::Store;
use sgen_vault::Vault;
use tower_http::catch_panic::CatchPanicLayer;

use state::Api;

/// What the API stands on.
pub struct ApiParts {
    /// Delivery.
    pub runtime: Arc<Runtime>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Makes the data keys of new sites.
    pub vault: Arc<Vault>,
    /// Holds the directory of sites and tokens, and is what a backup is made of.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Makes tokens.
    pub entropy: Arc<dyn Entropy>,
    /// The SHA-256 of the platform's token ([`TokenDigest`]).
    pub platform_token_digest: [u8; 32],
    /// Where releases are activated from.
    pub release: Arc<dyn ReleaseSource>,
    /// The limits of ingest.
    pub limits: Limits,
}

/// The limits of ingest, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of captured events.
    pub body: usize,
    /// What all requests together may hold in memory.
    pub in_flight: usize,
    /// What the requests of one environment of one site may hold, so that one site cannot take all of it.
    pub in_flight_per_place: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 8 << 20, in_flight: 64 << 20, in_flight_per_place: 16 << 20 }
    }
}

/// Builds the API.
///
/// # Errors
/// [`ApiError`] when the directory of sites and tokens cannot be read from the store.
pub fn router(parts: ApiParts) -> Result<axum::Router, ApiError> {
    let (routes, mut document) = openapi::routes().split_for_parts();
    openapi::complete(&mut document);
    let document = document.to_json().map_err(|e| ApiError::Description(e.to_string()))?;
    let api = Arc::new(Api::new(parts, document.into())?);
    Ok(routes
        .fallback(observe::no_route)
        .method_not_allowed_fallback(observe::no_method)
        .layer(CatchPanicLayer::custom(observe::on_panic))
        .layer(axum::middleware::from_fn(observe::to_the_end))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), observe::observe))
        .with_state(api))
}
