//! A whole scene: a host, its downstreams, one account with one site, and the two instances of the main job.
//!
//! Tests and the demo start from here and change what they are about.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::{Client, NewInstance, Status};
use crate::fakes::webhook::Secret;
use crate::fakes::{HubspotFake, WebhookFake};
use crate::host::{Host, HostFolder};
use crate::page::{Page, PageSite};
use crate::wait::eventually;

/// The account.
pub const ACCOUNT: &str = "acme";
/// Its site.
pub const SITE: &str = "acme-web";
/// The site's environment.
pub const LIVE: &str = "live";
/// The operator.
pub const OPERATOR: &str = "ada";
/// The id of the HubSpot instance.
pub const HUBSPOT: &str = "acme-hubspot";
/// The id of the webhook instance.
pub const WEBHOOK: &str = "acme-webhook";
/// The token that the fake HubSpot accepts. Its bytes must appear nowhere but there.
pub const HUBSPOT_TOKEN: &str = "pat-eu1-7c9e2b54-scene-1f8d-hubspot-access";

/// The downstreams of a scene, apart from the host so that they outlive it.
pub struct Downstreams {
    /// The fake HubSpot.
    pub hubspot: HubspotFake,
    /// The webhook receiver.
    pub webhook: WebhookFake,
    /// What the receiver believes.
    pub secret: Secret,
}

impl Downstreams {
    /// Starts both.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let secret = Secret::from_seed(0x5347_454e);
        let hubspot = HubspotFake::start(HUBSPOT_TOKEN, 0).await?;
        let webhook = WebhookFake::start(&secret, 0).await?;
        Ok(Self { hubspot, webhook, secret })
    }

    /// A host's folder whose endpoints lead here.
    #[must_use]
    pub fn attach(&self, folder: HostFolder) -> HostFolder {
        folder
            .with_development_host(self.hubspot.address())
            .with_development_host(self.webhook.address())
            .with_base("hubspot/api", &self.hubspot.url())
    }
}

/// Everything of one scene.
pub struct Scene {
    /// The downstreams.
    pub downstreams: Downstreams,
    /// The host's folder: start it again from here.
    pub folder: HostFolder,
    /// The running host; `None` while it is down.
    pub host: Option<Host>,
    /// The site's ingest key.
    pub ingest_key: String,
    /// The operator's token.
    pub operator_token: String,
}

impl Scene {
    /// Starts downstreams and a host in `folder`, and registers account, site, operator and ingest key.
    ///
    /// # Errors
    /// Whatever went wrong, with the host's log.
    pub async fn start(folder: &Path) -> Result<Self> {
        let downstreams = Downstreams::start().await?;
        let host_folder = downstreams.attach(HostFolder::create(folder).await?);
        Self::start_with(downstreams, host_folder).await
    }

    /// The same with a host's folder that was prepared otherwise.
    ///
    /// # Errors
    /// Whatever went wrong, with the host's log.
    pub async fn start_with(downstreams: Downstreams, folder: HostFolder) -> Result<Self> {
        let host = folder.start().await?;
        let platform = Client::new(host.url()?, folder.platform_token())?;
        platform.register_site(ACCOUNT, SITE).await?;
        let operator_token = platform.add_operator(ACCOUNT, OPERATOR).await?;
        let (_, ingest_key) = platform.with_token(&operator_token).issue_ingest_key(SITE, LIVE).await?;
        Ok(Self { downstreams, folder, host: Some(host), ingest_key, operator_token })
    }

    /// The same on a host's folder that is not attached to the downstreams yet and trusts the root document in `root`.
    ///
    /// # Errors
    /// Whatever went wrong, with the host's log.
    pub async fn start_with_root(downstreams: Downstreams, folder: HostFolder, root: &Path) -> Result<Self> {
        let folder = downstreams.attach(folder).with_trust_root(root);
        Self::start_with(downstreams, folder).await
    }

    /// The running host.
    ///
    /// # Errors
    /// When it is down.
    pub fn host(&self) -> Result<&Host> {
        self.host.as_ref().context("the host is down")
    }

    /// A client with the platform's token.
    ///
    /// # Errors
    /// When the host is down.
    pub fn platform(&self) -> Result<Client> {
        Client::new(self.host()?.url()?, self.folder.platform_token())
    }

    /// A client with the operator's token.
    ///
    /// # Errors
    /// When the host is down.
    pub fn operator(&self) -> Result<Client> {
        Client::new(self.host()?.url()?, &self.operator_token)
    }

    /// A client with the site's ingest key.
    ///
    /// # Errors
    /// When the host is down.
    pub fn ingest(&self) -> Result<Client> {
        Client::new(self.host()?.url()?, &self.ingest_key)
    }

    /// Posts one event or an array of them to the site.
    ///
    /// # Errors
    /// When the host refuses them.
    pub async fn post(&self, events: &Value) -> Result<()> {
        self.ingest()?.post_events(SITE, LIVE, events).await?;
        Ok(())
    }

    /// What the operator configures for HubSpot.
    #[must_use]
    pub fn hubspot_instance(&self) -> NewInstance {
        NewInstance {
            id: Some(HUBSPOT.to_owned()),
            connector: "hubspot".to_owned(),
            title: Some("Contacts".to_owned()),
            settings: json!({}),
            mapping: json!({
                "email": { "from": "fields.email" },
                "firstname": { "from": "fields.first_name" },
                "lastname": { "from": "fields.last_name" },
                "phone": { "from": "fields.phone" },
                "company": { "from": "fields.company" },
                "message": { "from": "fields.message" },
                "lifecyclestage": { "value": "lead" },
            }),
            scope: None,
            credentials: json!({ "token": HUBSPOT_TOKEN }),
        }
    }

    /// What the operator configures for the webhook: every surface, some fields, and the capture's id.
    #[must_use]
    pub fn webhook_instance(&self) -> NewInstance {
        NewInstance {
            id: Some(WEBHOOK.to_owned()),
            connector: "webhook".to_owned(),
            title: Some("Data team".to_owned()),
            settings: json!({ "url": self.downstreams.webhook.hook_url() }),
            mapping: json!({
                "event_id": { "from": "id" },
                "surface": { "from": "surface" },
                "email": { "from": "fields.email" },
                "message": { "from": "fields.message" },
                "path": { "from": "fields.path" },
                "page": { "from": "context.page.url" },
                "check": { "from": "fields.check" },
            }),
            scope: Some(vec!["*".to_owned()]),
            credentials: json!({ "secret": self.downstreams.secret.text() }),
        }
    }

    /// Configures both instances as the operator.
    ///
    /// # Errors
    /// When the host refuses them.
    pub async fn configure_both(&self) -> Result<()> {
        let operator = self.operator()?;
        operator.configure(SITE, LIVE, &self.hubspot_instance()).await?;
        operator.configure(SITE, LIVE, &self.webhook_instance()).await?;
        Ok(())
    }

    /// Waits until an instance has nothing left to do; answers its status.
    ///
    /// # Errors
    /// When it has not within `bound`.
    pub async fn settled(&self, instance: &str, bound: std::time::Duration) -> Result<Status> {
        let operator = self.operator()?;
        let settled = eventually(format!("the settling of {instance}"), bound, || async {
            let status = operator.status(instance).await?;
            Ok(status.is_settled().then_some(status))
        });
        match settled.await {
            Ok(status) => Ok(status),
            Err(error) => Err(error.context(format!("its status is {}", operator.status(instance).await?.0))),
        }
    }

    /// Waits until an instance is in a state (`active`, `paused`, `disabled`); answers its status.
    ///
    /// # Errors
    /// When it is not within `bound`.
    pub async fn in_state(&self, instance: &str, state: &str, bound: std::time::Duration) -> Result<Status> {
        let operator = self.operator()?;
        eventually(format!("{instance} {state}"), bound, || async {
            let status = operator.status(instance).await?;
            Ok((status.state() == state).then_some(status))
        })
        .await
    }

    /// Serves the site's page with the contact form.
    ///
    /// # Errors
    /// When the host is down or the port is taken.
    pub async fn page(&self, prefix: &str, port: u16) -> Result<Page> {
        let site = PageSite {
            site: SITE.to_owned(),
            environment: LIVE.to_owned(),
            ingest: self.ingest()?,
            operator: self.operator()?,
        };
        Page::start(site, prefix, port).await
    }

    /// Kills the host (SIGKILL).
    ///
    /// # Errors
    /// When it is down already.
    pub async fn kill_host(&mut self) -> Result<()> {
        self.host.take().context("the host is down already")?.kill().await
    }

    /// Starts the host again in its folder.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn start_host(&mut self) -> Result<()> {
        self.host = Some(self.folder.start().await?);
        Ok(())
    }
}
