//! The stage: one engine as a host has it, a gate, a site whose components are hostile, and a site that behaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sgen_egress::{
    AllowRule, Auth, EndpointSpec, Gate, GateConfig, Grant, SystemResolver, TcpDialer, Timeouts, TlsTrust,
};
use sgen_engine::{Component, Engine, EngineConfig, Event, Invocation, Invoker, Limits};
use sgen_model::{InstanceId, Outcome, SecretBytes, SlotName, SystemClock};
use sgen_tests::fakes::server::{Received, Server};
use sgen_tests::fakes::{Fault, Rule};
use sgen_tests::paths;
use sgen_vault::{Credential, Credentials};
use url::Url;

use crate::cases::{CASES, Case, judge};
use crate::downstream::{LARGE, Mirror, Plain};

/// The well-behaved guest: one request per event, and the outcome that follows from its answer.
const NEIGHBOUR: &str = "well-behaved";

/// Everything that runs.
pub(crate) struct Stage {
    limits: Limits,
    components: BTreeMap<&'static str, Component>,
    gate: Arc<Gate>,
    mirror: Arc<Mirror>,
    hostile: Server,
    _plain: Server,
    neighbour: Invoker,
    runs: AtomicU64,
}

/// One run of a hostile component.
pub(crate) struct Run {
    /// What was not contained.
    pub(crate) complaint: Option<String>,
    pub(crate) took: Duration,
}

impl Stage {
    /// Loads every component. The neighbour's downstream answers after `latency`.
    pub(crate) async fn set(latency: Duration) -> Result<Self> {
        // The caps of a host, but for time: a proof does not wait two minutes for each sleeper.
        let limits = Limits {
            cpu: Duration::from_millis(200),
            wall: Duration::from_secs(3),
            turns: Duration::from_secs(1),
            ..Limits::default()
        };
        let engine = Engine::new(EngineConfig { cache: None, cache_key: [0; 32], limits: limits.clone() })?;
        let mut components = BTreeMap::new();
        for guest in CASES.iter().map(|case| case.guest).chain([NEIGHBOUR]) {
            if !components.contains_key(guest) {
                components.insert(guest, load(&engine, guest)?);
            }
        }
        let mirror = Arc::<Mirror>::default();
        let hostile = Server::start(mirror.clone(), 0).await?;
        hostile.faults().add(Rule { path: Some("/hang".to_owned()), times: None, fault: Fault::Hang });
        let plain = Server::start(Arc::new(Plain), 0).await?;
        plain.set_latency(latency);
        let config = GateConfig {
            development_hosts: vec![hostile.address().to_string(), plain.address().to_string()],
            tls: TlsTrust::Roots(Vec::new()),
            ..GateConfig::default()
        };
        let gate = Gate::new(config, Arc::new(SystemResolver::new()), Arc::new(TcpDialer), Arc::new(SystemClock))?;
        let grant = grant(&gate, "neighbour", "the-neighbours-own-token", vec![endpoint("api", &plain.url(), true)?])?;
        let component = components.get(NEIGHBOUR).context("the neighbour was not loaded")?.clone();
        let neighbour = Invoker::new(component, grant);
        let runs = AtomicU64::new(0);
        Ok(Self { limits, components, gate, mirror, hostile, _plain: plain, neighbour, runs })
    }

    /// One invocation of the neighbour: how long it took.
    pub(crate) async fn neighbour(&self) -> Result<Duration> {
        let started = Instant::now();
        let outcomes = self.neighbour.deliver("{}", &events(1, None)).await.result.context("the neighbour failed")?;
        let took = started.elapsed();
        anyhow::ensure!(matches!(outcomes.as_slice(), [Outcome::Delivered(_)]), "the neighbour answered {outcomes:?}");
        Ok(took)
    }

    /// Runs one hostile component, with a credential that no other run has.
    pub(crate) async fn hostile(&self, case: &Case) -> Result<Run> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let token = format!("hostile-token-{number:08}");
        // What reaches the second endpoint is known by a path that has nothing to do with the credential.
        let run = format!("run-{number:08}");
        let api = endpoint("api", &self.hostile.url(), true)?;
        let other = endpoint("other", &format!("{}/{run}", self.hostile.url()), false)?;
        let grant = grant(&self.gate, &format!("hostile-{number}"), &token, vec![api, other])?;
        let component = self.components.get(case.guest).context("a component was not loaded")?.clone();
        let started = Instant::now();
        let answer = Invoker::new(component, grant).deliver("{}", &events(case.events, case.poisonous)).await;
        let took = started.elapsed();
        let seen = self.mirror.take(&token, &run);
        let complaint = self.judged(case, &answer, &token, &seen, took).err();
        Ok(Run { complaint, took })
    }

    fn judged(
        &self,
        case: &Case,
        answer: &Invocation<Vec<Outcome>>,
        token: &str,
        seen: &[Received],
        took: Duration,
    ) -> Result<(), String> {
        // The deadline of an invocation, and what a loaded machine needs to notice it.
        let most = self.limits.wall.saturating_mul(3);
        if took > most {
            return Err(format!("it took {took:.1?}, and its deadline is {:?}", self.limits.wall));
        }
        judge(case, answer, &self.limits, token, seen)
    }
}

fn load(engine: &Arc<Engine>, guest: &str) -> Result<Component> {
    let file = paths::guest(guest)?;
    let bytes = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let loaded = engine.load([0; 32], &bytes).with_context(|| format!("{guest} cannot be loaded"))?;
    Ok(loaded.component)
}

fn endpoint(name: &str, base: &str, credential: bool) -> Result<EndpointSpec> {
    let mut spec = EndpointSpec::new(name, Url::parse(base)?);
    let paths = ["/echo", "/hang", "/large", "/collect", "/collect/**"].map(str::to_owned).to_vec();
    spec.allow = vec![AllowRule { methods: vec![http::Method::GET, http::Method::POST], paths }];
    spec.auth = if credential { Some(Auth::Bearer { slot: SlotName::parse("token")? }) } else { None };
    spec.timeouts = Timeouts::of(Duration::from_secs(30));
    spec.max_response = u64::try_from(LARGE)?;
    Ok(spec)
}

fn grant(gate: &Arc<Gate>, instance: &str, token: &str, endpoints: Vec<EndpointSpec>) -> Result<Arc<Grant>> {
    let secret = Credential::new(1, SecretBytes::from(token.to_owned()));
    let credentials: Credentials = [(SlotName::parse("token")?, secret)].into_iter().collect();
    Ok(gate.grant(&InstanceId::parse(instance)?, endpoints, credentials)?)
}

fn events(count: usize, poisonous: Option<usize>) -> Vec<Event> {
    (0..count)
        .map(|number| Event {
            id: format!("event-{number}"),
            idempotency_key: format!("evt_{number:032}"),
            captured_at_ms: 1_795_460_400_000,
            surface: "form:contact".to_owned(),
            fields: if poisonous == Some(number) { r#"{"note":"poison"}"# } else { r#"{"note":"hello"}"# }.to_owned(),
        })
        .collect()
}
