//! The sources of a host: one per slot of an instance, for as long as the host runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sgen_audit::AuditLog;
use sgen_egress::Gate;
use sgen_model::{Clock, InstanceId, SlotName};
use sgen_store::Store;
use sgen_vault::Vault;

use crate::setup::Setup;
use crate::source::Source;

/// What sources stand on.
#[derive(Clone)]
pub struct Rooms {
    /// Where grants are written.
    pub store: Arc<dyn Store>,
    /// Seals them.
    pub vault: Arc<Vault>,
    /// Records their renewals.
    pub audit: Arc<AuditLog>,
    /// The way out.
    pub gate: Arc<Gate>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The sources of a host.
pub struct Sources {
    rooms: Rooms,
    known: Mutex<HashMap<(InstanceId, SlotName), Arc<Source>>>,
}

impl Sources {
    /// None yet.
    #[must_use]
    pub fn new(rooms: Rooms) -> Self {
        Self { rooms, known: Mutex::default() }
    }

    /// The source of a slot, under this setup from now on. What is under way ends under the former one.
    pub fn source(&self, setup: Setup) -> Arc<Source> {
        let key = (setup.facts.instance.clone(), setup.facts.slot.clone());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = known.get(&key) {
            source.set_up(setup);
            return Arc::clone(source);
        }
        let source = Source::new(self.rooms.clone(), setup);
        known.insert(key, Arc::clone(&source));
        source
    }
}
