//! The scene: a host with one instance per two secrets, what happens to them, and the waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::mirror::Mirror;
use super::release;
use crate::client::{Client, NewInstance};
use crate::fakes::server::Server;
use crate::host::{Host, HostFolder};
use crate::wait::eventually;

pub(super) const ACCOUNT: &str = "aviary";
pub(super) const SITE: &str = "aviary-web";
pub(super) const LIVE: &str = "live";
/// How long all instances together may take for what is asked of them.
const BOUND: Duration = Duration::from_secs(1200);

/// A running scene.
pub(super) struct Scene {
    pub(super) folder: HostFolder,
    pub(super) host: Host,
    pub(super) platform: Client,
    pub(super) operator: Client,
    ingest: Client,
    mirror: Arc<Mirror>,
    decoy: String,
    _server: Server,
}

/// An instance's id.
pub(super) fn instance(number: usize) -> String {
    format!("canary-{number:05}")
}

impl Scene {
    /// Signs the release, starts the host, and configures every instance with its first secret.
    pub(super) async fn start(folder: &Path, mirror: Arc<Mirror>, decoy: &str) -> Result<Self> {
        let server = Server::start(mirror.clone(), 0).await?;
        let catalog = folder.join("catalog");
        let root = release::sign(&folder.join("keys"), &catalog)?;
        // As much as can be logged, by the host and by what it stands on.
        let host_folder = HostFolder::create_on(&folder.join("host"), &catalog)
            .await?
            .with_trust_root(&root)
            .with_development_host(server.address())
            .with_log_filter("debug");
        let host = host_folder.start().await?;
        let platform = Client::new(host.url()?, host_folder.platform_token())?;
        platform.register_site(ACCOUNT, SITE).await?;
        let operator = platform.with_token(&platform.add_operator(ACCOUNT, "ada").await?);
        let (_, key) = operator.issue_ingest_key(SITE, LIVE).await?;
        for (number, holder) in mirror.holders().iter().enumerate() {
            let (_, secret) = holder.secrets.first().context("an instance without a secret")?;
            let new = NewInstance {
                id: Some(instance(number)),
                connector: release::connector(holder.scheme),
                title: Some(format!("Canary {decoy}")),
                settings: json!({ "url": format!("{}/i/{number}", server.url()) }),
                mapping: json!({ "case": { "from": "fields.case" }, "note": { "from": "fields.note" } }),
                scope: Some(vec!["form:*".to_owned()]),
                credentials: json!({ "token": secret }),
            };
            operator.configure(SITE, LIVE, &new).await?;
        }
        let ingest = platform.with_token(&key);
        let decoy = decoy.to_owned();
        Ok(Self { folder: host_folder, host, platform, operator, ingest, mirror, decoy, _server: server })
    }

    /// How many instances there are.
    pub(super) fn count(&self) -> usize {
        self.mirror.holders().len()
    }

    /// Posts one event per case, each of which the downstream answers as its name says.
    pub(super) async fn post(&self, round: &str, cases: &[&str]) -> Result<Vec<String>> {
        let ids: Vec<String> = cases.iter().map(|case| format!("{round}-{case}")).collect();
        let events: Vec<Value> = cases
            .iter()
            .zip(&ids)
            .map(|(case, id)| {
                json!({ "id": id, "surface": "form:contact", "captured_at": "2026-11-25T10:00:00Z",
                    "fields": { "case": case, "note": self.decoy } })
            })
            .collect();
        self.ingest.post_events(SITE, LIVE, &Value::from(events)).await?;
        Ok(ids)
    }

    /// Waits until no instance has anything left to do, and says what the first of them came to.
    pub(super) async fn settled(&self) -> Result<()> {
        for number in 0..self.count() {
            let id = instance(number);
            eventually(format!("the settling of {id}"), BOUND, || async {
                let status = self.operator.status(&id).await?;
                if status.state() == "paused" {
                    bail!("{id} is paused, though every downstream answers it: {:?}", status.0);
                }
                Ok(status.is_settled().then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until every instance is paused.
    pub(super) async fn paused(&self) -> Result<()> {
        for number in 0..self.count() {
            let id = instance(number);
            eventually(format!("the pause of {id}"), BOUND, || async {
                Ok((self.operator.status(&id).await?.state() == "paused").then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Rotates every instance that has a second secret to it.
    pub(super) async fn rotate(&self) -> Result<()> {
        for (number, holder) in self.mirror.holders().iter().enumerate() {
            if let Some((_, secret)) = holder.secrets.get(1) {
                self.operator.rotate(&instance(number), "token", secret).await?;
            }
        }
        Ok(())
    }

    /// A secret of an instance.
    pub(super) fn secret_of(&self, number: usize) -> Option<&str> {
        let holder = self.mirror.holders().get(number)?;
        holder.secrets.last().map(|(_, secret)| secret.as_str())
    }
}
