//! What a downstream saw and did: the second witness of every account.

use std::fmt;

use sgen_model::Timestamp;

/// One request, as it arrived at a downstream.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The course at which it arrived.
    pub(crate) at: u64,
    /// What the host's clock showed then.
    pub(crate) wall: Timestamp,
    /// Its idempotency key.
    pub(crate) key: String,
    /// The event that its body names.
    pub(crate) event: String,
    /// A digest of the body.
    pub(crate) body: u64,
    /// The body's length, in bytes.
    pub(crate) size: usize,
    /// Whether the downstream did what it was asked for.
    pub(crate) acted: bool,
    /// How it was answered.
    pub(crate) answer: Answer,
    /// When the answer was complete, and what the host's clock showed then; absent when there was none.
    pub(crate) answered: Option<(u64, Timestamp)>,
    /// Why it should not have come, when the host itself said that nothing is sent.
    pub(crate) trespass: Option<String>,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An HTTP response, with the wait it asks for, in milliseconds.
    Status(u16, Option<u64>),
    /// The connection was broken.
    Reset,
    /// Nothing came.
    Silence,
    /// Something that is no complete HTTP response.
    Nonsense,
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, wall, key, event, body, size, acted, answer, answered, trespass } = self;
        write!(f, "{at} ({wall}) {key} {event} {size} bytes {body:016x} {answer:?}")?;
        if *acted {
            f.write_str(" acted")?;
        }
        if let Some((at, _)) = answered {
            write!(f, " at {at}")?;
        }
        if let Some(why) = trespass {
            write!(f, " TRESPASS: {why}")?;
        }
        Ok(())
    }
}
