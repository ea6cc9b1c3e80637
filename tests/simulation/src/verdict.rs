//! Gathering the evidence of a simulation that has come to rest, and judging it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use ring::digest;
use sgen_audit::Filter;
use sgen_delivery::{JournalQuery, Selection};
use sgen_model::{EventId, InstanceState};

use crate::books::InstanceBooks;
use crate::check::{self, Evidence, Violation};
use crate::run::Simulation;

/// The most traces that are asked for, one instance's; each reads a good part of the integration log.
const TRACES: usize = 12;

/// What a simulation came to.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// Everything that happened, as text.
    pub(crate) record: String,
    /// Its SHA-256, in short: the same seed has the same.
    pub(crate) fingerprint: String,
    /// How many requests the downstreams saw.
    pub(crate) requests: usize,
    /// How long it was, in milliseconds of the course.
    pub(crate) course: u64,
}

/// Judges.
pub(crate) fn reach(simulation: &mut Simulation, spared: &[bool]) -> Result<Verdict> {
    let mut violations = std::mem::take(&mut simulation.found);
    let mut record = String::new();
    let mut requests = 0;
    for books in &simulation.instances {
        let evidence = gather(simulation, books, spared.get(books.site).copied().unwrap_or(false))?;
        requests += evidence.arrivals.len();
        write_down(&mut record, &evidence)?;
        violations.extend(check::all(&evidence));
        let status = simulation.host()?.runtime.status(&books.id)?;
        writeln!(record, "status {}", serde_json::to_string(&status)?)?;
        // What was given up waits for triage; so does what paused it, until a delivery has shown that it is mended.
        let waits_for_triage = match &status.state {
            InstanceState::Degraded(cause) => !evidence.dead.is_empty() || check::pauses(cause.failure.class),
            _ => false,
        };
        if status.state != InstanceState::Active && !waits_for_triage {
            let said = format!("{} is {:?} although everything is mended", books.id, status.state);
            violations.push(Violation::new("everything settles", said));
        }
    }
    audit(simulation, &mut record, &mut violations)?;
    let hash = digest::digest(&digest::SHA256, record.as_bytes());
    let fingerprint = hex::encode(hash.as_ref().get(..8).unwrap_or_default());
    Ok(Verdict { violations, record, fingerprint, requests, course: simulation.machine.clock.course() })
}

fn gather(simulation: &Simulation, books: &InstanceBooks, spared: bool) -> Result<Evidence> {
    let runtime = &simulation.host()?.runtime;
    let site = simulation.sites.get(books.site).context("an instance without a site")?;
    let mut journal = runtime.journal(&books.id, &JournalQuery::default(), usize::MAX)?.entries;
    journal.reverse();
    let mut evidence = Evidence {
        instance: books.id.to_string(),
        spared,
        start: books.start,
        captured: site.captured.clone(),
        scopes: books.scopes.clone(),
        gaps: books.gaps.clone(),
        order: books.order.clone(),
        arrivals: books.downstream.arrivals(),
        journal,
        dead: runtime.dead_letters(&books.id, &Selection::default(), None, usize::MAX)?,
        counts: simulation.counts(books)?,
        traces: Vec::new(),
        jumps: simulation.machine.clock.jumps(),
        downtimes: simulation.downtimes.clone(),
    };
    for id in telling(&evidence) {
        evidence.traces.push(runtime.trace(&site.place, &EventId::parse(&id)?)?);
    }
    Ok(evidence)
}

/// The events whose traces are compared: those with the most to tell first.
fn telling(evidence: &Evidence) -> Vec<String> {
    let mut events: Vec<(usize, u64, &str)> = evidence
        .captured
        .iter()
        .map(|event| {
            let odd = usize::from(evidence.letter(event.sequence).is_some()) * 3;
            let skipped = usize::from(evidence.deliveries(event.sequence) == 0) * 2;
            let weight = evidence.arrivals_of(&event.id).count().min(5) + odd + skipped;
            (weight, event.sequence, event.id.as_str())
        })
        .collect();
    // The first ones as well: usual events have traces too.
    let usual: Vec<String> = events.iter().take(2).map(|(_, _, id)| (*id).to_owned()).collect();
    events.sort_by_key(|(weight, sequence, _)| (usize::MAX - weight, *sequence));
    let telling = events.iter().take(TRACES - usual.len()).map(|(_, _, id)| (*id).to_owned());
    let mut all: Vec<String> = telling.chain(usual).collect();
    all.sort();
    all.dedup();
    all
}

fn write_down(record: &mut String, evidence: &Evidence) -> Result<()> {
    writeln!(record, "instance {}", evidence.instance)?;
    for arrival in &evidence.arrivals {
        writeln!(record, "arrival {arrival}")?;
    }
    for entry in &evidence.journal {
        writeln!(record, "log {}", serde_json::to_string(entry)?)?;
    }
    for letter in &evidence.dead {
        writeln!(record, "dead letter {}", serde_json::to_string(letter)?)?;
    }
    for trace in &evidence.traces {
        writeln!(record, "trace {}", serde_json::to_string(&trace.instances)?)?;
    }
    Ok(())
}

/// Every site's audit log is whole, and has a record of every change.
fn audit(simulation: &Simulation, record: &mut String, violations: &mut Vec<Violation>) -> Result<()> {
    let audit = &simulation.host()?.audit;
    for site in audit.sites()? {
        if let Err(error) = audit.verify(&site) {
            violations.push(Violation::new("audit", format!("{site}: {error}")));
        }
    }
    for (index, site) in simulation.sites.iter().enumerate() {
        let records = audit.query(&site.place.site, &Filter::default(), None, usize::MAX)?;
        let mut lines = Vec::new();
        for entry in &records {
            // Records of the same moment may stand in either order.
            lines.push(format!("audit {} {}", entry.at, serde_json::to_string(&entry.draft)?));
        }
        lines.sort();
        lines.iter().try_for_each(|line| writeln!(record, "{line}"))?;
        for books in simulation.instances.iter().filter(|books| books.site == index) {
            let mut names = books.audited.clone();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let done = books.audited.iter().filter(|done| **done == name).count();
                let of_instance = |entry: &&sgen_audit::AuditRecord| {
                    entry.draft.instance.as_ref() == Some(&books.id) && entry.event() == name
                };
                let recorded = records.iter().filter(of_instance).count();
                if recorded != done {
                    let said = format!("{}: {done} times {name}; recorded are {recorded}", books.id);
                    violations.push(Violation::new("audit", said));
                }
            }
        }
    }
    Ok(())
}
