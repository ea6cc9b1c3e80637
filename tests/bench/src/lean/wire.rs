//! HTTP/1.1 as far as it is spoken here: messages with a `content-length` on connections that stay open.

use anyhow::{Context as _, Result, bail};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The largest message that is read, in bytes.
const LIMIT: usize = 32 << 20;

/// One end of a connection, with what has been read and not yet taken.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What the last message took of the buffer.
    taken: usize,
}

/// A message: its head without the last line break, and its body.
pub(crate) struct Message<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10), taken: 0 })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("the connection broke while a message was sent")
    }

    /// The next message; `None` when the other side has closed between two of them.
    pub(crate) async fn receive(&mut self) -> Result<Option<Message<'_>>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        loop {
            if let Some((head, end)) = frame(&self.buffer)? {
                self.taken = end;
                let head = self.buffer.get(..head).unwrap_or_default();
                let body = self.buffer.get(head.len() + 4..end).unwrap_or_default();
                return Ok(Some(Message { head, body }));
            }
            if self.buffer.len() > LIMIT {
                bail!("a message has more than {LIMIT} bytes");
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                bail!("the connection was closed within a message");
            }
        }
    }
}

/// Where the head of a whole message ends, and the message itself; `None` while it has not arrived whole.
fn frame(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(head) = memmem::find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let end = head + 4 + content_length(buffer.get(..head).unwrap_or_default())?;
    Ok((buffer.len() >= end).then_some((head, end)))
}

/// The announced length of the body: 0 when there is none.
fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"content-length:";
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        if let Some((name, value)) = line.split_at_checked(NAME.len())
            && name.eq_ignore_ascii_case(NAME)
        {
            let value = std::str::from_utf8(value)?.trim();
            return value.parse().with_context(|| format!("{value:?} is no content-length"));
        }
    }
    Ok(0)
}

/// The status of a response's head; 0 when it is none.
pub(crate) fn status(head: &[u8]) -> u16 {
    head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_is_whole_once_its_announced_body_is_there() {
        let message = b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..message.len() {
            assert_eq!(frame(message.get(..cut).unwrap()).unwrap(), None, "cut at {cut}");
        }
        let (head, end) = frame(message).unwrap().unwrap();
        assert_eq!((message.get(head + 4..end).unwrap(), end), (&b"hello"[..], message.len()));
        let mut followed = message.to_vec();
        followed.extend_from_slice(b"POST");
        assert_eq!(frame(&followed).unwrap().unwrap().1, message.len());
    }

    #[test]
    fn a_message_without_a_length_has_no_body() {
        let message = b"HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n";
        assert_eq!(frame(message).unwrap().unwrap().1, message.len());
        assert_eq!(status(message), 204);
        assert!(frame(b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n").is_err());
    }
}
