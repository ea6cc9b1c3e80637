//! One downstream account for one environment: a credential of the account that the live site delivers to is not used by
//! staging, and the other way round, unless an operator says so.
//!
//! Which account a credential belongs to is known only by asking the downstream with it, and only for connectors that can
//! tell (the ability `identity`). So it is asked *before* a new credential is stored, and a refusal changes nothing. A
//! downstream that does not answer is no reason to keep an operator from configuring: the credential is taken, and the next
//! health check that learns the account refuses then, by pausing the instance that is not live. Comparing is by a keyed
//! fingerprint; the label is what the downstream calls the account, for people.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sgen_audit::{Action, Actor, Draft};
use sgen_engine::Invoker;
use sgen_model::{
    ConnectorInstance, DownstreamAccount, Environment, Failure, FailureClass, InstanceId, SecretBytes, SharedId,
    SlotName, Timestamp,
};
use sgen_store::{Commit, Keyspace};
use sgen_vault::{Credential, Credentials, OVERLAP};

use crate::control::NewInstance;
use crate::error::DeliveryError;
use crate::records::{InstanceRecord, encode};
use crate::runtime::Runtime;
use crate::{grants, keys, validate};

/// How long an operator waits for the downstream's word on an account.
const PATIENCE: Duration = Duration::from_secs(10);
/// The environment that visitors see.
const LIVE: &str = "live";

/// What becomes of a credential whose account an instance of another environment uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OtherEnvironment {
    /// It is refused.
    #[default]
    Refused,
    /// The operator wants it so; that is audited.
    Allowed,
}

/// The downstream account that an instance's credentials belong to, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAccount {
    /// A keyed digest of connector and account: equal for equal accounts, and otherwise meaningless.
    pub fingerprint: String,
    /// What the downstream calls it.
    pub label: String,
    /// Whether the downstream marks it as a test account.
    pub sandbox: bool,
    /// When it was learned.
    pub seen_at: Timestamp,
    /// Whether an operator allowed it although an instance of another environment has it.
    #[serde(default)]
    pub allowed: bool,
    /// The instance of another environment because of which this one is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_for: Option<Elsewhere>,
}

/// An instance of another environment with the same account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The instance.
    pub instance: InstanceId,
    /// Its environment.
    pub environment: Environment,
}

/// The instance of another environment of the same site that uses an account, when one of the two environments is live.
/// Pure.
pub(crate) fn elsewhere<'a>(
    own: &ConnectorInstance,
    fingerprint: &str,
    others: impl Iterator<Item = &'a InstanceRecord>,
) -> Option<Elsewhere> {
    let is_live = |environment: &Environment| environment.as_str() == LIVE;
    let mut found = others.filter(|other| {
        let (instance, own_environment) = (&other.instance, &own.place.environment);
        instance.id != own.id
            && instance.place.site == own.place.site
            && instance.connector == own.connector
            && instance.place.environment != *own_environment
            && (is_live(own_environment) || is_live(&instance.place.environment))
            && other.account.as_ref().is_some_and(|account| {
                account.fingerprint == fingerprint && !account.allowed && account.refused_for.is_none()
            })
    });
    found.next().map(|other| Elsewhere {
        instance: other.instance.id.clone(),
        environment: other.instance.place.environment.clone(),
    })
}

/// Why an instance is paused by the guard, when it is.
pub(crate) fn refusal(record: &InstanceRecord) -> Option<Failure> {
    let account = record.account.as_ref()?;
    let other = account.refused_for.as_ref()?;
    let said = format!(
        "the credential belongs to account {:?}, which instance {} of environment {} uses: give {} a credential of its own, or \
         allow it with a check that says so",
        account.label, other.instance, other.environment, record.instance.place.environment
    );
    let mut failure = Failure::new(FailureClass::PermissionDenied, said);
    failure.code = Some("account-of-another-environment".to_owned());
    Some(failure)
}

impl Runtime {
    /// The account of the credentials of an instance that is about to be configured; nothing when it cannot be learned.
    pub(crate) async fn account_of_new(&self, id: &InstanceId, new: &NewInstance) -> Option<DownstreamAccount> {
        let active = self.catalog()?;
        let entry = active.runnable(&new.connector).ok().filter(|entry| entry.tells_account())?;
        let settings = Value::Object(validate::settings(&entry.manifest, new.settings.clone()).ok()?);
        let specs = grants::specs(&self.bases(), &entry.manifest, &settings).ok()?;
        let mut credentials = Vec::new();
        for (slot, secret) in &new.credentials {
            grants::check_credential(&entry.manifest, slot, secret).ok()?;
            credentials.push((slot.clone(), Credential::new(1, copy(secret))));
        }
        for (slot, shared) in &new.shared {
            let reference = self.reference(&entry.manifest, &new.account, slot, shared).ok()?;
            credentials.push((slot.clone(), self.parts.vault.shared(&reference).ok()?));
        }
        let grant = self.parts.gate.grant(id, specs, Credentials::from_iter(credentials)).ok()?;
        ask(&Invoker::new(entry.component.clone(), grant), &settings.to_string()).await
    }

    /// The account of an instance's credentials with one of them replaced; nothing when it cannot be learned.
    pub(crate) async fn account_of_rotated(
        &self,
        id: &InstanceId,
        slot: &SlotName,
        secret: &SecretBytes,
    ) -> Option<DownstreamAccount> {
        let active = self.catalog()?;
        let InstanceRecord { instance, .. } = self.record(id).ok()?;
        let entry = active.runnable(&instance.connector).ok().filter(|entry| entry.tells_account())?;
        grants::check_credential(&entry.manifest, slot, secret).ok()?;
        let settings = Value::Object(instance.settings.clone());
        let specs = grants::specs(&self.bases(), &entry.manifest, &settings).ok()?;
        let known = self.parts.vault.credentials(&instance.place, id, &instance.credentials).ok()?;
        let others =
            known.iter().filter(|(other, _)| *other != slot).map(|(slot, known)| (slot.clone(), copied(known)));
        let mut rotated = Credential::new(1, copy(secret));
        if let Some(before) = known.get(slot) {
            // The downstream knows it, and may show it in what it answers.
            rotated = rotated.with_previous(copy(before.current()), self.parts.clock.now().after(OVERLAP));
        }
        let credentials: Credentials = others.chain(std::iter::once((slot.clone(), rotated))).collect();
        let grant = self.parts.gate.grant(id, specs, credentials).ok()?;
        ask(&Invoker::new(entry.component.clone(), grant), &settings.to_string()).await
    }

    /// The account of an instance's credentials with one slot referring to a shared one; nothing when it cannot be learned.
    pub(crate) async fn account_of_reference(
        &self,
        id: &InstanceId,
        slot: &SlotName,
        shared: &SharedId,
    ) -> Option<DownstreamAccount> {
        let ConnectorInstance { account, connector, .. } = self.record(id).ok()?.instance;
        let active = self.catalog()?;
        let entry = active.runnable(&connector).ok().filter(|entry| entry.tells_account())?;
        let reference = self.reference(&entry.manifest, &account, slot, shared).ok()?;
        let opened = self.parts.vault.shared(&reference).ok()?;
        self.account_of_rotated(id, slot, opened.current()).await
    }

    /// Puts what was learned into a record that is about to be stored; answers what has to be audited with it.
    ///
    /// # Errors
    /// [`DeliveryError::AccountElsewhere`] after the refusal has been audited.
    pub(crate) async fn admit_account(
        &self,
        actor: &Actor,
        record: &mut InstanceRecord,
        learned: Option<DownstreamAccount>,
        other_environment: OtherEnvironment,
    ) -> Result<Option<Draft>, DeliveryError> {
        let Some(learned) = learned else {
            // The credential may be another account's than the one that was known.
            record.account = None;
            return Ok(None);
        };
        let mut account = self.known(&record.instance, learned);
        let Some(other) = self.elsewhere(&record.instance, &account.fingerprint) else {
            record.account = Some(account);
            return Ok(None);
        };
        if other_environment == OtherEnvironment::Refused {
            let draft = self.draft(actor, &record.instance, refused(&account, &other));
            self.parts.audit.append(&record.instance.place.site, vec![draft], Commit::new())?.await?;
            return Err(DeliveryError::AccountElsewhere {
                label: account.label,
                environment: record.instance.place.environment.clone(),
                other: other.instance,
                other_environment: other.environment,
            });
        }
        account.allowed = true;
        let draft = self.draft(actor, &record.instance, allowed(&account, &other));
        record.account = Some(account);
        Ok(Some(draft))
    }

    /// Takes note of the account that a health check has learned. Of two instances with one account the one that is not
    /// live is paused, unless that was allowed or is allowed now.
    pub(crate) async fn note_account(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        learned: DownstreamAccount,
        other_environment: OtherEnvironment,
    ) -> Result<(), DeliveryError> {
        let _turn = self.control.lock().await;
        let mut record = self.record(id)?;
        let mut account = self.known(&record.instance, learned);
        let before = record.account.clone().filter(|known| known.fingerprint == account.fingerprint);
        account.allowed = before.as_ref().is_some_and(|known| known.allowed);
        let other = if account.allowed { None } else { self.elsewhere(&record.instance, &account.fingerprint) };
        let mut drafts = Vec::new();
        match other {
            None => {}
            Some(other) if other_environment == OtherEnvironment::Allowed => {
                account.allowed = true;
                drafts.push(self.draft(actor, &record.instance, allowed(&account, &other)));
            }
            Some(other) if record.instance.place.environment.as_str() == LIVE => {
                // Visitors' events go on; the other instance is the one that is where it does not belong.
                let own = Elsewhere { instance: id.clone(), environment: record.instance.place.environment.clone() };
                let mut theirs = self.record(&other.instance)?;
                if let Some(known) = &mut theirs.account {
                    drafts.push(self.draft(actor, &theirs.instance, refused(known, &own)));
                    known.refused_for = Some(own);
                }
                self.store_account(theirs, std::mem::take(&mut drafts)).await?;
            }
            Some(other) => {
                let known_before = before.as_ref().and_then(|known| known.refused_for.as_ref()) == Some(&other);
                if !known_before {
                    drafts.push(self.draft(actor, &record.instance, refused(&account, &other)));
                }
                account.refused_for = Some(other);
            }
        }
        if let Some(before) = before {
            account.seen_at = before.seen_at;
        }
        if record.account.as_ref() == Some(&account) && drafts.is_empty() {
            return Ok(());
        }
        record.account = Some(account);
        self.store_account(record, drafts).await
    }

    /// Writes a record whose account has changed. The operator changed nothing, so its revision stays.
    async fn store_account(self: &Arc<Self>, record: InstanceRecord, drafts: Vec<Draft>) -> Result<(), DeliveryError> {
        let mut commit = Commit::new();
        commit.put(Keyspace::Instance, keys::instance(&record.instance.id), encode("connector instance", &record)?);
        if drafts.is_empty() {
            self.parts.store.submit(commit).await?;
        } else {
            self.parts.audit.append(&record.instance.place.site, drafts, commit)?.await?;
        }
        self.adopt(record)
    }

    fn known(&self, instance: &ConnectorInstance, learned: DownstreamAccount) -> KnownAccount {
        let named = format!("{}/{}", instance.connector, learned.id);
        KnownAccount {
            fingerprint: self.parts.vault.fingerprint("downstream account", named.as_bytes()),
            label: learned.label,
            sandbox: learned.sandbox,
            seen_at: self.parts.clock.now(),
            allowed: false,
            refused_for: None,
        }
    }

    fn elsewhere(&self, own: &ConnectorInstance, fingerprint: &str) -> Option<Elsewhere> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        elsewhere(own, fingerprint, slots.values().map(|slot| slot.record.as_ref()))
    }

    pub(crate) fn draft(&self, actor: &Actor, instance: &ConnectorInstance, action: Action) -> Draft {
        let active = self.catalog();
        let entry = active.as_ref().and_then(|active| active.entries.get(&instance.connector));
        Draft {
            environment: Some(instance.place.environment.clone()),
            actor: actor.clone(),
            instance: Some(instance.id.clone()),
            connector: Some(instance.connector.clone()),
            catalog_version: active.as_ref().map(|active| active.version.clone()),
            component_digest: entry.map(|entry| entry.digest.to_string()),
            action,
        }
    }
}

fn refused(account: &KnownAccount, other: &Elsewhere) -> Action {
    Action::AccountRefused {
        fingerprint: account.fingerprint.clone(),
        label: account.label.clone(),
        other_instance: other.instance.clone(),
        other_environment: other.environment.clone(),
    }
}

fn allowed(account: &KnownAccount, other: &Elsewhere) -> Action {
    Action::AccountAllowed {
        fingerprint: account.fingerprint.clone(),
        label: account.label.clone(),
        other_instance: other.instance.clone(),
        other_environment: other.environment.clone(),
    }
}

/// A second copy, wiped like the first, for the one question.
fn copied(known: &Credential) -> Credential {
    let copied = Credential::new(known.version(), copy(known.current()));
    match known.previous() {
        Some(previous) => copied.with_previous(copy(&previous.secret), previous.until),
        None => copied,
    }
}

fn copy(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose().to_vec())
}

async fn ask(invoker: &Invoker, settings: &str) -> Option<DownstreamAccount> {
    let answer = tokio::time::timeout(PATIENCE, invoker.account(settings)).await.ok()??;
    answer.result.ok()?.ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn record(id: &str, environment: &str, account: &str) -> InstanceRecord {
        let instance = json!({
            "id": id, "place": {"site": "shop", "environment": environment}, "account": "acme", "connector": "hubspot",
            "title": id, "settings": {}, "mapping": {}, "scope": ["*"], "enabled": true, "credentials": {},
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "revision": 1
        });
        let known =
            json!({"fingerprint": account, "label": "Acme", "sandbox": false, "seen_at": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"instance": instance, "routing": {"start": 0}, "account": known})).unwrap()
    }

    #[test]
    fn an_account_is_elsewhere_only_when_one_of_the_two_environments_is_live() {
        let cases = [
            ("staging", "live", "a", true),
            ("live", "staging", "a", true),
            ("staging", "preview", "a", false),
            ("live", "live", "a", false),
            ("staging", "live", "b", false),
        ];
        for (own, other, account, expected) in cases {
            let (own, other) = (record("own", own, "a"), record("other", other, account));
            let found = elsewhere(&own.instance, "a", [&own, &other].into_iter());
            assert_eq!(found.is_some(), expected, "{:?} {:?}", own.instance.place, other.instance.place);
            assert!(found.is_none_or(|found| found.instance.as_str() == "other"));
        }
    }

    #[test]
    fn another_site_another_connector_and_what_was_allowed_or_is_refused_itself_do_not_count() {
        let own = record("own", "staging", "a");
        let changes: [fn(&mut InstanceRecord); 4] = [
            |other| other.instance.place.site = "other".parse().unwrap(),
            |other| other.instance.connector = "webhook".parse().unwrap(),
            |other| other.account.as_mut().unwrap().allowed = true,
            |other| {
                let elsewhere = Elsewhere { instance: "x".parse().unwrap(), environment: "y".parse().unwrap() };
                other.account.as_mut().unwrap().refused_for = Some(elsewhere);
            },
        ];
        for change in changes {
            let mut other = record("other", "live", "a");
            assert!(elsewhere(&own.instance, "a", std::iter::once(&other)).is_some());
            change(&mut other);
            assert!(elsewhere(&own.instance, "a", std::iter::once(&other)).is_none());
        }
    }

    #[test]
    fn a_refusal_names_the_instance_and_both_environments() {
        let mut own = record("own", "staging", "a");
        assert_eq!(refusal(&own), None);
        let elsewhere = Elsewhere { instance: "crm-live".parse().unwrap(), environment: "live".parse().unwrap() };
        own.account.as_mut().unwrap().refused_for = Some(elsewhere);
        let said = refusal(&own).unwrap();
        for part in ["crm-live", "live", "staging", "Acme"] {
            assert!(said.message.contains(part), "{}", said.message);
        }
    }
}
