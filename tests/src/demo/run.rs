//! The demo's course: start everything, capture a form and the other events, watch them settle, account for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::account::{Account, Witnesses, account, causes};
use super::progress::Progress;
use crate::client::{Client, Status};
use crate::events::{Fate, Generator, Kind, Sample};
use crate::host::HostFolder;
use crate::page::{CAPTURE_ID, Page};
use crate::scene::{Downstreams, HUBSPOT, LIVE, SITE, Scene, WEBHOOK};
use crate::wait::eventually;

/// How long all events may take to settle.
const SETTLE_BOUND: Duration = Duration::from_secs(180);
/// How many audit records the summary shows.
const AUDIT_SHOWN: usize = 8;

/// What the demo does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many events, the submitted form included.
    pub events: u64,
    /// The seed of the events.
    pub seed: u64,
    /// The folder of the host's data; emptied first.
    pub folder: PathBuf,
    /// The folder of the signed release.
    pub catalog: PathBuf,
    /// The port of the page; any free one when 0.
    pub page_port: u16,
}

/// The demo's parts while it stays up, and its result.
pub struct Running {
    /// Host and downstreams.
    pub scene: Scene,
    /// The site's page.
    pub page: Page,
    /// What became of the events.
    pub account: Account,
}

/// Runs the demo up to and including its summary, which goes to `out`.
///
/// # Errors
/// Whatever went wrong; every process that was started ends with it.
pub async fn run(plan: &Plan, out: &mut (dyn Write + Send)) -> Result<Running> {
    ensure!(plan.events >= 1, "the demo needs at least one event: the form's");
    if plan.folder.exists() {
        fs::remove_dir_all(&plan.folder).with_context(|| format!("{} cannot be emptied", plan.folder.display()))?;
    }
    let downstreams = Downstreams::start().await?;
    writeln!(out, "downstream  HubSpot at {}", downstreams.hubspot.url())?;
    writeln!(out, "downstream  webhook receiver at {}", downstreams.webhook.hook_url())?;
    let folder = downstreams.attach(HostFolder::create_on(&plan.folder, &plan.catalog).await?);
    let started = Instant::now();
    let scene = Scene::start_with(downstreams, folder).await?;
    let host = scene.host()?.url()?.to_owned();
    writeln!(out, "host        sgen-host at {host}, started in {} ms", started.elapsed().as_millis())?;
    let operator = scene.operator()?;
    show_catalog(&operator, out).await?;
    scene.configure_both().await?;
    writeln!(out, "instances   {HUBSPOT} takes form:*, {WEBHOOK} takes every surface")?;
    let page = scene.page("demo-form", plan.page_port).await?;
    writeln!(out, "page        contact form at {}", page.url())?;

    let captured = Instant::now();
    let samples = capture(plan, &scene, &page, out).await?;
    watch(&scene, &samples).await?;
    writeln!(out, "settled     {} events in {:.1} s", samples.len(), captured.elapsed().as_secs_f32())?;

    let account = summarise(&scene, &samples, out).await?;
    Ok(Running { scene, page, account })
}

async fn show_catalog(operator: &Client, out: &mut (dyn Write + Send)) -> Result<()> {
    let catalog = operator.get_json("/v1/catalog").await?;
    let text =
        |value: &Value, name: &str| value.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let version = text(&catalog, "version").unwrap_or_default();
    let sequence = text(&catalog, "sequence").unwrap_or_default();
    writeln!(out, "catalog     release {version}, sequence {sequence}, signatures verified")?;
    for entry in catalog.get("entries").and_then(Value::as_array).into_iter().flatten() {
        let digest: String = text(entry, "digest").unwrap_or_default().chars().take(16).collect();
        let (id, version) = (text(entry, "id").unwrap_or_default(), text(entry, "version").unwrap_or_default());
        writeln!(out, "            {id} {version} (sha256 {digest}…)")?;
    }
    Ok(())
}

/// Submits the page's form as a browser would, then posts the other events as the site's server would.
async fn capture(plan: &Plan, scene: &Scene, page: &Page, out: &mut (dyn Write + Send)) -> Result<Vec<Sample>> {
    let mut samples = vec![submit_form(page).await?];
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut generator = Generator::new(plan.seed, "demo");
    let ingest = scene.ingest()?;
    while (samples.len() as u64) < plan.events {
        let missing = usize::try_from(plan.events)?.saturating_sub(samples.len());
        // A site posts single events and, when it is busy, batches.
        let size = if rng.bool() { 1 } else { rng.usize(2..60) };
        let batch: Vec<Sample> = generator.by_ref().take(size.min(missing)).collect();
        let events: Vec<Value> = batch.iter().map(|sample| sample.event.clone()).collect();
        let receipts = ingest.post_events(SITE, LIVE, &Value::from(events)).await?;
        ensure!(receipts.accepted == batch.len() as u64, "the host took {} of {}", receipts.accepted, batch.len());
        samples.extend(batch);
    }
    writeln!(out, "captured    {} events: 1 by the page's form, {} by the site", samples.len(), samples.len() - 1)?;
    Ok(samples)
}

async fn submit_form(page: &Page) -> Result<Sample> {
    let fields = [
        ("first_name", "Zoë"),
        ("last_name", "Müller-Lüdenscheidt"),
        ("email", "zoe.mueller@example.org"),
        ("phone", "+49 30 5550100"),
        ("company", "Acme & Söhne GmbH"),
        ("message", "Could you call me back tomorrow? 🙏"),
    ];
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let answer = http.post(format!("{}contact", page.url())).form(&fields).send().await?;
    let id = answer.headers().get(CAPTURE_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    match id {
        Some(id) => Ok(Sample { id, kind: Kind::Contact, event: Value::Null }),
        None => anyhow::bail!("the page did not capture its form: {} {}", answer.status(), answer.text().await?),
    }
}

/// Shows how the events settle, until none is left.
async fn watch(scene: &Scene, samples: &[Sample]) -> Result<()> {
    let operator = scene.operator()?;
    let forms = samples.iter().filter(|sample| sample.kind.is_form()).count() as u64;
    let deliveries = samples.len() as u64 + forms;
    let mut progress = Progress::new(deliveries);
    let settled = |status: &Status| status.count("delivered") + status.count("dead_lettered");
    let text = |hubspot: &Status, webhook: &Status| {
        format!(
            "deliveries settled: HubSpot {} delivered, {} dead-lettered; webhook {} delivered, {} dead-lettered",
            hubspot.count("delivered"),
            hubspot.count("dead_lettered"),
            webhook.count("delivered"),
            webhook.count("dead_lettered"),
        )
    };
    let progress = std::cell::RefCell::new(&mut progress);
    let (hubspot, webhook) = eventually("the settling of all events", SETTLE_BOUND, || async {
        let (hubspot, webhook) = (operator.status(HUBSPOT).await?, operator.status(WEBHOOK).await?);
        progress.borrow_mut().show(settled(&hubspot) + settled(&webhook), &text(&hubspot, &webhook));
        Ok((hubspot.is_settled() && webhook.is_settled()).then_some((hubspot, webhook)))
    })
    .await?;
    progress.borrow_mut().finish(settled(&hubspot) + settled(&webhook), &text(&hubspot, &webhook));
    Ok(())
}

async fn summarise(scene: &Scene, samples: &[Sample], out: &mut (dyn Write + Send)) -> Result<Account> {
    let operator = scene.operator()?;
    let hubspot = Witnesses {
        instance: HUBSPOT.to_owned(),
        expected: samples.iter().map(|s| (s.id.clone(), s.kind.fate_as_contact())).collect(),
        taken: scene
            .downstreams
            .hubspot
            .traces()
            .into_iter()
            .filter(|(_, t)| t.written > 0)
            .map(|(id, _)| id)
            .collect(),
        dead: operator.dead_letters(HUBSPOT).await?,
        status: operator.status(HUBSPOT).await?,
    };
    let received: BTreeMap<String, u64> = scene.downstreams.webhook.by_field("event_id");
    let webhook = Witnesses {
        instance: WEBHOOK.to_owned(),
        expected: samples.iter().map(|s| (s.id.clone(), Fate::Delivered)).collect(),
        taken: received.into_keys().collect::<BTreeSet<_>>(),
        dead: operator.dead_letters(WEBHOOK).await?,
        status: operator.status(WEBHOOK).await?,
    };
    let verification = operator.verify_audit(SITE).await;
    let instances = [hubspot, webhook];
    let result = account(&instances, verification.is_ok());

    writeln!(out)?;
    for instance in &instances {
        let requests = match instance.instance.as_str() {
            HUBSPOT => scene.downstreams.hubspot.journal().total(),
            _ => scene.downstreams.webhook.journal().total(),
        };
        writeln!(
            out,
            "{}: {} delivered in {requests} requests, {} dead-lettered",
            instance.instance,
            instance.taken.len(),
            instance.dead.len()
        )?;
        for (cause, count, sample) in causes(&instance.dead) {
            writeln!(out, "  {count:>4} × {cause}: {}", shortened(&sample, 140))?;
        }
    }
    let contacts = scene.downstreams.hubspot.summary().contacts;
    let refusals = scene.downstreams.webhook.refusals();
    match refusals.first() {
        None => {
            writeln!(out, "HubSpot now has {contacts} contacts; the receiver verified every signature it was sent")?
        }
        Some(first) => writeln!(out, "the receiver refused {} requests, the first because {first}", refusals.len())?,
    }
    writeln!(out, "\nlast audit records of {SITE}:")?;
    let records = operator.audit(SITE, "").await?;
    for record in records.iter().take(AUDIT_SHOWN) {
        writeln!(out, "  {}", audit_line(record))?;
    }
    match verification {
        Ok(found) => {
            let root: String = found.root_hash.chars().take(16).collect();
            writeln!(out, "audit log: {} records, tree verified, root {root}…", found.records)?;
        }
        Err(error) => writeln!(out, "audit log: NOT VERIFIED: {error}")?,
    }
    for disagreement in result.disagreements.iter().take(20) {
        writeln!(out, "DISAGREEMENT {disagreement}")?;
    }
    writeln!(out)?;
    Ok(result)
}

/// One audit record on one line.
fn audit_line(record: &Value) -> String {
    let text = |path: &str| record.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let action = record.get("action").filter(|action| action.is_object()).unwrap_or(record);
    let event = action.get("event").and_then(Value::as_str).unwrap_or_default();
    let actor = match text("/actor/id") {
        id if id.is_empty() => text("/actor/kind"),
        id => id,
    };
    let known = ["event", "index", "at", "site", "environment", "actor", "instance", "connector", "component_digest"];
    let details: Vec<String> = action
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| format!("{name}={}", shortened(&value.to_string(), 90)))
        .collect();
    format!("{} {actor:<8} {event:<22} {:<14} {}", text("/at"), text("/instance"), details.join(" "))
}

fn shortened(text: &str, limit: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= limit {
        return line;
    }
    line.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_record_is_one_line_whatever_it_holds() {
        let record = serde_json::json!({
            "index": 3, "at": "2026-11-23T10:00:00.000Z", "site": "acme-web", "instance": "acme-hubspot",
            "actor": { "kind": "operator", "id": "ada" },
            "action": { "event": "connector-disabled", "reason": "line\nbreak" },
        });
        let line = audit_line(&record);
        assert!(line.starts_with("2026-11-23T10:00:00.000Z ada "), "{line}");
        assert!(line.contains("connector-disabled") && line.ends_with("reason=\"line\\nbreak\""), "{line}");
    }

    #[test]
    fn a_long_text_is_cut_and_a_control_character_is_a_space() {
        assert_eq!(shortened("abc\u{1b}def", 10), "abc def");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
