//! Routes of connector instances: configure, change, enable, disable, rotate, check, and what became of their events.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sgen_delivery::{EnableFrom, InstanceChange, InstanceStatus, NewInstance};
use sgen_model::{
    AccountId, ConnectorId, ConnectorInstance, CredentialRef, Environment, FieldMapping, InstanceId, Order, Place,
    Scope, SiteId, SlotName, Timestamp,
};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::problem::Problem;
use crate::request::{Json, Secret, Segments};
use crate::state::Api;

/// A connector instance with what it is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceView {
    #[schema(value_type = String)]
    id: InstanceId,
    /// `{"site": …, "environment": …}`.
    #[schema(value_type = Object)]
    place: Place,
    #[schema(value_type = String)]
    account: AccountId,
    /// The catalog entry.
    #[schema(value_type = String)]
    connector: ConnectorId,
    title: String,
    /// Valid against the connector's settings schema.
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// From target field to `{"from": PATH}`, `{"value": CONSTANT}` or `{"template": TEXT}`, each with an optional `default`.
    #[schema(value_type = Object)]
    mapping: FieldMapping,
    /// Surface patterns: `form:*`, `form:contact`, `*`.
    #[schema(value_type = Vec<String>)]
    scope: Scope,
    /// `"none"`, or `{"key": FIELD}`: events with the same value in this mapped field go one after another.
    #[schema(value_type = Object)]
    order: Order,
    enabled: bool,
    /// Per slot `{"version", "fingerprint", "set_at"}`; never the secret.
    #[schema(value_type = Object)]
    credentials: BTreeMap<SlotName, CredentialRef>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
    /// Counts changes; the `ETag`, and what `If-Match` takes.
    revision: u64,
    /// What it is doing: state, cursor, head, counts, last delivery, last failure.
    #[schema(value_type = Object)]
    status: InstanceStatus,
}

/// The instances of an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceList {
    instances: Vec<InstanceView>,
}

/// An instance to be configured.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstanceRequest {
    /// Chosen by the platform when absent.
    #[schema(value_type = Option<String>)]
    id: Option<InstanceId>,
    /// The catalog entry.
    #[schema(value_type = String, example = "hubspot")]
    connector: ConnectorId,
    /// What the operator calls it; the connector's title when absent.
    title: Option<String>,
    /// Checked against the connector's settings schema.
    #[serde(default)]
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// From target field to `{"from": PATH}`, `{"value": CONSTANT}` or `{"template": TEXT}`, each with an optional `default`.
    #[serde(default)]
    #[schema(value_type = Object)]
    mapping: FieldMapping,
    /// The surfaces it takes; the connector's default when absent.
    #[schema(value_type = Option<Vec<String>>)]
    scope: Option<Scope>,
    /// `"none"` (when absent), or `{"key": FIELD}`: events with the same value in this mapped field are delivered one after
    /// another, in capture order.
    #[serde(default)]
    #[schema(value_type = Object)]
    order: Order,
    /// The secret of each slot. Sealed at once, shown by no answer.
    #[serde(default)]
    #[schema(value_type = Object)]
    credentials: BTreeMap<SlotName, Secret>,
}

/// What to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstancePatch {
    title: Option<String>,
    /// All settings: they replace the present ones.
    #[schema(value_type = Option<Object>)]
    settings: Option<Map<String, Value>>,
    /// The whole mapping: it replaces the present one.
    #[schema(value_type = Option<Object>)]
    mapping: Option<FieldMapping>,
    #[schema(value_type = Option<Vec<String>>)]
    scope: Option<Scope>,
    #[schema(value_type = Option<Object>)]
    order: Option<Order>,
}

/// Where delivery goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EnableAt {
    /// With what is captured from now on.
    Newest,
    /// With what was captured while it was disabled.
    Meanwhile,
}

/// How to enable.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnableRequest {
    from: EnableAt,
}

/// Why to disable.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisableRequest {
    /// For the audit log.
    reason: Option<String>,
}

/// A new secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialRequest {
    /// Sealed at once, shown by no answer.
    #[schema(value_type = String, write_only)]
    secret: Secret,
}

/// What may be shown of a credential.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialView {
    /// Counts rotations, from 1.
    pub(crate) version: u32,
    /// Equal for equal secrets, and otherwise meaningless.
    pub(crate) fingerprint: String,
    #[schema(value_type = String)]
    pub(crate) set_at: Timestamp,
}

async fn view(api: &Api, instance: ConnectorInstance) -> Result<InstanceView, Problem> {
    let status = api.runtime.status(&instance.id)?;
    let ConnectorInstance {
        id,
        place,
        account,
        connector,
        title,
        settings,
        mapping,
        scope,
        order,
        enabled,
        credentials,
        created_at,
        updated_at,
        revision,
    } = instance;
    Ok(InstanceView {
        id,
        place,
        account,
        connector,
        title,
        settings,
        mapping,
        scope,
        order,
        enabled,
        credentials,
        created_at,
        updated_at,
        revision,
        status,
    })
}

async fn answer(api: &Api, status: StatusCode, instance: ConnectorInstance) -> Result<Response, Problem> {
    let view = view(api, instance).await?;
    let tag = HeaderValue::try_from(format!("\"{}\"", view.revision)).map_err(|e| Problem::from_internal(&e))?;
    Ok((status, [(ETAG, tag)], Answer(view)).into_response())
}

/// Lists the instances of an environment
#[utoipa::path(
    get,
    path = "/v1/sites/{site}/environments/{environment}/instances",
    tag = "instances",
    params(("site" = String, Path, description = "The site."), ("environment" = String, Path, description = "Its environment.")),
    responses((status = 200, description = "All of them.", body = InstanceList)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_instances(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment)): Segments<(SiteId, Environment)>,
) -> Result<Answer<InstanceList>, Problem> {
    caller.on_site(&api, &site).await?;
    let mut instances = Vec::new();
    for instance in api.runtime.instances(&Place::new(site, environment))? {
        instances.push(view(&api, instance).await?);
    }
    Ok(Answer(InstanceList { instances }))
}

/// Configures an instance
///
/// Checks settings, mapping, scope and credentials, and names every field at fault. The instance starts enabled, with what
/// is captured from now on.
#[utoipa::path(
    post,
    path = "/v1/sites/{site}/environments/{environment}/instances",
    tag = "instances",
    params(("site" = String, Path, description = "The site."), ("environment" = String, Path, description = "Its environment.")),
    request_body = InstanceRequest,
    responses((status = 201, description = "Configured.", body = InstanceView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_instance(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment)): Segments<(SiteId, Environment)>,
    Json(request): Json<InstanceRequest>,
) -> Result<Response, Problem> {
    let account = caller.on_site(&api, &site).await?;
    let InstanceRequest { id, connector, title, settings, mapping, scope, order, credentials } = request;
    let credentials = credentials.into_iter().map(|(slot, secret)| (slot, secret.0)).collect();
    let new = NewInstance {
        id,
        place: Place::new(site, environment),
        account,
        connector,
        title,
        settings,
        mapping,
        scope,
        order,
        credentials,
    };
    let instance = api.runtime.configure(&caller.actor(), new).await?;
    answer(&api, StatusCode::CREATED, instance).await
}

/// Shows an instance
#[utoipa::path(
    get,
    path = "/v1/instances/{id}",
    tag = "instances",
    params(("id" = String, Path, description = "The instance.")),
    responses((status = 200, description = "Its configuration and what it is doing.", body = InstanceView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_instance(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
) -> Result<Response, Problem> {
    let instance = caller.on_instance(&api, &id).await?;
    answer(&api, StatusCode::OK, instance).await
}

/// Changes an instance
///
/// With `If-Match: REVISION` only if nobody changed it meanwhile (412 otherwise).
#[utoipa::path(
    patch,
    path = "/v1/instances/{id}",
    tag = "instances",
    params(
        ("id" = String, Path, description = "The instance."),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on.")
    ),
    request_body = InstancePatch,
    responses((status = 200, description = "Changed.", body = InstanceView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn patch_instance(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    headers: HeaderMap,
    Json(patch): Json<InstancePatch>,
) -> Result<Response, Problem> {
    caller.on_instance(&api, &id).await?;
    let revision = expected_revision(&headers)?;
    let InstancePatch { title, settings, mapping, scope, order } = patch;
    let change = InstanceChange { title, settings, mapping, scope, order };
    let changed = api.runtime.change(&caller.actor(), &id, change, revision).await.map_err(|error| {
        let problem = Problem::from(error);
        if revision.is_some() { problem.into_precondition() } else { problem }
    })?;
    answer(&api, StatusCode::OK, changed).await
}

/// The revision in `If-Match`: `3`, `"3"` or `W/"3"`; `*` asks for any.
fn expected_revision(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
    number.parse().map(Some).map_err(|_| Problem::malformed("If-Match takes one revision, such as `If-Match: \"3\"`"))
}

/// Enables an instance
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/enable",
    tag = "instances",
    params(("id" = String, Path, description = "The instance.")),
    request_body = EnableRequest,
    responses((status = 200, description = "Enabled.", body = InstanceView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_enable(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Json(EnableRequest { from }): Json<EnableRequest>,
) -> Result<Response, Problem> {
    caller.on_instance(&api, &id).await?;
    let from = match from {
        EnableAt::Newest => EnableFrom::Newest,
        EnableAt::Meanwhile => EnableFrom::Meanwhile,
    };
    let instance = api.runtime.enable(&caller.actor(), &id, from).await?;
    answer(&api, StatusCode::OK, instance).await
}

/// Disables an instance
///
/// It takes no events until it is enabled again.
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/disable",
    tag = "instances",
    params(("id" = String, Path, description = "The instance.")),
    request_body = DisableRequest,
    responses((status = 200, description = "Disabled.", body = InstanceView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_disable(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Json(DisableRequest { reason }): Json<DisableRequest>,
) -> Result<Response, Problem> {
    caller.on_instance(&api, &id).await?;
    let instance = api.runtime.disable(&caller.actor(), &id, reason).await?;
    answer(&api, StatusCode::OK, instance).await
}

/// Rotates a credential
///
/// Delivery that waited for it goes on by itself.
#[utoipa::path(
    put,
    path = "/v1/instances/{id}/credentials/{slot}",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), ("slot" = String, Path, description = "The credential slot.")),
    request_body = CredentialRequest,
    responses((status = 200, description = "Rotated.", body = CredentialView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn put_credential(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((id, slot)): Segments<(InstanceId, SlotName)>,
    Json(CredentialRequest { secret }): Json<CredentialRequest>,
) -> Result<Answer<CredentialView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let CredentialRef { version, fingerprint, set_at } =
        api.runtime.rotate(&caller.actor(), &id, &slot, secret.0).await?;
    Ok(Answer(CredentialView { version, fingerprint, set_at }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_revision_is_read_in_every_spelling_of_an_entity_tag() {
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(text))]);
            expected_revision(&headers).map_err(|p| p.status.as_u16())
        };
        assert_eq!(expected_revision(&HeaderMap::new()).unwrap(), None);
        for (text, expected) in [
            ("3", Ok(Some(3))),
            ("\"3\"", Ok(Some(3))),
            ("W/\"3\"", Ok(Some(3))),
            ("*", Ok(None)),
            ("x", Err(400)),
            ("\"1\", \"2\"", Err(400)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
