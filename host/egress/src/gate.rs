//! The gate and its grants: who may go out, with what.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::CertificateDer;
use rustls::{ConfigBuilder, RootCertStore, WantsVerifier};
use sgen_model::{Clock, InstanceId};
use sgen_vault::Credentials;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use crate::auth::{self, Injection};
use crate::compiled::Compiled;
use crate::connect::Connector;
use crate::endpoint::Endpoint;
use crate::error::{GateError, SendError, SendErrorKind};
use crate::host::DevelopmentHosts;
use crate::limiter::Limiters;
use crate::network::{Dialer, Resolver};
use crate::scrub::{Scrubber, shorten};
use crate::spec::{Auth, EndpointSpec};
use crate::token::Tokens;

/// The response's head in HTTP/1, and its header list in HTTP/2, in bytes. More is a flood.
const RESPONSE_HEAD: usize = 64 * 1024;

/// TLS sessions kept for resumption, per grant.
const TLS_SESSIONS: usize = 32;

/// What a deployment decides of the way out.
#[derive(Debug, Clone, Default)]
pub struct GateConfig {
    /// Exact `host:port` pairs that may be reached over plain HTTP and at any address, such as `127.0.0.1:4010`.
    pub development_hosts: Vec<String>,
    /// Limits for every request.
    pub limits: Limits,
    /// Whose certificates are trusted.
    pub tls: TlsTrust,
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, Default)]
pub enum TlsTrust {
    /// The system's roots.
    #[default]
    System,
    /// These roots and no others.
    Roots(Vec<CertificateDer<'static>>),
}

/// Limits that hold for every endpoint, whatever its manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Resolving, dialling and TLS, together.
    pub connect: Duration,
    /// An unused connection is closed after this time.
    pub idle: Duration,
    /// The largest request body, in bytes.
    pub request_body: usize,
    /// The most headers that a guest may set.
    pub request_headers: usize,
    /// Their names and values together, in bytes.
    pub request_header_bytes: usize,
    /// The most response headers that reach a guest.
    pub response_headers: usize,
    /// Their names and values together, in bytes.
    pub response_header_bytes: usize,
    /// Requests of one grant at once; further ones wait, within their own time limit.
    pub concurrent_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            request_body: 16 * 1024 * 1024,
            request_headers: 64,
            request_header_bytes: 16 * 1024,
            response_headers: 64,
            response_header_bytes: 16 * 1024,
            concurrent_requests: 32,
        }
    }
}

/// The way out of the sandbox. One per host process.
pub struct Gate {
    development_hosts: DevelopmentHosts,
    limits: Limits,
    tls: ClientConfig,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    clock: Arc<dyn Clock>,
    limiters: Limiters,
}

impl Gate {
    /// Prepares the way out.
    ///
    /// # Errors
    /// [`GateError`] says what of the configuration cannot be used.
    pub fn new(
        config: GateConfig,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, GateError> {
        let GateConfig { development_hosts, limits, tls } = config;
        let development_hosts = DevelopmentHosts::parse(&development_hosts)?;
        for (name, value) in [
            ("connect", limits.connect.as_nanos() > 0),
            ("request_headers", limits.request_headers > 0),
            ("response_headers", limits.response_headers > 0),
            ("concurrent_requests", (1..=Semaphore::MAX_PERMITS).contains(&limits.concurrent_requests)),
        ] {
            if !value {
                return Err(GateError::Limit {
                    name,
                    value: 0,
                    reason: "it must be more than nothing, or no request is possible",
                });
            }
        }
        Ok(Arc::new(Self {
            development_hosts,
            limits,
            tls: tls_config(tls)?,
            resolver,
            dialer,
            clock,
            limiters: Limiters::default(),
        }))
    }

    /// Grants a connector instance its endpoints. The grant has connections and TLS sessions of its own: nothing of them is
    /// ever shared with another grant. What it shares with the other grants of the same instance is the vendor's rate.
    ///
    /// A credential that is missing or unusable does not refuse the grant; each request that needs it answers
    /// [`SendErrorKind::Credential`].
    ///
    /// # Errors
    /// [`GateError::Endpoint`] when an endpoint's base URL or rules are refused.
    pub fn grant(
        self: &Arc<Self>,
        instance: &InstanceId,
        endpoints: Vec<EndpointSpec>,
        credentials: Credentials,
    ) -> Result<Arc<Grant>, GateError> {
        let secrets = auth::secrets(endpoints.iter().filter_map(|spec| spec.auth.as_ref()), &credentials);
        let fixed = Scrubber::new(secrets.iter().map(|secret| secret.as_slice()))?;
        let mut live: Vec<Tokens> = Vec::new();
        for spec in &endpoints {
            if let Some(Auth::Token { tokens, .. }) = &spec.auth
                && !live.contains(tokens)
            {
                live.push(tokens.clone());
            }
        }
        let scrubber = Scrubbing { fixed, live };
        let mut compiled = Vec::with_capacity(endpoints.len());
        let mut targets = HashMap::new();
        for spec in &endpoints {
            let endpoint = Compiled::new(spec, &self.development_hosts)?;
            targets.insert(endpoint.base.origin(), endpoint.target.clone());
            compiled.push((endpoint, Injection::prepare(spec.auth.as_ref(), &credentials), spec.rate));
        }
        let way = Arc::new(Way {
            client: self.client(targets),
            scrubber,
            limits: self.limits,
            clock: Arc::clone(&self.clock),
            turns: Semaphore::new(self.limits.concurrent_requests),
        });
        let mut granted = BTreeMap::new();
        for (endpoint, injection, rate) in compiled {
            let name = endpoint.name.clone();
            let limiter = rate.map(|rate| self.limiters.of(instance, &name, rate));
            let endpoint = Arc::new(Endpoint::new(endpoint, injection, limiter, Arc::clone(&way)));
            if granted.insert(name.clone(), endpoint).is_some() {
                return Err(GateError::Endpoint { name, reason: "it is granted twice".to_owned(), base: false });
            }
        }
        Ok(Arc::new(Grant { instance: instance.clone(), endpoints: granted }))
    }

    fn client(&self, targets: HashMap<String, crate::connect::Target>) -> Client<Connector, Full<Bytes>> {
        let mut tls = self.tls.clone();
        // The clone shares its session store; a grant must not.
        tls.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
        let connector = Connector::new(
            targets,
            Arc::clone(&self.resolver),
            Arc::clone(&self.dialer),
            TlsConnector::from(Arc::new(tls)),
            self.limits.connect,
        );
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(self.limits.idle)
            .pool_max_idle_per_host(self.limits.concurrent_requests)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(RESPONSE_HEAD)
            .http2_max_header_list_size(u32::try_from(RESPONSE_HEAD).unwrap_or(u32::MAX))
            .build(connector)
    }
}

/// What the endpoints of one grant share.
pub(crate) struct Way {
    pub(crate) client: Client<Connector, Full<Bytes>>,
    pub(crate) scrubber: Scrubbing,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) turns: Semaphore,
}

/// Everything that is taken out of a grant's answers: its own credentials, and what its sources of tokens know.
pub(crate) struct Scrubbing {
    fixed: Scrubber,
    live: Vec<Tokens>,
}

impl Scrubbing {
    pub(crate) fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.live.iter().fold(self.fixed.bytes(bytes), |bytes, source| source.0.scrubber().bytes(bytes))
    }

    pub(crate) fn text(&self, text: String) -> String {
        self.live.iter().fold(self.fixed.text(text), |text, source| source.0.scrubber().text(text))
    }
}

/// What one connector instance may reach, with its credentials and its own connections. Dropping it and its endpoints
/// closes them.
pub struct Grant {
    instance: InstanceId,
    endpoints: BTreeMap<String, Arc<Endpoint>>,
}

impl Grant {
    /// The connector instance.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// How long the vendor's rate would hold back a request that came now, at least; of several endpoints the longest.
    /// Nothing when a request could go at once.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.endpoints.values().map(|endpoint| endpoint.delay()).max().unwrap_or_default()
    }

    /// The endpoint that the manifest calls `name`.
    ///
    /// # Errors
    /// [`SendErrorKind::Denied`] when the manifest has none of this name.
    pub fn open(&self, name: &str) -> Result<Arc<Endpoint>, SendError> {
        self.endpoints.get(name).cloned().ok_or_else(|| {
            let message = format!(
                "the manifest grants no endpoint {:?}: the connector and its manifest disagree",
                shorten(name, 64)
            );
            SendError::new(SendErrorKind::Denied, message)
        })
    }
}

fn tls_config(trust: TlsTrust) -> Result<ClientConfig, GateError> {
    let untrusted = |error: rustls::Error| GateError::Trust(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(untrusted)?;
    let mut config = match trust {
        TlsTrust::System => {
            let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(untrusted)?;
            // "Dangerous" is any verifier of one's own; this one verifies with the system's roots.
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
        TlsTrust::Roots(roots) => {
            let mut store = RootCertStore::empty();
            for root in roots {
                store.add(root).map_err(untrusted)?;
            }
            builder.with_root_certificates(store).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
