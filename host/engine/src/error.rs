//! Errors of the engine, and faults of an invocation.

use sgen_model::{Failure, FailureClass};

/// The engine or a component cannot be used. The platform's.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// wasmtime refuses its configuration.
    #[error("the WebAssembly engine cannot start on this machine: {0}")]
    Setup(String),
    /// The component exceeds the size cap.
    #[error("the component has {size} bytes; at most {limit} are compiled")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// Not a valid component.
    #[error("the component does not compile: {0}; the platform has to release a valid one")]
    Compile(String),
    /// It asks for something that the host does not link, or lacks an export.
    #[error("the component does not fit the connector world: {0}; the platform has to release one that does")]
    World(String),
}

/// What ended an invocation before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The guest trapped: a panic, an out-of-bounds access, an unreachable.
    Trap,
    /// The CPU budget.
    Cpu,
    /// The outer deadline.
    Wall,
    /// Linear memory or a table could not grow.
    Memory,
    /// The stack.
    Stack,
    /// A cap on what is handed to the host: handles, lists, requests, responses, answer size.
    Quota,
    /// The answer makes no sense, such as a wrong number of outcomes.
    Answer,
    /// The instance could not be made.
    Instantiate,
}

/// Why an invocation has no answer. The connector's fault, so the platform's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What ended it.
    pub kind: FaultKind,
    /// For the failure log.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The classified failure that follows from this fault.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure::new(FailureClass::ConnectorFault, self.message.clone())
    }
}

/// A cap that a host function found exceeded; it travels through the guest as a trap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct QuotaExceeded(pub(crate) String);

/// Tells what ended a call, from wasmtime's error and the last error line of the guest's log.
pub(crate) fn classify(error: &wasmtime::Error, said: Option<&str>) -> Fault {
    use wasmtime::Trap;
    if let Some(quota) = error.downcast_ref::<QuotaExceeded>() {
        return Fault::new(FaultKind::Quota, format!("the connector exceeded a cap: {}", quota.0));
    }
    let text = format!("{error:#}");
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Fault::new(FaultKind::Cpu, "the connector used up its CPU time"),
        Some(Trap::StackOverflow) => Fault::new(FaultKind::Stack, "the connector overflowed its stack"),
        Some(trap) => {
            let why = said.map_or_else(|| trap.to_string(), str::to_owned);
            Fault::new(FaultKind::Trap, format!("the connector trapped: {why}"))
        }
        // wasmtime's limiter reports a refused growth by text only.
        None if text.contains("forcing trap when growing") => {
            Fault::new(FaultKind::Memory, "the connector exceeded its cap on memory or tables")
        }
        None if text.contains("fuel")
            || text.contains("maximum capacity")
            || text.contains("table has no free keys") =>
        {
            Fault::new(FaultKind::Quota, format!("the connector exceeded a cap: {text}"))
        }
        None => Fault::new(FaultKind::Trap, format!("the connector failed: {text}")),
    }
}
