//! The active release: what the signed catalog says, compiled and ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sgen_audit::{Action, Actor, Draft, PLATFORM_SITE};
use sgen_catalog::{Catalog, Digest, Floor, Manifest};
use sgen_engine::Component;
use sgen_model::{ConnectorId, Failure, FailureClass, SiteId};
use sgen_store::{Commit, Keyspace};

use crate::error::DeliveryError;
use crate::records::{decode, encode};
use crate::runtime::Runtime;

const FLOOR: &[u8] = b"release-floor";

/// What an activation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// The catalog version.
    pub version: String,
    /// Its sequence.
    pub sequence: u64,
    /// How many connectors it has.
    pub connectors: usize,
    /// How many were compiled.
    pub compiled: usize,
    /// How many came from the compile cache.
    pub from_cache: usize,
}

/// The release in force.
pub struct ActiveCatalog {
    /// The catalog version, such as 2026.11.0.
    pub version: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its connectors.
    pub entries: BTreeMap<ConnectorId, ActiveEntry>,
    revoked: BTreeSet<Digest>,
}

/// One connector of the release in force.
pub struct ActiveEntry {
    /// What it declares.
    pub manifest: Manifest,
    /// The connector's own version.
    pub version: String,
    /// The SHA-256 of its component.
    pub digest: Digest,
    /// The optional interfaces that it exports.
    pub abilities: Vec<String>,
    pub(crate) component: Component,
}

impl ActiveEntry {
    /// Whether the connector can tell which downstream account a credential belongs to.
    pub(crate) fn tells_account(&self) -> bool {
        self.abilities.iter().any(|ability| ability == "identity")
    }
}

impl ActiveCatalog {
    /// The entry of a connector, when it may run.
    ///
    /// # Errors
    /// Why its events wait: it is not in the release, or its component has been revoked.
    pub(crate) fn runnable(&self, connector: &ConnectorId) -> Result<&ActiveEntry, Failure> {
        let fault = |said: String| Failure::new(FailureClass::ConnectorFault, said);
        let entry = self
            .entries
            .get(connector)
            .ok_or_else(|| fault(format!("release {} has no connector {connector}: its events wait", self.version)))?;
        if self.revoked.contains(&entry.digest) {
            return Err(fault(format!("the platform has revoked this version of {connector}: its events wait")));
        }
        Ok(entry)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredFloor {
    sequence: u64,
    root_version: u64,
}

impl Runtime {
    /// The highest release and root seen: what [`sgen_catalog::open`] measures a folder against.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn floor(&self) -> Result<Floor, DeliveryError> {
        match self.parts.store.get(Keyspace::Meta, FLOOR)? {
            Some(bytes) => {
                let floor: StoredFloor = decode("release floor", &bytes)?;
                Ok(Floor { sequence: floor.sequence, root_version: floor.root_version })
            }
            None => Ok(Floor { sequence: 0, root_version: 0 }),
        }
    }

    /// Makes a verified release the one in force: compiles what the cache lacks, records the activation, swaps all
    /// connectors at once. Invocations under way end with the component that they began with.
    ///
    /// # Errors
    /// [`DeliveryError::Rollback`], [`DeliveryError::Component`], or the store's; the release in force stays then.
    pub async fn activate(self: &Arc<Self>, actor: &Actor, catalog: Catalog) -> Result<Activation, DeliveryError> {
        let _turn = self.control.lock().await;
        let floor = self.floor()?;
        if catalog.sequence < floor.sequence {
            return Err(DeliveryError::Rollback {
                version: catalog.version,
                sequence: catalog.sequence,
                floor: floor.sequence,
            });
        }
        let root_version = catalog.root_version.max(floor.root_version);
        let engine = self.parts.engine.clone();
        // Compiling takes up to tens of seconds: off the async threads.
        let (active, activation) = tokio::task::spawn_blocking(move || compile(&engine, catalog))
            .await
            .map_err(|_| DeliveryError::Stopping)??;
        let mut commit = Commit::new();
        let floor = StoredFloor { sequence: activation.sequence, root_version };
        commit.put(Keyspace::Meta, FLOOR, encode("release floor", &floor)?);
        let draft = Draft {
            environment: None,
            actor: actor.clone(),
            instance: None,
            connector: None,
            catalog_version: Some(activation.version.clone()),
            component_digest: None,
            action: Action::ReleaseActivated { version: activation.version.clone(), sequence: activation.sequence },
        };
        let site = SiteId::parse(PLATFORM_SITE).map_err(|e| DeliveryError::record("platform site", e))?;
        self.parts.audit.append(&site, vec![draft], commit)?.await?;
        self.swap(active);
        if let Err(error) = self.take_over_all().await {
            tracing::error!(%error, "instances could not be taken over to the shared credentials that they refer to");
        }
        tracing::info!(version = %activation.version, sequence = activation.sequence,
            compiled = activation.compiled, from_cache = activation.from_cache, "release active");
        Ok(activation)
    }
}

fn compile(engine: &Arc<sgen_engine::Engine>, catalog: Catalog) -> Result<(ActiveCatalog, Activation), DeliveryError> {
    let mut entries = BTreeMap::new();
    let (mut compiled, mut from_cache) = (0_usize, 0_usize);
    for (id, entry) in &catalog.connectors {
        let id = ConnectorId::parse(id).map_err(|e| DeliveryError::record("connector id", e))?;
        let loaded = engine
            .load(*entry.digest.as_bytes(), &entry.wasm)
            .map_err(|source| DeliveryError::Component { connector: id.clone(), source })?;
        *(if loaded.from_cache { &mut from_cache } else { &mut compiled }) += 1;
        let active = ActiveEntry {
            manifest: entry.manifest.clone(),
            version: entry.version.to_string(),
            digest: entry.digest,
            abilities: entry.interface.abilities.iter().map(|ability| ability.as_str().to_owned()).collect(),
            component: loaded.component,
        };
        entries.insert(id, active);
    }
    let activation = Activation {
        version: catalog.version.clone(),
        sequence: catalog.sequence,
        connectors: entries.len(),
        compiled,
        from_cache,
    };
    let Catalog { version, sequence, revoked, .. } = catalog;
    Ok((ActiveCatalog { version, sequence, entries, revoked }, activation))
}
