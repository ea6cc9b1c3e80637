//! A component that is ready to run.

use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::bindings::exports::sgen::connector::{choices, delivery, health};
use crate::bindings::identify::exports::sgen::connector::identity;
use crate::compile::Engine;
use crate::error::EngineError;
use crate::host::State;

/// A component, compiled and linked, with the places of its exports. Cloning is cheap.
#[derive(Clone)]
pub struct Component {
    pub(crate) engine: Arc<Engine>,
    pub(crate) linked: InstancePre<State>,
    // One set of indices per interface: an invocation type-checks only the interface that it calls.
    pub(crate) delivery: delivery::GuestIndices,
    pub(crate) health: health::GuestIndices,
    pub(crate) choices: choices::GuestIndices,
    pub(crate) identity: Option<identity::GuestIndices>,
}

impl Component {
    pub(crate) fn new(engine: Arc<Engine>, linked: InstancePre<State>) -> Result<Self, EngineError> {
        let world = |e: wasmtime::Error| EngineError::World(format!("{e:#}"));
        Ok(Self {
            delivery: delivery::GuestIndices::new(&linked).map_err(world)?,
            health: health::GuestIndices::new(&linked).map_err(world)?,
            choices: choices::GuestIndices::new(&linked).map_err(world)?,
            // An ability is found by looking.
            identity: identity::GuestIndices::new(&linked).ok(),
            engine,
            linked,
        })
    }
}
