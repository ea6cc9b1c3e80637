//! What the vectors stand on: a resolver with names of every kind, a dialler that records and counts, a server that is
//! every public host at once, and a listener that nobody may reach.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Response as HttpResponse;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sgen_egress::{CertificateDer, Connection, Dialer, Gate, GateConfig, Limits, Resolver, TlsTrust};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::kit::{FixedClock, credentials, get, instance, open_spec, opened, serve};
use crate::tally::Outcome;

/// What an allowed request through TLS is seen as, before its address.
const REACHED: &str = "reached ";

/// The public address that any name has unless a vector says otherwise.
pub(crate) const PUBLIC: &str = "93.184.216.34";

/// A name's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'a> {
    /// Another name's addresses.
    Alias(&'a str),
    /// Addresses, in turn for each look-up; the last ones stay. With a scope or a port, it is a socket address.
    Turns(&'a [&'a [&'a str]]),
}

enum Entry {
    Alias(String),
    Turns(VecDeque<Vec<SocketAddr>>),
}

/// Names, with what they stand for. The ones that are not listed have [`PUBLIC`].
pub(crate) struct Zone {
    names: Mutex<HashMap<String, Entry>>,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    pub(crate) fn of(names: &[(&str, Answer<'_>)]) -> Arc<Self> {
        let entry = |answer: Answer<'_>| match answer {
            Answer::Alias(other) => Entry::Alias(other.to_owned()),
            Answer::Turns(turns) => {
                Entry::Turns(turns.iter().map(|turn| turn.iter().map(|text| address(text)).collect()).collect())
            }
        };
        let names = names.iter().map(|(name, answer)| ((*name).to_owned(), entry(*answer))).collect();
        Arc::new(Self { names: Mutex::new(names), asked: Mutex::default() })
    }

    /// The names that the gate asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, host: &str) -> Vec<SocketAddr> {
        let mut names = self.names.lock().unwrap();
        let mut name = host.to_owned();
        // An alias of an alias of itself would be the vector's mistake.
        for _ in 0..8 {
            match names.get_mut(&name) {
                Some(Entry::Alias(other)) => name = other.clone(),
                Some(Entry::Turns(turns)) if turns.len() > 1 => return turns.pop_front().unwrap(),
                Some(Entry::Turns(turns)) => return turns.front().cloned().unwrap_or_default(),
                None => return vec![address(PUBLIC)],
            }
        }
        panic!("{host} is an alias without end");
    }
}

/// Port 1 stands for "no port is an answer's to say".
fn address(text: &str) -> SocketAddr {
    match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 1),
        Err(_) => text.parse().unwrap(),
    }
}

impl Resolver for Zone {
    fn resolve(&self, host: &str, _port: u16) -> BoxFuture<'_, io::Result<Vec<SocketAddr>>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let answer = self.answer(host);
        Box::pin(async move { Ok(answer) })
    }
}

/// Records every dial. Loopback is dialled as it is, so that a mistake reaches a real listener; every other address leads
/// to the server that is every public host.
pub(crate) struct Watch {
    world: SocketAddr,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Watch {
    pub(crate) fn new(world: SocketAddr) -> Arc<Self> {
        Arc::new(Self { world, dialled: Mutex::default() })
    }

    pub(crate) fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().unwrap().clone()
    }

    /// Dials to anything but these.
    pub(crate) fn beyond(&self, granted: &[SocketAddr]) -> usize {
        self.dialled.lock().unwrap().iter().filter(|address| !granted.contains(address)).count()
    }
}

impl Dialer for Watch {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        self.dialled.lock().unwrap().push(address);
        let really = if address.ip().is_loopback() { address } else { self.world };
        Box::pin(async move { Ok(Box::new(TcpStream::connect(really).await?) as Connection) })
    }
}

/// A listener on loopback that counts who comes.
pub(crate) struct Trap {
    pub(crate) port: u16,
    caught: Arc<AtomicUsize>,
}

impl Trap {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let caught = Arc::new(AtomicUsize::new(0));
        let counter = caught.clone();
        tokio::spawn(async move {
            while let Ok(caught) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                drop(caught);
            }
        });
        Self { port, caught }
    }

    pub(crate) fn caught(&self) -> usize {
        self.caught.load(Ordering::SeqCst)
    }
}

/// Issues a certificate for whatever name is asked for; without one, for every address that was announced.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
    literal: Mutex<String>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificates for every host")
    }
}

impl Certificates {
    fn new() -> Arc<Self> {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        Arc::new(Self { authority, key: KeyPair::generate().unwrap(), literal: Mutex::default() })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Whoever connects to an address sends no name (RFC 6066, 3).
        let name = hello.server_name().map_or_else(|| self.literal.lock().unwrap().clone(), str::to_owned);
        let leaf = CertificateParams::new(vec![name]).ok()?.signed_by(&self.key, &self.authority).ok()?;
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key)))
    }
}

/// Everything that a family stands on.
pub(crate) struct Lab {
    pub(crate) trap: Trap,
    pub(crate) world: SocketAddr,
    certificates: Arc<Certificates>,
}

impl Lab {
    pub(crate) async fn open() -> Self {
        let certificates = Certificates::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = listener.local_addr().unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    serve(stream, Arc::new(|_| closing()), Arc::default()).await;
                });
            }
        });
        Self { trap: Trap::set().await, world, certificates }
    }

    /// A gate on the public network, with these exceptions for development.
    pub(crate) fn gate(&self, development: &[String], zone: Arc<Zone>, watch: Arc<Watch>) -> Arc<Gate> {
        let root: CertificateDer<'static> = self.certificates.authority.der().clone();
        let config = GateConfig {
            development_hosts: development.to_vec(),
            limits: Limits::default(),
            tls: TlsTrust::Roots(vec![root]),
        };
        Gate::new(config, zone, watch, Arc::new(FixedClock)).unwrap()
    }

    /// Grants a base URL and sends `requests` requests to it, each over a connection of its own. The outcome is the last
    /// one's; whatever it dialled is forbidden when it was refused.
    pub(crate) async fn visit(&self, base: &str, development: &[String], zone: &Arc<Zone>, requests: usize) -> Outcome {
        let watch = Watch::new(self.world);
        let url = match Url::parse(base) {
            Ok(url) => url,
            Err(error) => return Outcome::clean(Err(format!("no URL: {error}"))),
        };
        let literal = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        *self.certificates.literal.lock().unwrap() = literal;
        let gate = self.gate(development, zone.clone(), watch.clone());
        let granted = gate.grant(&instance("vector"), vec![open_spec(base, None)], credentials(&[]));
        let grant = match granted {
            Ok(grant) => grant,
            Err(error) => {
                return Outcome { forbidden: watch.dialled().len(), ..Outcome::clean(Err(error.to_string())) };
            }
        };
        let endpoint = opened(&grant);
        let mut outcome = Outcome::clean(Err("nothing was sent".to_owned()));
        for _ in 0..requests {
            let before = watch.dialled().len();
            let answer = endpoint.send(get("")).await;
            let dialled = watch.dialled().split_off(before);
            outcome.opened = 0;
            outcome.said = match answer {
                Ok(response) => {
                    outcome.opened = dialled.len();
                    Ok(if response.status == 200 { reached(&dialled) } else { format!("status {}", response.status) })
                }
                Err(error) => {
                    outcome.forbidden += dialled.len();
                    Err(error.message)
                }
            };
        }
        outcome
    }

    /// The same for one request on the public network, to a name with these addresses.
    pub(crate) async fn visit_name(&self, answers: &[&[&str]]) -> Outcome {
        let zone = Zone::of(&[("downstream.example", Answer::Turns(answers))]);
        self.visit("https://downstream.example:8443/", &[], &zone, 1).await
    }
}

/// How a request that arrived is described: by what was dialled for it.
pub(crate) fn reached(dialled: &[SocketAddr]) -> String {
    let dialled: Vec<String> = dialled.iter().map(ToString::to_string).collect();
    format!("{REACHED}{}", dialled.join(" "))
}

/// One address at a port, as [`reached`] describes it.
pub(crate) fn reached_at(ip: &str, port: u16) -> String {
    reached(&[SocketAddr::new(ip.parse().unwrap(), port)])
}

/// An answer after which the connection is closed, so that the next request resolves and dials anew.
fn closing() -> HttpResponse<Full<Bytes>> {
    HttpResponse::builder().header("connection", "close").body(Full::from("ok")).unwrap()
}
