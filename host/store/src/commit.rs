//! A commit: writes over several keyspaces that take effect together or not at all.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::keyspace::Keyspace;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Where.
    pub keyspace: Keyspace,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` deletes.
    pub value: Option<Vec<u8>>,
    /// Whether the key is known to be absent: then nobody has to look what the value replaces.
    pub absent: bool,
}

/// A write that takes effect only over the value that it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exchange {
    keyspace: Keyspace,
    key: Vec<u8>,
    expected: Vec<u8>,
    value: Vec<u8>,
}

/// Writes that take effect together. A later write to the same key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    ops: Vec<Op>,
    exchanges: Vec<Exchange>,
}

impl Commit {
    /// The largest value, in bytes.
    pub const VALUE_LIMIT: usize = 4 * 1024 * 1024;
    /// The longest key, in bytes. The engine puts a page over 128 KiB into a file that it never syncs, an inner page holds
    /// up to 256 keys, and a key may be longer by a third on disk.
    pub const KEY_LIMIT: usize = 360;

    /// An empty commit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value.
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op { keyspace, key: key.into(), value: Some(value.into()), absent: false });
        self
    }

    /// Writes a value under a key that is known to be absent, which costs less than [`Self::put`]. Where that is wrong the
    /// value is written all the same, and what it replaces takes up space until the store's file is next rewritten.
    pub fn insert(&mut self, keyspace: Keyspace, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op { keyspace, key: key.into(), value: Some(value.into()), absent: true });
        self
    }

    /// Deletes a key; deleting what is not there is no error.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op { keyspace, key: key.into(), value: None, absent: false });
        self
    }

    /// Writes `value` only if what is stored when the commit takes effect is `expected`; otherwise nothing is written there,
    /// and the rest of the commit stands. For whoever rewrites records that others change and delete meanwhile.
    ///
    /// It is judged by what was stored before this commit, whose other writes come first.
    pub fn exchange(
        &mut self,
        keyspace: Keyspace,
        key: impl Into<Vec<u8>>,
        expected: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> &mut Self {
        let (key, expected, value) = (key.into(), expected.into(), value.into());
        self.exchanges.push(Exchange { keyspace, key, expected, value });
        self
    }

    /// Adds another commit's writes after this one's.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.ops.extend(other.ops);
        self.exchanges.extend(other.exchanges);
        self
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.exchanges.is_empty()
    }

    /// Whether anything is written in a keyspace.
    #[must_use]
    pub fn touches(&self, keyspace: Keyspace) -> bool {
        self.ops.iter().any(|op| op.keyspace == keyspace)
    }

    /// The unconditional writes, in order.
    #[must_use]
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub(crate) fn has_exchanges(&self) -> bool {
        !self.exchanges.is_empty()
    }

    /// Makes plain writes of the exchanges whose expected value `stored` answers, and forgets the others.
    pub(crate) fn settle_exchanges(&mut self, mut stored: impl FnMut(Keyspace, &[u8]) -> Option<Vec<u8>>) {
        for Exchange { keyspace, key, expected, value } in std::mem::take(&mut self.exchanges) {
            if stored(keyspace, &key).as_ref() == Some(&expected) {
                self.ops.push(Op { keyspace, key, value: Some(value), absent: false });
            }
        }
    }

    /// The bytes of all keys and values.
    pub(crate) fn weight(&self) -> usize {
        let plain = self.ops.iter().map(|op| op.key.len().saturating_add(op.value.as_ref().map_or(0, Vec::len)));
        let exchanged = self.exchanges.iter().map(|e| [&e.key, &e.expected, &e.value].map(Vec::len).iter().sum());
        plain.chain(exchanged).sum()
    }

    /// Whether the store would take it. Who keeps count of what was submitted asks before counting.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] or [`StoreError::KeyTooLong`].
    pub fn check(&self) -> Result<(), StoreError> {
        let plain = self.ops.iter().map(|op| (&op.key, op.value.as_ref().map_or(0, Vec::len)));
        for (key, size) in plain.chain(self.exchanges.iter().map(|e| (&e.key, e.value.len()))) {
            if key.len() > Self::KEY_LIMIT {
                return Err(StoreError::KeyTooLong { size: key.len(), limit: Self::KEY_LIMIT });
            }
            if size > Self::VALUE_LIMIT {
                return Err(StoreError::TooLarge { size, limit: Self::VALUE_LIMIT });
            }
        }
        Ok(())
    }
}

/// Resolves once the commit is on disk, or has failed.
#[must_use = "a commit is durable only once its ticket has resolved"]
pub struct Ticket(Inner);

enum Inner {
    Ready(Option<Result<(), StoreError>>),
    Waiting(oneshot::Receiver<Result<(), StoreError>>),
}

impl Ticket {
    pub(crate) fn ready(result: Result<(), StoreError>) -> Self {
        Self(Inner::Ready(Some(result)))
    }

    pub(crate) fn waiting(receiver: oneshot::Receiver<Result<(), StoreError>>) -> Self {
        Self(Inner::Waiting(receiver))
    }

    /// Waits outside an async context.
    ///
    /// # Errors
    /// As the commit's.
    pub fn wait(self) -> Result<(), StoreError> {
        match self.0 {
            Inner::Ready(result) => result.unwrap_or(Err(StoreError::Closed)),
            Inner::Waiting(receiver) => receiver.blocking_recv().unwrap_or(Err(StoreError::Closed)),
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Ready(result) => Poll::Ready(result.take().unwrap_or(Err(StoreError::Closed))),
            Inner::Waiting(receiver) => {
                Pin::new(receiver).poll(cx).map(|answer| answer.unwrap_or(Err(StoreError::Closed)))
            }
        }
    }
}
