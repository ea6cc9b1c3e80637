//! What a component may ask of the host: endpoints of its grant, and its log.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use http::Method;
use sgen_egress::{Endpoint, Grant, Request, SendError, SendErrorKind, Sent};
use tokio::time::Instant;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::sgen::connector::{egress, failures, log};
use crate::config::{Limits, TICK};
use crate::error::QuotaExceeded;
use crate::lines::Lines;

/// An endpoint that a component has opened.
#[expect(unreachable_pub, reason = "named by the generated bindings, which are public within their module")]
pub struct OpenEndpoint(Arc<Endpoint>);

/// The state of one invocation.
pub(crate) struct State {
    pub(crate) limiter: StoreLimits,
    pub(crate) lines: Lines,
    pub(crate) held: Held,
    table: ResourceTable,
    wasi: Option<WasiCtx>,
    grant: Arc<Grant>,
    requests_left: u32,
    response_bytes_left: usize,
    concurrent: usize,
    cpu_ticks_left: u64,
    waited: bool,
    turn_by: Instant,
}

/// What keeping to the vendor's rate cost an invocation. None of it is the downstream's doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// How long its requests waited for their turns; of those sent together, the longest wait.
    pub waited: Duration,
    /// How many got no turn in time: the gate answered them itself, and nothing was sent.
    pub refused: u32,
}

impl State {
    pub(crate) fn new(limits: &Limits, grant: Arc<Grant>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let ticks = limits.cpu.as_millis().div_ceil(TICK.as_millis());
        Self {
            limiter: StoreLimitsBuilder::new()
                .memory_size(limits.memory)
                .table_elements(limits.table_elements)
                .instances(256)
                .memories(64)
                .tables(64)
                .trap_on_grow_failure(true)
                .build(),
            lines: Lines::new(limits.log_lines, limits.log_bytes),
            held: Held::default(),
            table,
            wasi: None,
            grant,
            requests_left: limits.requests,
            response_bytes_left: limits.response_bytes,
            concurrent: limits.concurrent_requests,
            cpu_ticks_left: u64::try_from(ticks).unwrap_or(u64::MAX),
            waited: false,
            // Whatever is configured: half of the time is for what comes after the turns.
            turn_by: Instant::now() + limits.turns.min(limits.wall / 2),
        }
    }

    /// Charges one tick of CPU time; false when there is none left. A tick during which the guest waited for a response
    /// is free: epochs go on while the host does I/O.
    pub(crate) fn charge_tick(&mut self) -> bool {
        if std::mem::take(&mut self.waited) {
            return true;
        }
        match self.cpu_ticks_left.checked_sub(1) {
            Some(left) => {
                self.cpu_ticks_left = left;
                true
            }
            None => false,
        }
    }

    fn take_requests(&mut self, count: usize) -> wasmtime::Result<()> {
        match u32::try_from(count).ok().and_then(|count| self.requests_left.checked_sub(count)) {
            Some(left) => {
                self.requests_left = left;
                self.waited = true;
                Ok(())
            }
            None => Err(QuotaExceeded("too many requests in one invocation".to_owned()).into()),
        }
    }

    fn hand_over(&mut self, sent: Sent) -> wasmtime::Result<Result<egress::Response, egress::SendError>> {
        self.held.refused = self.held.refused.saturating_add(u32::from(sent.refused));
        let response = match sent.answer {
            Ok(response) => response,
            Err(error) => return Ok(Err(error.into())),
        };
        match self.response_bytes_left.checked_sub(response.body.len()) {
            Some(left) => self.response_bytes_left = left,
            None => return Err(QuotaExceeded("too many bytes of responses in one invocation".to_owned()).into()),
        }
        let headers = response.headers.into_iter().map(|(name, value)| egress::Header { name, value }).collect();
        Ok(Ok(egress::Response { status: response.status, headers, body: response.body }))
    }
}

impl egress::Host for State {}
impl failures::Host for State {}

impl egress::HostEndpoint for State {
    fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<OpenEndpoint>, egress::SendError>> {
        match self.grant.open(&name) {
            Ok(endpoint) => Ok(Ok(self.table.push(OpenEndpoint(endpoint)).map_err(|_| too_many_handles())?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn send(
        &mut self,
        endpoint: Resource<OpenEndpoint>,
        request: egress::Request,
    ) -> wasmtime::Result<Result<egress::Response, egress::SendError>> {
        self.take_requests(1)?;
        let endpoint = self.table.get(&endpoint)?.0.clone();
        let sent = endpoint.send_by(request.into(), Some(self.turn_by)).await;
        self.held.waited = self.held.waited.saturating_add(sent.waited);
        self.hand_over(sent)
    }

    async fn send_all(
        &mut self,
        endpoint: Resource<OpenEndpoint>,
        requests: Vec<egress::Request>,
    ) -> wasmtime::Result<Vec<Result<egress::Response, egress::SendError>>> {
        self.take_requests(requests.len())?;
        let endpoint = self.table.get(&endpoint)?.0.clone();
        let turn_by = Some(self.turn_by);
        let mut answers = Vec::with_capacity(requests.len());
        let mut waited = Duration::ZERO;
        if requests.len() <= self.concurrent {
            // The usual case: all at once, in one allocation.
            for sent in join_all(requests.into_iter().map(|request| endpoint.send_by(request.into(), turn_by))).await {
                waited = waited.max(sent.waited);
                answers.push(self.hand_over(sent)?);
            }
        } else {
            let mut waiting = requests.into_iter().map(|request| endpoint.send_by(request.into(), turn_by));
            let mut under_way: FuturesOrdered<_> = waiting.by_ref().take(self.concurrent).collect();
            while let Some(sent) = under_way.next().await {
                waited = waited.max(sent.waited);
                answers.push(self.hand_over(sent)?);
                under_way.extend(waiting.next());
            }
        }
        self.held.waited = self.held.waited.saturating_add(waited);
        Ok(answers)
    }

    fn drop(&mut self, endpoint: Resource<OpenEndpoint>) -> wasmtime::Result<()> {
        self.table.delete(endpoint)?;
        Ok(())
    }
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => "trace",
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        self.lines.push(level, &message, &fields);
        Ok(())
    }
}

impl WasiView for State {
    /// An empty context, made only for a component whose toolchain imports WASI: no arguments, no environment, no files,
    /// no output, bounded randomness.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut builder = wasmtime_wasi::WasiCtxBuilder::new();
            builder.max_random_size(64 << 10);
            builder.build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

fn too_many_handles() -> QuotaExceeded {
    QuotaExceeded("too many endpoints held open".to_owned())
}

impl From<egress::Request> for Request {
    fn from(request: egress::Request) -> Self {
        let method = match request.method {
            egress::Method::Get => Method::GET,
            egress::Method::Head => Method::HEAD,
            egress::Method::Post => Method::POST,
            egress::Method::Put => Method::PUT,
            egress::Method::Patch => Method::PATCH,
            egress::Method::Delete => Method::DELETE,
        };
        let headers = request.headers.into_iter().map(|header| (header.name, header.value)).collect();
        Self { method, path: request.path, headers, body: request.body }
    }
}

impl From<SendError> for egress::SendError {
    fn from(error: SendError) -> Self {
        let kind = match error.kind {
            SendErrorKind::Denied => egress::SendErrorKind::Denied,
            SendErrorKind::Connect => egress::SendErrorKind::Connect,
            SendErrorKind::Timeout => egress::SendErrorKind::Timeout,
            SendErrorKind::Reset => egress::SendErrorKind::Reset,
            SendErrorKind::InvalidResponse => egress::SendErrorKind::InvalidResponse,
            SendErrorKind::Credential => egress::SendErrorKind::Credential,
        };
        Self { kind, message: error.message }
    }
}
