//! Calls of the engine that end, whatever happens to the disk.
//!
//! When a write fails, sled 0.34.7 notes its error and is to wake those who wait for it. On one of its two ways of writing
//! (`Log::exit_reservation`) it forgets the second: if no other write ends after that one, the call waits for ever, and
//! with it everyone who waits for a commit. Whoever writes next meets the noted error and wakes the others; so when a call
//! takes long and an error is noted, another thread writes. A call that does not come back then is left behind: the store
//! is declared failed without it, and the process can end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use crate::embedded::files;

/// How often is looked whether a call is still under way. A sync of a busy disk takes less.
const INTERVAL: Duration = Duration::from_millis(250);
/// After so many looks at a call that ought to have ended it is left behind.
const LOOKS: u32 = 8;

/// The reason for which a store takes nothing more, once there is one.
pub(super) type Failure = watch::Sender<Option<String>>;

/// Watches the calls of one writer.
pub(super) struct Watch {
    state: Arc<State>,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// How many calls have begun.
    begun: AtomicU64,
    /// The number of the call that is under way; 0 when none is.
    current: AtomicU64,
    closed: AtomicBool,
}

/// One call; it ends when this is dropped.
pub(super) struct Call(Arc<State>);

impl Watch {
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(db: &sled::Db, failure: Failure) -> std::io::Result<Self> {
        let (config, tree): (sled::Config, sled::Tree) = (sled::Config::clone(&db.context), (**db).clone());
        let state = Arc::new(State::default());
        let watched = Arc::clone(&state);
        let watcher = Builder::new().name("store-watch".to_owned()).spawn(move || {
            watched.watch(|| config.global_error(), || wake(&tree), &failure);
        })?;
        Ok(Self { state, watcher: Some(watcher) })
    }

    /// A call begins. One at a time.
    pub(super) fn call(&self) -> Call {
        let number = self.state.begun.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        self.state.current.store(number, Ordering::SeqCst);
        Call(Arc::clone(&self.state))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.current.store(0, Ordering::SeqCst);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            if watcher.join().is_err() {
                tracing::error!("the thread that watches the store ended by a panic");
            }
        }
    }
}

impl State {
    fn watch(&self, noted: impl Fn() -> sled::Result<()>, wake: impl Fn(), failure: &Failure) {
        let (mut seen, mut looks) = (0, 0_u32);
        while !self.closed.load(Ordering::SeqCst) {
            std::thread::park_timeout(INTERVAL);
            let current = self.current.load(Ordering::SeqCst);
            if current == 0 || current != seen {
                (seen, looks) = (current, 0);
                continue;
            }
            let Err(error) = noted() else { continue };
            looks = looks.saturating_add(1);
            if looks == 1 {
                wake();
            } else if looks >= LOOKS {
                give_up(failure, &error);
            }
        }
    }
}

/// Writes, so that whoever waits for a write that has failed is woken. Nobody waits for this.
fn wake(tree: &sled::Tree) {
    let tree = tree.clone();
    let waking = Builder::new().name("store-wake".to_owned()).spawn(move || {
        if let Err(error) = files::write_format(&tree) {
            // The call is awake by now and returns the same error to whoever asked for it.
            tracing::debug!(%error, "a call waited for a write that had failed");
        }
    });
    if let Err(error) = waking {
        tracing::error!(%error, "no thread can be started to wake the store");
    }
}

fn give_up(failure: &Failure, error: &sled::Error) {
    failure.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(format!("{error}; the storage engine does not return from a write that has failed"));
        }
        first
    });
}

/// Opens or makes something with an engine, on a thread of its own; a thread that does not come back from a write that has
/// failed, as `noted` says, is left behind.
///
/// # Errors
/// The error that the engine has noted, or that of the work.
pub(super) fn bounded<T: Send + 'static>(
    noted: impl Fn() -> sled::Result<()>,
    work: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> sled::Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    Builder::new().name("store-open".to_owned()).spawn(move || drop(done.send(work())))?;
    let mut looks = 0_u32;
    loop {
        match result.recv_timeout(INTERVAL) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(sled::Error::ReportableBug("it ended by a panic; see the message above".to_owned()));
            }
        }
        if let Err(error) = noted() {
            looks = looks.saturating_add(1);
            if looks >= LOOKS {
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written() -> sled::Result<()> {
        Ok(())
    }

    fn unwritten() -> sled::Result<()> {
        Err(sled::Error::Io(std::io::Error::other("no space left")))
    }

    /// Watches one call that never returns, until `enough` looks have been taken. Answers how often it was to be woken.
    fn watch(noted: fn() -> sled::Result<()>, enough: u32, failure: &Failure) -> u32 {
        let (state, looks, woken) = (State::default(), AtomicU64::new(0), AtomicU64::new(0));
        state.current.store(1, Ordering::SeqCst);
        let look = || {
            if looks.fetch_add(1, Ordering::SeqCst) + 1 >= u64::from(enough) {
                state.closed.store(true, Ordering::SeqCst);
            }
            noted()
        };
        let wake = || {
            woken.fetch_add(1, Ordering::SeqCst);
        };
        state.watch(look, wake, failure);
        woken.into_inner().try_into().unwrap()
    }

    #[test]
    fn a_call_that_does_not_return_from_a_failed_write_is_woken_once_and_then_fails_the_store() {
        let failure = Failure::new(None);
        assert_eq!(watch(unwritten, LOOKS - 1, &failure), 1);
        assert!(failure.borrow().is_none());
        assert_eq!(watch(unwritten, LOOKS, &failure), 1);
        let said = failure.borrow().clone().unwrap();
        assert!(said.contains("no space left") && said.contains("does not return"), "{said}");
    }

    #[test]
    fn without_a_failed_write_a_call_takes_as_long_as_it_takes() {
        let failure = Failure::new(None);
        assert_eq!(watch(written, LOOKS + 2, &failure), 0);
        assert!(failure.borrow().is_none());
    }

    #[test]
    fn opening_is_left_behind_as_well_and_a_panic_in_it_is_an_error() {
        assert_eq!(bounded(unwritten, || Ok(5)).unwrap(), 5);
        let (_open, never) = mpsc::channel::<()>();
        assert!(bounded(unwritten, move || Ok(never.recv().is_ok())).is_err());
        let panicking = bounded::<()>(written, || std::panic::resume_unwind(Box::new(())));
        assert!(panicking.unwrap_err().to_string().contains("panic"));
    }
}
