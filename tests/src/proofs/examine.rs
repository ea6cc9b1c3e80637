//! What a host and its receiver hold, compared with what a ledger says that they owe.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use super::ledger::{Findings, Found, Ledger};
use crate::client::Client;
use crate::fakes::WebhookFake;
use crate::host::HostFolder;
use crate::scene::{LIVE, SITE, WEBHOOK};

/// What was delivered before the time that is looked at.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// How often each webhook id had been delivered.
    pub deliveries: BTreeMap<String, u64>,
    /// Events that were accounted for then and need not be delivered again.
    pub accounted: BTreeSet<String>,
}

impl Before {
    /// The receiver as it is now; what this host has accounted for so far.
    #[must_use]
    pub fn now(webhook: &WebhookFake, accounted: BTreeSet<String>) -> Self {
        let deliveries = webhook.deliveries().into_iter().map(|(id, delivery)| (id, delivery.times)).collect();
        Self { deliveries, accounted }
    }
}

/// The events that were delivered since.
#[must_use]
pub fn delivered_since(webhook: &WebhookFake, before: &Before) -> BTreeSet<String> {
    let fresh = webhook.deliveries().into_iter().filter(|(id, delivery)| before.is_new(id, delivery.times));
    fresh.filter_map(|(_, delivery)| event_of(&delivery.data).map(str::to_owned)).collect()
}

impl Before {
    fn is_new(&self, id: &str, times: u64) -> bool {
        times > self.deliveries.get(id).copied().unwrap_or(0)
    }
}

fn event_of(data: &Value) -> Option<&str> {
    data.get("event_id").and_then(Value::as_str)
}

/// Asks the host and looks at what its receiver got since. The instance maps `event_id` and `check`.
///
/// # Errors
/// When the host does not answer; what is missing or damaged is in the findings.
pub async fn examine(operator: &Client, webhook: &WebhookFake, ledger: &Ledger, before: &Before) -> Result<Findings> {
    let mut found = recall(operator).await?;
    let dead = operator.dead_letters(WEBHOOK).await?;
    found.accounted.clone_from(&before.accounted);
    found.accounted.extend(delivered_since(webhook, before));
    found.accounted.extend(dead.into_iter().map(|letter| letter.event_id));
    let mut findings = ledger.compare(&found);
    for (id, delivery) in webhook.deliveries() {
        if !before.is_new(&id, delivery.times) {
            continue;
        }
        let event = event_of(&delivery.data).unwrap_or_default();
        let posted = found.captures.get(event).and_then(|fields| fields.get("check"));
        if delivery.changed || posted.is_none() || posted != delivery.data.get("check") {
            findings.torn.push(format!("{id} was delivered with other contents than {event:?} has"));
        }
    }
    verify_audit(operator, &mut findings).await;
    Ok(findings)
}

/// Asks a host whose store was made from a backup: it has everything that was acknowledged before, whatever its receiver
/// got.
///
/// # Errors
/// When the host does not answer; what is missing or damaged is in the findings.
pub async fn examine_restored(operator: &Client, ledger: &Ledger) -> Result<Findings> {
    let mut found = recall(operator).await?;
    found.accounted = found.captures.keys().cloned().collect();
    let mut findings = ledger.compare(&found);
    verify_audit(operator, &mut findings).await;
    Ok(findings)
}

/// What a host has of its own.
async fn recall(operator: &Client) -> Result<Found> {
    let captures = operator.captures(SITE, LIVE).await?;
    let changes = operator.audit(SITE, "event=configuration-changed").await?;
    let rotations = operator.audit(SITE, "event=credentials-rotated").await?;
    let replays = operator.audit(SITE, "event=dead-letters-replayed").await?;
    Ok(Found {
        captures: captures.into_iter().map(|capture| (capture.id, capture.fields)).collect(),
        accounted: BTreeSet::new(),
        titles: changes.iter().flat_map(new_titles).collect(),
        rotations: rotations.iter().filter_map(version).collect(),
        replays: replays.len() as u64,
    })
}

async fn verify_audit(operator: &Client, findings: &mut Findings) {
    if let Err(error) = operator.verify_audit(SITE).await {
        findings.torn.push(format!("the audit log does not verify: {error}"));
    }
}

/// Runs `store check` on a store that no process has; a sentence when it is not whole.
///
/// # Errors
/// When the command cannot be started.
pub async fn check_store(folder: &HostFolder) -> Result<Option<String>> {
    let check = folder.run(&["store", "check"]).await?;
    let whole = check.status.success() && check.stdout.contains("the store is whole");
    Ok((!whole).then(|| format!("store check fails: {}{}", check.stdout, check.stderr)))
}

/// What an audit record says was done.
fn action(record: &Value) -> &Value {
    record.get("action").filter(|action| action.is_object()).unwrap_or(record)
}

/// The titles that an audit record of a change gives.
fn new_titles(record: &Value) -> Vec<String> {
    let changes = action(record).get("changes").and_then(Value::as_array);
    let titles = changes.into_iter().flatten().filter(|change| change.get("field").is_some_and(|f| f == "title"));
    titles.filter_map(|change| change.get("new").and_then(Value::as_str).map(str::to_owned)).collect()
}

/// The version that an audit record of a rotation gives.
fn version(record: &Value) -> Option<u64> {
    action(record).get("version").and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    #[test]
    fn titles_and_versions_are_read_from_audit_records_in_either_shape() {
        let changes = json!([{ "field": "title", "prior": "a", "new": "b" }, { "field": "scope", "new": [] }]);
        let flat = json!({ "event": "configuration-changed", "changes": changes });
        assert_eq!(new_titles(&flat), ["b"]);
        assert_eq!(new_titles(&json!({ "action": flat })), ["b"]);
        let rotated = json!({ "event": "credentials-rotated", "slot": "secret", "version": 3 });
        assert_eq!(version(&rotated), Some(3));
        assert_eq!(version(&json!({ "action": rotated })), Some(3));
    }

    #[test]
    fn only_what_was_delivered_since_counts() {
        let before = Before { deliveries: BTreeMap::from([("w1".to_owned(), 1)]), accounted: BTreeSet::new() };
        assert!(!before.is_new("w1", 1));
        assert!(before.is_new("w1", 2) && before.is_new("w2", 1));
    }
}
