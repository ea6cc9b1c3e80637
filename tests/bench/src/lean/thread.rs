//! A thread with an async runtime of its own, whose CPU time can be told from the others'.

use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::watch;

use crate::usage;

/// A running thread. It ends when this is dropped.
pub(crate) struct Lean {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
    /// `/proc/PID/task/TID`.
    proc: PathBuf,
}

impl Lean {
    /// Starts a thread that runs `work` until it is done or told to stop.
    pub(crate) fn start<F, W>(name: &str, work: W) -> Result<Self>
    where
        W: FnOnce(watch::Receiver<bool>) -> F + Send + 'static,
        F: Future<Output = Result<()>>,
    {
        let (stop, stopped) = watch::channel(false);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let own = std::fs::read_link("/proc/thread-self").context("/proc does not tell the thread's id")?;
            tell.send(PathBuf::from("/proc").join(own)).context("nobody waits for this thread")?;
            tokio::task::LocalSet::new().block_on(&runtime, work(stopped))
        })?;
        let proc = told.recv().with_context(|| format!("the thread {name} did not start"))?;
        Ok(Self { stop, thread: Some(thread), proc })
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        usage::cpu_of(&self.proc)
    }

    /// Whether it has ended by itself; `stop` tells how.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells it to stop and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("a thread of the bench panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Lean {
    fn drop(&mut self) {
        // Whoever wants to know how it went has called `stop`.
        let _ = self.end();
    }
}
