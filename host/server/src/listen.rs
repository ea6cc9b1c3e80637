//! Accepting connections: bounded in number and in the time that a request's head may take, and closed in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 4_096;
/// How long the head of a request may take to arrive, waiting for it on an open connection included.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// How long accepting rests after the system refused, usually for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves until `stop` is cancelled, then lets every request that has begun end. Dropping the future ends them at once.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Ok(Some((stream, slot))) = accepted else { break };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, router, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Result<Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)>, Infallible> {
    let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return Ok(None) };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok(Some((stream, slot))),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The other side went away, or was too slow: nothing for anyone to do.
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    struct Running {
        address: std::net::SocketAddr,
        stop: CancellationToken,
        served: tokio::task::JoinHandle<()>,
        entered: Arc<Notify>,
        leave: Arc<Notify>,
    }

    async fn started() -> Running {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (inside, go) = (Arc::clone(&entered), Arc::clone(&leave));
        let handler = move || async move {
            inside.notify_one();
            go.notified().await;
            "done"
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, Router::new().route("/", get(handler)), stop.clone()));
        Running { address, stop, served, entered, leave }
    }

    #[tokio::test]
    async fn a_request_that_has_begun_ends_after_the_stop_and_no_other_begins() {
        let running = started().await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        running.entered.notified().await;
        running.stop.cancel();
        running.leave.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        running.served.await.unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_stop() {
        let running = started().await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        idle.write_all(REQUEST).await.unwrap();
        running.entered.notified().await;
        running.leave.notify_one();
        let mut head = [0; 12];
        idle.read_exact(&mut head).await.unwrap();
        running.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), running.served).await.unwrap().unwrap();
    }
}
