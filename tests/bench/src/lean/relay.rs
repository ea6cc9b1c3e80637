//! The native baseline of the whole way: takes events over HTTP, appends them to a file, syncs it, answers 202, hands
//! each on to the downstream and appends that it is settled. Like the host in what is durable when, and in writing many
//! waiting requests with one sync; without sandbox, sealing, index, mapping, retries and accounts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};

use crate::disk;
use crate::lean::template::{self, Template};
use crate::lean::thread::Lean;
use crate::lean::wire::Wire;

/// The most appends in one sync, as in the host's store.
const GROUP: usize = 256;
/// How a captured event begins with its number.
const CAPTURED: &[u8] = b"\"id\":\"e";
/// Bytes that say in the file that an event is settled: its number.
const SETTLED: usize = 8;

/// Where events go from the relay.
pub(crate) struct Onward {
    pub(crate) address: SocketAddr,
    /// Made for the downstream; its size is that of a batch.
    pub(crate) request: Template,
    pub(crate) connections: usize,
}

/// A running relay.
pub(crate) struct Relay {
    thread: Lean,
    pub(crate) address: SocketAddr,
    settled: Arc<AtomicU64>,
}

impl Relay {
    /// Starts a relay that keeps its file in `folder`; without a downstream it only keeps.
    pub(crate) fn start(folder: &Path, onward: Option<Onward>) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let file = disk::open(&folder.join("relay"))?;
        let settled = Arc::new(AtomicU64::new(0));
        let counter = settled.clone();
        let thread = Lean::start("relay", move |stop| run(listener, file, onward, counter, stop))?;
        Ok(Self { thread, address, settled })
    }

    /// Events that have arrived downstream and whose settlement is on disk.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.thread.cpu()
    }
}

/// Bytes to append, and who waits for them to be on disk.
struct Append {
    bytes: Vec<u8>,
    durable: oneshot::Sender<()>,
}

/// Appends what waits, syncs once, and answers all. Ends with its queue.
fn write(mut file: File, queue: &mpsc::Receiver<Append>) -> Result<()> {
    let mut bytes = Vec::new();
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        bytes.clear();
        for append in &group {
            bytes.extend_from_slice(&append.bytes);
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        for append in group {
            // Who asked may have gone.
            let _ = append.durable.send(());
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Journal(mpsc::Sender<Append>);

impl Journal {
    async fn append(&self, bytes: Vec<u8>) -> Result<()> {
        let (durable, on_disk) = oneshot::channel();
        self.0.send(Append { bytes, durable }).context("the relay's file is closed")?;
        on_disk.await.context("the relay's file cannot be written")
    }
}

/// Events on their way: number and moment of sending.
#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<(u64, u64)>>,
    filled: Notify,
    unsettled: RefCell<Vec<u8>>,
    arrived: Notify,
}

async fn run(
    listener: std::net::TcpListener,
    file: File,
    onward: Option<Onward>,
    settled: Arc<AtomicU64>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let (appends, queue) = mpsc::channel();
    let writer = std::thread::Builder::new().name("relay-writer".to_owned()).spawn(move || write(file, &queue))?;
    let journal = Journal(appends);
    let keeps_only = onward.is_none();
    let events = Rc::new(Queue::default());
    if let Some(Onward { address, request, connections }) = onward {
        for _ in 0..connections {
            tokio::task::spawn_local(report(forward(address, request.clone(), events.clone())));
        }
        tokio::task::spawn_local(report(settle(events.clone(), journal.clone(), settled)));
    }
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let (journal, events) = (journal.clone(), (!keeps_only).then(|| events.clone()));
                tokio::task::spawn_local(async move { let _ = serve(stream, journal, events).await; });
            }
            _ = stop.changed() => break,
        }
    }
    // The writer ends with the last connection and task that may append, which end with this thread's runtime.
    drop((journal, writer));
    Ok(())
}

/// A part of the relay that ends early would make the baseline look slow: it is said.
#[expect(clippy::print_stderr, reason = "what breaks the baseline is said beside the figures")]
async fn report(part: impl Future<Output = Result<()>>) {
    if let Err(error) = part.await {
        eprintln!("the native baseline lost a part: {error:#}");
    }
}

async fn serve(stream: TcpStream, journal: Journal, events: Option<Rc<Queue>>) -> Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(request) = wire.receive().await? {
        let body = request.body.to_vec();
        let taken: Vec<(u64, u64)> = template::numbers(&body, CAPTURED).zip(template::moments(&body)).collect();
        journal.append(body).await?;
        wire.send(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await?;
        if let Some(events) = &events {
            events.waiting.borrow_mut().extend(taken);
            events.filled.notify_waiters();
        }
    }
    Ok(())
}

async fn forward(address: SocketAddr, mut request: Template, events: Rc<Queue>) -> Result<()> {
    let mut wire = Wire::new(TcpStream::connect(address).await?)?;
    let batch = request.events();
    loop {
        let filled = events.filled.notified();
        // Only whole batches, of consecutive numbers: a template has a fixed size, and captures come in batches of it.
        let taken: Vec<(u64, u64)> = {
            let mut waiting = events.waiting.borrow_mut();
            if waiting.len() < batch { Vec::new() } else { waiting.drain(..batch).collect() }
        };
        let Some((first, moment)) = taken.first().copied() else {
            filled.await;
            continue;
        };
        wire.send(request.fill(first, moment)).await?;
        wire.receive().await?.context("the downstream closed the connection")?;
        let mut unsettled = events.unsettled.borrow_mut();
        for (number, _) in taken {
            unsettled.extend_from_slice(&number.to_be_bytes());
        }
        drop(unsettled);
        events.arrived.notify_one();
    }
}

async fn settle(events: Rc<Queue>, journal: Journal, settled: Arc<AtomicU64>) -> Result<()> {
    loop {
        events.arrived.notified().await;
        let numbers = std::mem::take(&mut *events.unsettled.borrow_mut());
        let count = numbers.len() / SETTLED;
        journal.append(numbers).await?;
        settled.fetch_add(u64::try_from(count)?, Ordering::Relaxed);
    }
}
