//! The route that hands out a backup of the store while the host runs.
//!
//! A thread of its own makes the backup and hands it on in pieces. Whoever takes it may be slow, within a bound: what is
//! committed meanwhile waits on the store's disk.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::access::PlatformCaller;
use crate::problem::Problem;
use crate::state::Api;

/// One JSON object a line.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// The pieces that wait to be taken; each has up to a quarter of a megabyte, or one large value.
const PIECES: usize = 16;
/// How long a piece may wait to be taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether one was taken.
const REST: Duration = Duration::from_millis(5);

/// Backs the store up
///
/// Everything the store holds at the moment at which the answer ends, as JSON lines; captures and deliveries go on. The
/// last line counts the lines before it and has their SHA-256: an answer without it is not a backup. Values are as they are
/// stored: what is sealed stays sealed, and the vault's key is not part of it.
#[utoipa::path(
    get,
    path = "/v1/store/backup",
    tag = "store",
    responses((status = 200, description = "The backup.", body = String, content_type = "application/x-ndjson")),
    security(("platform" = []))
)]
pub(crate) async fn get_backup(State(api): State<Arc<Api>>, _: PlatformCaller) -> Result<Response, Problem> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let making = tokio::task::spawn_blocking(move || {
        let mut sink = Pieces { sender, patience: PATIENCE };
        let made = api.store.backup(&mut sink, api.clock.now());
        match &made {
            Ok(made) => tracing::info!(entries = made.entries, redo = made.redo, sha256 = made.sha256, "backed up"),
            Err(error) => {
                tracing::warn!(%error, "a backup was not made");
                // Ends the answer as one that is not whole. Who takes it may have gone.
                let _ = sink.sender.try_send(Err(std::io::Error::other("the backup was not made")));
            }
        }
        made
    });
    let Some(Ok(first)) = pieces.recv().await else {
        // Nothing was sent, so there is room for saying why.
        let made = making.await.map_err(|e| Problem::from_internal(&e))?;
        return Err(made.err().map_or_else(Problem::internal, Problem::from));
    };
    let rest = stream::poll_fn(move |cx| pieces.poll_recv(cx));
    let body = Body::from_stream(stream::once(std::future::ready(Ok(first))).chain(rest));
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], body).into_response())
}

/// Hands on what is written to it.
struct Pieces {
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    patience: Duration,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut piece = Ok(Bytes::copy_from_slice(bytes));
        let deadline = Instant::now() + self.patience;
        loop {
            piece = match self.sender.try_send(piece) {
                Ok(()) => return Ok(bytes.len()),
                Err(TrySendError::Closed(_)) => return Err(std::io::Error::other("whoever takes it went away")),
                Err(TrySendError::Full(_)) if Instant::now() >= deadline => {
                    return Err(std::io::Error::other("whoever takes it is too slow"));
                }
                Err(TrySendError::Full(piece)) => piece,
            };
            std::thread::sleep(REST);
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taker_that_stands_still_or_goes_away_ends_the_backup() {
        let (sender, mut pieces) = mpsc::channel(1);
        let mut sink = Pieces { sender, patience: Duration::from_millis(20) };
        sink.write_all(b"first").unwrap();
        assert!(sink.write_all(b"second").unwrap_err().to_string().contains("too slow"));
        assert_eq!(pieces.try_recv().unwrap().unwrap(), "first");
        sink.write_all(b"third").unwrap();
        drop(pieces);
        assert!(sink.write_all(b"fourth").unwrap_err().to_string().contains("went away"));
    }
}
