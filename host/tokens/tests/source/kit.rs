//! A vendor that answers what it is told to and records what it is asked, and a host to ask it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sgen_audit::{Actor, AuditLog, Filter};
use sgen_egress::{Gate, GateConfig, SystemResolver, TcpDialer, TlsTrust};
use sgen_model::{Clock, ConnectorId, Environment, InstanceId, Place, SiteId, SlotName, SystemEntropy, Timestamp};
use sgen_store::{Commit, Keyspace, MemoryStore, Store};
use sgen_tokens::{Application, Client, ClientAuth, Consents, Facts, Means, Pending, Rooms, Setup, Source, Sources};
use sgen_vault::{OuterKey, Vault};
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub(crate) const CLIENT: &str = "app-1:client-secret-1";

/// What the vendor does with one request.
pub(crate) enum Act {
    Answer(u16, String),
    /// Closes the connection without an answer, as a vendor does that was cut off after it had acted.
    Close,
    /// Answers once it is told to.
    Wait(Arc<Notify>, u16, String),
}

pub(crate) fn tokens(access: &str, refresh: Option<&str>, seconds: u64) -> Act {
    let refresh = refresh.map(|refresh| format!(",\"refresh_token\":\"{refresh}\"")).unwrap_or_default();
    Act::Answer(
        200,
        format!("{{\"access_token\":\"{access}\",\"token_type\":\"Bearer\",\"expires_in\":{seconds}{refresh}}}"),
    )
}

pub(crate) fn refuses(error: &str, description: &str) -> Act {
    Act::Answer(400, format!("{{\"error\":\"{error}\",\"error_description\":\"{description}\"}}"))
}

/// A request as the vendor saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) form: HashMap<String, String>,
}

pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<VecDeque<Act>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Vendor {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let vendor = Self { address, script: Arc::default(), asked: Arc::default() };
        let (script, asked) = (Arc::clone(&vendor.script), Arc::clone(&vendor.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<Incoming>| {
                        let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                        async move { serve(request, &script, &asked).await }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        vendor
    }

    pub(crate) fn will(&self, acts: impl IntoIterator<Item = Act>) {
        self.script.lock().unwrap().extend(acts);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) async fn asked_times(&self, times: usize) {
        let enough = async {
            while self.asked.lock().unwrap().len() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), enough).await.expect("the vendor is asked");
    }
}

async fn serve(
    request: http::Request<Incoming>,
    script: &Mutex<VecDeque<Act>>,
    asked: &Mutex<Vec<Asked>>,
) -> Result<http::Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let form = url::form_urlencoded::parse(&body).into_owned().collect();
    let authorization = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    asked.lock().unwrap().push(Asked { path: head.uri.path().to_owned(), authorization, form });
    let act = script.lock().unwrap().pop_front().unwrap_or_else(|| Act::Answer(500, "nothing left to answer".into()));
    let answer = |status: u16, body: String| {
        let mut response = http::Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    };
    match act {
        Act::Answer(status, body) => Ok(answer(status, body)),
        Act::Close => Err(std::io::Error::other("closed")),
        Act::Wait(notify, status, body) => {
            notify.notified().await;
            Ok(answer(status, body))
        }
    }
}

#[derive(Default)]
pub(crate) struct SetClock(AtomicU64);

impl SetClock {
    pub(crate) fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A store with a site, and what stands on it. [`Host::restarted`] is the same store in a new process.
pub(crate) struct Host {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<SetClock>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) sources: Sources,
    vendor: SocketAddr,
}

pub(crate) fn place() -> Place {
    Place::new(SiteId::parse("acme").unwrap(), Environment::parse("live").unwrap())
}

impl Host {
    pub(crate) async fn new(vendor: &Vendor) -> Self {
        let clock = Arc::new(SetClock(AtomicU64::new(1_795_460_400_000)));
        Self::over(Arc::new(MemoryStore::new()), clock, vendor.address).await
    }

    pub(crate) async fn restarted(&self) -> Self {
        Self::over(Arc::clone(&self.store), Arc::clone(&self.clock), self.vendor).await
    }

    async fn over(store: Arc<MemoryStore>, clock: Arc<SetClock>, vendor: SocketAddr) -> Self {
        let kept: Arc<dyn Store> = store.clone();
        let clocks: Arc<dyn Clock> = clock.clone();
        let key = OuterKey::from_bytes([7; 32]);
        let vault = Vault::open(Arc::clone(&kept), key, "dev", Arc::new(SystemEntropy::default())).await.unwrap();
        let mut commit = Commit::new();
        vault.create_site(&place().site, &mut commit).unwrap();
        kept.submit(commit).await.unwrap();
        let audit = AuditLog::new(Arc::clone(&kept), Arc::clone(&clocks)).unwrap();
        let config = GateConfig {
            development_hosts: vec![vendor.to_string()],
            tls: TlsTrust::Roots(Vec::new()),
            ..GateConfig::default()
        };
        let gate =
            Gate::new(config, Arc::new(SystemResolver::new()), Arc::new(TcpDialer), Arc::clone(&clocks)).unwrap();
        let rooms = Rooms { store: kept, vault, audit: Arc::clone(&audit), gate, clock: clocks };
        Self { store, clock, audit, sources: Sources::new(rooms), vendor }
    }

    pub(crate) fn setup(&self, means: Means) -> Setup {
        let url = |path: &str| format!("http://{}{path}", self.vendor).parse().unwrap();
        Setup {
            facts: Facts {
                place: place(),
                instance: InstanceId::parse("crm-1").unwrap(),
                slot: SlotName::parse("grant").unwrap(),
                connector: ConnectorId::parse("crm").unwrap(),
                catalog_version: "2026.11.0".into(),
                component_digest: "00".into(),
            },
            means,
            client_auth: ClientAuth::Basic,
            token: url("/token"),
            revoke: Some(url("/revoke")),
            scopes: vec!["a".into(), "b".into()],
            parameters: BTreeMap::new(),
            version: 1,
        }
    }

    pub(crate) fn machine(&self) -> Arc<Source> {
        self.sources.source(self.setup(Means::ClientCredentials(Client::parse(CLIENT.as_bytes()).unwrap())))
    }

    pub(crate) fn grant(&self) -> Arc<Source> {
        self.sources.source(self.setup(Means::Grant(Client::parse(CLIENT.as_bytes()).unwrap())))
    }

    pub(crate) fn pending(&self) -> Pending {
        let (consents, parameters) = (Consents::default(), BTreeMap::new());
        let application = Application {
            authorize: "https://login.example/authorize",
            client_id: "app-1",
            redirect: "https://host.example/v1/oauth/callback",
            scopes: &[],
            parameters: &parameters,
        };
        let Facts { instance, slot, .. } = self.setup(Means::Unusable(String::new())).facts;
        let (entropy, now) = (SystemEntropy::default(), self.clock.now());
        let started = consents.begin(&entropy, now, instance, slot, Actor::Platform, &application).unwrap();
        let url = url::Url::parse(&started.url).unwrap();
        let (_, state) = url.query_pairs().find(|(name, _)| name == "state").unwrap();
        consents.take(&state, now).unwrap()
    }

    /// A grant that somebody has consented to.
    pub(crate) async fn connected(&self, vendor: &Vendor, first: Act) -> Arc<Source> {
        let source = self.grant();
        vendor.will([first]);
        let connected = source.connect(&self.pending(), "code-1").await.unwrap();
        let mut change = source.change().await.unwrap();
        let mut commit = Commit::new();
        change.connect(connected, 1, &mut commit).unwrap();
        self.store.submit(commit).await.unwrap();
        change.done();
        source
    }

    /// The kinds of the audit records, oldest first.
    pub(crate) fn audited(&self) -> Vec<&'static str> {
        let records = self.audit.query(&place().site, &Filter::default(), None, 100).unwrap();
        records.iter().rev().map(sgen_audit::AuditRecord::event).collect()
    }

    /// Everything that the store holds, as one text.
    pub(crate) fn stored(&self) -> Vec<u8> {
        let all = Keyspace::ALL.into_iter().flat_map(|space| self.store.scan(space, b"", b"", 1_000).unwrap());
        all.flat_map(|(key, value)| [key, value].concat()).collect()
    }
}
