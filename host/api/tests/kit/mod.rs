//! A whole host behind the API, without a network: memory store, real vault, audit, engine, gate and delivery, and a
//! signed release with one connector whose component is never run.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sgen_api::{ApiParts, Limits, ReleaseRefused, ReleaseSource, TokenDigest};
use sgen_audit::{Actor, AuditLog};
use sgen_catalog::folder::{Draft, write};
use sgen_catalog::trust::{RoleKeys, RootDocument};
use sgen_catalog::{Catalog, Floor, Manifest, SigningKey, TrustRoot};
use sgen_delivery::{DeliveryConfig, Parts, Runtime};
use sgen_egress::{Gate, GateConfig, SystemResolver, TcpDialer};
use sgen_engine::{Engine, EngineConfig};
use sgen_model::{Clock, Entropy, SystemClock, SystemEntropy};
use sgen_store::{MemoryStore, Store};
use sgen_vault::{OuterKey, Vault};
use tower_service::Service as _;

pub(crate) const PLATFORM: &str = "sgp_the-platform-token-of-these-tests";

/// The host under test.
pub(crate) struct House {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) runtime: Arc<Runtime>,
    router: axum::Router,
}

/// An answer, read whole.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The fields that a problem names.
    pub(crate) fn fields(&self) -> Vec<String> {
        let problems = self.json()["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().map(|problem| problem["field"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }
}

struct OneRelease(Catalog);

impl ReleaseSource for OneRelease {
    fn open(&self, _: Floor) -> BoxFuture<'_, Result<Catalog, ReleaseRefused>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

struct NoRelease;

impl ReleaseSource for NoRelease {
    fn open(&self, _: Floor) -> BoxFuture<'_, Result<Catalog, ReleaseRefused>> {
        Box::pin(async { Err(ReleaseRefused("there is no release".to_owned())) })
    }
}

impl House {
    /// A host without a catalog.
    pub(crate) async fn bare() -> Self {
        Self::on(Arc::new(MemoryStore::new()), None, Limits::default()).await
    }

    /// A host with a catalog of one connector, `crm`.
    pub(crate) async fn with_catalog() -> Self {
        Self::on(Arc::new(MemoryStore::new()), Some(release()), Limits::default()).await
    }

    /// A host on a store, which may have been used before.
    pub(crate) async fn on(store: Arc<MemoryStore>, release: Option<Catalog>, limits: Limits) -> Self {
        Self::configured(store, release, limits, DeliveryConfig::default()).await
    }

    /// A host whose connector `granted` has its OAuth vendor at this address.
    pub(crate) async fn consenting(vendor: SocketAddr) -> Self {
        let overrides = ["authorize", "token", "revoke"]
            .map(|which| (format!("granted/grant:{which}"), format!("http://{vendor}/{which}")));
        let config = DeliveryConfig {
            base_overrides: overrides.into(),
            development_hosts: vec![vendor.to_string()],
            oauth_redirect: Some("https://host.example/v1/oauth/callback".to_owned()),
            ..DeliveryConfig::default()
        };
        Self::configured(Arc::new(MemoryStore::new()), Some(release()), Limits::default(), config).await
    }

    async fn configured(
        store: Arc<MemoryStore>,
        release: Option<Catalog>,
        limits: Limits,
        config: DeliveryConfig,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let key = OuterKey::from_bytes([7; 32]);
        let shared: Arc<dyn Store> = store.clone();
        let vault = Vault::open(shared.clone(), key, "test", entropy.clone()).await.unwrap();
        let audit = AuditLog::new(shared.clone(), clock.clone()).unwrap();
        let engine =
            Engine::new(EngineConfig { cache: None, cache_key: [0; 32], limits: sgen_engine::Limits::default() })
                .unwrap();
        let ways = GateConfig { development_hosts: config.development_hosts.clone(), ..GateConfig::default() };
        let gate = Gate::new(ways, Arc::new(SystemResolver::new()), Arc::new(TcpDialer), clock.clone()).unwrap();
        let runtime = Runtime::start(Parts {
            store: shared.clone(),
            vault: vault.clone(),
            audit: audit.clone(),
            engine,
            gate,
            clock: clock.clone(),
            entropy: entropy.clone(),
            config,
        })
        .await
        .unwrap();
        let source: Arc<dyn ReleaseSource> = match release {
            None => Arc::new(NoRelease),
            Some(catalog) => {
                runtime.activate(&Actor::Platform, catalog.clone()).await.unwrap();
                Arc::new(OneRelease(catalog))
            }
        };
        let router = sgen_api::router(ApiParts {
            runtime: runtime.clone(),
            audit,
            vault,
            store: shared,
            clock,
            entropy,
            platform_token_digest: TokenDigest::of(PLATFORM.as_bytes()).into(),
            release: source,
            limits,
        })
        .unwrap();
        Self { store, runtime, router }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answered {
        let response: Response = self.router.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answered { status: parts.status, headers: parts.headers, text }
    }

    /// A request with a token and a JSON body; `Value::Null` sends no body.
    pub(crate) async fn ask(&self, method: Method, path: &str, token: &str, body: Value) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answered {
        self.ask(Method::GET, path, token, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answered {
        self.ask(Method::POST, path, token, body).await
    }

    /// Posts captured events as they are written.
    pub(crate) async fn capture(&self, path: &str, key: &str, content_type: &str, body: impl Into<Body>) -> Answered {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", content_type)
            .body(body.into())
            .unwrap();
        self.send(request).await
    }

    /// Registers a site.
    pub(crate) async fn site(&self, account: &str, site: &str) {
        let path = format!("/v1/accounts/{account}/sites/{site}");
        self.ask(Method::PUT, &path, PLATFORM, Value::Null).await.expect(201);
    }

    /// Adds an operator and answers its token.
    pub(crate) async fn operator(&self, account: &str, id: &str) -> String {
        let path = format!("/v1/accounts/{account}/operators");
        let answer = self.post(&path, PLATFORM, json!({"id": id})).await.expect(201);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Issues an ingest key for `live`; answers its id and the key.
    pub(crate) async fn ingest_key(&self, site: &str) -> (String, String) {
        let path = format!("/v1/sites/{site}/environments/live/ingest-keys");
        let answer = self.post(&path, PLATFORM, Value::Null).await.expect(201).json();
        (answer["id"].as_str().unwrap().to_owned(), answer["key"].as_str().unwrap().to_owned())
    }

    /// The kinds of a site's audit records, newest first.
    pub(crate) async fn audited(&self, site: &str) -> Vec<String> {
        let answer = self.get(&format!("/v1/sites/{site}/audit"), PLATFORM).await.expect(200).json();
        let records = answer["records"].as_array().unwrap().clone();
        records.iter().map(|record| record["action"]["event"].as_str().unwrap().to_owned()).collect()
    }
}

/// A signed release with one connector.
pub(crate) fn release() -> Catalog {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| SigningKey::generate(&folder.path().join(name)).unwrap();
    let (offline, key) = (make("root.key"), make("release.key"));
    let now = jiff::Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    let role = |key: &SigningKey| RoleKeys { threshold: 1, keys: BTreeSet::from([key.public()]) };
    let root = RootDocument::new(1, now - hour, now + hour, role(&offline), role(&key)).sign(&[&offline]).unwrap();
    let root = TrustRoot::parse(&root).unwrap();
    let draft = Draft {
        version: "2026.11.0".into(),
        sequence: 1,
        issued: now - hour,
        expires: now + hour,
        minimum_host: semver::Version::new(0, 1, 0),
        connectors: vec![(manifest(), component()), (consent_manifest(), component())],
        revoked: BTreeSet::new(),
    };
    let catalog = folder.path().join("catalog");
    write(&catalog, &draft, &root, &[&key]).unwrap();
    sgen_catalog::open(&catalog, &root, SystemClock.now().0, Floor::default()).unwrap()
}

fn manifest() -> Manifest {
    Manifest::parse(
        r#"
        id = "crm"
        version = "1.0.0"
        type = "crm"
        title = "A CRM"
        summary = "Upserts contacts."
        world = "sgen:connector@1.0.0"
        [endpoints.api]
        base = "https://api.example.com"
        allow = [{ methods = ["POST"], paths = ["/**"] }]
        auth = { scheme = "bearer", slot = "token" }
        [credentials.token]
        title = "Token"
        accepts = ["api-key"]
        [settings.list]
        type = "string"
        title = "List"
        required = true
        [mapping.email]
        type = "email"
        required = true
        preset = ["fields.email"]
        [scope]
        default = ["form:*"]
        "#,
    )
    .unwrap()
}

fn consent_manifest() -> Manifest {
    Manifest::parse(
        r#"
        id = "granted"
        version = "1.0.0"
        type = "crm"
        title = "A CRM that asks for consent"
        summary = "Upserts contacts."
        world = "sgen:connector@1.0.0"
        [endpoints.api]
        base = "https://api.example.com"
        allow = [{ methods = ["POST"], paths = ["/**"] }]
        auth = { scheme = "oauth2-authorization-code", slot = "grant" }
        [credentials.grant]
        title = "Consent"
        accepts = ["oauth2-grant"]
        [credentials.grant.oauth]
        authorize = "https://login.example.com/authorize"
        token = "https://login.example.com/token"
        revoke = "https://login.example.com/revoke"
        scopes = ["contacts.write"]
        client = "app"
        [credentials.app]
        title = "OAuth client"
        accepts = ["oauth2-client"]
        [mapping.email]
        type = "email"
        required = true
        preset = ["fields.email"]
        [scope]
        default = ["form:*"]
        "#,
    )
    .unwrap()
}

/// A component with the right interface, in which every function traps.
fn component() -> Vec<u8> {
    use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).unwrap();
    let world = resolve.select_world(&[package], Some("connector")).unwrap();
    let abi = wit_parser::ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync);
    let mut module = dummy_module(&resolve, world, abi);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}
