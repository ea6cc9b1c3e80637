//! Routes of triage, of the hand-over to platform support, and of erasure.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sgen_delivery::{Erasure, TriageItem};
use sgen_model::{Environment, EventId, InstanceId, Place, SiteId};
use utoipa::{IntoParams, ToSchema};

use crate::access::{Caller, PlatformCaller};
use crate::probes::page;
use crate::problem::Problem;
use crate::request::{Json, Parameters, Segments};
use crate::state::Api;

/// What waits for somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TriageView {
    /// The most recent first, one per cause: class, count, first and last seen, a sample, what to do about it.
    #[schema(value_type = Vec<Object>)]
    items: Vec<TriageItem>,
}

/// Which item, and what support should know.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EscalateRequest {
    /// The item's cause.
    cause: String,
    /// For platform support.
    note: Option<String>,
}

/// Bundles, page by page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EscalationQuery {
    /// Only bundles before this one: the `id` of the last of the page before.
    before: Option<String>,
    /// At most so many, 100 when absent, 1,000 at most.
    limit: Option<usize>,
}

/// What was handed to platform support.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EscalationPage {
    /// Newest first: the facts, without secrets, captured values or settings.
    #[schema(value_type = Vec<Object>)]
    escalations: Vec<Value>,
}

/// What to erase: one event, or all with a value in a field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErasureRequest {
    /// One event.
    #[schema(value_type = Option<String>)]
    event: Option<EventId>,
    /// A field of captures, as in a mapping (`fields.email`).
    field: Option<String>,
    /// The value in it; case and surrounding space make no difference.
    value: Option<String>,
}

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErasureView {
    /// How many events.
    erased: u64,
}

/// Lists what waits for triage on an environment
#[utoipa::path(
    get,
    path = "/v1/sites/{site}/environments/{environment}/triage",
    tag = "triage",
    params(("site" = String, Path, description = "The site."), ("environment" = String, Path, description = "Its environment.")),
    responses((status = 200, description = "One item per instance and cause.", body = TriageView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_triage(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment)): Segments<(SiteId, Environment)>,
) -> Result<Answer<TriageView>, Problem> {
    caller.on_site(&api, &site).await?;
    Ok(Answer(TriageView { items: api.runtime.triage(&Place::new(site, environment))? }))
}

/// Lists what waits for triage of an instance
#[utoipa::path(
    get,
    path = "/v1/instances/{id}/triage",
    tag = "triage",
    params(("id" = String, Path, description = "The instance.")),
    responses((status = 200, description = "One item per cause.", body = TriageView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_instance_triage(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
) -> Result<Answer<TriageView>, Problem> {
    caller.on_instance(&api, &id).await?;
    Ok(Answer(TriageView { items: api.runtime.triage_of(&id)? }))
}

/// Hands an item to platform support
///
/// Answers the bundle that support gets: facts only, without secrets, captured values or settings.
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/escalate",
    tag = "triage",
    params(("id" = String, Path, description = "The instance.")),
    request_body = EscalateRequest,
    responses((status = 201, description = "The bundle.", body = Object)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_escalate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Json(EscalateRequest { cause, note }): Json<EscalateRequest>,
) -> Result<(StatusCode, Answer<Value>), Problem> {
    caller.on_instance(&api, &id).await?;
    let bundle = api.runtime.escalate(&caller.actor(), &id, &cause, note).await?;
    Ok((StatusCode::CREATED, Answer(bundle)))
}

/// Lists what was handed to platform support
#[utoipa::path(
    get,
    path = "/v1/platform/escalations",
    tag = "triage",
    params(EscalationQuery),
    responses((status = 200, description = "Newest first.", body = EscalationPage)),
    security(("platform" = []))
)]
pub(crate) async fn get_escalations(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Parameters(EscalationQuery { before, limit }): Parameters<EscalationQuery>,
) -> Result<Answer<EscalationPage>, Problem> {
    let escalations = api.runtime.escalations(before.as_deref(), page(limit)?)?;
    Ok(Answer(EscalationPage { escalations }))
}

/// Erases captured events
///
/// Their contents are forgotten wherever the host keeps them; ids, surfaces and times stay. What was delivered stays
/// downstream, and what is in backups stays there.
#[utoipa::path(
    post,
    path = "/v1/sites/{site}/environments/{environment}/captures/erase",
    tag = "records",
    params(("site" = String, Path, description = "The site."), ("environment" = String, Path, description = "Its environment.")),
    request_body = ErasureRequest,
    responses((status = 200, description = "Erased.", body = ErasureView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_erase(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment)): Segments<(SiteId, Environment)>,
    Json(request): Json<ErasureRequest>,
) -> Result<Answer<ErasureView>, Problem> {
    caller.on_site(&api, &site).await?;
    let erasure = match (request.event, request.field, request.value) {
        (Some(event), None, None) => Erasure::Event(event),
        (None, Some(path), Some(value)) => Erasure::Field { path, value },
        _ => return Err(Problem::malformed("give either event, or field and value")),
    };
    let erased = api.runtime.erase(&caller.actor(), &Place::new(site, environment), &erasure).await?;
    Ok(Answer(ErasureView { erased }))
}
