//! A component that is ready to run.

use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::bindings::ConnectorPre;
use crate::bindings::identify::CanIdentifyPre;
use crate::compile::Engine;
use crate::error::EngineError;
use crate::host::State;

/// A component, compiled and linked. Cloning is cheap.
#[derive(Clone)]
pub struct Component {
    pub(crate) engine: Arc<Engine>,
    pub(crate) connector: ConnectorPre<State>,
    pub(crate) identify: Option<CanIdentifyPre<State>>,
}

impl Component {
    pub(crate) fn new(engine: Arc<Engine>, linked: InstancePre<State>) -> Result<Self, EngineError> {
        // The catalog has refused a component without `connector`'s exports; abilities are found by looking.
        let identify = CanIdentifyPre::new(linked.clone()).ok();
        let world = |e: wasmtime::Error| EngineError::World(format!("{e:#}"));
        let connector = ConnectorPre::new(linked).map_err(world)?;
        Ok(Self { engine, connector, identify })
    }
}
