//! What the simulation itself did to a host: the first witness.

use std::sync::Arc;

use anyhow::Result;
use sgen_model::{InstanceId, Place, Scope};

use crate::check::{Captured, Gap};
use crate::downstream::Downstream;

/// What was done on a site.
pub(crate) struct SiteBooks {
    pub(crate) place: Place,
    pub(crate) captured: Vec<Captured>,
}

impl SiteBooks {
    /// The last position of the site's log.
    pub(crate) fn head(&self) -> u64 {
        self.captured.last().map_or(0, |event| event.sequence)
    }
}

/// What was done with an instance.
pub(crate) struct InstanceBooks {
    pub(crate) id: InstanceId,
    pub(crate) site: usize,
    pub(crate) downstream: Arc<Downstream>,
    /// The position after which it was configured.
    pub(crate) start: u64,
    pub(crate) scopes: Vec<(u64, Option<Scope>)>,
    pub(crate) gaps: Vec<Gap>,
    /// The position at which it was disabled, while it is.
    pub(crate) disabled: Option<u64>,
    pub(crate) mapping: u64,
    /// Changes that have an audit record, by the event's name there.
    pub(crate) audited: Vec<&'static str>,
    /// The mapped field that its operator wants kept in order.
    pub(crate) order: Option<String>,
}

/// A scope as the scenario has it.
pub(crate) fn scope(patterns: &[&str]) -> Result<Scope> {
    Scope::parse(patterns).map_err(anyhow::Error::msg)
}
