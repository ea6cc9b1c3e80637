//! The external ledger: what the host acknowledged, written down outside of the host as it happens, and what it must
//! therefore still have.
//!
//! Pure apart from the file that the lines go to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// One posted request: all of its events are stored, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The ids of its events.
    pub ids: Vec<String>,
    /// Whether it was acknowledged with 202.
    pub acknowledged: bool,
}

#[derive(Debug, Default)]
struct Entries {
    requests: Vec<Request>,
    titles: Vec<String>,
    rotations: Vec<u64>,
    replays: u64,
    file: Option<BufWriter<File>>,
}

/// The ledger; shared by everything that posts.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Entries>);

/// What was found wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged and not there.
    pub lost: Vec<String>,
    /// There in part or with other contents.
    pub torn: Vec<String>,
}

/// What was found in the host and at the receiver.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// From event id to its fields, as the host lists its captures.
    pub captures: BTreeMap<String, Value>,
    /// The ids that the receiver has, or that are listed as dead letters.
    pub accounted: BTreeSet<String>,
    /// The titles in the audit log.
    pub titles: BTreeSet<String>,
    /// The versions of rotated credentials in the audit log.
    pub rotations: BTreeSet<u64>,
    /// How many replays of dead letters are in the audit log.
    pub replays: u64,
}

impl Ledger {
    /// A ledger that writes each acknowledgement to a file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(file: &Path) -> Result<Self> {
        let file = BufWriter::new(File::create(file)?);
        Ok(Self(Mutex::new(Entries { file: Some(file), ..Entries::default() })))
    }

    /// A ledger with the same entries that goes on by itself, without a file.
    #[must_use]
    pub fn fork(&self) -> Self {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Entries { requests, titles, rotations, replays, .. } = &*entries;
        let (requests, titles, rotations) = (requests.clone(), titles.clone(), rotations.clone());
        Self(Mutex::new(Entries { requests, titles, rotations, replays: *replays, file: None }))
    }

    /// Notes a request and how it was answered.
    ///
    /// # Errors
    /// When the file cannot be written: then the proof proves nothing.
    pub fn note(&self, ids: Vec<String>, acknowledged: bool) -> Result<()> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Some(file)) = (acknowledged, entries.file.as_mut()) {
            for id in &ids {
                writeln!(file, "event {id}")?;
            }
            file.flush()?;
        }
        entries.requests.push(Request { ids, acknowledged });
        Ok(())
    }

    /// Notes an acknowledged change of an instance's title.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_title(&self, title: String) -> Result<()> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = entries.file.as_mut() {
            writeln!(file, "title {title}")?;
            file.flush()?;
        }
        entries.titles.push(title);
        Ok(())
    }

    /// Notes an acknowledged rotation of the instance's credential: the version that the host answered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_rotation(&self, version: u64) -> Result<()> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = entries.file.as_mut() {
            writeln!(file, "rotation {version}")?;
            file.flush()?;
        }
        entries.rotations.push(version);
        Ok(())
    }

    /// Notes an acknowledged replay of dead letters.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_replay(&self) -> Result<()> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = entries.file.as_mut() {
            writeln!(file, "replay")?;
            file.flush()?;
        }
        entries.replays += 1;
        Ok(())
    }

    /// The ids of every acknowledged event.
    #[must_use]
    pub fn acknowledged(&self) -> BTreeSet<String> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.requests.iter().filter(|r| r.acknowledged).flat_map(|r| r.ids.iter().cloned()).collect()
    }

    /// How many events were acknowledged; repetitions count again.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.requests.iter().filter(|request| request.acknowledged).map(|request| request.ids.len() as u64).sum()
    }

    /// Compares what was found with what was acknowledged.
    #[must_use]
    pub fn compare(&self, found: &Found) -> Findings {
        let acknowledged = self.acknowledged();
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut findings = Findings::default();
        for id in &acknowledged {
            if !found.captures.contains_key(id) {
                findings.lost.push(format!("{id} was acknowledged and is not captured"));
            } else if !found.accounted.contains(id) {
                findings.lost.push(format!("{id} is captured and was neither delivered nor dead-lettered"));
            }
        }
        for title in &entries.titles {
            if !found.titles.contains(title) {
                findings.lost.push(format!("the change to {title:?} was acknowledged and is not in the audit log"));
            }
        }
        for version in &entries.rotations {
            if !found.rotations.contains(version) {
                findings
                    .lost
                    .push(format!("the rotation to version {version} was acknowledged and is not in the audit log"));
            }
        }
        if found.replays < entries.replays {
            let (there, acknowledged) = (found.replays, entries.replays);
            findings.lost.push(format!("of {acknowledged} acknowledged replays {there} are in the audit log"));
        }
        for request in entries.requests.iter().filter(|request| !request.acknowledged) {
            // A repetition that was acknowledged has made the request whole.
            let there = request.ids.iter().filter(|id| found.captures.contains_key(*id)).count();
            if there != 0 && there != request.ids.len() {
                let first = request.ids.first().map(String::as_str).unwrap_or_default();
                findings
                    .torn
                    .push(format!("{there} of {} events of the request of {first} are there", request.ids.len()));
            }
        }
        for (id, fields) in &found.captures {
            if !is_whole(fields) {
                findings.torn.push(format!("{id} has other contents than were posted"));
            }
        }
        findings
    }
}

/// An event whose contents prove themselves: `check` is the digest of `padding`.
#[must_use]
pub fn event(id: &str, padding: &str) -> Value {
    json!({
        "id": id,
        "surface": "form:contact",
        "captured_at": jiff::Timestamp::now().to_string(),
        "fields": { "padding": padding, "check": check(padding) },
    })
}

fn check(padding: &str) -> String {
    digest(&SHA256, padding.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_whole(fields: &Value) -> bool {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    matches!((text("padding"), text("check")), (Some(padding), Some(found)) if check(padding) == found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn found(ids: &[&str]) -> Found {
        let fields = |id: &str| event(id, "xyz")["fields"].clone();
        Found {
            captures: ids.iter().map(|id| ((*id).to_owned(), fields(id))).collect(),
            accounted: ids.iter().map(|id| (*id).to_owned()).collect(),
            titles: BTreeSet::from(["t1".to_owned()]),
            rotations: BTreeSet::from([2]),
            replays: 1,
        }
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        ledger.note(vec!["a".to_owned(), "b".to_owned()], true).unwrap();
        ledger.note(vec!["c".to_owned(), "d".to_owned()], false).unwrap();
        ledger.note_title("t1".to_owned()).unwrap();
        ledger.note_rotation(2).unwrap();
        ledger.note_replay().unwrap();
        ledger
    }

    #[test]
    fn nothing_is_wrong_when_acknowledged_events_are_there_and_requests_are_whole() {
        assert_eq!(ledger().compare(&found(&["a", "b"])), Findings::default());
        assert_eq!(ledger().compare(&found(&["a", "b", "c", "d"])), Findings::default());
    }

    #[test]
    fn a_missing_event_delivery_or_audit_record_is_lost() {
        assert_eq!(ledger().compare(&found(&["a"])).lost, ["b was acknowledged and is not captured"]);
        let mut undelivered = found(&["a", "b"]);
        undelivered.accounted.remove("a");
        undelivered.titles.clear();
        undelivered.rotations.clear();
        undelivered.replays = 0;
        assert_eq!(ledger().compare(&undelivered).lost.len(), 4);
    }

    #[test]
    fn a_fork_owes_the_same_and_goes_on_by_itself() {
        let whole = ledger();
        let fork = whole.fork();
        fork.note(vec!["e".to_owned()], true).unwrap();
        assert_eq!(fork.compare(&found(&["a", "b"])).lost, ["e was acknowledged and is not captured"]);
        assert_eq!(whole.compare(&found(&["a", "b"])), Findings::default());
    }

    #[test]
    fn half_a_request_or_other_contents_are_torn() {
        assert_eq!(ledger().compare(&found(&["a", "b", "c"])).torn, ["1 of 2 events of the request of c are there"]);
        let mut other = found(&["a", "b"]);
        other.captures.get_mut("a").unwrap()["padding"] = json!("xy");
        assert_eq!(ledger().compare(&other).torn, ["a has other contents than were posted"]);
    }
}
