//! Connections: resolve once, judge every answer, dial exactly what was judged, speak TLS to the configured name.
//!
//! Knows only the targets that were granted; a URL with any other scheme, host or port is refused here once more.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{self, Connected};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address;
use crate::error::SendErrorKind;
use crate::host::{Destination, JudgedHost};
use crate::network::{Connection, Dialer, Resolver};

/// The pause before the next address is tried beside the last (RFC 8305 recommends 250 ms).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The most addresses tried for one connection.
const ADDRESSES: usize = 8;

/// Where an endpoint's connections go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: JudgedHost,
    /// For TLS: the name of the certificate.
    server_name: Option<ServerName<'static>>,
}

impl Target {
    pub(crate) fn new(host: JudgedHost, tls: bool) -> Result<Self, String> {
        let server_name = match &host.destination {
            _ if !tls => None,
            Destination::Address(address) => Some(ServerName::IpAddress((*address).into())),
            Destination::Name(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| format!("{name:?} cannot be the name of a certificate"))?,
            ),
        };
        Ok(Self { host, server_name })
    }
}

/// A connection that did not come about. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ConnectFailure {
    pub(crate) kind: SendErrorKind,
    pub(crate) message: String,
}

fn failed(message: impl Into<String>) -> ConnectFailure {
    ConnectFailure { kind: SendErrorKind::Connect, message: message.into() }
}

/// Opens the connections of one grant's pool.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    /// By `scheme://authority`.
    targets: HashMap<String, Target>,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    tls: TlsConnector,
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(
        targets: HashMap<String, Target>,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
        tls: TlsConnector,
        limit: Duration,
    ) -> Self {
        Self(Arc::new(Inner { targets, resolver, dialer, tls, limit }))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let limit = inner.limit;
            match timeout(limit, inner.connect(&uri)).await {
                Ok(result) => result,
                Err(_) => Err(failed(format!("no connection within {limit:?}"))),
            }
        })
    }
}

impl Inner {
    async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectFailure> {
        let origin = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
            _ => String::new(),
        };
        let Some(target) = self.targets.get(&origin) else {
            let message = "the URL is not one of the granted endpoints".to_owned();
            return Err(ConnectFailure { kind: SendErrorKind::Denied, message });
        };
        let addresses = self.resolve(&target.host).await?;
        let dialled = dial(self.dialer.as_ref(), addresses).await;
        let dialled = dialled.map_err(|error| failed(format!("no connection: {error}")))?;
        let Some(name) = &target.server_name else { return Ok(Stream::Plain(TokioIo::new(dialled))) };
        let tls =
            self.tls.connect(name.clone(), dialled).await.map_err(|error| failed(format!("TLS failed: {error}")))?;
        Ok(Stream::Tls(Box::new(TokioIo::new(tls))))
    }

    async fn resolve(&self, host: &JudgedHost) -> Result<Vec<SocketAddr>, ConnectFailure> {
        let name = match &host.destination {
            Destination::Address(address) => return Ok(vec![SocketAddr::new(*address, host.port)]),
            Destination::Name(name) => name,
        };
        let answers = self.resolver.resolve(name, host.port).await;
        let answers = answers.map_err(|error| failed(format!("the name {name} did not resolve: {error}")))?;
        if answers.is_empty() {
            return Err(failed(format!("the name {name} has no address")));
        }
        if !host.development {
            judge_all(name, answers.iter().map(SocketAddr::ip))?;
        }
        // Scope ids and ports of an answer are not the configuration's.
        Ok(answers.iter().map(|answer| SocketAddr::new(answer.ip(), host.port)).take(ADDRESSES).collect())
    }
}

/// One forbidden answer refuses all: a name that has both is either misconfigured or an attack.
fn judge_all(name: &str, mut answers: impl Iterator<Item = IpAddr>) -> Result<(), ConnectFailure> {
    let forbidden = answers.find_map(|answer| address::judge(answer).err().map(|kind| (answer, kind)));
    let Some((answer, kind)) = forbidden else { return Ok(()) };
    tracing::warn!(%name, %answer, %kind, "a connector's host resolves to an address that is refused");
    // The address itself is for the platform: it may describe an inner network.
    let message = format!("the name {name} resolves to an address that no connector may reach ({kind})");
    Err(ConnectFailure { kind: SendErrorKind::Denied, message })
}

/// Tries the addresses in order, the next one beside the last when that one is slow or has failed.
async fn dial(dialer: &dyn Dialer, addresses: Vec<SocketAddr>) -> io::Result<Connection> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    attempts.extend(waiting.next().map(|address| dialer.dial(address)));
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None if !more => return Err(last),
                None => {}
            },
            () = sleep(NEXT_ADDRESS), if more => {}
        }
        attempts.extend(waiting.next().map(|address| dialer.dial(address)));
    }
}

/// A connection.
pub(crate) enum Stream {
    Plain(TokioIo<Connection>),
    Tls(Box<TokioIo<TlsStream<Connection>>>),
}

impl connect::Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, parts),
        }
    }
}
