//! The seams to the network: name resolution and dialling. The gate judges what goes between them; nothing here does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Resolves names.
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a host. The gate puts the port of the base URL into each, whatever comes back.
    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<Vec<SocketAddr>>>;
}

/// What carries bytes to a downstream and back: a TCP stream, or a simulation's pipe in memory.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A connection, whatever carries it. Vectored writes reach what is inside; beside a system call, the call through the
/// box is nothing.
pub type Connection = Box<dyn Duplex>;

/// Opens connections.
pub trait Dialer: Send + Sync + 'static {
    /// Connects to exactly this address, which the gate has judged.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>>;
}

/// The system's resolver, with a bound on concurrent look-ups: each holds a thread, also after its caller gave up.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl SystemResolver {
    /// Look-ups at once: several slow names must not hold up the others, nor take every thread.
    const LOOKUPS: usize = 64;

    /// A resolver.
    #[must_use]
    pub fn new() -> Self {
        Self { lookups: Arc::new(Semaphore::new(Self::LOOKUPS)) }
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            // On a task of its own: the permit is given back when the look-up ends, not when the caller stops waiting.
            let lookup = tokio::spawn(async move {
                let _permit = permit;
                tokio::net::lookup_host((host.as_str(), port)).await.map(Iterator::collect)
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // A request is written whole; waiting for more to send only delays it.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Connection)
        })
    }
}
