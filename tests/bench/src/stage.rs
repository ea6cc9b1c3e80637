//! The real host on a stage of its own: a process of the release build with its own store on disk, sites with their ingest
//! keys, and connector instances that lead to the bench's downstreams.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use sgen_tests::client::{Client, NewInstance, Status};
use sgen_tests::host::{Host, HostFolder};
use sgen_tests::paths;
use tempfile::TempDir;

use crate::lean::sink::Role;
use crate::lean::template::{Template, hubspot_mapping, webhook_mapping};
use crate::usage::Reading;

const ACCOUNT: &str = "bench";
/// The environment of every site.
pub(crate) const LIVE: &str = "live";
/// The credential of every webhook instance.
const SECRET: &str = "whsec_c2dlbi1iZW5jaC1zZWNyZXQtb2YtMzItYnl0ZXMhIQ==";
/// The credential of every HubSpot instance.
const TOKEN: &str = "pat-eu1-00000000-0000-0000-0000-000000000000";
/// How many calls of the API are under way while a stage is set up.
const CALLS: usize = 32;

/// A running host with its sites.
pub(crate) struct Stage {
    pub(crate) folder: HostFolder,
    host: Option<Host>,
    operator: String,
    pub(crate) sites: Vec<Site>,
    // Last: what is in it is removed when everything else has ended.
    root: TempDir,
}

/// One site.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) id: String,
    key: String,
    /// The ids of its instances.
    pub(crate) instances: Vec<String>,
}

/// Where the instances of a connector lead.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
}

impl Stage {
    /// Starts a host on an empty store that may reach these downstreams.
    pub(crate) async fn start(name: &str, targets: &[Target]) -> Result<Self> {
        // In the build folder, which is on a disk; a folder for temporary files may be in memory.
        let parent = paths::target().join("bench");
        std::fs::create_dir_all(&parent)?;
        let root = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(parent)?;
        let mut folder = HostFolder::create(&root.path().join("host")).await?;
        for target in targets {
            folder = folder.with_development_host(target.address);
            if target.role == Role::Hubspot {
                folder = folder.with_base("hubspot/api", &format!("http://{}", target.address));
            }
        }
        let host = folder.start().await?;
        let platform = Client::new(host.url()?, folder.platform_token())?;
        // The operator needs an account, and an account comes with its first site.
        platform.register_site(ACCOUNT, "bench-first").await?;
        let operator = platform.add_operator(ACCOUNT, "bench").await?;
        Ok(Self { folder, host: Some(host), operator, sites: Vec::new(), root })
    }

    pub(crate) fn host(&self) -> Result<&Host> {
        self.host.as_ref().context("the host is down")
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.host()?.pid().context("the host has ended")
    }

    /// The host's usage at this moment.
    pub(crate) fn reading(&self) -> Result<Reading> {
        Reading::of(self.pid()?)
    }

    /// A folder beside the host's, on the same disk.
    pub(crate) fn beside(&self) -> &Path {
        self.root.path()
    }

    /// The store's folder.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let url = self.host()?.url()?;
        Ok(url.trim_start_matches("http://").parse()?)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::new(self.host()?.url()?, &self.operator)
    }

    /// Adds sites, each with one instance per target.
    pub(crate) async fn add_sites(&mut self, count: usize, targets: &[Target]) -> Result<()> {
        let platform = Client::new(self.host()?.url()?, self.folder.platform_token())?;
        let operator = self.client()?;
        let first = self.sites.len();
        let sites = stream::iter(first..first + count).map(|number| {
            let (platform, operator) = (platform.clone(), operator.clone());
            async move {
                let id = format!("site-{number:05}");
                platform.register_site(ACCOUNT, &id).await?;
                let (_, key) = operator.issue_ingest_key(&id, LIVE).await?;
                let mut instances = Vec::with_capacity(targets.len());
                for (index, target) in targets.iter().enumerate() {
                    let instance = format!("{id}-{index}");
                    operator.configure(&id, LIVE, &new_instance(&instance, *target)).await?;
                    instances.push(instance);
                }
                anyhow::Ok(Site { id, key, instances })
            }
        });
        let added: Vec<Site> = sites.buffered(CALLS).try_collect().await?;
        self.sites.extend(added);
        Ok(())
    }

    /// Requests that capture `batch` events at a site.
    pub(crate) fn request(&self, site: &Site, batch: usize) -> Result<Template> {
        Ok(Template::capture(&self.address()?.to_string(), &site.id, LIVE, &site.key, batch))
    }

    /// Requests for so many connections, each of which belongs to one site.
    pub(crate) fn requests(&self, connections: usize, batch: usize) -> Result<Vec<Template>> {
        let sites = self.sites.iter().cycle().take(connections.max(self.sites.len()));
        sites.map(|site| self.request(site, batch)).collect()
    }

    /// The status of every instance, each with the moment at which it was asked for.
    pub(crate) async fn statuses(&self) -> Result<Vec<(Instant, Status)>> {
        let client = self.client()?;
        let instances = self.sites.iter().flat_map(|site| &site.instances);
        stream::iter(instances)
            .map(|id| {
                let client = client.clone();
                async move {
                    let status = client.status(id).await?;
                    anyhow::Ok((Instant::now(), status))
                }
            })
            .buffered(CALLS)
            .try_collect()
            .await
    }

    /// Waits until every instance has settled everything; answers the events delivered by all of them.
    ///
    /// # Errors
    /// When that has not happened within the bound, or an event has ended otherwise than delivered.
    pub(crate) async fn settled(&self, bound: Duration) -> Result<u64> {
        let until = Instant::now() + bound;
        loop {
            let statuses = self.statuses().await?;
            let sum = |name: &str| -> u64 { statuses.iter().map(|(_, status)| status.count(name)).sum() };
            if sum("dead_lettered") > 0 || statuses.iter().any(|(_, status)| status.state() != "active") {
                bail!("an instance has given events up, or pauses: {:?}", statuses.first());
            }
            if sum("pending") == 0 && sum("retrying") == 0 {
                return Ok(sum("delivered"));
            }
            if Instant::now() >= until {
                bail!("{} events are still pending after {} s", sum("pending"), bound.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops the host.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let status = self.host.take().context("the host is down already")?.stop().await?;
        if !status.success() {
            bail!("the host ended with {status}");
        }
        Ok(())
    }

    /// Starts the stopped host again.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.host = Some(self.folder.start().await?);
        Ok(())
    }
}

/// What an operator configures.
pub(crate) fn new_instance(id: &str, target: Target) -> NewInstance {
    let (connector, settings, mapping, credentials): (_, Value, _, _) = match target.role {
        Role::Hubspot => ("hubspot", json!({}), hubspot_mapping(), json!({ "token": TOKEN })),
        Role::Webhook | Role::Silent => (
            "webhook",
            json!({ "url": format!("http://{}/hook", target.address) }),
            webhook_mapping(),
            json!({ "secret": SECRET }),
        ),
    };
    NewInstance {
        id: Some(id.to_owned()),
        connector: connector.to_owned(),
        title: None,
        settings,
        mapping,
        scope: None,
        credentials,
    }
}
