//! The rooms of a host that speak to a vendor, over a store on disk. They can be made again over the same store, as in a
//! host that was restarted.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use sgen_audit::AuditLog;
use sgen_egress::{
    AllowRule, Auth, Endpoint, EndpointSpec, Gate, GateConfig, Grant, Method, SystemResolver, TcpDialer, TlsTrust,
};
use sgen_model::{
    Clock, ConnectorId, Environment, InstanceId, Place, SecretBytes, SiteId, SlotName, SystemClock, SystemEntropy,
};
use sgen_store::{Commit, EmbeddedStore, Options, Store};
use sgen_tokens::{ClientAuth, Facts, Means, Rooms, Setup, Sources};
use sgen_vault::{Credential, Credentials, OuterKey, Vault};
use url::Url;

/// The rooms.
pub struct House {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The way out.
    pub gate: Arc<Gate>,
    /// The sources of tokens.
    pub sources: Sources,
}

impl House {
    /// Makes them over the store in a folder; only this `HOST:PORT` is reached.
    ///
    /// # Errors
    /// When the store or the gate cannot be opened.
    pub async fn open(folder: &Path, reaches: &str) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&folder.join("store"), &Options::default())?);
        let key = OuterKey::from_bytes([7; 32]);
        let vault = Vault::open(Arc::clone(&store), key, "proof", Arc::new(SystemEntropy::default())).await?;
        let mut commit = Commit::new();
        vault.create_site(&place()?.site, &mut commit)?;
        store.submit(commit).await?;
        let audit = AuditLog::new(Arc::clone(&store), Arc::clone(&clock))?;
        let config = GateConfig {
            development_hosts: vec![reaches.to_owned()],
            tls: TlsTrust::Roots(Vec::new()),
            ..GateConfig::default()
        };
        let gate = Gate::new(config, Arc::new(SystemResolver::new()), Arc::new(TcpDialer), Arc::clone(&clock))?;
        let rooms = Rooms {
            store: Arc::clone(&store),
            vault,
            audit: Arc::clone(&audit),
            gate: Arc::clone(&gate),
            clock: Arc::clone(&clock),
        };
        Ok(Self { store, audit, clock, gate, sources: Sources::new(rooms) })
    }

    /// An endpoint that admits every method and path.
    ///
    /// # Errors
    /// When the gate refuses it.
    pub fn endpoint(&self, base: &str, auth: Auth, secret: Option<&str>) -> Result<(Arc<Grant>, Arc<Endpoint>)> {
        let mut spec = EndpointSpec::new("api", Url::parse(base)?);
        let methods = vec![Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        spec.allow = vec![AllowRule { methods, paths: vec![String::new(), "/**".to_owned()] }];
        let credential = |text: &str| (auth.slot().clone(), Credential::new(1, SecretBytes::from(text.to_owned())));
        let credentials: Credentials = secret.map(credential).into_iter().collect();
        spec.auth = Some(auth);
        let grant = self.gate.grant(&InstanceId::parse("proof-1")?, vec![spec], credentials)?;
        let endpoint = grant.open("api")?;
        Ok((grant, endpoint))
    }
}

/// The site and environment of the proofs.
///
/// # Errors
/// Never: the names are sound.
pub fn place() -> Result<Place> {
    Ok(Place::new(SiteId::parse("acme")?, Environment::parse("live")?))
}

/// How tokens are obtained at a counterpart.
///
/// # Errors
/// When a URL is none.
pub fn setup(means: Means, token: &str, revoke: Option<&str>, scopes: &[&str]) -> Result<Setup> {
    Ok(Setup {
        facts: Facts {
            place: place()?,
            instance: InstanceId::parse("proof-1")?,
            slot: SlotName::parse("grant")?,
            connector: ConnectorId::parse("proof")?,
            catalog_version: "2026.11.0".to_owned(),
            component_digest: "00".to_owned(),
        },
        means,
        client_auth: ClientAuth::Basic,
        token: Url::parse(token)?,
        revoke: revoke.map(Url::parse).transpose()?,
        scopes: scopes.iter().map(ToString::to_string).collect(),
        parameters: std::collections::BTreeMap::new(),
        version: 1,
    })
}
