//! Advances the epoch and ends what is over its deadline, from a thread of its own: a timer on the async runtime would
//! die with a runaway guest. It is also cheaper: a timer per invocation would wake the runtime's driver each time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable};

use crate::config::TICK;
use crate::error::EngineError;

/// The deadlines of the invocations under way.
#[derive(Clone, Default)]
pub(crate) struct Deadlines(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// By deadline, then by a number that tells invocations with the same deadline apart.
    handles: BTreeMap<(Instant, u64), AbortHandle>,
    count: u64,
}

impl Deadlines {
    /// Deadlines that nobody watches.
    pub(crate) fn never() -> Self {
        Self::default()
    }

    /// Runs a call for at most `limit`, to the next tick. Dropping the call drops its instance.
    pub(crate) async fn enforce<T>(&self, limit: Duration, call: impl Future<Output = T>) -> Option<T> {
        let (handle, registration) = AbortHandle::new_pair();
        let key = {
            let mut waiting = self.lock();
            waiting.count = waiting.count.wrapping_add(1);
            let key = (Instant::now() + limit, waiting.count);
            waiting.handles.insert(key, handle);
            key
        };
        // Removes the entry also when this future itself is dropped.
        let _entry = Entry { deadlines: self, key };
        Abortable::new(call, registration).await.ok()
    }

    fn abort_expired(&self, now: Instant) {
        let mut waiting = self.lock();
        while let Some(entry) = waiting.handles.first_entry() {
            if entry.key().0 > now {
                return;
            }
            entry.remove().abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry<'a> {
    deadlines: &'a Deadlines,
    key: (Instant, u64),
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.deadlines.lock().handles.remove(&self.key);
    }
}

/// Starts the thread. It ends by itself once the engine is gone.
pub(crate) fn start(engine: &wasmtime::Engine) -> Result<Deadlines, EngineError> {
    let deadlines = Deadlines::default();
    let engine = engine.weak();
    let watched = deadlines.clone();
    let tick = move || {
        let mut next = Instant::now() + TICK;
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            let now = Instant::now();
            watched.abort_expired(now);
            std::thread::sleep(next.saturating_duration_since(now).max(Duration::from_millis(1)));
            // A thread that was held up does not make up for the ticks that it missed.
            next = Instant::now().max(next) + TICK;
        }
    };
    std::thread::Builder::new()
        .name("engine-epoch".to_owned())
        .spawn(tick)
        .map_err(|e| EngineError::Setup(format!("no thread for the epoch: {e}")))?;
    Ok(deadlines)
}
