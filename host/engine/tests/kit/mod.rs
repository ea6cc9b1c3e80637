//! What the engine's tests stand on: the test guests, a gate, and a small downstream on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sgen_egress::{AllowRule, Auth, EndpointSpec, Gate, GateConfig, Grant, SystemResolver, TcpDialer, TlsTrust};
use sgen_engine::{Component, Engine, EngineConfig, Event, Invoker, Limits};
use sgen_model::{InstanceId, SecretBytes, SlotName, SystemClock};
use sgen_vault::{Credential, Credentials};

/// The component of a test guest.
pub fn guest(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/guests/{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; build the guests with `cargo xtask guests`", path.display()))
}

pub fn engine(limits: Limits) -> Arc<Engine> {
    Engine::new(EngineConfig { cache: None, cache_key: [7; 32], limits }).unwrap()
}

pub fn load(engine: &Arc<Engine>, name: &str) -> Component {
    engine.load([0; 32], &guest(name)).unwrap().component
}

/// A grant of endpoint `api` at `base`, with a bearer token.
pub fn grant(base: &str, token: &str) -> Arc<Grant> {
    grant_with(base, token, |_| {})
}

pub fn grant_with(base: &str, token: &str, change: impl FnOnce(&mut EndpointSpec)) -> Arc<Grant> {
    let url: url::Url = base.parse().unwrap();
    let authority = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(443));
    let config =
        GateConfig { development_hosts: vec![authority], tls: TlsTrust::Roots(Vec::new()), ..GateConfig::default() };
    let gate = Gate::new(config, Arc::new(SystemResolver::new()), Arc::new(TcpDialer), Arc::new(SystemClock)).unwrap();
    let slot = SlotName::parse("token").unwrap();
    let mut spec = EndpointSpec::new("api", url);
    spec.allow = vec![AllowRule {
        methods: vec![http::Method::GET, http::Method::POST],
        paths: ["/echo", "/hang", "/dump"].map(str::to_owned).to_vec(),
    }];
    spec.auth = Some(Auth::Bearer { slot: slot.clone() });
    change(&mut spec);
    let secret = Credential::new(1, SecretBytes::from(token.to_owned()));
    gate.grant(&InstanceId::parse("test").unwrap(), vec![spec], [(slot, secret)].into_iter().collect::<Credentials>())
        .unwrap()
}

/// A grant whose endpoint nobody listens at.
pub fn idle_grant() -> Arc<Grant> {
    grant("http://127.0.0.1:9", "an-unused-token")
}

pub fn invoker(engine: &Arc<Engine>, name: &str) -> Invoker {
    Invoker::new(load(engine, name), idle_grant())
}

pub fn events(count: usize) -> Vec<Event> {
    (0..count)
        .map(|i| Event {
            id: format!("event-{i}"),
            idempotency_key: format!("evt_{i:032}"),
            captured_at_ms: 1_795_460_400_000,
            surface: "form:contact".to_owned(),
            fields: format!(r#"{{"email":"ada{i}@example.com","name":"Ada"}}"#),
        })
        .collect()
}

/// One request that the downstream saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub authorization: String,
    pub body: Vec<u8>,
}

/// A downstream on loopback: `/echo` answers by `echo`, `/dump` keeps what it is given, `/hang` never answers.
pub struct Downstream {
    pub base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub type Echo = fn(&Seen) -> http::Response<Full<Bytes>>;

impl Downstream {
    pub async fn start(echo: Echo) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let kept = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request| answer(request, kept.clone(), echo));
                tokio::spawn(async move {
                    // A test that drops its connection is no failure.
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { base, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    request: http::Request<Incoming>,
    kept: Arc<Mutex<Vec<Seen>>>,
    echo: Echo,
) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let authorization =
        request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = request.into_body().collect().await?.to_bytes().to_vec();
    let seen = Seen { path: path.clone(), authorization, body };
    kept.lock().unwrap().push(seen.clone());
    match path.as_str() {
        "/hang" => std::future::pending().await,
        "/echo" => Ok(echo(&seen)),
        _ => Ok(http::Response::new(Full::default())),
    }
}
