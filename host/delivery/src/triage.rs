//! Triage: what waits for somebody, one item per cause, with what to do about it; and the hand-over to platform support.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sgen_audit::{Action, Actor};
use sgen_model::{ConnectorId, Failure, FailureClass, Fault, InstanceId, Place, Timestamp};
use sgen_store::Keyspace;
use sgen_vault::VaultError;

use crate::error::{DeliveryError, Problem};
use crate::inspect::JournalQuery;
use crate::keys;
use crate::lane::{Answer, OrderKind};
use crate::records::{Surfaced, decode, encode};
use crate::runtime::{PAGE, Runtime, Slot};

/// The longest note on an escalation, in bytes.
const NOTE: usize = 2_000;
/// How many failures of the integration log a bundle holds.
const FAILURES: usize = 20;

/// What an operator can do about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriageAction {
    /// Give a new credential.
    Rotate,
    /// Change the field mapping.
    FixMapping,
    /// Change the settings.
    ChangeSettings,
    /// Try again as it is: what was wrong has been mended downstream.
    ReEnable,
    /// Send the dead letters of this cause again.
    Replay,
    /// Give them up.
    Discard,
    /// Hand it to platform support.
    Escalate,
}

/// What can be done about a failure of this class, the suggested first. `dead` is how many dead letters it has.
fn actions(class: FailureClass, dead: u64) -> Vec<TriageAction> {
    use TriageAction::{ChangeSettings, Discard, Escalate, FixMapping, ReEnable, Replay, Rotate};
    let mut actions = match class {
        FailureClass::AuthRevoked | FailureClass::PermissionDenied => vec![Rotate, ReEnable],
        FailureClass::Gone => vec![ChangeSettings, ReEnable],
        FailureClass::SchemaMismatch | FailureClass::TooLarge => vec![FixMapping],
        FailureClass::Rejected => vec![FixMapping, ChangeSettings],
        FailureClass::RateLimited | FailureClass::Unavailable => Vec::new(),
        FailureClass::ConnectorFault | FailureClass::EgressDenied => vec![Escalate],
    };
    if dead > 0 {
        actions.extend([Replay, Discard]);
    }
    if !actions.contains(&Escalate) {
        actions.push(Escalate);
    }
    actions
}

/// One item.
#[derive(Debug, Clone, Serialize)]
pub struct TriageItem {
    /// The instance.
    pub instance: InstanceId,
    /// Its connector.
    pub connector: ConnectorId,
    /// What the operator calls it.
    pub title: String,
    /// Class with code or field: names the item.
    pub cause: String,
    /// The class.
    pub class: FailureClass,
    /// Whose it is to mend.
    pub fault: Fault,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// How often.
    pub count: u64,
    /// Dead letters of this cause that are there now.
    pub dead_letters: u64,
    /// One of the failures.
    pub sample: Failure,
    /// What to do, in a sentence.
    pub suggestion: &'static str,
    /// What can be done, the suggested first.
    pub actions: Vec<TriageAction>,
    /// When it was handed to platform support.
    pub escalated_at: Option<Timestamp>,
}

fn item(slot: &Slot, known: Surfaced) -> TriageItem {
    let instance = &slot.record.instance;
    let class = known.sample.class;
    TriageItem {
        instance: instance.id.clone(),
        connector: instance.connector.clone(),
        title: instance.title.clone(),
        cause: known.cause,
        class,
        fault: class.fault(),
        first_seen: known.first_seen,
        last_seen: known.last_seen,
        count: known.count,
        dead_letters: known.dead,
        suggestion: class.advice(),
        actions: actions(class, known.dead),
        sample: known.sample,
        escalated_at: known.escalated_at,
    }
}

impl Runtime {
    /// What waits for somebody on a site and environment, the most recent first.
    ///
    /// # Errors
    /// The store's.
    pub fn triage(&self, place: &Place) -> Result<Vec<TriageItem>, DeliveryError> {
        let mut items = Vec::new();
        for slot in self.slots_of(place) {
            items.extend(self.surfaced(&slot)?);
        }
        items.sort_by(|a: &TriageItem, b| b.last_seen.cmp(&a.last_seen).then_with(|| a.cause.cmp(&b.cause)));
        Ok(items)
    }

    /// What waits for somebody of one instance.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`], or the store's.
    pub fn triage_of(&self, id: &InstanceId) -> Result<Vec<TriageItem>, DeliveryError> {
        let mut items = self.surfaced(&self.slot(id)?)?;
        items.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then_with(|| a.cause.cmp(&b.cause)));
        Ok(items)
    }

    fn surfaced(&self, slot: &Slot) -> Result<Vec<TriageItem>, DeliveryError> {
        let prefix = keys::instance_prefix(&slot.record.instance.id);
        let entries = self.parts.store.scan(Keyspace::Surfaced, b"", &prefix, PAGE)?;
        entries.iter().map(|(_, bytes)| Ok(item(slot, decode("surfaced failure", bytes)?))).collect()
    }

    /// Hands an item to platform support: a bundle of the facts, without secrets, captured values or settings, is kept for
    /// the platform. Answers the bundle.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`] when there is no such item, [`DeliveryError::Invalid`] when the note is too long.
    pub async fn escalate(
        &self,
        actor: &Actor,
        id: &InstanceId,
        cause: &str,
        note: Option<String>,
    ) -> Result<Value, DeliveryError> {
        if note.as_ref().is_some_and(|note| note.len() > NOTE) {
            return Err(DeliveryError::Invalid(vec![Problem::new("note", format!("must be at most {NOTE} bytes"))]));
        }
        let unknown = || DeliveryError::Unknown(format!("item {cause:?} in the triage of {id}"));
        let item = self.triage_of(id)?.into_iter().find(|item| item.cause == cause).ok_or_else(unknown)?;
        let now = self.parts.clock.now();
        let mut random = [0; 10];
        self.parts.entropy.fill(&mut random).map_err(VaultError::from)?;
        let bundle_id = uuid::Builder::from_unix_timestamp_millis(now.0, &random).into_uuid().simple().to_string();
        let bundle = self.bundle(id, &bundle_id, now, actor, &item, note.as_deref())?;
        let order = OrderKind::Escalate {
            cause: cause.to_owned(),
            key: bundle_id.clone().into_bytes(),
            bundle: encode("support bundle", &bundle)?,
            action: Action::FailureEscalated { cause: cause.to_owned(), bundle: bundle_id, note },
            actor: actor.clone(),
        };
        match self.slot(id)?.lane.order(order).await? {
            Answer::Unknown => Err(unknown()),
            _ => Ok(bundle),
        }
    }

    /// What support needs to see. Nothing in it comes from a capture, and no value from the settings.
    fn bundle(
        &self,
        id: &InstanceId,
        bundle_id: &str,
        now: Timestamp,
        actor: &Actor,
        item: &TriageItem,
        note: Option<&str>,
    ) -> Result<Value, DeliveryError> {
        let slot = self.slot(id)?;
        let instance = &slot.record.instance;
        let status = self.status(id)?;
        let failures = self.journal(id, &JournalQuery { failures_only: true, ..JournalQuery::default() }, FAILURES)?;
        let active = self.catalog();
        let entry = active.as_ref().and_then(|active| active.entries.get(&instance.connector));
        let mapping: Map<String, Value> = instance
            .mapping
            .0
            .iter()
            .map(|(target, source)| {
                // A constant may be anything; a path and a template say only where a value comes from.
                let from = source.from.clone().or_else(|| source.template.clone());
                (target.clone(), from.map_or(json!("(constant)"), Value::String))
            })
            .collect();
        Ok(json!({
            "id": bundle_id,
            "at": now,
            "by": actor,
            "note": note,
            "account": instance.account,
            "place": instance.place,
            "instance": {
                "id": instance.id,
                "connector": instance.connector,
                "revision": instance.revision,
                "enabled": instance.enabled,
                "scope": instance.scope,
                "order": instance.order,
                "mapping": mapping,
                "settings": instance.settings.keys().collect::<Vec<_>>(),
                "credentials": instance.credentials,
            },
            "release": active.as_ref().map(|active| &active.version),
            "component": entry.map(|entry| json!({ "version": entry.version, "digest": entry.digest.to_string() })),
            "item": item,
            "status": status,
            "failures": failures.entries,
        }))
    }

    /// Bundles that were handed to platform support, newest first. `before` is a bundle's id to go on from.
    ///
    /// # Errors
    /// The store's.
    pub fn escalations(&self, before: Option<&str>, limit: usize) -> Result<Vec<Value>, DeliveryError> {
        let before = before.unwrap_or_default().as_bytes();
        let entries = self.parts.store.scan_back(Keyspace::Escalation, before, b"", limit)?;
        entries.iter().map(|(_, bytes)| decode("support bundle", bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_something_that_can_be_done_and_support_is_always_among_it() {
        for class in FailureClass::ALL {
            for dead in [0, 5] {
                let actions = actions(class, dead);
                assert!(actions.contains(&TriageAction::Escalate), "{class}");
                assert_eq!(actions.contains(&TriageAction::Replay), dead > 0, "{class}");
            }
        }
        assert_eq!(actions(FailureClass::AuthRevoked, 0).first(), Some(&TriageAction::Rotate));
        assert_eq!(actions(FailureClass::SchemaMismatch, 3).first(), Some(&TriageAction::FixMapping));
    }
}
