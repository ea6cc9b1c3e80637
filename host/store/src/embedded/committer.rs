//! The one thread that writes.
//!
//! It takes what waits (up to [`GROUP`] commits), applies it in atomic batches, flushes, syncs the file by its own handle
//! (sled 0.34.7's flush is no fsync on Linux) and only then answers. `flush_async` is never used: it deadlocks. The first
//! error ends it: nothing is acknowledged after a write that may not be on disk.
//!
//! What concerns the order of commits is asked of it too, between two groups: beginning and ending the redo of a copy, and
//! going over to the copy.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::commit::{Commit, Ticket};
use crate::embedded::redo::Redo;
use crate::embedded::stuck::Failure;
use crate::embedded::writer::Writer;
use crate::error::StoreError;

/// The most commits in one sync.
const GROUP: usize = 256;
/// The most bytes in one sync, unless one commit alone has more.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// After a group of at least so many commits the next one gathers for a while: most of what a sync costs does not depend
/// on how much is in it.
const BUSY: usize = 4;
/// For how long.
const GATHER: Duration = Duration::from_millis(1);

type Answer = oneshot::Sender<Result<(), StoreError>>;

enum Request {
    Commit(Commit, Answer),
    /// From the next commit on, every write goes to this redo too, for as long as somebody holds it.
    Begin(Weak<Redo>, Answer),
    /// Every commit so far is in the redo, and none is added any more.
    End(Answer),
    /// Goes over to another tree: the closure gets the writer in use and answers the one to go on with.
    Exchange(Exchange, Answer),
}

/// Answers the writer to go on with, and whether that went well. A [`StoreError::Failed`] ends the store.
pub(super) type Exchange = Box<dyn FnOnce(Writer) -> (Writer, Result<(), StoreError>) + Send>;

/// Where requests go in; closed when the store is.
#[derive(Clone)]
pub(super) struct Queue(Arc<Mutex<Option<mpsc::Sender<Request>>>>);

impl Queue {
    fn send(&self, request: Request) -> Result<(), StoreError> {
        let queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = queue.as_ref().map(|queue| queue.send(request));
        if let Some(Ok(())) = sent { Ok(()) } else { Err(StoreError::Closed) }
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn ask(&self, request: impl FnOnce(Answer) -> Request) -> Result<(), StoreError> {
        let (answer, receiver) = oneshot::channel();
        self.send(request(answer))?;
        Ticket::waiting(receiver).wait()
    }

    pub(super) fn begin(&self, redo: &Arc<Redo>) -> Result<(), StoreError> {
        let redo = Arc::downgrade(redo);
        self.ask(|answer| Request::Begin(redo, answer))
    }

    /// # Errors
    /// [`StoreError::Failed`] when the store has: what was read of it may then be more than what is on disk.
    pub(super) fn end(&self) -> Result<(), StoreError> {
        self.ask(Request::End)
    }

    pub(super) fn exchange(&self, exchange: Exchange) -> Result<(), StoreError> {
        self.ask(|answer| Request::Exchange(exchange, answer))
    }
}

pub(super) struct Committer {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
    failure: Failure,
}

impl Committer {
    /// `synced` is told after each sync. `failure` is the writer's too.
    pub(super) fn start(
        writer: Writer,
        failure: Failure,
        synced: impl FnMut(&Writer) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (requests, queue) = mpsc::channel();
        let run = Run { writer: Some(writer), redo: None, busy: false, failure: failure.clone(), synced };
        let thread = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || {
                let failure = run.failure.clone();
                let run = std::panic::AssertUnwindSafe(|| run.run(&queue));
                // The engine may panic where it finds its files in a state that it holds impossible.
                if std::panic::catch_unwind(run).is_err() {
                    failure.send_replace(Some("the storage engine ended by a panic; see the log above".to_owned()));
                }
            })
            .map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Self { queue: Queue(Arc::new(Mutex::new(Some(requests)))), thread: Some(thread), failure })
    }

    pub(super) fn submit(&self, commit: Commit) -> Ticket {
        if let Err(error) = commit.check() {
            return Ticket::ready(Err(error));
        }
        let (answer, receiver) = oneshot::channel();
        match self.queue.send(Request::Commit(commit, answer)) {
            Ok(()) => Ticket::waiting(receiver),
            Err(error) => Ticket::ready(Err(error)),
        }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // The thread ends once the queue is closed and empty; what was submitted is written.
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's committer ended by a panic");
        }
    }
}

struct Run<F> {
    /// Absent only while it is being exchanged.
    writer: Option<Writer>,
    redo: Option<Weak<Redo>>,
    /// Whether the last group had many commits.
    busy: bool,
    failure: Failure,
    synced: F,
}

impl<F: FnMut(&Writer)> Run<F> {
    fn run(mut self, queue: &mpsc::Receiver<Request>) {
        let mut next = None;
        while let Some(request) = next.take().or_else(|| queue.recv().ok()) {
            let (result, answer) = match request {
                Request::Commit(commit, answer) => {
                    next = self.group(commit, answer, queue);
                    continue;
                }
                Request::Begin(redo, answer) => {
                    self.redo = Some(redo);
                    (self.healthy(), answer)
                }
                Request::End(answer) => {
                    self.redo = None;
                    (self.healthy(), answer)
                }
                Request::Exchange(exchange, answer) => {
                    self.redo = None;
                    (self.exchange(exchange), answer)
                }
            };
            let _ = answer.send(result);
        }
    }

    /// Commits what waits; answers the first request that is no commit.
    fn group(&mut self, commit: Commit, answer: Answer, queue: &mpsc::Receiver<Request>) -> Option<Request> {
        if self.busy {
            // Asleep, not waiting for the queue: who submits then has nobody to wake.
            std::thread::sleep(GATHER);
        }
        let mut bytes = commit.weight();
        let (mut commits, mut answers) = (vec![commit], vec![answer]);
        let mut next = None;
        while commits.len() < GROUP && bytes < GROUP_BYTES {
            match queue.try_recv() {
                Ok(Request::Commit(commit, answer)) => {
                    bytes = bytes.saturating_add(commit.weight());
                    commits.push(commit);
                    answers.push(answer);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.busy = commits.len() >= BUSY;
        let result = self.healthy().and_then(|()| self.write(&mut commits));
        self.note(&result);
        for answer in answers {
            // The one who asked may have gone; the commit stands all the same.
            let _ = answer.send(result.clone());
        }
        next
    }

    fn write(&mut self, commits: &mut [Commit]) -> Result<(), StoreError> {
        let writer = self.writer.as_mut().ok_or(StoreError::Closed)?;
        for commit in commits.iter_mut() {
            if commit.has_exchanges() {
                writer.settle()?;
                // A damaged record is not the one that was read: it stays as it is.
                commit.settle_exchanges(|keyspace, key| writer.reader().get(keyspace, key).ok().flatten());
            }
            writer.add(commit.ops())?;
        }
        writer.sync()?;
        (self.synced)(writer);
        match self.redo.as_ref().map(Weak::upgrade) {
            None => {}
            Some(Some(redo)) => redo.append(commits.iter().flat_map(Commit::ops)),
            // Whoever made the copy gave up.
            Some(None) => self.redo = None,
        }
        Ok(())
    }

    fn exchange(&mut self, exchange: Exchange) -> Result<(), StoreError> {
        self.healthy()?;
        let writer = self.writer.take().ok_or(StoreError::Closed)?;
        let (writer, result) = exchange(writer);
        self.writer = Some(writer);
        self.note(&result);
        result
    }

    fn healthy(&self) -> Result<(), StoreError> {
        match &*self.failure.borrow() {
            Some(reason) => Err(StoreError::Failed(reason.clone())),
            None => Ok(()),
        }
    }

    fn note(&self, result: &Result<(), StoreError>) {
        if let Err(StoreError::Failed(reason)) = result
            && self.failure.borrow().is_none()
        {
            self.failure.send_replace(Some(reason.clone()));
        }
    }
}
