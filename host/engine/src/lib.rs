//! The engine: runs signed connector components, each invocation in a fresh instance under caps.
//!
//! The only crate that knows wasmtime. What it is given to compile has been verified against the signed catalog; what it
//! gives a component is an [`egress grant`](sgen_egress::Grant) and a bounded log, nothing else.

mod bindings;
mod cache;
mod compile;
mod component;
mod config;
mod error;
mod host;
mod invoke;
mod lines;
mod precompiled;
mod ticker;

pub use compile::{Engine, Loaded};
pub use component::Component;
pub use config::{EngineConfig, Limits};
pub use error::{EngineError, Fault, FaultKind};
pub use invoke::{Event, Held, Invocation, Invoker, Line};
