//! The simulated host: the real rooms on a store in memory, started, stopped and crashed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use sgen_audit::{Actor, AuditLog};
use sgen_delivery::{DeliveryConfig, NewInstance, OtherEnvironment, Parts, Runtime};
use sgen_egress::{Gate, GateConfig, TlsTrust};
use sgen_engine::Engine;
use sgen_model::{
    AccountId, Clock, ConnectorId, Entropy, Environment, FieldMapping, InstanceId, InstanceState, MappingSource,
    OperatorId, Order, Place, Scope, SecretBytes, SiteId, SlotName,
};
use sgen_store::{Commit, Store};
use sgen_vault::{OuterKey, Vault};

use crate::clock::{SimulatedClock, SimulatedEntropy};
use crate::network::{self, Network};
use crate::platform::{CONNECTOR, Release};

/// How long a stopping host waits for what is under way.
const GRACE: Duration = Duration::from_secs(30);

/// What outlives a restart.
pub(crate) struct Machine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) entropy: Arc<SimulatedEntropy>,
    pub(crate) network: Arc<Network>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) release: Release,
    /// `host:port` of every downstream.
    pub(crate) authorities: Vec<String>,
    /// The running host, for those who ask what it says.
    pub(crate) current: Current,
}

/// The host that runs at the moment, if one does.
#[derive(Clone, Default)]
pub(crate) struct Current(Arc<Mutex<Weak<Runtime>>>);

impl Current {
    /// What the host says of an instance.
    pub(crate) fn state(&self, instance: &InstanceId) -> Option<InstanceState> {
        let runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        Some(runtime.status(instance).ok()?.state)
    }

    fn set(&self, runtime: &Arc<Runtime>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(runtime);
    }
}

/// A running host.
pub(crate) struct Host {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) vault: Arc<Vault>,
}

impl Host {
    /// Starts a host on what the store holds.
    pub(crate) async fn start(machine: &Machine) -> Result<Self> {
        let (store, clock) = (machine.store.clone(), machine.clock.clone() as Arc<dyn Clock>);
        let entropy = machine.entropy.clone() as Arc<dyn Entropy>;
        let key = OuterKey::from_bytes([5; 32]);
        let vault = Vault::open(store.clone(), key, "simulation", entropy.clone()).await?;
        let audit = AuditLog::new(store.clone(), clock.clone())?;
        let config = GateConfig {
            development_hosts: machine.authorities.clone(),
            tls: TlsTrust::Roots(Vec::new()),
            ..GateConfig::default()
        };
        let gate = Gate::new(config, machine.network.clone(), machine.network.clone(), clock.clone())?;
        let runtime = Runtime::start(Parts {
            store,
            vault: vault.clone(),
            audit: audit.clone(),
            engine: machine.engine.clone(),
            gate,
            clock,
            entropy,
            config: DeliveryConfig { development_hosts: machine.authorities.clone(), ..DeliveryConfig::default() },
        })
        .await?;
        runtime.activate(&Actor::Platform, machine.release.catalog()).await?;
        machine.current.set(&runtime);
        Ok(Self { runtime, audit, vault })
    }

    /// Ends the host as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.runtime.stop(GRACE).await;
    }

    /// Ends the host as SIGKILL does: nothing of it runs on.
    pub(crate) async fn crash(self) {
        drop(self);
        // What was aborted is taken down when its turn comes, before any time passes.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// Registers a site.
    pub(crate) async fn register(&self, store: &dyn Store, site: &SiteId) -> Result<()> {
        let mut commit = Commit::new();
        self.vault.create_site(site, &mut commit)?;
        Ok(store.submit(commit).await?)
    }
}

/// The live environment of a site.
pub(crate) fn place(site: &str) -> Result<Place> {
    Ok(Place::new(SiteId::parse(site)?, Environment::parse("live")?))
}

/// The operator of every site.
pub(crate) fn operator() -> Result<Actor> {
    Ok(Actor::Operator(OperatorId::parse("ada")?))
}

/// The slot of the signing secret.
pub(crate) fn slot() -> Result<SlotName> {
    Ok(SlotName::parse("secret")?)
}

/// What an operator maps; `version` makes one mapping differ from another.
pub(crate) fn mapping(version: u64) -> FieldMapping {
    let from = |path: &str| MappingSource { from: Some(path.to_owned()), ..MappingSource::default() };
    let constant = MappingSource { value: Some(Value::from(version)), ..MappingSource::default() };
    let targets = [
        ("event", from("id")),
        ("person", from("fields.person")),
        ("text", from("fields.text")),
        ("mapping", constant),
    ];
    FieldMapping(targets.map(|(name, source)| (name.to_owned(), source)).into())
}

/// An instance of the webhook connector that delivers to the downstream of this index.
pub(crate) fn instance(
    site: &str,
    name: &str,
    scope: &[&str],
    index: usize,
    secret: SecretBytes,
) -> Result<NewInstance> {
    let settings = [("url".to_owned(), Value::from(format!("http://{}/hook", network::authority(index))))];
    Ok(NewInstance {
        id: Some(InstanceId::parse(name)?),
        place: place(site)?,
        account: AccountId::parse("acme")?,
        connector: ConnectorId::parse(CONNECTOR)?,
        title: None,
        settings: Map::from_iter(settings),
        mapping: mapping(1),
        scope: Some(Scope::parse(scope).map_err(anyhow::Error::msg).context("scope")?),
        // Every third one is asked to keep what concerns one person in order.
        order: if index.is_multiple_of(3) { Order::Key("person".to_owned()) } else { Order::None },
        credentials: BTreeMap::from([(slot()?, secret)]),
        shared: BTreeMap::new(),
        other_environment: OtherEnvironment::Refused,
    })
}
