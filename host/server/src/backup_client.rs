//! Asking the host that has the store open for a backup, over its own API.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sgen_model::SecretBytes;
use tokio::net::TcpStream;

use crate::config::Config;
use crate::secrets;

const PATH: &str = "/v1/store/backup";
/// How long the host may be silent. It may be making another backup, or giving disk space back, before it begins.
const SILENCE: Duration = Duration::from_secs(600);
/// The longest problem that is read, in bytes.
const PROBLEM_LIMIT: usize = 64 * 1024;

/// Where the host listens, and what opens its API.
///
/// # Errors
/// When the configuration names no platform token, or the ready file has no address.
pub(crate) fn host_of(config: &Config, handed: Option<SecretBytes>) -> anyhow::Result<(SocketAddr, HeaderValue)> {
    let written = config.server.ready_file.as_deref().and_then(|file| std::fs::read_to_string(file).ok());
    let address = match (written, config.server.listen) {
        (Some(text), _) => text.trim().parse().context("server.ready_file holds no address")?,
        (None, listen) if listen.port() == 0 => anyhow::bail!(
            "the store is in use, and the host cannot be asked for a backup: server.listen takes any free port, and there is \
             no server.ready_file that names it"
        ),
        (None, listen) => listen,
    };
    let secret = secrets::platform_token(handed, config.access.platform_token_file.as_deref())?;
    let token = [b"Bearer ", secret.expose().trim_ascii()].concat();
    let mut token = HeaderValue::from_bytes(&token).context("the platform token is not one line of text")?;
    token.set_sensitive(true);
    Ok((address, token))
}

/// Writes the host's answer to `sink`; `progress` gets the bytes so far.
///
/// # Errors
/// What the host answered instead, or that the answer ended before it was whole.
pub(crate) fn fetch(
    address: SocketAddr,
    token: &HeaderValue,
    sink: &mut dyn Write,
    progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the client cannot be started")?.block_on(receive(address, token, sink, progress))
}

async fn receive(
    address: SocketAddr,
    token: &HeaderValue,
    sink: &mut dyn Write,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await.context("it does not listen there; see server.listen")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("it speaks no HTTP")?;
    let connection = tokio::spawn(connection);
    let request = Request::get(PATH).header(HOST, address.to_string()).header(AUTHORIZATION, token.clone());
    let request = request.body(Empty::<Bytes>::new()).context("the request cannot be made")?;
    let response = in_time(sender.send_request(request)).await?.context("it did not answer")?;
    if response.status() != StatusCode::OK {
        let (status, problem) = (response.status(), detail(response).await);
        anyhow::bail!("it answered {status}: {problem}");
    }
    let (mut body, mut bytes) = (response.into_body(), 0_u64);
    while let Some(frame) = in_time(body.frame()).await? {
        let frame = frame.context("its answer ended before it was whole; its log says why")?;
        if let Some(piece) = frame.data_ref() {
            sink.write_all(piece).context("the file cannot be written")?;
            bytes = bytes.saturating_add(piece.len() as u64);
            progress(bytes);
        }
    }
    connection.abort();
    Ok(())
}

async fn in_time<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(SILENCE, future).await.with_context(|| format!("it was silent for {SILENCE:?}"))
}

/// What a problem details document says is wrong.
async fn detail(response: Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), PROBLEM_LIMIT).collect().await;
    let problem = body.ok().and_then(|body| serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).ok());
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")).and_then(serde_json::Value::as_str);
    detail.unwrap_or("without saying why").to_owned()
}
