//! What an operator changes: configure, change, rotate, enable, disable. Each is one commit with its audit record.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde_json::{Map, Value};
use sgen_audit::{Action, Actor, Draft, FieldChange};
use sgen_model::{
    AccountId, ConnectorId, ConnectorInstance, CredentialRef, FieldMapping, InstanceId, Order, Place, Scope,
    SecretBytes, Sequence, SharedId, SlotName,
};
use sgen_store::{Commit, Keyspace};
use sgen_vault::VaultError;
use tokio::sync::oneshot;

use crate::account_guard::OtherEnvironment;
use crate::error::{DeliveryError, Problem};
use crate::grants;
use crate::keys;
use crate::lane::OrderKind;
use crate::map::CompiledMapping;
use crate::records::{InstanceRecord, Routing, encode};
use crate::release::{ActiveCatalog, ActiveEntry};
use crate::runtime::Runtime;
use crate::validate;

/// The longest title, in bytes.
const TITLE: usize = 200;
/// The longest note on why an instance was disabled, in bytes.
const REASON: usize = 500;
/// The largest configuration, in bytes of JSON: an audit record holds it twice.
const CONFIGURATION: usize = 512 * 1024;

/// A connector instance to be configured.
pub struct NewInstance {
    /// Its id; one is made when there is none.
    pub id: Option<InstanceId>,
    /// The site and environment.
    pub place: Place,
    /// The account that owns the site.
    pub account: AccountId,
    /// The catalog entry.
    pub connector: ConnectorId,
    /// What the operator calls it; the connector's title when there is none.
    pub title: Option<String>,
    /// The settings.
    pub settings: Map<String, Value>,
    /// The field mapping; required targets that it leaves out take their preset.
    pub mapping: FieldMapping,
    /// The scope; the connector's default when there is none.
    pub scope: Option<Scope>,
    /// In which order its events are delivered.
    pub order: Order,
    /// A secret per slot.
    pub credentials: BTreeMap<SlotName, SecretBytes>,
    /// Slots that refer to a shared credential of the account.
    pub shared: BTreeMap<SlotName, SharedId>,
    /// What becomes of credentials whose downstream account an instance of another environment uses.
    pub other_environment: OtherEnvironment,
}

/// A change of configuration; `None` leaves a part as it is.
#[derive(Debug, Clone, Default)]
pub struct InstanceChange {
    /// The title.
    pub title: Option<String>,
    /// All settings.
    pub settings: Option<Map<String, Value>>,
    /// The whole mapping.
    pub mapping: Option<FieldMapping>,
    /// The scope.
    pub scope: Option<Scope>,
    /// The order.
    pub order: Option<Order>,
}

/// Where an instance that is enabled again begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnableFrom {
    /// With what is captured from now on.
    Newest,
    /// With what was captured meanwhile.
    Meanwhile,
}

impl Runtime {
    /// Configures a connector instance and puts it into service.
    ///
    /// # Errors
    /// [`DeliveryError::Invalid`] names every field at fault; [`DeliveryError::Conflict`] when the id is taken;
    /// [`DeliveryError::AccountElsewhere`].
    pub async fn configure(
        self: &Arc<Self>,
        actor: &Actor,
        new: NewInstance,
    ) -> Result<ConnectorInstance, DeliveryError> {
        let id = match new.id.clone() {
            Some(id) => id,
            None => self.fresh_id()?,
        };
        // Before anybody else has to wait: a downstream may take its time.
        let account = self.account_of_new(&id, &new).await;
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let entry = entry(&active, &new.connector)?;
        let now = self.parts.clock.now();
        if self.slots.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id) {
            return Err(DeliveryError::Conflict(format!("the instance id {id} is taken; choose another")));
        }
        let mut commit = Commit::new();
        let mut problems = Vec::new();
        let manifest = &entry.manifest;
        let settings = keep(&mut problems, validate::settings(manifest, new.settings)).unwrap_or_default();
        let mapping = validate::with_presets(manifest, new.mapping);
        keep(&mut problems, CompiledMapping::new(&mapping, manifest));
        let scope = match new.scope {
            Some(scope) => Some(scope),
            None => keep(&mut problems, validate::default_scope(manifest)),
        };
        if problems.is_empty() {
            keep(&mut problems, grants::specs(&self.bases(), manifest, &Value::Object(settings.clone())));
        }
        let title = new.title.unwrap_or_else(|| manifest.title.clone());
        check_text("title", &title, TITLE, &mut problems);
        check_size(&settings, &mapping, &mut problems);
        check_order(&new.order, &mapping, &mut problems);
        let mut credentials = BTreeMap::new();
        for (slot, secret) in new.credentials {
            match self.seal(entry, &new.place, &id, &slot, 1, secret, &mut commit) {
                Ok(reference) => {
                    credentials.insert(slot, reference);
                }
                Err(error) => problems.push(credential_problem(&slot, error)?),
            }
        }
        for (slot, shared) in new.shared {
            if !manifest.credentials.contains_key(slot.as_str()) || credentials.contains_key(&slot) {
                let said = "the connector has no such slot, or it has a credential of its own here";
                problems.push(Problem::new(format!("shared.{slot}"), said));
                continue;
            }
            match self.reference(manifest, &new.account, &slot, &shared) {
                Ok(reference) => {
                    credentials.insert(slot, reference);
                }
                Err(DeliveryError::Unknown(said)) => {
                    problems.push(Problem::new(format!("shared.{slot}"), format!("there is no {said}")));
                }
                Err(error) => problems.push(credential_problem(&slot, error)?),
            }
        }
        for (slot, declared) in &manifest.credentials {
            if declared.is_entered()
                && !credentials.keys().any(|given| given.as_str() == slot)
                && !problems.iter().any(|p| {
                    p.field
                        .split_once('.')
                        .is_some_and(|(part, of)| (part == "credentials" || part == "shared") && of == slot)
                })
            {
                let message = format!("{:?} is required", declared.title);
                problems.push(Problem::new(format!("credentials.{slot}"), message));
            }
        }
        let (Some(scope), true) = (scope, problems.is_empty()) else { return Err(DeliveryError::Invalid(problems)) };
        let instance = ConnectorInstance {
            id,
            place: new.place,
            account: new.account,
            connector: new.connector,
            title,
            settings,
            mapping,
            scope: scope.clone(),
            order: new.order,
            enabled: true,
            credentials,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        let start = self.log(&instance.place)?.head();
        let routing = Routing { start, ..Routing::default() };
        let mut record = InstanceRecord { instance, routing, account: None, revoked: BTreeMap::new() };
        let allowed = self.admit_account(actor, &mut record, account, new.other_environment).await?;
        let action =
            Action::ConnectorConfigured { connector_type: manifest.kind.as_str().to_owned(), scope, enabled: true };
        self.store_with(actor, &active, record, action, allowed.into_iter().collect(), commit).await
    }

    /// Changes an instance's configuration. `revision` is the one that the change was made from, when that is known.
    ///
    /// # Errors
    /// As [`Runtime::configure`]; [`DeliveryError::Conflict`] when somebody else was faster.
    pub async fn change(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        change: InstanceChange,
        revision: Option<u64>,
    ) -> Result<ConnectorInstance, DeliveryError> {
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut record = self.record(id)?;
        if revision.is_some_and(|revision| revision != record.instance.revision) {
            let said = format!(
                "the instance is at revision {} by now: read it again and repeat the change",
                record.instance.revision
            );
            return Err(DeliveryError::Conflict(said));
        }
        let manifest = &entry(&active, &record.instance.connector)?.manifest;
        let before = record.instance.clone();
        let after = &mut record.instance;
        let mut problems = Vec::new();
        if let Some(title) = change.title {
            check_text("title", &title, TITLE, &mut problems);
            after.title = title;
        }
        if let Some(settings) = change.settings
            && let Some(settings) = keep(&mut problems, validate::settings(manifest, settings))
        {
            keep(&mut problems, grants::specs(&self.bases(), manifest, &Value::Object(settings.clone())));
            after.settings = settings;
        }
        if let Some(mapping) = change.mapping {
            after.mapping = validate::with_presets(manifest, mapping);
            keep(&mut problems, CompiledMapping::new(&after.mapping, manifest));
        }
        if let Some(scope) = change.scope {
            after.scope = scope;
        }
        if let Some(order) = change.order {
            after.order = order;
        }
        check_order(&after.order, &after.mapping, &mut problems);
        check_size(&after.settings, &after.mapping, &mut problems);
        if !problems.is_empty() {
            return Err(DeliveryError::Invalid(problems));
        }
        let changes = differences(&before, after)?;
        if changes.is_empty() {
            return Ok(before);
        }
        let remapped = before.mapping != record.instance.mapping;
        // Dropped at the end, when the lane has its new mapping, or keeps the former one.
        let (_changing, until) = oneshot::channel();
        if remapped {
            self.freeze(id, until).await?;
        }
        self.store_change(actor, &active, record, Action::ConfigurationChanged { changes }, Commit::new()).await
    }

    /// Has the lane keep what may have been sent under the present mapping, and send nothing until the change is over.
    async fn freeze(&self, id: &InstanceId, until: oneshot::Receiver<()>) -> Result<(), DeliveryError> {
        let lane = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            slots.get(id).ok_or_else(|| DeliveryError::UnknownInstance(id.clone()))?.lane.clone()
        };
        match lane.order(OrderKind::Freeze { until }).await {
            // A lane that has ended sends nothing more; its mapping can be changed all the same.
            Ok(_) | Err(DeliveryError::Stopping) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Rotates a credential; a lane that was paused for it goes on by itself.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownSlot`], [`DeliveryError::Invalid`] when the secret cannot be used,
    /// [`DeliveryError::AccountElsewhere`].
    pub async fn rotate(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        slot: &SlotName,
        secret: SecretBytes,
        other_environment: OtherEnvironment,
    ) -> Result<CredentialRef, DeliveryError> {
        let account = self.account_of_rotated(id, slot, &secret).await;
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut record = self.record(id)?;
        let entry = entry(&active, &record.instance.connector)?;
        let known = record.instance.credentials.get(slot);
        if let Some(shared) = known.and_then(|known| known.shared.as_ref()) {
            return Err(DeliveryError::Conflict(format!(
                "slot {slot} refers to the shared credential {}: rotate that one, or revoke the reference first",
                shared.id
            )));
        }
        let version = known.map_or(0, |known| known.version).saturating_add(1);
        let mut commit = Commit::new();
        let reference = match self.seal(entry, &record.instance.place, id, slot, version, secret, &mut commit) {
            Ok(reference) => reference,
            Err(error @ DeliveryError::UnknownSlot { .. }) => return Err(error),
            Err(error) => return Err(DeliveryError::Invalid(vec![credential_problem(slot, error)?])),
        };
        record.instance.credentials.insert(slot.clone(), reference.clone());
        record.revoked.remove(slot);
        let action = Action::CredentialsRotated {
            slot: slot.clone(),
            version: reference.version,
            fingerprint: reference.fingerprint.clone(),
        };
        let allowed = self.admit_account(actor, &mut record, account, other_environment).await?;
        self.store_with(actor, &active, record, action, allowed.into_iter().collect(), commit).await?;
        Ok(reference)
    }

    /// Enables an instance, or lets a paused one try again.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`], or the store's.
    pub async fn enable(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        from: EnableFrom,
    ) -> Result<ConnectorInstance, DeliveryError> {
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut record = self.record(id)?;
        if let Some(after) = record.routing.disabled_after.take() {
            let head = self.log(&record.instance.place)?.head();
            if from == EnableFrom::Newest && head > after {
                record.routing.gaps.push((after, head));
            }
        }
        record.instance.enabled = true;
        let from = match from {
            EnableFrom::Newest => "newest",
            EnableFrom::Meanwhile => "meanwhile",
        };
        let action = Action::ConnectorEnabled { from: from.to_owned(), enabled: true };
        self.store_change(actor, &active, record, action, Commit::new()).await
    }

    /// Disables an instance: what is captured from now on is not routed to it. Its configuration stays.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`], [`DeliveryError::Invalid`], or the store's.
    pub async fn disable(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        reason: Option<String>,
    ) -> Result<ConnectorInstance, DeliveryError> {
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut problems = Vec::new();
        if let Some(reason) = &reason {
            check_text("reason", reason, REASON, &mut problems);
        }
        if !problems.is_empty() {
            return Err(DeliveryError::Invalid(problems));
        }
        let mut record = self.record(id)?;
        if !record.instance.enabled {
            return Ok(record.instance);
        }
        record.instance.enabled = false;
        record.routing.disabled_after = Some(self.log(&record.instance.place)?.head());
        let action = Action::ConnectorDisabled { enabled: false, reason };
        self.store_change(actor, &active, record, action, Commit::new()).await
    }

    /// An id that sorts by the time it was made at: a UUID of version 7 as hex digits.
    fn fresh_id(&self) -> Result<InstanceId, DeliveryError> {
        let mut random = [0; 10];
        self.parts.entropy.fill(&mut random).map_err(VaultError::from)?;
        let uuid = uuid::Builder::from_unix_timestamp_millis(self.parts.clock.now().0, &random).into_uuid();
        InstanceId::parse(&uuid.simple().to_string()).map_err(|e| DeliveryError::record("instance id", e))
    }

    pub(crate) fn record(&self, id: &InstanceId) -> Result<InstanceRecord, DeliveryError> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(id).ok_or_else(|| DeliveryError::UnknownInstance(id.clone()))?;
        Ok(slot.record.as_ref().clone())
    }

    /// Writes a changed instance with its audit record, and hands it to its lane once that is durable.
    pub(crate) async fn store_change(
        self: &Arc<Self>,
        actor: &Actor,
        active: &ActiveCatalog,
        record: InstanceRecord,
        action: Action,
        commit: Commit,
    ) -> Result<ConnectorInstance, DeliveryError> {
        self.store_with(actor, active, record, action, Vec::new(), commit).await
    }

    /// The same with other audit records beside it.
    pub(crate) async fn store_with(
        self: &Arc<Self>,
        actor: &Actor,
        active: &ActiveCatalog,
        mut record: InstanceRecord,
        action: Action,
        beside: Vec<Draft>,
        mut commit: Commit,
    ) -> Result<ConnectorInstance, DeliveryError> {
        let instance = &mut record.instance;
        if !matches!(action, Action::ConnectorConfigured { .. }) {
            instance.revision = instance.revision.saturating_add(1);
            instance.updated_at = self.parts.clock.now();
        }
        let draft = Draft {
            environment: Some(instance.place.environment.clone()),
            actor: actor.clone(),
            instance: Some(instance.id.clone()),
            connector: Some(instance.connector.clone()),
            catalog_version: Some(active.version.clone()),
            component_digest: active.entries.get(&instance.connector).map(|entry| entry.digest.to_string()),
            action,
        };
        let (id, site) = (instance.id.clone(), instance.place.site.clone());
        commit.put(Keyspace::Instance, keys::instance(&id), encode("connector instance", &record)?);
        let drafts = std::iter::once(draft).chain(beside).collect();
        self.parts.audit.append(&site, drafts, commit)?.await?;
        let instance = record.instance.clone();
        self.adopt(record)?;
        if instance.enabled {
            self.want_check(&instance.id);
        }
        Ok(instance)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of what the credential is bound to")]
    fn seal(
        &self,
        entry: &ActiveEntry,
        place: &Place,
        id: &InstanceId,
        slot: &SlotName,
        version: u32,
        secret: SecretBytes,
        commit: &mut Commit,
    ) -> Result<CredentialRef, DeliveryError> {
        if !entry.manifest.credentials.contains_key(slot.as_str()) {
            let connector =
                ConnectorId::parse(&entry.manifest.id).map_err(|e| DeliveryError::record("connector id", e))?;
            return Err(DeliveryError::UnknownSlot { connector, slot: slot.clone() });
        }
        grants::check_credential(&entry.manifest, slot, &secret)
            .map_err(|problem| DeliveryError::Invalid(vec![problem]))?;
        let now = self.parts.clock.now();
        Ok(self.parts.vault.seal_credential(place, id, slot, version, secret, now, commit)?)
    }
}

pub(crate) fn entry<'a>(active: &'a ActiveCatalog, connector: &ConnectorId) -> Result<&'a ActiveEntry, DeliveryError> {
    active.entries.get(connector).ok_or_else(|| DeliveryError::UnknownConnector(connector.clone()))
}

/// Keeps what is valid and gathers what is not.
fn keep<T>(problems: &mut Vec<Problem>, checked: Result<T, Vec<Problem>>) -> Option<T> {
    match checked {
        Ok(value) => Some(value),
        Err(found) => {
            problems.extend(found);
            None
        }
    }
}

fn check_size(settings: &Map<String, Value>, mapping: &FieldMapping, problems: &mut Vec<Problem>) {
    let size = serde_json::to_string(&(settings, mapping)).map_or(usize::MAX, |json| json.len());
    if size > CONFIGURATION {
        let message = format!("settings and mapping have {size} bytes of JSON; at most {CONFIGURATION} are taken");
        problems.push(Problem::new("mapping", message));
    }
}

/// Events can be kept in order only by a field that every one of them is mapped to.
fn check_order(order: &Order, mapping: &FieldMapping, problems: &mut Vec<Problem>) {
    if let Some(field) = order.key()
        && !mapping.0.contains_key(field)
        && !mapping.0.contains_key("*")
    {
        problems.push(Problem::new("order", format!("{field:?} is not mapped: name a target of the mapping")));
    }
}

fn check_text(field: &str, text: &str, limit: usize, problems: &mut Vec<Problem>) {
    if text.trim().is_empty() || text.len() > limit || text.chars().any(char::is_control) {
        problems.push(Problem::new(field, format!("must be 1 to {limit} bytes of text without control characters")));
    }
}

/// What is wrong with a credential, unless it is the host that failed.
fn credential_problem(slot: &SlotName, error: DeliveryError) -> Result<Problem, DeliveryError> {
    if let DeliveryError::Invalid(problems) = &error
        && let Some(problem) = problems.first()
    {
        return Ok(problem.clone());
    }
    if error.fault() == sgen_model::Fault::Operator {
        Ok(Problem::new(format!("credentials.{slot}"), error.to_string()))
    } else {
        Err(error)
    }
}

/// What differs between two states of an instance, by field, with prior and new value.
fn differences(before: &ConnectorInstance, after: &ConnectorInstance) -> Result<Vec<FieldChange>, DeliveryError> {
    fn members<T: serde::Serialize>(part: &T) -> Result<Map<String, Value>, DeliveryError> {
        match serde_json::to_value(part).map_err(|e| DeliveryError::record("connector instance", e))? {
            Value::Object(members) => Ok(members),
            other => Ok(Map::from_iter([(String::new(), other)])),
        }
    }
    let parts = [
        ("title", members(&before.title)?, members(&after.title)?),
        ("settings", before.settings.clone(), after.settings.clone()),
        ("mapping", members(&before.mapping)?, members(&after.mapping)?),
        ("scope", members(&before.scope)?, members(&after.scope)?),
        ("order", members(&before.order)?, members(&after.order)?),
    ];
    let mut changes = Vec::new();
    for (part, prior, new) in parts {
        let mut names: Vec<&String> = prior.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (prior, new) = (prior.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
            if prior != new {
                let field = if name.is_empty() { part.to_owned() } else { format!("{part}.{name}") };
                changes.push(FieldChange { field, prior: prior.clone(), new: new.clone() });
            }
        }
    }
    Ok(changes)
}

/// The position that a lane of this routing begins at.
impl Routing {
    /// The last position that can be due to an instance, given the head of the log.
    pub(crate) fn reach(&self, head: Sequence) -> Sequence {
        self.disabled_after.map_or(head, |after| after.min(head))
    }
}
