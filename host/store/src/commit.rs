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

/// Writes that take effect together. A later write to the same key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    ops: Vec<Op>,
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

    /// Adds another commit's writes after this one's.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.ops.extend(other.ops);
        self
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether anything is written in a keyspace.
    #[must_use]
    pub fn touches(&self, keyspace: Keyspace) -> bool {
        self.ops.iter().any(|op| op.keyspace == keyspace)
    }

    /// The writes, in order.
    #[must_use]
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The bytes of all keys and values.
    pub(crate) fn weight(&self) -> usize {
        self.ops.iter().map(|op| op.key.len().saturating_add(op.value.as_ref().map_or(0, Vec::len))).sum()
    }

    /// Whether the store would take it. Who keeps count of what was submitted asks before counting.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] or [`StoreError::KeyTooLong`].
    pub fn check(&self) -> Result<(), StoreError> {
        for op in &self.ops {
            if op.key.len() > Self::KEY_LIMIT {
                return Err(StoreError::KeyTooLong { size: op.key.len(), limit: Self::KEY_LIMIT });
            }
            let size = op.value.as_ref().map_or(0, Vec::len);
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
