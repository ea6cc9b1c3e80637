//! The network of a simulation: names, addresses and connections that exist in memory only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use sgen_egress::{Connection, Dialer, Resolver};

use crate::downstream::Downstream;

/// The port of the first downstream; each has a port of its own.
const PORT: u16 = 8000;
/// What a pipe holds, in bytes, before its writer has to wait.
const PIPE: usize = 64 * 1024;

/// `host:port` of a downstream, by its index.
pub(crate) fn authority(index: usize) -> String {
    format!("localhost:{}", port(index))
}

fn port(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX).saturating_add(PORT)
}

/// Finds and opens ways to the downstreams.
#[derive(Default)]
pub(crate) struct Network {
    downstreams: Mutex<Vec<Arc<Downstream>>>,
}

impl Network {
    /// The downstreams in the order of their ports.
    pub(crate) fn attach(&self, downstreams: &[Arc<Downstream>]) {
        *self.downstreams.lock().unwrap_or_else(PoisonError::into_inner) = downstreams.to_vec();
    }
}

impl Resolver for Network {
    fn resolve(&self, _host: &str, port: u16) -> BoxFuture<'_, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(vec![SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port))]) })
    }
}

impl Dialer for Network {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let index = usize::from(address.port().saturating_sub(PORT));
            let downstream = self.downstreams.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned();
            let downstream = downstream.ok_or(io::ErrorKind::HostUnreachable)?;
            downstream.knock().await?;
            let (host, server) = tokio::io::duplex(PIPE);
            tokio::spawn(downstream.serve(server));
            Ok(Box::new(host) as Connection)
        })
    }
}
