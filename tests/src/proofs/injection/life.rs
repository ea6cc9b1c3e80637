//! One life of the host: what was asked of it, what it answered, and how it ended.

use std::future::Future;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::{Value, json};

use super::stage::Step;
use crate::client::{CallError, Client, NewInstance};
use crate::host::{Host, HostFolder};
use crate::proofs::ledger::{Ledger, event};
use crate::scene::{ACCOUNT, LIVE, OPERATOR, SITE, WEBHOOK};
use crate::wait::eventually;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the delivery of a few events may take.
const DELIVERY: Duration = Duration::from_secs(30);
/// How long a host that has failed or was told to stop may take to end.
const END: Duration = Duration::from_secs(30);

/// What the host owes beside the entries of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owed {
    /// The site was registered.
    pub site: bool,
    /// The operator's token.
    pub operator: Option<String>,
    /// The ingest key.
    pub ingest: Option<String>,
    /// The instance was configured.
    pub instance: bool,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself or when it was told to.
    Exited(ExitStatus),
    /// Not within the bound; it was killed.
    Stuck,
}

impl End {
    /// Whether a signal ended it, and which.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(status) => status.signal(),
            Self::Stuck => None,
        }
    }

    /// Whether it ended with status 0.
    #[must_use]
    pub fn in_order(self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "{status}"),
            Self::Stuck => f.write_str("no end within the bound"),
        }
    }
}

/// What became of a life.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whether it served.
    pub served: bool,
    /// For each acknowledged request: what was asked, and when.
    pub acknowledged: Vec<(String, SystemTime)>,
    /// What was refused, with the problem.
    pub refused: Vec<String>,
    /// What got no answer in time although nothing had ended.
    pub stalled: Vec<String>,
    /// How it ended.
    pub end: End,
    /// What it logged.
    pub log: String,
}

/// Whether anything can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// The connection is gone: the host has ended or is about to.
    Gone,
    /// It holds the connection and does not answer.
    Stalled,
}

/// A host that is being asked.
pub struct Life<'a> {
    host: Host,
    client: Option<Client>,
    instance: &'a NewInstance,
    owed: &'a mut Owed,
    ledger: &'a Ledger,
    /// Whether an earlier life may have done things without an answer: then what is there already is no refusal.
    repeats: bool,
    state: State,
    acknowledged: Vec<(String, SystemTime)>,
    refused: Vec<String>,
    stalled: Vec<String>,
}

impl<'a> Life<'a> {
    /// Starts the host. `instance` is what [`Step::Configure`] configures.
    ///
    /// # Errors
    /// When the process cannot be started; one that ends by itself is a life as well.
    pub async fn begin(
        folder: &HostFolder,
        instance: &'a NewInstance,
        owed: &'a mut Owed,
        ledger: &'a Ledger,
    ) -> Result<Self> {
        let mut host = folder.spawn()?;
        let client = match host.wait_until_serving().await {
            Ok(_) => Some(Client::new(host.url()?, folder.platform_token())?),
            Err(_) => None,
        };
        let state = if client.is_some() { State::Serving } else { State::Gone };
        let (acknowledged, refused, stalled) = (Vec::new(), Vec::new(), Vec::new());
        let repeats = false;
        Ok(Self { host, client, instance, owed, ledger, repeats, state, acknowledged, refused, stalled })
    }

    /// What an earlier life may have done without an answer is no refusal when it is there already.
    #[must_use]
    pub fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Whether it serves.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.state == State::Serving
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.host.log()
    }

    /// A client with the operator's token, once there is one.
    #[must_use]
    pub fn operator(&self) -> Option<Client> {
        Some(self.client.as_ref()?.with_token(self.owed.operator.as_deref()?))
    }

    /// A client with the platform's token.
    #[must_use]
    pub fn platform(&self) -> Option<Client> {
        self.client.clone()
    }

    /// Asks for one thing after the other until the host is gone.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn play(&mut self, script: &[Step]) -> Result<()> {
        for step in script {
            if !self.serves() {
                break;
            }
            self.step(step).await?;
        }
        Ok(())
    }

    /// Tells it to stop unless it is gone already, and waits for its end.
    ///
    /// # Errors
    /// When the process cannot be waited for, or its log cannot be read.
    pub async fn end(mut self) -> Result<Record> {
        if self.state != State::Gone {
            // It may just have ended by itself: then there is nobody to ask.
            let _ = self.host.ask_to_stop();
        }
        let end = match self.host.wait_for_end(END).await {
            Ok(status) => End::Exited(status),
            Err(_) => End::Stuck,
        };
        let log = self.host.log()?;
        if end == End::Stuck {
            self.host.kill().await?;
        }
        let (served, acknowledged) = (self.client.is_some(), self.acknowledged);
        Ok(Record { served, acknowledged, refused: self.refused, stalled: self.stalled, end, log })
    }

    /// Kills it.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(self) -> Result<()> {
        self.host.kill().await
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        let Some(platform) = self.client.clone() else { return Ok(()) };
        match step {
            Step::Register if !self.owed.site => {
                let call = platform.register_site(ACCOUNT, SITE);
                self.owed.site = self.ask("the site's registration", call).await.is_some();
            }
            Step::Operator if self.owed.operator.is_none() => {
                // A token is shown once: when its answer was lost, the operator gets another account.
                let id = if self.repeats { format!("{OPERATOR}-again") } else { OPERATOR.to_owned() };
                let call = platform.add_operator(ACCOUNT, &id);
                self.owed.operator = self.ask("the operator", call).await;
            }
            Step::IngestKey if self.owed.ingest.is_none() => {
                let Some(operator) = self.operator() else { return Ok(()) };
                let call = operator.issue_ingest_key(SITE, LIVE);
                self.owed.ingest = self.ask("the ingest key", call).await.map(|(_, key)| key);
            }
            Step::Configure if !self.owed.instance => {
                let (Some(operator), instance) = (self.operator(), self.instance) else { return Ok(()) };
                let call = operator.configure(SITE, LIVE, instance);
                let refused = self.refused.len();
                self.owed.instance = self.ask("the instance", call).await.is_some();
                if self.repeats && operator.instance(WEBHOOK).await.is_ok() {
                    self.owed.instance = true;
                    self.refused.truncate(refused);
                }
            }
            Step::Register | Step::Operator | Step::IngestKey | Step::Configure => {}
            Step::Post(events) => {
                let Some(key) = self.owed.ingest.clone() else { return Ok(()) };
                let ids: Vec<String> = events.iter().map(|(id, _)| (*id).to_owned()).collect();
                let body: Vec<Value> = events.iter().map(|(id, padding)| event(id, &"x".repeat(*padding))).collect();
                let (ingest, body) = (platform.with_token(&key), Value::from(body));
                let what = format!("the events {}", ids.join(", "));
                let acknowledged = self.ask(&what, ingest.post_events(SITE, LIVE, &body)).await.is_some();
                self.ledger.note(ids, acknowledged)?;
            }
            Step::Title(title) => {
                let Some(operator) = self.operator() else { return Ok(()) };
                let change = json!({ "title": title });
                if self.ask("the change of the title", operator.change(WEBHOOK, &change)).await.is_some() {
                    self.ledger.note_title((*title).to_owned())?;
                }
            }
            Step::Settled => {
                let Some(operator) = self.operator().filter(|_| self.owed.instance) else { return Ok(()) };
                self.settle(&operator).await;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, operator: &Client) {
        let settled = eventually("the delivery", DELIVERY, || async {
            let status = operator.status(WEBHOOK).await?;
            Ok(status.is_settled().then_some(()))
        })
        .await;
        match settled {
            Ok(()) => {}
            Err(error) => match error.downcast_ref::<CallError>() {
                Some(error) => self.heard(error, "the status"),
                None => self.stalled.push(format!("{error:#}")),
            },
        }
    }

    /// One request that changes something. `None`: it was not acknowledged.
    async fn ask<T>(&mut self, what: &str, call: impl Future<Output = Result<T, CallError>>) -> Option<T> {
        let sent = SystemTime::now();
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(answer)) => {
                self.acknowledged.push((what.to_owned(), sent));
                Some(answer)
            }
            Ok(Err(error)) => {
                self.heard(&error, what);
                None
            }
            Err(_) => {
                self.stalled.push(format!("{what} got no answer within {} s", PATIENCE.as_secs()));
                self.state = State::Stalled;
                None
            }
        }
    }

    fn heard(&mut self, error: &CallError, what: &str) {
        match error {
            CallError::Refused(_) => self.refused.push(format!("{what}: {error}")),
            CallError::Broken(_) => self.state = State::Gone,
        }
    }
}
