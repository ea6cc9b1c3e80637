//! The runtime: what holds the lanes, the event logs and the release in force together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use sgen_audit::AuditLog;
use sgen_egress::Gate;
use sgen_engine::{Engine, Invoker};
use sgen_model::{CaptureEvent, Clock, ConnectorInstance, Entropy, Failure, FailureClass, InstanceId, Place, SiteId};
use sgen_store::{Keyspace, Store};
use sgen_tokens::{Consents, Rooms, Sources};
use sgen_vault::Vault;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::account_guard;
use crate::capture::{EventLog, Receipt};
use crate::error::DeliveryError;
use crate::fair::{FairShare, Shares};
use crate::grants::{self, Bases};
use crate::health::{self, HealthSchedule};
use crate::lane::{Lane, LaneConfig, LaneHandle, Ready, Shared, no_release};
use crate::ledger::JournalRetention;
use crate::map::CompiledMapping;
use crate::obtaining::InForce;
use crate::policy::RetryPolicy;
use crate::records::{InstanceRecord, Sealer, decode};
use crate::release::ActiveCatalog;
use crate::retention::{self, EventRetention};
use crate::rotation::{self, Resealing};
use crate::shared;
use crate::site_erasure;

/// How many records are read at a time.
pub(crate) const PAGE: usize = 256;

/// What the runtime stands on.
pub struct Parts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The vault.
    pub vault: Arc<Vault>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The engine.
    pub engine: Arc<Engine>,
    /// The gate.
    pub gate: Arc<Gate>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Policy.
    pub config: DeliveryConfig,
}

/// The deployment's choices.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// `connector/endpoint` → base URL, for development.
    pub base_overrides: BTreeMap<String, String>,
    /// `host:port` that an operator-given URL may name over plain http, for development; the gate's list.
    pub development_hosts: Vec<String>,
    /// Where a vendor sends the browser back to after a consent: exactly what its OAuth client is registered with. Without it
    /// nobody can consent.
    pub oauth_redirect: Option<String>,
    /// How often and for how long.
    pub retry: RetryPolicy,
    /// Batches of one instance under way at a time, to begin with.
    pub concurrency: usize,
    /// The most batches of one instance under way at a time.
    pub most_concurrency: usize,
    /// Batches under way at a time, in the whole host.
    pub invocations: usize,
    /// The longest that a lane waits between two attempts while its downstream fails as a whole.
    pub hold_cap: Duration,
    /// How long and how large the integration logs may grow.
    pub journal: JournalRetention,
    /// How long and how large the event logs may grow.
    pub events: EventRetention,
    /// How often instances are checked.
    pub health: HealthSchedule,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            base_overrides: BTreeMap::new(),
            development_hosts: Vec::new(),
            oauth_redirect: None,
            retry: RetryPolicy::default(),
            concurrency: 4,
            most_concurrency: 16,
            invocations: 64,
            hold_cap: Duration::from_secs(300),
            journal: JournalRetention::default(),
            events: EventRetention::default(),
            health: HealthSchedule::default(),
        }
    }
}

/// The host's delivery.
pub struct Runtime {
    pub(crate) parts: Parts,
    /// One operator change at a time: a change reads, decides and writes.
    pub(crate) control: tokio::sync::Mutex<()>,
    pub(crate) slots: RwLock<BTreeMap<InstanceId, Slot>>,
    logs: Mutex<HashMap<Place, Arc<EventLog>>>,
    active: RwLock<Option<Arc<ActiveCatalog>>>,
    lanes: Mutex<Option<JoinSet<()>>>,
    /// One per slot whose tokens are obtained, over all configurations of its instance.
    pub(crate) sources: Sources,
    pub(crate) consents: Consents,
    shared: Shared,
    upkeep: tokio_util::sync::CancellationToken,
    pub(crate) resealing: Arc<Resealing>,
}

/// An instance with its lane.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) record: Arc<InstanceRecord>,
    pub(crate) lane: LaneHandle,
}

impl Runtime {
    /// Reads the instances and starts their lanes. They wait until a release is active.
    ///
    /// # Errors
    /// When the store or the vault cannot be read.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, DeliveryError> {
        let (checks, wanted) = mpsc::unbounded_channel();
        let shared = Shared { turns: FairShare::new(Shares::of(parts.config.invocations)), checks };
        let rooms = Rooms {
            store: Arc::clone(&parts.store),
            vault: Arc::clone(&parts.vault),
            audit: Arc::clone(&parts.audit),
            gate: Arc::clone(&parts.gate),
            clock: Arc::clone(&parts.clock),
        };
        let runtime = Arc::new(Self {
            sources: Sources::new(rooms),
            consents: Consents::default(),
            parts,
            shared,
            upkeep: tokio_util::sync::CancellationToken::new(),
            control: tokio::sync::Mutex::new(()),
            slots: RwLock::default(),
            logs: Mutex::default(),
            active: RwLock::default(),
            lanes: Mutex::new(Some(JoinSet::new())),
            resealing: Arc::default(),
        });
        let (mut from, mut erased) = (Vec::new(), BTreeSet::new());
        loop {
            let page = runtime.parts.store.scan(Keyspace::Instance, &from, b"", PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from.clone_from(last);
            from.push(0);
            for (_, bytes) in &page {
                let record: InstanceRecord = decode("connector instance", bytes)?;
                if runtime.is_erased(&record.instance.place.site)? {
                    erased.insert(record.instance.place.site);
                    continue;
                }
                runtime.adopt(record)?;
            }
        }
        let erased = runtime.remains(erased)?;
        if !erased.is_empty() {
            runtime.beside_lanes(site_erasure::sweep(Arc::clone(&runtime), erased));
        }
        runtime.keep_up(wanted);
        Ok(runtime)
    }

    /// Captures events; resolves once they are durable. A duplicate id is answered with its first position.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownSite`], or the store's; nothing of the batch was stored then.
    pub async fn capture(&self, place: &Place, events: Vec<CaptureEvent>) -> Result<Vec<Receipt>, DeliveryError> {
        self.log(place)?.append(events).await
    }

    /// The release in force.
    #[must_use]
    pub fn catalog(&self) -> Option<Arc<ActiveCatalog>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops: no new batch is begun; what is under way is finished and settled, for at most `grace`.
    pub async fn stop(&self, grace: Duration) {
        self.upkeep.cancel();
        for slot in self.slots.read().unwrap_or_else(PoisonError::into_inner).values() {
            slot.lane.stop();
        }
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut lanes) = lanes else { return };
        let ended = tokio::time::timeout(grace, async { while lanes.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(
                lanes = lanes.len(),
                "batches were still under way when the time to stop was up; they are delivered again at the next start"
            );
        }
    }

    /// The event log of a place.
    pub(crate) fn log(&self, place: &Place) -> Result<Arc<EventLog>, DeliveryError> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(place) {
            return Ok(log.clone());
        }
        let sealer = self.sealer(place)?;
        let log = EventLog::open(place.clone(), self.parts.store.clone(), sealer, self.parts.clock.clone())?;
        logs.insert(place.clone(), log.clone());
        Ok(log)
    }

    /// Asks for a health check soon. Nobody listens while the host stops.
    pub(crate) fn want_check(&self, id: &InstanceId) {
        drop(self.shared.checks.send(id.clone()));
    }

    /// Ends when the runtime stops.
    pub(crate) fn stopping(&self) -> tokio_util::sync::CancellationToken {
        self.upkeep.clone()
    }

    pub(crate) fn sealer(&self, place: &Place) -> Result<Sealer, DeliveryError> {
        let key = self.parts.vault.site(&place.site)?;
        let key = key.ok_or_else(|| DeliveryError::UnknownSite(place.site.clone()))?;
        Ok(Sealer { key, environment: place.environment.clone() })
    }

    /// Puts a stored instance into service, or gives its lane a new configuration.
    pub(crate) fn adopt(self: &Arc<Self>, record: InstanceRecord) -> Result<(), DeliveryError> {
        let record = Arc::new(record);
        let config = self.lane_config(&record);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(&record.instance.id) {
            slot.record = record;
            slot.lane.reconfigure(config);
            return Ok(());
        }
        let place = record.instance.place.clone();
        let lane = Lane::new(self.log(&place)?, self.sealer(&place)?, &self.parts, self.shared.clone(), config)?;
        let (handle, run) = lane.launch();
        if let Some(lanes) = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            lanes.spawn(run);
        }
        slots.insert(record.instance.id.clone(), Slot { record, lane: handle });
        Ok(())
    }

    /// Starts what is done beside the lanes. It holds nothing: a runtime that is dropped takes it down.
    fn keep_up(self: &Arc<Self>, wanted: mpsc::UnboundedReceiver<InstanceId>) {
        self.beside_lanes(health::run(Arc::downgrade(self), wanted));
        self.beside_lanes(retention::run(Arc::downgrade(self)));
        self.beside_lanes(rotation::run(Arc::downgrade(self)));
    }

    /// Starts work that ends with the lanes; none is started while the runtime stops.
    pub(crate) fn beside_lanes(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(lanes) = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            lanes.spawn(work);
        }
    }

    /// Forgets the logs of a site that is no more.
    pub(crate) fn forget_logs(&self, site: &SiteId) {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).retain(|place, _| place.site != *site);
    }

    /// Makes a release the one in force for every lane.
    pub(crate) fn swap(self: &Arc<Self>, active: ActiveCatalog) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(active));
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.values() {
            slot.lane.reconfigure(self.lane_config(&slot.record));
        }
    }

    fn lane_config(&self, record: &Arc<InstanceRecord>) -> Arc<LaneConfig> {
        let active = self.catalog();
        let starting = active.is_none();
        let ready = match active {
            Some(active) => match shared::revoked(record).or_else(|| account_guard::refusal(record)) {
                Some(refused) => Err(refused),
                None => self.ready(&active, &record.instance).map(Arc::new),
            },
            None => Err(no_release()),
        };
        Arc::new(LaneConfig { record: record.clone(), ready, starting })
    }

    pub(crate) fn ready(&self, active: &ActiveCatalog, instance: &ConnectorInstance) -> Result<Ready, Failure> {
        let entry = active.runnable(&instance.connector)?;
        let manifest = &entry.manifest;
        let mapping = CompiledMapping::new(&instance.mapping, manifest).map_err(|problems| {
            Failure::new(FailureClass::SchemaMismatch, DeliveryError::Invalid(problems).to_string())
        })?;
        let mapping = mapping.ordered_by(instance.order.key());
        let digest = entry.digest.to_string();
        let in_force = InForce { catalog_version: &active.version, component_digest: &digest };
        let rooms = grants::Rooms { gate: &self.parts.gate, vault: &self.parts.vault, sources: &self.sources };
        let grant = grants::grant(&rooms, &self.bases(), manifest, instance, in_force)
            .map_err(|e| Failure::new(FailureClass::SchemaMismatch, format!("the instance cannot be prepared: {e}")))?;
        Ok(Ready {
            invoker: Invoker::new(entry.component.clone(), grant),
            mapping,
            settings: serde_json::Value::Object(instance.settings.clone()).to_string(),
            batch: manifest.batch,
            catalog_version: active.version.clone(),
            component_digest: digest,
            revision: instance.revision,
        })
    }

    pub(crate) fn bases(&self) -> Bases {
        Bases {
            overrides: self.parts.config.base_overrides.clone(),
            development_hosts: self.parts.config.development_hosts.clone(),
        }
    }
}
