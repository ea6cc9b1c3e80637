//! A rotating grant under load: whoever delivers shares one renewal, and no refresh token is used twice.
//!
//! The counterpart takes a reused refresh token for theft and revokes the whole grant, so that one race would end the run.
//! At the end that is done on purpose, to see that it would have been noticed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use sgen_audit::{Actor, Filter};
use sgen_egress::{Auth, Endpoint, Method, Request, SendErrorKind, Tokens};
use sgen_model::{InstanceId, SlotName, SystemEntropy};
use sgen_store::Commit;
use sgen_tokens::{Application, Client, Consents, Means, Setup, Source};

use crate::counterpart::Counterpart;
use crate::person;
use crate::rooms::{House, place, setup};

const CLIENT: &str = "app-1:the-secret-of-app-1";
const REDIRECT: &str = "https://host.example/v1/oauth/callback";
/// How long a worker rests between two deliveries.
const PAUSE: Duration = Duration::from_millis(25);
/// How often the host is restarted over a run.
const LIVES: u64 = 4;

/// What to run.
pub struct Plan {
    /// Deliveries at a time.
    pub concurrent: usize,
    /// How many access tokens expire.
    pub expiries: u64,
    /// How long one counts.
    pub lifetime: Duration,
}

/// What came of it.
pub struct Figures {
    refreshes: u64,
    deliveries: u64,
    lost: u64,
    /// Deliveries that failed otherwise.
    failed: u64,
    /// Renewals that were refused.
    refused: u64,
    audited: u64,
    expiries: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refreshes, deliveries, lost, .. } = self;
        if self.failed > 0 || self.refused > 0 || self.audited != *refreshes {
            writeln!(
                f,
                "deliveries failed {}, renewals refused {}, renewals audited {}",
                self.failed, self.refused, self.audited
            )?;
        }
        write!(f, "refreshes {refreshes}, deliveries {deliveries}, grants lost {lost}")
    }
}

impl Figures {
    /// Whether the claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0
            && self.failed == 0
            && self.refused == 0
            && self.refreshes >= self.expiries
            && self.audited == self.refreshes
    }
}

#[derive(Default)]
struct Count {
    delivered: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
}

/// Runs it.
///
/// # Errors
/// When the counterpart cannot be started, nobody can consent, or a reused refresh token is not noticed.
pub async fn run(plan: &Plan) -> Result<Figures> {
    let seconds = plan.lifetime.as_secs().to_string();
    let vendor = Counterpart::node(include_str!("oidc.mjs"), &[("SECONDS", &seconds), ("REDIRECT", REDIRECT)]).await?;
    let folder = tempfile::tempdir()?;
    let house = House::open(folder.path(), &vendor.address).await?;
    connect(&house, &vendor).await?;
    drop(house);
    let count = Arc::new(Count::default());
    let patience = plan.lifetime.saturating_mul(u32::try_from(plan.expiries)?).saturating_mul(3);
    let began = Instant::now();
    for life in 1..=LIVES {
        let until = plan.expiries.saturating_mul(life).div_ceil(LIVES);
        let house = House::open(folder.path(), &vendor.address).await?;
        let endpoint = delivering(&house, &vendor)?;
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..plan.concurrent)
            .map(|_| tokio::spawn(work(Arc::clone(&endpoint), Arc::clone(&count), Arc::clone(&stop))))
            .collect();
        while counted(&vendor, "refresh").await? < until {
            ensure!(began.elapsed() < patience, "the tokens do not expire");
            tokio::time::sleep(plan.lifetime / 10).await;
        }
        stop.store(true, Ordering::Relaxed);
        for worker in join_all(workers).await {
            worker?;
        }
    }
    let refreshes = counted(&vendor, "refresh").await?;
    let refused = counted(&vendor, "refused").await?;
    let house = House::open(folder.path(), &vendor.address).await?;
    let filter = Filter { event: Some("credentials-refreshed".to_owned()), ..Filter::default() };
    let audited = house.audit.query(&place()?.site, &filter, None, usize::MAX)?.len();
    theft_is_noticed(&house, &vendor, plan.lifetime).await?;
    Ok(Figures {
        refreshes,
        deliveries: count.delivered.load(Ordering::Relaxed),
        lost: count.lost.load(Ordering::Relaxed),
        failed: count.failed.load(Ordering::Relaxed),
        refused,
        audited: u64::try_from(audited)?,
        expiries: plan.expiries,
    })
}

async fn counted(vendor: &Counterpart, what: &str) -> Result<u64> {
    let counts = vendor.get("/counts", &[]).await?;
    counts.get(what).and_then(serde_json::Value::as_u64).context("the counterpart counts")
}

fn granted(vendor: &Counterpart) -> Result<Setup> {
    let client = Client::parse(CLIENT.as_bytes()).map_err(anyhow::Error::msg)?;
    let (token, revoke) = (format!("{}/token", vendor.url), format!("{}/token/revocation", vendor.url));
    setup(Means::Grant(client), &token, Some(&revoke), &["openid", "offline_access"])
}

/// A person consents, and what the vendor grants is kept.
async fn connect(house: &House, vendor: &Counterpart) -> Result<()> {
    let (consents, parameters) = (Consents::default(), BTreeMap::from([("prompt".to_owned(), "consent".to_owned())]));
    let authorize = format!("{}/auth", vendor.url);
    let application = Application {
        authorize: &authorize,
        client_id: "app-1",
        redirect: REDIRECT,
        scopes: &["openid".to_owned(), "offline_access".to_owned()],
        parameters: &parameters,
    };
    let (instance, slot) = (InstanceId::parse("proof-1")?, SlotName::parse("grant")?);
    let (entropy, now) = (SystemEntropy::default(), house.clock.now());
    let started = consents.begin(&entropy, now, instance, slot, Actor::Platform, &application)?;
    let back = person::consent(&started.url, REDIRECT).await?;
    let parameter = |wanted: &str| back.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let (Some(state), Some(code)) = (parameter("state"), parameter("code")) else {
        bail!("the vendor granted nothing: {back}");
    };
    let pending = consents.take(&state, house.clock.now()).context("the state is the one that was sent")?;
    let source = house.sources.source(granted(vendor)?);
    let connected = source.connect(&pending, &code).await?;
    let mut change = source.change().await?;
    let mut commit = Commit::new();
    change.connect(connected, 1, &mut commit)?;
    house.store.submit(commit).await?;
    change.done();
    Ok(())
}

fn delivering(house: &House, vendor: &Counterpart) -> Result<Arc<Endpoint>> {
    let source: Arc<Source> = house.sources.source(granted(vendor)?);
    let auth = Auth::Token { slot: SlotName::parse("grant")?, tokens: Tokens(source) };
    Ok(house.endpoint(&vendor.url, auth, None)?.1)
}

fn delivery() -> Request {
    Request { method: Method::POST, path: "/resource".to_owned(), headers: Vec::new(), body: Some(b"{}".to_vec()) }
}

async fn work(endpoint: Arc<Endpoint>, count: Arc<Count>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let counter = match endpoint.send(delivery()).await {
            Ok(response) if response.status == 200 => &count.delivered,
            Ok(response) if response.status == 401 => &count.lost,
            Err(error) if error.kind == SendErrorKind::Credential => &count.lost,
            Ok(_) | Err(_) => &count.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Gives the grant back, and sees that it counts no longer: a counterpart that notices nothing would prove nothing.
async fn theft_is_noticed(house: &House, vendor: &Counterpart, lifetime: Duration) -> Result<()> {
    let endpoint = delivering(house, vendor)?;
    let source = house.sources.source(granted(vendor)?);
    let upstream = source.change().await?.revoke().await?;
    ensure!(upstream == sgen_tokens::Upstream::Revoked, "the vendor does not revoke: {upstream:?}");
    tokio::time::sleep(lifetime).await;
    match endpoint.send(delivery()).await {
        Err(error) if error.kind == SendErrorKind::Credential && error.message.contains("revoked the grant") => Ok(()),
        other => bail!("a grant that was revoked goes on: {other:?}"),
    }
}
