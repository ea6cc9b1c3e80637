//! One simulation: does what the scenario says, lets everything settle, and compares the books.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use sgen_delivery::{EnableFrom, InstanceChange, OtherEnvironment};
use sgen_engine::Engine;
use sgen_model::{CaptureEvent, Clock as _, EventId, FailureClass, InstanceId, InstanceState};
use sgen_store::{MemoryStore, Store};

use crate::books::{InstanceBooks, SiteBooks, scope};
use crate::check::{Captured, Counts, Gap, Violation};
use crate::clock::{SimulatedClock, SimulatedEntropy};
use crate::dice::mix;
use crate::downstream::Downstream;
use crate::host::{self, Current, Host, Machine};
use crate::network::{Network, authority};
use crate::platform::Release;
use crate::scenario::{Event, Scenario, Step};
use crate::verdict::{self, Verdict};
use crate::words::span;

/// How long after the last fault everything has to be settled: what was put off is put off by four hours at most, by a
/// Retry-After of six, and by as much as the clock was set back.
const SETTLING: u64 = 14 * 24 * 3_600_000;

/// A simulation under way.
pub(crate) struct Simulation {
    pub(crate) machine: Machine,
    /// Absent only while it is being restarted.
    host: Option<Host>,
    pub(crate) sites: Vec<SiteBooks>,
    pub(crate) instances: Vec<InstanceBooks>,
    pub(crate) downtimes: Vec<(u64, u64, bool)>,
    pub(crate) found: Vec<Violation>,
}

/// Runs a scenario on the current, paused runtime.
pub(crate) async fn run(scenario: Scenario, release: &Release, engine: Arc<Engine>) -> Result<Verdict> {
    let Scenario { seed, span, sites, instances, steps } = scenario;
    let clock = SimulatedClock::new();
    let machine = Machine {
        store: Arc::new(MemoryStore::new()) as Arc<dyn Store>,
        entropy: SimulatedEntropy::new(seed, clock.clone()),
        clock,
        network: Arc::new(Network::default()),
        engine,
        release: release.clone(),
        authorities: (0..instances.len()).map(authority).collect(),
        current: Current::default(),
    };
    let host = Host::start(&machine).await.context("the host does not start")?;
    let mut simulation = Simulation {
        machine,
        host: Some(host),
        sites: Vec::new(),
        instances: Vec::new(),
        downtimes: Vec::new(),
        found: Vec::new(),
    };
    let spared: Vec<bool> = sites.iter().map(|site| site.spared).collect();
    simulation.set_up(seed, &sites, instances).await?;
    for (at, step) in steps {
        tokio::time::sleep_until(simulation.machine.clock.instant(at)).await;
        simulation.step(step).await.with_context(|| format!("at {at} ms"))?;
    }
    tokio::time::sleep_until(simulation.machine.clock.instant(span)).await;
    simulation.settle().await?;
    let verdict = verdict::reach(&mut simulation, &spared)?;
    Ok(verdict)
}

impl Simulation {
    pub(crate) fn host(&self) -> Result<&Host> {
        self.host.as_ref().context("the host is not there")
    }

    fn fail(&mut self, rule: &'static str, said: String) {
        self.found.push(Violation::new(rule, said));
    }

    async fn set_up(
        &mut self,
        seed: u64,
        sites: &[crate::scenario::Site],
        instances: Vec<crate::scenario::Instance>,
    ) -> Result<()> {
        for site in sites {
            let place = host::place(&site.name)?;
            self.host()?.register(self.machine.store.as_ref(), &place.site).await?;
            self.sites.push(SiteBooks { place, captured: Vec::new() });
        }
        for site in 0..sites.len() {
            // From before any instance was there: none may take it.
            let early = Event { id: "early".to_owned(), surface: "form:contact", person: 1, padding: 0 };
            self.capture(site, vec![early]).await?;
        }
        let mut downstreams = Vec::new();
        for (index, instance) in instances.into_iter().enumerate() {
            let id = InstanceId::parse(&instance.name)?;
            let (current, asked) = (self.machine.current.clone(), id.clone());
            let ask = Box::new(move || current.state(&asked));
            let own = mix(&[seed, 0x0d, index as u64]);
            let downstream = Downstream::new(own, instance.downstream, self.machine.clock.clone(), ask);
            let site = sites.get(instance.site).context("an instance without a site")?;
            let new = host::instance(&site.name, &instance.name, &instance.scope, index, downstream.secret())?;
            self.host()?.runtime.configure(&host::operator()?, new).await?;
            downstreams.push(downstream.clone());
            self.instances.push(InstanceBooks {
                id,
                site: instance.site,
                downstream,
                start: self.sites.get(instance.site).map_or(0, SiteBooks::head),
                scopes: vec![(0, Some(scope(&instance.scope)?))],
                gaps: Vec::new(),
                disabled: None,
                mapping: 1,
                audited: vec!["connector-configured"],
                order: None,
            });
        }
        self.machine.network.attach(&downstreams);
        for index in 0..self.instances.len() {
            self.note_order(index)?;
        }
        Ok(())
    }

    /// Takes note of the order that an instance's configuration asks for.
    fn note_order(&mut self, index: usize) -> Result<()> {
        let host = self.host.as_ref().context("the host is not there")?;
        let books = self.instances.get_mut(index).context("no such instance")?;
        let configured = serde_json::to_value(host.runtime.instance(&books.id)?)?;
        books.order =
            configured.get("order").and_then(|order| order.get("key")).and_then(Value::as_str).map(ToOwned::to_owned);
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Capture { site, events } => self.capture(site, events).await,
            Step::Disable { instance } => self.disable(instance).await,
            Step::Enable { instance, from } => self.enable(instance, from).await,
            Step::Remap { instance } => {
                let (id, mapping) = {
                    let books = self.instances.get_mut(instance).context("no such instance")?;
                    books.mapping += 1;
                    books.audited.push("configuration-changed");
                    (books.id.clone(), host::mapping(books.mapping))
                };
                let change = InstanceChange { mapping: Some(mapping), ..InstanceChange::default() };
                self.host()?.runtime.change(&host::operator()?, &id, change, None).await?;
                Ok(())
            }
            Step::Rescope { instance, scope } => self.rescope(instance, &scope).await,
            Step::Rotate { instance } => self.rotate(instance, true).await,
            Step::Jump { by } => {
                self.machine.clock.jump(by);
                Ok(())
            }
            Step::Restart { crash, down } => self.restart(crash, down).await,
            Step::Round => self.round().await,
            Step::Inspect => self.inspect(),
        }
    }

    async fn capture(&mut self, site: usize, events: Vec<Event>) -> Result<()> {
        let now = self.machine.clock.now();
        let made = events.iter().map(|event| {
            let fields = [
                ("person".to_owned(), Value::from(event.person)),
                ("text".to_owned(), Value::from("x".repeat(event.padding))),
            ];
            Ok(CaptureEvent {
                id: EventId::parse(&event.id)?,
                surface: event.surface.parse()?,
                captured_at: now,
                fields: Map::from_iter(fields),
                context: Map::new(),
            })
        });
        let made = made.collect::<Result<Vec<_>>>()?;
        let place = self.sites.get(site).context("no such site")?.place.clone();
        let receipts = self.host()?.runtime.capture(&place, made).await?;
        let at = self.machine.clock.course();
        let mut wrong = Vec::new();
        let books = self.sites.get_mut(site).context("no such site")?;
        for (event, receipt) in events.into_iter().zip(receipts) {
            let known = books.captured.iter().find(|known| known.id == event.id).map(|known| known.sequence);
            let expected = known.unwrap_or(books.head() + 1);
            if receipt.sequence.0 != expected || receipt.duplicate != known.is_some() || receipt.id.as_str() != event.id
            {
                wrong.push(format!("{place}: {} was answered {receipt:?}; expected position {expected}", event.id));
            }
            if known.is_none() {
                let surface = event.surface.parse()?;
                let Event { id, person, .. } = event;
                books.captured.push(Captured { id, sequence: receipt.sequence.0, surface, person, at });
            }
        }
        wrong.into_iter().for_each(|said| self.fail("capture", said));
        Ok(())
    }

    async fn disable(&mut self, instance: usize) -> Result<()> {
        let books = self.instances.get(instance).context("no such instance")?;
        let head = self.sites.get(books.site).map_or(0, SiteBooks::head);
        self.host()?.runtime.disable(&host::operator()?, &books.id, None).await?;
        let course = self.machine.clock.course();
        let books = self.instances.get_mut(instance).context("no such instance")?;
        if books.disabled.is_none() {
            books.disabled = Some(head);
            books.audited.push("connector-disabled");
            books.downstream.disabled(Some(course));
        }
        Ok(())
    }

    async fn enable(&mut self, instance: usize, from: EnableFrom) -> Result<()> {
        let books = self.instances.get_mut(instance).context("no such instance")?;
        let head = self.sites.get(books.site).map_or(0, SiteBooks::head);
        // Before the host is told: from then on requests are as they should be.
        books.downstream.disabled(None);
        books.audited.push("connector-enabled");
        if let Some(after) = books.disabled.take() {
            books.gaps.push(Gap { after, to: head, left_out: from == EnableFrom::Newest });
        }
        let id = books.id.clone();
        self.host()?.runtime.enable(&host::operator()?, &id, from).await?;
        Ok(())
    }

    async fn rescope(&mut self, instance: usize, patterns: &[&str]) -> Result<()> {
        let course = self.machine.clock.course();
        let scope = scope(patterns)?;
        let books = self.instances.get_mut(instance).context("no such instance")?;
        if books.scopes.last().is_none_or(|(_, known)| known.as_ref() != Some(&scope)) {
            books.audited.push("configuration-changed");
            books.scopes.push((course, Some(scope.clone())));
        }
        let id = books.id.clone();
        let change = InstanceChange { scope: Some(scope), ..InstanceChange::default() };
        self.host()?.runtime.change(&host::operator()?, &id, change, None).await?;
        Ok(())
    }

    /// Gives the host the downstream's newest secret, or another one made for the purpose.
    async fn rotate(&mut self, instance: usize, another: bool) -> Result<()> {
        let books = self.instances.get_mut(instance).context("no such instance")?;
        books.audited.push("credentials-rotated");
        let secret = if another { books.downstream.issue() } else { books.downstream.secret() };
        let id = books.id.clone();
        let (operator, slot) = (host::operator()?, host::slot()?);
        self.host()?.runtime.rotate(&operator, &id, &slot, secret, OtherEnvironment::Refused).await?;
        Ok(())
    }

    async fn restart(&mut self, crash: bool, down: u64) -> Result<()> {
        let from = self.machine.clock.course();
        let host = self.host.take().context("the host is not there")?;
        if crash {
            host.crash().await;
        } else {
            host.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(down)).await;
        self.host = Some(Host::start(&self.machine).await.context("the host does not start again")?);
        // A lane learns of the release when its turn comes.
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.downtimes.push((from, self.machine.clock.course(), crash));
        Ok(())
    }

    /// Operators look at what is paused and mend it.
    async fn round(&mut self) -> Result<()> {
        for index in 0..self.instances.len() {
            let books = self.instances.get(index).context("no such instance")?;
            let InstanceState::Paused(cause) = self.host()?.runtime.status(&books.id)?.state else { continue };
            books.downstream.mend();
            match cause.failure.class {
                FailureClass::AuthRevoked => self.rotate(index, false).await?,
                FailureClass::PermissionDenied | FailureClass::Gone => {
                    self.enable(index, EnableFrom::Meanwhile).await?;
                }
                _ => {
                    let said = format!("{} waits for nobody who could mend it: {}", books.id, cause.failure);
                    self.fail("accounts", said);
                }
            }
        }
        Ok(())
    }

    /// What the host counts of an instance.
    pub(crate) fn counts(&self, books: &InstanceBooks) -> Result<Counts> {
        let status = self.host()?.runtime.status(&books.id)?;
        Ok(Counts {
            delivered: status.delivered,
            dead_lettered: status.dead_lettered,
            skipped: status.skipped,
            retrying: status.retrying,
            pending: status.pending,
        })
    }

    /// Whatever is under way: every event is counted exactly once.
    fn inspect(&mut self) -> Result<()> {
        let mut wrong = Vec::new();
        for books in &self.instances {
            let counts = self.counts(books)?;
            let head = self.sites.get(books.site).map_or(0, SiteBooks::head);
            let due = books.disabled.unwrap_or(head).saturating_sub(books.start);
            if counts.sum() != due {
                let course = self.machine.clock.course();
                wrong.push(format!("{} at {course} ms: {due} events are due; counted are {counts:?}", books.id));
            }
        }
        wrong.into_iter().for_each(|said| self.fail("counters add up", said));
        Ok(())
    }

    /// Faults have ceased: operators see to what is left, and everything comes to rest.
    async fn settle(&mut self) -> Result<()> {
        let began = self.machine.clock.course();
        for index in 0..self.instances.len() {
            if self.instances.get(index).is_some_and(|books| books.disabled.is_some()) {
                self.enable(index, EnableFrom::Meanwhile).await?;
            }
        }
        let mut pause = 1_000;
        loop {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            pause = (pause * 2).min(3_600_000);
            self.round().await?;
            self.inspect()?;
            let mut open = Vec::new();
            for books in &self.instances {
                let counts = self.counts(books)?;
                if counts.pending + counts.retrying > 0 {
                    open.push(format!("{} has {} pending, {} retrying", books.id, counts.pending, counts.retrying));
                }
            }
            if open.is_empty() {
                break;
            }
            if self.machine.clock.course().saturating_sub(began) > SETTLING {
                let said = format!("{} after the last fault {}", span(SETTLING), open.join("; "));
                self.fail("everything settles", said);
                break;
            }
        }
        // What is on its way comes to its end, and a restart at rest changes nothing.
        tokio::time::sleep(Duration::from_millis(60_000)).await;
        let before = self.all_counts()?;
        self.restart(false, 1_000).await?;
        let after = self.all_counts()?;
        if before != after {
            self.fail("accounts", format!("a restart at rest turned {before:?} into {after:?}"));
        }
        Ok(())
    }

    fn all_counts(&self) -> Result<Vec<Counts>> {
        self.instances.iter().map(|books| self.counts(books)).collect()
    }
}
