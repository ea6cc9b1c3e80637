//! The fakes as a process of their own, so that a bench can tell the host's CPU from theirs; and the handle of such a
//! process.
//!
//! The process prints one JSON line with its addresses, serves until its standard input closes (so it cannot outlive
//! whoever started it) and is controlled over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::faults::Rule;
use super::hubspot::{self, HubspotFake};
use super::server::Server;
use super::webhook::{self, Secret, WebhookFake};
use crate::paths;

/// Where the fakes of a process listen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Addresses {
    /// The fake HubSpot.
    pub hubspot: SocketAddr,
    /// The webhook receiver.
    pub webhook: SocketAddr,
    /// The control.
    pub control: SocketAddr,
}

/// Counts of both fakes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Of the fake HubSpot.
    pub hubspot: hubspot::Summary,
    /// Of the receiver.
    pub webhook: webhook::Summary,
}

/// Both fakes in this process, with their control.
pub struct Downstream {
    /// The fake HubSpot.
    pub hubspot: HubspotFake,
    /// The receiver.
    pub webhook: WebhookFake,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    micros: u64,
}

impl Downstream {
    /// Serves the control of these fakes on a free loopback port and answers all addresses.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn serve_control(self: Arc<Self>) -> Result<Addresses> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addresses = Addresses {
            hubspot: self.hubspot.address(),
            webhook: self.webhook.address(),
            control: listener.local_addr()?,
        };
        let router = Router::new()
            .route("/summary", get(summary))
            .route("/{fake}/faults", post(add_fault).delete(clear_faults))
            .route("/{fake}/latency", post(set_latency))
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(addresses)
    }

    fn server(&self, fake: &str) -> Result<&Server, StatusCode> {
        match fake {
            "hubspot" => Ok(&self.hubspot),
            "webhook" => Ok(&self.webhook),
            _ => Err(StatusCode::NOT_FOUND),
        }
    }
}

async fn summary(State(fakes): State<Arc<Downstream>>) -> Json<Summary> {
    Json(Summary { hubspot: fakes.hubspot.summary(), webhook: fakes.webhook.summary() })
}

async fn add_fault(
    State(fakes): State<Arc<Downstream>>,
    Path(fake): Path<String>,
    Json(rule): Json<Rule>,
) -> Result<StatusCode, StatusCode> {
    fakes.server(&fake)?.faults().add(rule);
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(
    State(fakes): State<Arc<Downstream>>,
    Path(fake): Path<String>,
) -> Result<StatusCode, StatusCode> {
    fakes.server(&fake)?.faults().clear();
    Ok(StatusCode::NO_CONTENT)
}

async fn set_latency(
    State(fakes): State<Arc<Downstream>>,
    Path(fake): Path<String>,
    Json(latency): Json<Latency>,
) -> Result<StatusCode, StatusCode> {
    fakes.server(&fake)?.set_latency(Duration::from_micros(latency.micros));
    Ok(StatusCode::NO_CONTENT)
}

/// A process that runs both fakes. It ends when this is dropped.
pub struct DownstreamProcess {
    child: Child,
    addresses: Addresses,
    http: reqwest::Client,
}

impl DownstreamProcess {
    /// Starts `sgen-downstream` with a HubSpot token and a webhook secret. `keep` says whether payloads are kept.
    ///
    /// # Errors
    /// When the program is not built or does not tell its addresses.
    pub async fn start(token: &str, secret: &Secret, keep: bool) -> Result<Self> {
        let mut command = Command::new(paths::own_binary("sgen-downstream")?);
        command.args(["--hubspot-token", token, "--webhook-secret", secret.text()]);
        if keep {
            command.arg("--keep");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("sgen-downstream does not start")?;
        let output = child.stdout.take().context("sgen-downstream has no output")?;
        let mut line = String::new();
        tokio::time::timeout(Duration::from_secs(20), BufReader::new(output).read_line(&mut line))
            .await
            .context("sgen-downstream did not tell its addresses within 20 s")??;
        let addresses = serde_json::from_str(&line).context("sgen-downstream told no addresses")?;
        Ok(Self { child, addresses, http: reqwest::Client::new() })
    }

    /// Where its fakes listen.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its process id; `None` when it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Counts of both fakes.
    ///
    /// # Errors
    /// When the process does not answer.
    pub async fn summary(&self) -> Result<Summary> {
        Ok(self.http.get(self.control("summary")).send().await?.error_for_status()?.json().await?)
    }

    /// Adds a fault to `hubspot` or `webhook`.
    ///
    /// # Errors
    /// When the process does not answer, or has no such fake.
    pub async fn add_fault(&self, fake: &str, rule: &Rule) -> Result<()> {
        let request = self.http.post(self.control(&format!("{fake}/faults"))).json(rule);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// Makes `hubspot` or `webhook` behave again.
    ///
    /// # Errors
    /// When the process does not answer, or has no such fake.
    pub async fn clear_faults(&self, fake: &str) -> Result<()> {
        self.http.delete(self.control(&format!("{fake}/faults"))).send().await?.error_for_status()?;
        Ok(())
    }

    /// How long every answer of `hubspot` or `webhook` takes from now on.
    ///
    /// # Errors
    /// When the process does not answer, or has no such fake.
    pub async fn set_latency(&self, fake: &str, latency: Duration) -> Result<()> {
        let body = serde_json::json!({ "micros": u64::try_from(latency.as_micros())? });
        let request = self.http.post(self.control(&format!("{fake}/latency"))).json(&body);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    fn control(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addresses.control)
    }
}
