//! Asking the host that has the store open for a backup, over its own API.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::header::HeaderValue;

use crate::host_client::{in_time, send};

const PATH: &str = "/v1/store/backup";

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
    let (mut body, connection) = send(address, token, Method::GET, PATH, None).await?;
    let mut bytes = 0_u64;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use axum::body::Body;
    use axum::http::header::AUTHORIZATION;
    use axum::http::{HeaderMap, StatusCode};
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
}
