//! Asking the host that has the store open, over its own API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sgen_model::SecretBytes;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::secrets;

/// How long the host may be silent. It may be making a backup, or giving disk space back, before it begins.
const SILENCE: Duration = Duration::from_secs(600);
/// The longest problem that is read, in bytes.
const PROBLEM_LIMIT: usize = 64 * 1024;
/// The longest answer that is read as a whole, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// Where the host listens, and what opens its API.
///
/// # Errors
/// When the configuration names no platform token, or the ready file has no address.
pub(crate) fn host_of(config: &Config, handed: Option<SecretBytes>) -> anyhow::Result<(SocketAddr, HeaderValue)> {
    let written = config.server.ready_file.as_deref().and_then(|file| std::fs::read_to_string(file).ok());
    let address = match (written, config.server.listen) {
        (Some(text), _) => text.trim().parse().context("server.ready_file holds no address")?,
        (None, listen) if listen.port() == 0 => anyhow::bail!(
            "the store is in use, and the host cannot be asked: server.listen takes any free port, and there is \
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

/// Asks for something and reads the JSON that is answered.
///
/// # Errors
/// What the host answered instead.
pub(crate) async fn ask(
    address: SocketAddr,
    token: &HeaderValue,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let (body, connection) = send(address, token, method, path, body).await?;
    let read = in_time(Limited::new(body, ANSWER_LIMIT).collect()).await?;
    let bytes = read.map_err(|e| anyhow::anyhow!("its answer ended before it was whole: {e}"))?.to_bytes();
    connection.abort();
    serde_json::from_slice(&bytes).context("its answer is no JSON")
}

/// Asks for something; answers the body of an answer that is a success, and the connection that it comes over.
///
/// # Errors
/// What the host answered instead.
pub(crate) async fn send(
    address: SocketAddr,
    token: &HeaderValue,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(Incoming, JoinHandle<hyper::Result<()>>)> {
    let stream = TcpStream::connect(address).await.context("it does not listen there; see server.listen")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("it speaks no HTTP")?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    request = request.header(HOST, address.to_string()).header(AUTHORIZATION, token.clone());
    if body.is_some() {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let body = body.map(ToString::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).context("the request cannot be made")?;
    let response = in_time(sender.send_request(request)).await?.context("it did not answer")?;
    if !response.status().is_success() {
        let (status, problem) = (response.status(), detail(response).await);
        anyhow::bail!("it answered {status}: {problem}");
    }
    Ok((response.into_body(), connection))
}

/// # Errors
/// When the host is silent for too long.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(SILENCE, future).await.with_context(|| format!("it was silent for {SILENCE:?}"))
}

/// What a problem details document says is wrong.
async fn detail(response: Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), PROBLEM_LIMIT).collect().await;
    let problem = body.ok().and_then(|body| serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).ok());
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")).and_then(serde_json::Value::as_str);
    detail.unwrap_or("without saying why").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_host_is_found_by_its_ready_file_or_by_where_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let (file, ready) = (folder.path().join("host.toml"), folder.path().join("ready"));
        let config = |listen: &str| {
            let toml = format!(
                "deployment = \"d\"\n[server]\nlisten = \"{listen}\"\nready_file = {ready:?}\n[store]\npath = \"s\"\n\
                 [catalog]\nfolder = \"c\"\ntrust_root = \"r\""
            );
            std::fs::write(&file, toml).unwrap();
            Config::load(&file, &crate::config::Environment::default()).unwrap()
        };
        let handed = || Some(SecretBytes::from("a token of the platform\n".to_owned()));
        let (address, token) = host_of(&config("127.0.0.1:8080"), handed()).unwrap();
        assert_eq!(
            (address.to_string().as_str(), token.as_bytes()),
            ("127.0.0.1:8080", &b"Bearer a token of the platform"[..])
        );
        assert!(!format!("{token:?}").contains("platform"));
        assert!(host_of(&config("127.0.0.1:0"), handed()).unwrap_err().to_string().contains("ready_file"));
        std::fs::write(&ready, "127.0.0.1:4711\n").unwrap();
        assert_eq!(host_of(&config("127.0.0.1:0"), handed()).unwrap().0.port(), 4711);
        assert!(host_of(&config("127.0.0.1:0"), None).unwrap_err().to_string().contains("platform token"));
    }
}
