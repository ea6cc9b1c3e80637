//! Consent in a browser: begun, taken back from the vendor, kept, and given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use sgen_audit::{Action, Actor};
use sgen_catalog::manifest::TokenGrant;
use sgen_model::{ConnectorInstance, CredentialRef, Failure, FailureClass, InstanceId, SlotName, Timestamp};
use sgen_store::Commit;
use sgen_tokens::{Application, Client, Source, TokenError, Upstream};

use crate::control::entry;
use crate::error::DeliveryError;
use crate::obtaining::{self, InForce};
use crate::release::{ActiveCatalog, ActiveEntry};
use crate::runtime::Runtime;

/// Where an operator gives consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The vendor's page, for a browser.
    pub url: String,
    /// Until when the vendor's answer is taken.
    pub until: Timestamp,
}

/// A consent that was given and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consented {
    /// The connector instance.
    pub instance: InstanceId,
    /// Its slot.
    pub slot: SlotName,
    /// What may be shown of the grant.
    pub reference: CredentialRef,
}

impl Runtime {
    /// Begins a consent. One that was begun before for the same slot counts no longer.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownSlot`] for a slot that takes no consent; [`DeliveryError::NotConfigured`] without a public URL;
    /// [`DeliveryError::Conflict`] when the client that asks is missing.
    pub fn authorize(&self, actor: &Actor, id: &InstanceId, slot: &SlotName) -> Result<Authorization, DeliveryError> {
        let redirect = self.parts.config.oauth_redirect.as_deref().ok_or(DeliveryError::NotConfigured(
            "no vendor can send a browser back: the platform has to set server.public_url",
        ))?;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let instance = self.record(id)?.instance;
        let manifest = &granting(&active, &instance, slot)?.manifest;
        let oauth = obtaining::oauth(manifest, slot)?;
        let unknown = || DeliveryError::UnknownSlot { connector: instance.connector.clone(), slot: slot.clone() };
        let authorize = oauth.authorize.as_deref().ok_or_else(unknown)?;
        let holder = obtaining::parsed(oauth.client.as_deref().ok_or_else(unknown)?)?;
        let client = self.client(&instance, &holder)?;
        let authorize = obtaining::url(&self.bases(), &manifest.id, slot, "authorize", authorize)?;
        let application = Application {
            authorize: authorize.as_str(),
            client_id: client.id(),
            redirect,
            scopes: &oauth.scopes,
            parameters: &oauth.authorize_parameters,
        };
        let (entropy, now) = (self.parts.entropy.as_ref(), self.parts.clock.now());
        let started = self.consents.begin(entropy, now, id.clone(), slot.clone(), actor.clone(), &application)?;
        Ok(Authorization { url: started.url, until: started.until })
    }

    /// Takes the vendor's answer: exchanges the code and keeps what it gives. A lane that waited for it goes on by itself.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`] when no consent with this state is under way; [`DeliveryError::Downstream`] when the vendor
    /// refuses or does not answer: nothing is changed then, and the consent has to be begun again.
    pub async fn authorized(self: &Arc<Self>, state: &str, code: &str) -> Result<Consented, DeliveryError> {
        let now = self.parts.clock.now();
        let pending = self.consents.take(state, now).ok_or_else(|| {
            DeliveryError::Unknown("consent under way with this state: it counts once and for ten minutes".to_owned())
        })?;
        let (id, slot) = (&pending.instance, &pending.slot);
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let source = self.token_source(&active, &self.record(id)?.instance, slot)?;
        let connected = source.connect(&pending, code).await?;
        // In this order everywhere: first the grant's turn, then the operators'.
        let mut change = source.change().await?;
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut record = self.record(id)?;
        let version = record.instance.credentials.get(slot).map_or(0, |known| known.version).saturating_add(1);
        let mut commit = Commit::new();
        let fingerprint = change.connect(connected, version, &mut commit)?;
        let reference = CredentialRef { version, fingerprint, set_at: self.parts.clock.now(), shared: None };
        record.instance.credentials.insert(slot.clone(), reference.clone());
        let action = Action::CredentialsRotated {
            slot: slot.clone(),
            version: reference.version,
            fingerprint: reference.fingerprint.clone(),
        };
        self.store_change(&pending.actor, &active, record, action, commit).await?;
        change.done();
        Ok(Consented { instance: id.clone(), slot: slot.clone(), reference })
    }

    /// Gives a grant back: to its vendor, as far as that has an endpoint for it, and deletes it here in any case.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownSlot`] for a slot that takes no consent, [`DeliveryError::Conflict`] when it holds none.
    pub async fn disconnect(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        slot: &SlotName,
    ) -> Result<Upstream, DeliveryError> {
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let source = self.token_source(&active, &self.record(id)?.instance, slot)?;
        let mut change = source.change().await?;
        let held = |credentials: &BTreeMap<SlotName, CredentialRef>| {
            let none =
                || DeliveryError::Conflict(format!("nobody has consented to {slot}: there is nothing to give back"));
            credentials.get(slot).cloned().ok_or_else(none)
        };
        held(&self.record(id)?.instance.credentials)?;
        let upstream = change.revoke().await?;
        let _turn = self.control.lock().await;
        let active = self.catalog().ok_or(DeliveryError::NoCatalog)?;
        let mut record = self.record(id)?;
        let CredentialRef { version, fingerprint, .. } = held(&record.instance.credentials)?;
        let mut commit = Commit::new();
        change.forget(&mut commit)?;
        record.instance.credentials.remove(slot);
        let said = match &upstream {
            Upstream::Revoked => "revoked".to_owned(),
            Upstream::NotOffered => "not-offered".to_owned(),
            Upstream::Failed(reason) => format!("failed: {reason}"),
        };
        let action = Action::CredentialsRemoved { slot: slot.clone(), version, fingerprint, upstream: said };
        self.store_change(actor, &active, record, action, commit).await?;
        change.done();
        Ok(upstream)
    }

    fn client(&self, instance: &ConnectorInstance, holder: &SlotName) -> Result<Client, DeliveryError> {
        let missing =
            || DeliveryError::Conflict(format!("the OAuth client is missing: give the credential {holder} first"));
        let reference = instance.credentials.get(holder).ok_or_else(missing)?;
        let wanted = BTreeMap::from([(holder.clone(), reference.clone())]);
        let credentials = self.parts.vault.credentials(&instance.place, &instance.id, &wanted)?;
        let credential = credentials.get(holder).ok_or_else(missing)?;
        Client::parse(credential.current().expose())
            .map_err(|reason| DeliveryError::Conflict(format!("the credential {holder} cannot be used: {reason}")))
    }

    fn token_source(
        &self,
        active: &ActiveCatalog,
        instance: &ConnectorInstance,
        slot: &SlotName,
    ) -> Result<Arc<Source>, DeliveryError> {
        let entry = granting(active, instance, slot)?;
        let digest = entry.digest.to_string();
        let in_force = InForce { catalog_version: &active.version, component_digest: &digest };
        let credentials = crate::grants::entered(&self.parts.vault, &entry.manifest, instance)?;
        let grant = TokenGrant::AuthorizationCode;
        let setup = obtaining::setup(&self.bases(), &entry.manifest, instance, slot, grant, &credentials, in_force)?;
        Ok(self.sources.source(setup))
    }
}

/// The entry of an instance whose slot takes a consent.
fn granting<'a>(
    active: &'a ActiveCatalog,
    instance: &ConnectorInstance,
    slot: &SlotName,
) -> Result<&'a ActiveEntry, DeliveryError> {
    let entry = entry(active, &instance.connector)?;
    if obtaining::slots(&entry.manifest).get(slot.as_str()) == Some(&TokenGrant::AuthorizationCode) {
        return Ok(entry);
    }
    Err(DeliveryError::UnknownSlot { connector: instance.connector.clone(), slot: slot.clone() })
}

impl From<TokenError> for DeliveryError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Refused(said) => Self::Downstream(Failure::new(FailureClass::AuthRevoked, said)),
            TokenError::Unavailable(said) => Self::Downstream(Failure::new(FailureClass::Unavailable, said)),
            TokenError::Vault(error) => Self::Vault(error),
            TokenError::Store(error) => Self::Store(error),
            TokenError::Audit(error) => Self::Audit(error),
            TokenError::Entropy(error) => Self::Vault(error.into()),
            TokenError::Stopping => Self::Stopping,
            other => Self::record("grant", other),
        }
    }
}
