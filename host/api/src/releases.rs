//! Routes of the catalog: what is active, and activating the release that was put in place.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use sgen_audit::Actor;
use sgen_catalog::Manifest;
use sgen_catalog::manifest::{CredentialKind, CredentialSlot, MappingTarget};
use sgen_catalog::{Catalog, Floor};
use sgen_model::ConnectorId;
use utoipa::ToSchema;

use crate::access::{Caller, PlatformCaller};
use crate::accounts::Nothing;
use crate::problem::Problem;
use crate::request::Json;
use crate::state::Api;

/// Where releases come from. The binary knows the folder; the API only asks for it to be verified again.
pub trait ReleaseSource: Send + Sync + 'static {
    /// Reads and verifies the release that is in place. `floor` is the highest that this host has seen.
    fn open(&self, floor: Floor) -> BoxFuture<'_, Result<Catalog, ReleaseRefused>>;
}

/// The release in place was not accepted; what was active stays active.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the release was refused: {0}")]
pub struct ReleaseRefused(pub String);

/// The active catalog.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CatalogView {
    /// The platform version (`2026.11.0`).
    version: String,
    /// Counts releases.
    sequence: u64,
    entries: Vec<EntryView>,
}

/// One connector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryView {
    #[schema(value_type = String)]
    id: ConnectorId,
    /// `crm`, `analytics`, `warehouse`, `marketing`, `payment`, `identity`, `webhook` or `custom`.
    #[serde(rename = "type")]
    kind: &'static str,
    title: String,
    summary: String,
    /// The connector's own version.
    version: String,
    /// The SHA-256 of its component, in hex.
    digest: String,
    /// What it can do beyond delivery: `identity`, `revocation`, `erasure`, `migration`.
    abilities: Vec<String>,
    /// A JSON Schema (draft 2020-12) for an instance's settings.
    #[schema(value_type = Object)]
    settings: Value,
    /// By slot.
    credentials: BTreeMap<String, SlotView>,
    /// By target; `*` stands for any other name.
    mapping: BTreeMap<String, TargetView>,
    /// What a new instance takes unless its operator says otherwise.
    scope: Vec<String>,
}

/// A credential slot.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SlotView {
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// `api-key`, `basic`, `hmac-secret`.
    accepts: Vec<&'static str>,
}

/// A mapping target.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TargetView {
    #[serde(rename = "type")]
    kind: &'static str,
    title: String,
    required: bool,
    /// Where a new instance takes the value from: the first path that exists.
    preset: Vec<String>,
    /// The source of live choices for the target's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<String>,
}

/// What an activation did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActivationView {
    version: String,
    sequence: u64,
    /// How many connectors are active.
    connectors: usize,
    /// How many components were compiled.
    compiled: usize,
    /// How many came from the compile cache.
    from_cache: usize,
}

fn slot(slot: &CredentialSlot) -> SlotView {
    SlotView {
        title: slot.title.clone(),
        help: slot.help.clone(),
        accepts: slot.accepts.iter().copied().map(CredentialKind::as_str).collect(),
    }
}

fn target(target: &MappingTarget) -> TargetView {
    TargetView {
        kind: target.kind.as_str(),
        title: target.title.clone(),
        required: target.required,
        preset: target.preset.clone(),
        options: target.options.clone(),
    }
}

fn entry(id: &ConnectorId, manifest: &Manifest, version: String, digest: String, abilities: &[String]) -> EntryView {
    EntryView {
        id: id.clone(),
        kind: manifest.kind.as_str(),
        title: manifest.title.clone(),
        summary: manifest.summary.clone(),
        version,
        digest,
        abilities: abilities.to_vec(),
        settings: manifest.settings_schema(),
        credentials: manifest.credentials.iter().map(|(name, it)| (name.clone(), slot(it))).collect(),
        mapping: manifest.mapping.iter().map(|(name, it)| (name.clone(), target(it))).collect(),
        scope: manifest.scope.default.clone(),
    }
}

/// Shows the active catalog
#[utoipa::path(
    get,
    path = "/v1/catalog",
    tag = "catalog",
    responses((status = 200, description = "Every connector that can be configured.", body = CatalogView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_catalog(State(api): State<Arc<Api>>, _: Caller) -> Result<Answer<CatalogView>, Problem> {
    let catalog = api.runtime.catalog().ok_or(sgen_delivery::DeliveryError::NoCatalog)?;
    let entries = catalog
        .entries
        .iter()
        .map(|(id, it)| entry(id, &it.manifest, it.version.clone(), it.digest.to_string(), &it.abilities))
        .collect();
    Ok(Answer(CatalogView { version: catalog.version.clone(), sequence: catalog.sequence, entries }))
}

/// Activates the release in place
///
/// Verifies it first: signatures, digests, sequence, expiry. What was active stays active when it is refused.
#[utoipa::path(
    post,
    path = "/v1/platform/releases/activate",
    tag = "catalog",
    responses((status = 200, description = "Active.", body = ActivationView)),
    security(("platform" = []))
)]
pub(crate) async fn post_activate(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Answer<ActivationView>, Problem> {
    let catalog = api.release.open(api.runtime.floor()?).await.map_err(|error| {
        tracing::warn!(%error, "a release was not activated");
        Problem::refused_release(error.to_string())
    })?;
    let done = api.runtime.activate(&Actor::Platform, catalog).await?;
    Ok(Answer(ActivationView {
        version: done.version,
        sequence: done.sequence,
        connectors: done.connectors,
        compiled: done.compiled,
        from_cache: done.from_cache,
    }))
}
