//! Advances the epoch from a thread of its own: a timer on the async runtime would die with a runaway guest.

use std::time::Duration;

use crate::config::TICK;
use crate::error::EngineError;

/// Starts the thread. It ends by itself once the engine is gone.
pub(crate) fn start(engine: &wasmtime::Engine) -> Result<(), EngineError> {
    let engine = engine.weak();
    let tick = move || {
        let mut last = std::time::Instant::now();
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            let next = last + TICK;
            std::thread::sleep(next.saturating_duration_since(std::time::Instant::now()).max(Duration::from_millis(1)));
            last = next.max(std::time::Instant::now() - TICK);
        }
    };
    std::thread::Builder::new()
        .name("engine-epoch".to_owned())
        .spawn(tick)
        .map(drop)
        .map_err(|e| EngineError::Setup(format!("no thread for the epoch: {e}")))
}
