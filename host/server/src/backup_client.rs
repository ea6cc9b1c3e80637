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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use axum::body::Body;
    use axum::http::HeaderMap;
    use axum::response::{IntoResponse as _, Response};
    use axum::routing::get;
    use futures_util::stream;
    use sgen_model::Timestamp;
    use sgen_store::{Commit, Keyspace, MemoryStore, Store as _, verify_backup, write_backup_file};
    use tokio_util::sync::CancellationToken;

    fn backup() -> Vec<u8> {
        let store = MemoryStore::new();
        let mut commit = Commit::new();
        commit.put(Keyspace::Log, "a", vec![1; 100_000]);
        store.submit(commit).wait().unwrap();
        let mut bytes = Vec::new();
        store.backup(&mut bytes, Timestamp(0)).unwrap();
        bytes
    }

    /// A host that answers with what `answer` makes of the backup, and asks for the token `right`.
    fn host(answer: fn(Vec<u8>) -> Response) -> (SocketAddr, CancellationToken, std::thread::JoinHandle<()>) {
        let handler = move |headers: HeaderMap| async move {
            match headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) {
                Some(b"Bearer right") => answer(backup()),
                _ => (StatusCode::UNAUTHORIZED, r#"{"detail":"this token is not known"}"#).into_response(),
            }
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                crate::listen::serve(listener, axum::Router::new().route(PATH, get(handler)), stopping).await;
            });
        });
        (address, stop, thread)
    }

    #[test]
    fn a_backup_is_taken_over_whole_or_leaves_no_file_and_says_why() {
        type Case = (fn(Vec<u8>) -> Response, &'static str, Option<&'static str>);
        let cases: [Case; 4] = [
            (|bytes| bytes.into_response(), "Bearer right", None),
            (|bytes| bytes.into_response(), "Bearer wrong", Some("401 Unauthorized: this token is not known")),
            (|bytes| bytes.get(..100_000).unwrap().to_vec().into_response(), "Bearer right", Some("cut off")),
            (
                |bytes| {
                    let pieces = [Ok(bytes.get(..1_000).unwrap().to_vec()), Err(std::io::Error::other("failed"))];
                    Body::from_stream(stream::iter(pieces)).into_response()
                },
                "Bearer right",
                // Whether the answer's head was out by then is chance.
                Some("before"),
            ),
        ];
        for (answer, token, says) in cases {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("backup");
            let (address, stop, thread) = host(answer);
            let token = HeaderValue::from_static(token);
            let made = write_backup_file(&out, |sink| fetch(address, &token, sink, |_| ()));
            stop.cancel();
            thread.join().unwrap();
            match says {
                None => assert_eq!(made.unwrap(), verify_backup(&out, &mut |_| ()).unwrap()),
                Some(says) => {
                    let error = format!("{:#}", made.unwrap_err());
                    assert!(error.contains(says), "{error}");
                    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
                }
            }
        }
    }

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
