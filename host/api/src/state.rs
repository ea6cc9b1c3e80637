//! What the handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sgen_audit::AuditLog;
use sgen_delivery::Runtime;
use sgen_model::Clock;
use sgen_store::Store;
use tokio::sync::watch;

use crate::access::Denials;
use crate::directory::Directory;
use crate::ingest::Admission;
use crate::releases::ReleaseSource;
use crate::{ApiError, ApiParts, Limits};

/// Everything behind the routes.
pub(crate) struct Api {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Directory,
    pub(crate) release: Arc<dyn ReleaseSource>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) platform_token_digest: [u8; 32],
    pub(crate) limits: Limits,
    pub(crate) admission: Admission,
    pub(crate) denials: Denials,
    pub(crate) store_failure: watch::Receiver<Option<String>>,
    pub(crate) openapi: bytes::Bytes,
    request_prefix: String,
    requests: AtomicU64,
}

impl Api {
    pub(crate) fn new(parts: ApiParts, openapi: bytes::Bytes) -> Result<Self, ApiError> {
        let ApiParts { runtime, audit, vault, store, clock, entropy, platform_token_digest, release, limits } = parts;
        // Tells the requests of one run of the host from those of another; not a secret.
        let request_prefix = format!("{:x}", clock.now().0);
        Ok(Self {
            store_failure: store.failure(),
            directory: Directory::open(store.as_ref(), vault, Arc::clone(&audit), Arc::clone(&clock), entropy)?,
            store,
            admission: Admission::new(limits.in_flight, limits.in_flight_per_place),
            runtime,
            audit,
            release,
            clock,
            platform_token_digest,
            limits,
            denials: Denials::default(),
            openapi,
            request_prefix,
            requests: AtomicU64::new(0),
        })
    }

    /// The version of the active catalog, for audit records.
    pub(crate) fn catalog_version(&self) -> Option<String> {
        self.runtime.catalog().map(|catalog| catalog.version.clone())
    }

    /// A request id that has not been given before.
    pub(crate) fn next_request_id(&self) -> String {
        format!("{}-{:x}", self.request_prefix, self.requests.fetch_add(1, Ordering::Relaxed))
    }
}
