//! The downstream's end of a connection, which can spoil what its own server writes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// What becomes of the bytes that the server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Whole,
    /// So many bytes of something else go out instead.
    Garbage(&'static [u8]),
    /// Only so many bytes go out.
    Cut(usize),
}

/// Spoils a connection from outside.
#[derive(Clone)]
pub(crate) struct Spoiler(Arc<Mutex<Mode>>);

impl Spoiler {
    /// What is written from now on is replaced by what is not HTTP.
    pub(crate) fn garbage(&self) {
        self.set(Mode::Garbage(b"\x00\xffSSH-2.0-not-a-web-server\r\n\r\n"));
    }

    /// Of what is written from now on, only the first `bytes` go out.
    pub(crate) fn cut(&self, bytes: usize) {
        self.set(Mode::Cut(bytes));
    }

    fn set(&self, mode: Mode) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

/// A pipe in memory with a spoiler.
pub(crate) struct Line {
    pipe: DuplexStream,
    mode: Arc<Mutex<Mode>>,
}

impl Line {
    pub(crate) fn new(pipe: DuplexStream) -> (Self, Spoiler) {
        let mode = Arc::new(Mutex::new(Mode::Whole));
        (Self { pipe, mode: mode.clone() }, Spoiler(mode))
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mode = *self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = match mode {
            Mode::Whole => return Pin::new(&mut self.pipe).poll_write(cx, bytes),
            Mode::Garbage(garbage) => garbage,
            Mode::Cut(left) => bytes.get(..left.min(bytes.len())).unwrap_or(bytes),
        };
        if allowed.is_empty() {
            // The server believes that it was heard.
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = match Pin::new(&mut self.pipe).poll_write(cx, allowed) {
            Poll::Ready(Ok(written)) => written,
            other => return other,
        };
        let (next, told) = match mode {
            Mode::Garbage(garbage) => (Mode::Garbage(garbage.get(written..).unwrap_or_default()), bytes.len()),
            Mode::Cut(left) => (Mode::Cut(left.saturating_sub(written)), written),
            Mode::Whole => (Mode::Whole, written),
        };
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Poll::Ready(Ok(told))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn heard(spoil: impl FnOnce(&Spoiler)) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut line, spoiler) = Line::new(server);
        spoil(&spoiler);
        line.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        line.shutdown().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn a_line_carries_its_bytes_whole_cut_or_replaced() {
        assert_eq!(heard(|_| {}).await, b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(heard(|spoiler| spoiler.cut(4)).await, b"HTTP");
        assert!(heard(Spoiler::garbage).await.starts_with(b"\x00\xffSSH"));
    }
}
