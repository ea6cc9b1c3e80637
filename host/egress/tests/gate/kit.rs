//! Downstreams to talk to, and seams that record what the gate did.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Response as HttpResponse};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sgen_egress::{
    AllowRule, Auth, Connection, Dialer, Endpoint, EndpointSpec, Gate, GateConfig, Grant, Limits, Request, Resolver,
    Timeouts, TlsTrust,
};
use sgen_model::{Clock, InstanceId, SecretBytes, SlotName, Timestamp};
use sgen_vault::{Credential, Credentials};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

pub(crate) const NOW: Timestamp = Timestamp(1_795_460_400_000);

pub(crate) struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// A request as the downstream saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) version: http::Version,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) type Handler = Arc<dyn Fn(&Seen) -> HttpResponse<Full<Bytes>> + Send + Sync>;

/// An HTTP server that records what it is asked.
pub(crate) struct Downstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Downstream {
    pub(crate) async fn answering(
        handler: impl Fn(&Seen) -> HttpResponse<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (handler, record): (Handler, _) = (Arc::new(handler), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone(), record.clone()));
            }
        });
        Self { address, seen }
    }

    pub(crate) async fn ok() -> Self {
        Self::answering(|_| HttpResponse::new(Full::default())).await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Speaks HTTP/1.1 or HTTP/2, as the client begins.
pub(crate) async fn serve<S>(stream: S, handler: Handler, record: Arc<Mutex<Vec<Seen>>>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (handler, record) = (handler.clone(), record.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
            let seen = Seen {
                method: head.method,
                uri: head.uri.to_string(),
                version: head.version,
                headers: head.headers,
                body,
            };
            let response = handler(&seen);
            record.lock().unwrap().push(seen);
            Ok::<_, Infallible>(response)
        }
    });
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// A server that reads one request's head per connection and then does with the connection what it likes.
pub(crate) async fn raw<F, Fut>(act: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let act = Arc::new(act);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let act = act.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let mut buffer = [0; 1024];
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => head.extend_from_slice(&buffer[..read]),
                    }
                }
                act(stream).await;
            });
        }
    });
    address
}

/// A server that answers every request with these bytes and closes.
pub(crate) async fn raw_answer(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Arc<[u8]> = answer.into().into();
    raw(move |mut stream| {
        let answer = answer.clone();
        async move {
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
            // Wait for the client to be done, so that no reset overtakes the answer.
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

/// Answers what it is told, in turn; the last answer stays.
pub(crate) struct ScriptedResolver {
    answers: Mutex<VecDeque<Vec<SocketAddr>>>,
    pub(crate) asked: Mutex<Vec<(String, u16)>>,
}

impl ScriptedResolver {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 1)).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: Mutex::default() })
    }
}

impl Resolver for ScriptedResolver {
    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<Vec<SocketAddr>>> {
        self.asked.lock().unwrap().push((host.to_owned(), port));
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// Dials for real, or always one place, and records what it was asked to dial.
#[derive(Default)]
pub(crate) struct RecordingDialer {
    pub(crate) instead: Option<SocketAddr>,
    pub(crate) dialled: Mutex<Vec<SocketAddr>>,
    pub(crate) count: AtomicUsize,
}

impl RecordingDialer {
    pub(crate) fn to(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { instead: Some(address), ..Self::default() })
    }

    pub(crate) fn dials(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Dialer for RecordingDialer {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        self.dialled.lock().unwrap().push(address);
        self.count.fetch_add(1, Ordering::SeqCst);
        let connecting = TcpStream::connect(self.instead.unwrap_or(address));
        Box::pin(async move { Ok(Box::new(connecting.await?) as Connection) })
    }
}

pub(crate) fn slot(name: &str) -> SlotName {
    SlotName::parse(name).unwrap()
}

pub(crate) fn instance(name: &str) -> InstanceId {
    InstanceId::parse(name).unwrap()
}

pub(crate) fn credentials(given: &[(&str, &str)]) -> Credentials {
    let credential = |secret: &str| Credential::new(1, SecretBytes::from(secret.to_owned()));
    given.iter().map(|(name, secret)| (slot(name), credential(secret))).collect()
}

/// An endpoint that admits everything.
pub(crate) fn open_spec(base: &str, auth: Option<Auth>) -> EndpointSpec {
    let mut spec = EndpointSpec::new("api", Url::parse(base).unwrap());
    let methods = vec![Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    spec.allow = vec![AllowRule { methods, paths: vec![String::new(), "/**".to_owned()] }];
    spec.auth = auth;
    // A bound for tests that must not hang; those about time set their own.
    spec.timeouts = Timeouts::of(Duration::from_secs(20));
    spec
}

pub(crate) fn bearer() -> Option<Auth> {
    Some(Auth::Bearer { slot: slot("token") })
}

/// A gate that may reach these loopback addresses.
pub(crate) fn gate(development: &[SocketAddr], dialer: Arc<RecordingDialer>) -> Arc<Gate> {
    gate_with(development, dialer, ScriptedResolver::new(&[]), Limits::default(), Vec::new())
}

pub(crate) fn gate_with(
    development: &[SocketAddr],
    dialer: Arc<RecordingDialer>,
    resolver: Arc<ScriptedResolver>,
    limits: Limits,
    roots: Vec<sgen_egress::CertificateDer<'static>>,
) -> Arc<Gate> {
    let development_hosts = development.iter().map(ToString::to_string).collect();
    let config = GateConfig { development_hosts, limits, tls: TlsTrust::Roots(roots) };
    Gate::new(config, resolver, dialer, Arc::new(FixedClock)).unwrap()
}

/// One endpoint `api` to a loopback server.
pub(crate) fn endpoint(
    address: SocketAddr,
    change: impl FnOnce(&mut EndpointSpec),
    given: &[(&str, &str)],
) -> Arc<Endpoint> {
    let mut spec = open_spec(&format!("http://{address}"), None);
    change(&mut spec);
    let gate = gate(&[address], Arc::default());
    opened(&gate.grant(&instance("crm-1"), vec![spec], credentials(given)).unwrap())
}

pub(crate) fn opened(grant: &Grant) -> Arc<Endpoint> {
    match grant.open("api") {
        Ok(endpoint) => endpoint,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn get(path: &str) -> Request {
    Request { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: None }
}

pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { method: Method::POST, path: path.to_owned(), headers, body: Some(body.as_bytes().to_vec()) }
}
