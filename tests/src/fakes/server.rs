//! The wire of a fake: accepts connections on loopback, applies injected faults, hands requests to the fake's service.
//!
//! It knows no vendor. It speaks HTTP/1.1 without TLS and must be able to break every rule of it on demand, which is why
//! it holds the sockets itself.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::faults::{Fault, Faults};
use super::journal::{Entry, Journal};

/// The largest request body taken, in bytes.
const REQUEST_LIMIT: usize = 16 * 1024 * 1024;

/// A request as a service sees it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without `?`; empty when there is none.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The complete body.
    pub body: Bytes,
}

impl Received {
    /// A header's text; `None` when it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The vendor behind the wire.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: &Received) -> Response<Bytes>;
}

/// A running fake. Dropping it closes its connections.
pub struct Server {
    address: SocketAddr,
    faults: Arc<Faults>,
    journal: Arc<Journal>,
    latency_micros: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Starts on a loopback port (0: any free one).
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(service: Arc<dyn Service>, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let wire = Wire { service, faults: Arc::default(), journal: Arc::default(), latency_micros: Arc::default() };
        let (faults, journal, latency_micros) =
            (wire.faults.clone(), wire.journal.clone(), wire.latency_micros.clone());
        let accepting = tokio::spawn(accept(listener, Arc::new(wire)));
        Ok(Self { address, faults, journal, latency_micros, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What was asked.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How long every answer takes from now on, as if the downstream were that far away.
    pub fn set_latency(&self, latency: Duration) {
        self.latency_micros.store(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

struct Wire {
    service: Arc<dyn Service>,
    faults: Arc<Faults>,
    journal: Arc<Journal>,
    latency_micros: Arc<AtomicU64>,
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A failed accept concerns one connection (or a passing lack of descriptors): the fake goes on.
                let Ok((stream, _)) = accepted else { tokio::task::yield_now().await; continue };
                number += 1;
                connections.spawn(serve(stream, number, wire.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, connection: u64, wire: Arc<Wire>) {
    // Without this, delayed acknowledgements would add 40 ms to small answers.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Socket { stream, reset: reset.clone() });
    let service = service_fn(move |request| handle(request, connection, wire.clone(), reset.clone()));
    // An error here is the client's leaving or an injected fault: both are in the journal.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
}

async fn handle(
    request: http::Request<Incoming>,
    connection: u64,
    wire: Arc<Wire>,
    reset: Arc<AtomicBool>,
) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, REQUEST_LIMIT).collect().await.map_err(io::Error::other)?.to_bytes();
    let received = Received {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
    };
    let fault = wire.faults.take(&received.path);
    let at = Instant::now();
    let latency = wire.latency_micros.load(Ordering::Relaxed);
    if latency > 0 {
        tokio::time::sleep(Duration::from_micros(latency)).await;
    }
    let entry = Entry {
        at,
        method: received.method.to_string(),
        path: received.path.clone(),
        status: None,
        fault: fault.as_ref().map(Fault::as_str),
        connection,
    };
    let answer = match fault {
        None => wire.service.answer(&received).map(whole),
        Some(Fault::Status { status, headers, body }) => {
            let mut answer = Response::builder().status(status).header("content-type", "application/json");
            for (name, value) in headers {
                answer = answer.header(name, value);
            }
            answer.body(whole(Bytes::from(body))).map_err(io::Error::other)?
        }
        Some(Fault::Redirect { to }) => Response::builder()
            .status(302)
            .header("location", to)
            .body(whole(Bytes::new()))
            .map_err(io::Error::other)?,
        Some(Fault::Large { bytes }) => Response::builder()
            .status(200)
            .header("content-type", "application/json")
            .body(whole(Bytes::from(vec![b' '; bytes])))
            .map_err(io::Error::other)?,
        Some(Fault::Truncate) => Response::builder()
            .status(200)
            .header("content-type", "application/json")
            .body(BoxBody::new(Half { polls: 0 }))
            .map_err(io::Error::other)?,
        Some(Fault::Hang) => {
            wire.journal.write(entry);
            return std::future::pending().await;
        }
        Some(Fault::Reset) => {
            wire.journal.write(entry);
            reset.store(true, Ordering::SeqCst);
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
    };
    wire.journal.write(Entry { status: Some(answer.status().as_u16()), ..entry });
    Ok(answer)
}

fn whole(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    BoxBody::new(Full::new(bytes).map_err(|never: Infallible| match never {}))
}

/// A body that announces twice what it sends and then ends the connection.
///
/// Between the two it waits once: what was written is flushed only then. It ends with FIN, as RST could overtake what was
/// sent and make this a [`Fault::Reset`].
struct Half {
    polls: u8,
}

impl Half {
    const PART: &'static [u8] = br#"{"status":"COMPLETE","results":["#;
}

impl Body for Half {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.polls = self.polls.saturating_add(1);
        match self.polls {
            1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(Self::PART))))),
            2 => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(2 * Self::PART.len() as u64)
    }
}

/// A connection that ends with RST instead of FIN when told so.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            // Closing with zero linger is what makes the kernel send RST.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Echo;
    impl Service for Echo {
        fn answer(&self, request: &Received) -> Response<Bytes> {
            Response::new(request.body.clone())
        }
    }

    async fn post(server: &Server) -> reqwest::Result<String> {
        let client = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
        client.post(server.url()).body("hello").send().await?.error_for_status()?.text().await
    }

    #[tokio::test]
    async fn without_a_fault_the_service_answers() {
        let server = Server::start(Arc::new(Echo), 0).await.unwrap();
        assert_eq!(post(&server).await.unwrap(), "hello");
        assert_eq!(server.journal().total(), 1);
    }

    #[tokio::test]
    async fn each_fault_is_what_the_client_meets() {
        let server = Server::start(Arc::new(Echo), 0).await.unwrap();
        for (fault, part) in [
            (Fault::Reset, "reset"),
            (Fault::Truncate, "body"),
            (Fault::Hang, "timed out"),
            (Fault::status(503), "503"),
        ] {
            server.faults().next(1, fault);
            let error = format!("{:?}", anyhow::Error::from(post(&server).await.unwrap_err()));
            assert!(error.to_lowercase().contains(part), "{part}: {error}");
        }
        server.faults().next(1, Fault::Large { bytes: 10_000_000 });
        assert_eq!(post(&server).await.unwrap().len(), 10_000_000);
        assert_eq!(post(&server).await.unwrap(), "hello");
    }
}
