//! `keys status`, `keys rotate` and `keys rewrap`: of the store's folder, or through the host that has it open.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use sgen_audit::AuditLog;
use sgen_delivery::KeyWork;
use sgen_model::{SiteId, SystemClock, SystemEntropy};
use sgen_store::{EmbeddedStore, Store, StoreError};
use sgen_vault::{OuterKeys, Vault};

use crate::commands::{open_existing, print};
use crate::config::{Config, Environment};
use crate::progress::Progress;
use crate::{host_client, secrets};

const KEYS: &str = "/v1/platform/keys";
/// How often a running host is asked how far it is.
const ASKED: Duration = Duration::from_millis(500);

/// What the keys are of.
enum House {
    Stopped { store: Arc<dyn Store>, keys: OuterKeys, deployment: String },
    Running(Running),
}

struct Running {
    address: SocketAddr,
    token: HeaderValue,
}

impl House {
    fn find(file: &Path) -> anyhow::Result<Self> {
        let (environment, handed) = Environment::read(std::env::vars_os());
        let config = Config::load(file, &environment)?;
        let path = &config.store.path;
        match open_existing(path) {
            Ok(Some(store)) => {
                let store: Arc<EmbeddedStore> = Arc::new(store);
                let keys = secrets::vault_keys(&config.vault, handed.keys)?;
                Ok(Self::Stopped { store, keys, deployment: config.deployment })
            }
            Ok(None) => {
                anyhow::bail!("there is no store in {}; look at store.path in {}", path.display(), file.display())
            }
            Err(StoreError::Locked { .. }) => {
                let (address, token) = host_client::host_of(&config, handed.platform_token)?;
                Ok(Self::Running(Running { address, token }))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Running {
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let asked = host_client::ask(self.address, &self.token, method, path, body).await;
        asked.with_context(|| {
            format!("the store is in use, so the host at {} was asked for this, which failed", self.address)
        })
    }
}

/// `keys status`
pub(crate) fn status(file: &Path) -> anyhow::Result<()> {
    let house = House::find(file)?;
    let mut progress = Progress::new();
    let status = run(async move {
        match house {
            House::Running(host) => host.ask(Method::GET, &format!("{KEYS}?count=true"), None).await,
            House::Stopped { store, keys, deployment } => {
                let mut told = |records| progress.tell(|| format!("counting: {records} records"));
                let entropy = Arc::new(SystemEntropy::default());
                let status = Vault::look(store, keys, &deployment, entropy, &mut told).await?;
                Ok(serde_json::to_value(status)?)
            }
        }
    })?;
    print(&describe(&status))
}

/// `keys rotate`
pub(crate) fn rotate(file: &Path, site: Option<&SiteId>) -> anyhow::Result<()> {
    let house = House::find(file)?;
    let mut progress = Progress::new();
    let mut sealing = move |looked_at: u64, resealed: u64| {
        progress.tell(|| format!("sealing anew: {looked_at} records looked at, {resealed} sealed anew"));
    };
    let (rotated, running) = run(async move {
        match house {
            House::Running(host) => {
                let rotated = host.ask(Method::POST, &format!("{KEYS}/rotate"), Some(&json!({"site": site}))).await?;
                loop {
                    let now = host.ask(Method::GET, KEYS, None).await?;
                    let Some(resealing) = now.get("resealing") else { break };
                    sealing(number(resealing, "looked_at"), number(resealing, "resealed"));
                    tokio::time::sleep(ASKED).await;
                }
                Ok((rotated.get("rotated").cloned().unwrap_or_default(), true))
            }
            House::Stopped { store, keys, deployment } => {
                let work = work(store, keys, &deployment).await?;
                let rotated = work.rotate(site).await?;
                work.reseal(&mut |done| sealing(done.looked_at, done.resealed)).await?;
                Ok((serde_json::to_value(rotated)?, false))
            }
        }
    })?;
    let mut text = String::new();
    for key in rotated.as_array().into_iter().flatten() {
        text.push_str(&format!(
            "{}: key {} seals now, after {}\n",
            owner(key),
            word(key, "key"),
            word(key, "previous")
        ));
    }
    text.push_str(if running {
        "what was under earlier keys is sealed anew; those keys go with the next start of the host. See `keys status`\n"
    } else {
        "what was under earlier keys is sealed anew; see `keys status`\n"
    });
    print(&text)
}

/// `keys rewrap`
pub(crate) fn rewrap(file: &Path) -> anyhow::Result<()> {
    let house = House::find(file)?;
    let mut progress = Progress::new();
    let done = run(async move {
        match house {
            House::Running(host) => host.ask(Method::POST, &format!("{KEYS}/rewrap"), Some(&json!({}))).await,
            House::Stopped { store, keys, deployment } => {
                let mut told = |owners| progress.tell(|| format!("rewrapped: {owners} sites and accounts"));
                let done = work(store, keys, &deployment).await?.rewrap(&mut told).await?;
                Ok(serde_json::to_value(done)?)
            }
        }
    })?;
    let retired = words(&done, "retired");
    let mut text = format!(
        "the data keys of {} sites and accounts were wrapped under vault key {}; all are now\n",
        number(&done, "owners"),
        word(&done, "key")
    );
    if !retired.is_empty() {
        text.push_str(&format!(
            "vault key {} is not needed any more, but for backups made before: take it out of vault.previous_key_file\n",
            retired.join(", ")
        ));
    }
    print(&text)
}

async fn work(store: Arc<dyn Store>, keys: OuterKeys, deployment: &str) -> anyhow::Result<KeyWork> {
    let vault = Vault::open(Arc::clone(&store), keys, deployment, Arc::new(SystemEntropy::default())).await?;
    let audit = AuditLog::new(Arc::clone(&store), Arc::new(SystemClock))?;
    Ok(KeyWork::new(store, vault, audit, None))
}

fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the command cannot be started")?.block_on(work)
}

/// The keys in use, for people.
fn describe(status: &Value) -> String {
    let mut text = format!("vault key {}", word(status, "outer_key"));
    let older = words(status, "older_outer_keys");
    if !older.is_empty() {
        text.push_str(&format!(
            "; {} may still be needed: run `sgen-host keys rewrap`, and keep vault.previous_key_file until then",
            older.join(", ")
        ));
    }
    text.push('\n');
    for of in status.get("owners").and_then(Value::as_array).into_iter().flatten() {
        if of.get("destroyed").and_then(Value::as_bool).unwrap_or(false) {
            text.push_str(&format!("{}: erased\n", owner(of)));
            continue;
        }
        let keys = of.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        text.push_str(&format!("{}, wrapped under {}\n", owner(of), words(of, "wrapped_under").join(", ")));
        for (at, key) in keys.iter().enumerate() {
            let (id, records) = (word(key, "id"), number(key, "records"));
            text.push_str(&match (at, records) {
                (0, _) => format!("  {id} seals: {records} records\n"),
                (_, 0) => format!("  {id} is older: no records, removed with the next start of the host\n"),
                (_, _) => format!("  {id} is older: {records} records to be sealed anew\n"),
            });
        }
    }
    if let Some(resealing) = status.get("resealing") {
        text.push_str(&format!(
            "sealing anew is under way: {} records looked at, {} sealed anew\n",
            number(resealing, "looked_at"),
            number(resealing, "resealed")
        ));
    }
    text
}

fn owner(of: &Value) -> String {
    match of.get("site").and_then(Value::as_str) {
        Some(site) => format!("site {site}"),
        None => format!("account {}", word(of, "account")),
    }
}

fn word<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or("unknown")
}

fn words<'a>(of: &'a Value, name: &str) -> Vec<&'a str> {
    of.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn number(of: &Value, name: &str) -> u64 {
    of.get(name).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_still_to_be_done() {
        let text = describe(&json!({
            "outer_key": "b", "older_outer_keys": ["a"],
            "owners": [
                {"site": "acme", "destroyed": false, "wrapped_under": ["a", "b"],
                 "keys": [{"id": "k2", "records": 7}, {"id": "k1", "records": 3}, {"id": "k0", "records": 0}]},
                {"account": "acme", "destroyed": false, "wrapped_under": ["b"], "keys": [{"id": "k9", "records": 1}]},
                {"site": "gone", "destroyed": true, "wrapped_under": [], "keys": []}
            ]
        }));
        for said in [
            "vault key b; a may still be needed: run `sgen-host keys rewrap`",
            "site acme, wrapped under a, b\n  k2 seals: 7 records\n",
            "k1 is older: 3 records to be sealed anew",
            "k0 is older: no records",
            "account acme, wrapped under b",
            "site gone: erased",
        ] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
    }
}
