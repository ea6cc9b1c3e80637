//! Erasure: the contents of captured events are forgotten, wherever the host keeps them: in the event log, in what waits
//! for another attempt, in dead letters, and in what the integration log quotes.
//!
//! Ids, surfaces and times stay, so that positions and traces have no hole. What was delivered stays downstream, and what
//! is in backups stays there.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use sgen_audit::{Action, Actor, Draft};
use sgen_model::{CaptureEvent, EventId, Place, Sequence};
use sgen_store::{Commit, Keyspace};

use crate::error::{DeliveryError, Problem};
use crate::keys;
use crate::lane::OrderKind;
use crate::map::Path;
use crate::records::{DeadLetter, JournalEntry, RetryRecord, Sealed, StoredEvent};
use crate::runtime::{PAGE, Runtime, Slot};

/// What stands where something was erased.
const ERASED: &str = "(erased)";
/// Entries of the integration log that are rewritten at a time.
const REWRITTEN: usize = 256;

/// Which events are erased.
#[derive(Debug, Clone)]
pub enum Erasure {
    /// One.
    Event(EventId),
    /// All that have a value in a field: `fields.email`. Letters' case and surrounding space make no difference.
    Field {
        /// The field, as in a mapping.
        path: String,
        /// The value.
        value: String,
    },
}

/// Judges whether something holds the value that is looked for.
struct Wanted {
    path: Path,
    value: String,
}

impl Wanted {
    fn new(path: &str, value: &str) -> Result<Self, DeliveryError> {
        let invalid = |field: &str, said: String| DeliveryError::Invalid(vec![Problem::new(field, said)]);
        if value.trim().is_empty() {
            return Err(invalid("value", "must not be empty".to_owned()));
        }
        let path = Path::parse(path).map_err(|said| invalid("field", said))?;
        Ok(Self { path, value: folded(value) })
    }

    fn is_in(&self, event: &CaptureEvent) -> bool {
        self.path.find(event).is_some_and(|found| self.is(&found))
    }

    /// Whether any of the mapped fields is it: what was mapped does not say where it came from.
    fn is_mapped(&self, fields: &str) -> bool {
        serde_json::from_str::<Map<String, Value>>(fields)
            .is_ok_and(|fields| fields.values().any(|value| self.is(value)))
    }

    fn is(&self, found: &Value) -> bool {
        match found {
            Value::String(text) => folded(text) == self.value,
            Value::Number(_) | Value::Bool(_) => {
                let text = found.to_string();
                text == self.value
            }
            Value::Array(items) => items.iter().any(|item| self.is(item)),
            Value::Null | Value::Object(_) => false,
        }
    }
}

fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}

impl Runtime {
    /// Erases events; answers how many.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownEvent`], [`DeliveryError::Invalid`], the store's or the vault's.
    pub async fn erase(&self, actor: &Actor, place: &Place, erasure: &Erasure) -> Result<u64, DeliveryError> {
        let (sequences, field) = match erasure {
            Erasure::Event(id) => {
                let log = self.log(place)?;
                let sequence = log.find(id)?.ok_or_else(|| DeliveryError::UnknownEvent(id.clone()))?;
                let stored = log.read(sequence)?.ok_or_else(|| DeliveryError::UnknownEvent(id.clone()))?;
                self.erase_captures(actor, place, None, vec![(sequence, stored)]).await?;
                (BTreeSet::from([sequence]), None)
            }
            Erasure::Field { path, value } => {
                let wanted = Wanted::new(path, value)?;
                let mut sequences = self.erase_matching(actor, place, path, &wanted).await?;
                for slot in self.slots_of(place) {
                    sequences.extend(self.matching_records(&slot, &wanted)?);
                }
                (sequences, Some(path.clone()))
            }
        };
        tracing::info!(%place, events = sequences.len(), field = field.as_deref().unwrap_or("id"), "contents of events erased");
        for slot in self.slots_of(place) {
            let all = sequences.iter().copied().collect();
            slot.lane.order(OrderKind::Erase { sequences: all }).await?;
            self.rewrite_journal(&slot, &sequences).await?;
        }
        Ok(sequences.len() as u64)
    }

    async fn erase_matching(
        &self,
        actor: &Actor,
        place: &Place,
        path: &str,
        wanted: &Wanted,
    ) -> Result<BTreeSet<Sequence>, DeliveryError> {
        let log = self.log(place)?;
        let mut sequences = BTreeSet::new();
        let mut after = Sequence(0);
        loop {
            let page = log.read_after(after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(sequences) };
            after = *last;
            let found: Vec<(Sequence, StoredEvent)> = page
                .into_iter()
                .filter_map(|(sequence, read)| Some((sequence, read.ok()?)))
                .filter(|(_, stored)| wanted.is_in(&stored.event))
                .collect();
            sequences.extend(found.iter().map(|(sequence, _)| *sequence));
            if !found.is_empty() {
                self.erase_captures(actor, place, Some(path), found).await?;
            }
            // A long log is read between other work.
            tokio::task::yield_now().await;
        }
    }

    async fn erase_captures(
        &self,
        actor: &Actor,
        place: &Place,
        field: Option<&str>,
        found: Vec<(Sequence, StoredEvent)>,
    ) -> Result<(), DeliveryError> {
        let log = self.log(place)?;
        let mut commit = Commit::new();
        let count = found.len() as u64;
        for (sequence, stored) in found {
            log.erase(sequence, stored, &mut commit)?;
        }
        let draft = Draft {
            environment: Some(place.environment.clone()),
            actor: actor.clone(),
            instance: None,
            connector: None,
            catalog_version: self.catalog().map(|active| active.version.clone()),
            component_digest: None,
            action: Action::EventsErased { field: field.map(str::to_owned), count },
        };
        Ok(self.parts.audit.append(&place.site, vec![draft], commit)?.await?)
    }

    /// Events whose capture has been trimmed already, and that an instance still keeps.
    fn matching_records(&self, slot: &Slot, wanted: &Wanted) -> Result<Vec<Sequence>, DeliveryError> {
        let id = &slot.record.instance.id;
        let sealer = self.sealer(&slot.record.instance.place)?;
        let mut found = Vec::new();
        self.each(Keyspace::Dead, &keys::instance_prefix(id), |sequence, bytes| {
            let letter: DeadLetter = sealer.open(Sealed::Dead, id.as_str(), sequence.0, bytes)?;
            let in_capture = letter.event.as_ref().is_some_and(|event| wanted.is_in(event));
            if in_capture || letter.fields.as_ref().is_some_and(|fields| wanted.is_mapped(fields)) {
                found.push(sequence);
            }
            Ok(())
        })?;
        self.each(Keyspace::Retry, &keys::retry_prefix(id), |sequence, bytes| {
            let record: RetryRecord = sealer.open(Sealed::Retry, id.as_str(), sequence.0, bytes)?;
            if wanted.is_mapped(&record.fields) {
                found.push(sequence);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn each(
        &self,
        keyspace: Keyspace,
        prefix: &[u8],
        mut visit: impl FnMut(Sequence, &[u8]) -> Result<(), DeliveryError>,
    ) -> Result<(), DeliveryError> {
        let mut from = Vec::new();
        loop {
            let page = self.parts.store.scan(keyspace, &from, prefix, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from.clone_from(last);
            from.push(0);
            for (key, bytes) in &page {
                visit(Sequence(keys::number(key).unwrap_or(0)), bytes)?;
            }
        }
    }

    /// Takes what was quoted of the events out of the integration log.
    async fn rewrite_journal(&self, slot: &Slot, sequences: &BTreeSet<Sequence>) -> Result<(), DeliveryError> {
        let id = slot.record.instance.id.clone();
        let sealer = self.sealer(&slot.record.instance.place)?;
        let store = Arc::clone(&self.parts.store);
        let mut from = Vec::new();
        loop {
            let page = store.scan(Keyspace::Journal, &from, &keys::instance_prefix(&id), REWRITTEN)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from.clone_from(last);
            from.push(0);
            let mut rewritten = Vec::new();
            for (key, bytes) in page {
                let at = keys::due_time(&key).unwrap_or_default();
                let mut entry: JournalEntry = sealer.open(Sealed::Journal, id.as_str(), at.0, &bytes)?;
                let concerned = |events: &[Sequence]| events.iter().any(|sequence| sequences.contains(sequence));
                let mut changed = false;
                for failed in entry.failed.iter_mut().filter(|failed| concerned(&failed.events)) {
                    failed.failure.message = ERASED.to_owned();
                    changed = true;
                }
                if (changed || concerned(&entry.delivered)) && !entry.log.is_empty() {
                    entry.log = vec![ERASED.to_owned()];
                    changed = true;
                }
                if changed {
                    let sealed = sealer.seal(Sealed::Journal, id.as_str(), at.0, &entry)?;
                    rewritten.push((key, sealed));
                }
            }
            if !rewritten.is_empty() {
                slot.lane.order(OrderKind::Rewrite { entries: rewritten }).await?;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_is_found_whatever_its_case_and_not_as_a_part_of_another() {
        let wanted = Wanted::new("fields.email", " Ada@Example.com ").unwrap();
        let event = |email: &str| {
            let json = serde_json::json!({"id": "e", "surface": "form:a", "captured_at": "2026-01-01T00:00:00Z",
                "fields": {"email": email, "other": "ada@example.com"}});
            CaptureEvent::from_json(json.to_string().as_bytes()).unwrap()
        };
        assert!(wanted.is_in(&event("ada@example.COM")));
        assert!(!wanted.is_in(&event("not-ada@example.com")));
        assert!(wanted.is_mapped(r#"{"mail":"ada@example.com"}"#) && !wanted.is_mapped(r#"{"mail":"x"}"#));
        assert!(Wanted::new("fields.email", "  ").is_err() && Wanted::new("", "x").is_err());
    }
}
