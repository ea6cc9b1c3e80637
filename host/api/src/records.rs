//! Routes that read records: captures with their traces, and the audit log.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sgen_audit::{AuditRecord, Filter, PLATFORM_SITE};
use sgen_delivery::{Capture, CaptureQuery, Trace};
use sgen_model::{ConnectorId, Environment, EventId, InstanceId, Place, Scope, Sequence, SiteId};
use utoipa::{IntoParams, ToSchema};

use crate::access::Caller;
use crate::probes::page;
use crate::problem::Problem;
use crate::request::{Parameters, Segments, TimeParameter};
use crate::state::Api;

/// A page of captured events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CapturePage {
    /// Newest first: sequence, when it was received, and the event.
    #[schema(value_type = Vec<Object>)]
    captures: Vec<Capture>,
    /// Give as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Which captures, page by page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CaptureParameters {
    /// Only of these surfaces, patterns joined by commas: `form:contact`, `form:*,phone-tap:*`.
    surface: Option<String>,
    /// Only received at or after this time: RFC 3339, or milliseconds since 1970.
    #[param(value_type = Option<String>)]
    since: Option<TimeParameter>,
    /// Only received before this time.
    #[param(value_type = Option<String>)]
    until: Option<TimeParameter>,
    /// Only entries before this position: the `next` of the page before.
    before: Option<u64>,
    /// At most so many, 100 when absent, 1,000 at most.
    limit: Option<usize>,
}

/// Which audit records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only of this instance.
    #[param(value_type = Option<String>)]
    instance: Option<InstanceId>,
    /// Only of this connector.
    #[param(value_type = Option<String>)]
    connector: Option<ConnectorId>,
    /// Only of this environment.
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
    /// Only of this kind (`configuration-changed`).
    event: Option<String>,
    /// At or after this time: RFC 3339, or milliseconds since 1970.
    #[param(value_type = Option<String>)]
    since: Option<TimeParameter>,
    /// Before this time.
    #[param(value_type = Option<String>)]
    until: Option<TimeParameter>,
    /// Only records before this index: the `next` of the page before.
    before: Option<u64>,
    /// At most so many, 100 when absent, 1,000 at most.
    limit: Option<usize>,
}

/// A page of audit records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    /// Newest first.
    #[schema(value_type = Vec<Object>)]
    records: Vec<AuditRecord>,
    /// Give as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// A site's audit log is whole.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerificationView {
    /// How many records it has.
    records: u64,
    /// The hash of the tree over them, in hex.
    root_hash: String,
}

/// Lists captured events
#[utoipa::path(
    get,
    path = "/v1/sites/{site}/environments/{environment}/captures",
    tag = "records",
    params(
        ("site" = String, Path, description = "The site."),
        ("environment" = String, Path, description = "Its environment."),
        CaptureParameters
    ),
    responses((status = 200, description = "Newest first.", body = CapturePage)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_captures(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment)): Segments<(SiteId, Environment)>,
    Parameters(query): Parameters<CaptureParameters>,
) -> Result<Answer<CapturePage>, Problem> {
    caller.on_site(&api, &site).await?;
    let limit = page(query.limit)?;
    let surfaces = query.surface.map(|text| Scope::parse(&text.split(',').collect::<Vec<_>>()));
    let query = CaptureQuery {
        surfaces: surfaces.transpose().map_err(Problem::malformed)?,
        since: query.since.map(|time| time.0),
        until: query.until.map(|time| time.0),
        before: query.before.map(Sequence),
    };
    let captures = api.runtime.captures(&Place::new(site, environment), &query, limit)?;
    let next = captures.last().filter(|_| captures.len() == limit).map(|last| last.sequence.0);
    Ok(Answer(CapturePage { captures, next }))
}

/// Traces a captured event
///
/// What became of it at every instance of its environment, and why an instance did not take it.
#[utoipa::path(
    get,
    path = "/v1/sites/{site}/environments/{environment}/captures/{event}/trace",
    tag = "records",
    params(
        ("site" = String, Path, description = "The site."),
        ("environment" = String, Path, description = "Its environment."),
        ("event" = String, Path, description = "The event's id.")
    ),
    responses((status = 200, description = "Per instance what became of it.", body = Object)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_trace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment, event)): Segments<(SiteId, Environment, EventId)>,
) -> Result<Answer<Trace>, Problem> {
    caller.on_site(&api, &site).await?;
    Ok(Answer(api.runtime.trace(&Place::new(site, environment), &event)?))
}

/// Reads the audit log
///
/// Who changed what, and which failures were surfaced. The platform reads its own records under the site `platform`,
/// and those of sites that were erased.
#[utoipa::path(
    get,
    path = "/v1/sites/{site}/audit",
    tag = "records",
    params(("site" = String, Path, description = "The site."), AuditQuery),
    responses((status = 200, description = "Newest first.", body = AuditPage)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_audit(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(site): Segments<SiteId>,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Answer<AuditPage>, Problem> {
    may_read_audit(&api, &caller, &site).await?;
    let limit = page(query.limit)?;
    let filter = Filter {
        instance: query.instance,
        connector: query.connector,
        environment: query.environment,
        event: query.event,
        since: query.since.map(|time| time.0),
        until: query.until.map(|time| time.0),
    };
    let records = off_the_reactor(&api, move |api| api.audit.query(&site, &filter, query.before, limit)).await?;
    let next = records.last().filter(|_| records.len() == limit).map(|last| last.index);
    Ok(Answer(AuditPage { records, next }))
}

/// Verifies the audit log
///
/// Recomputes the tree over all records and compares it with what was stored.
#[utoipa::path(
    get,
    path = "/v1/sites/{site}/audit/verify",
    tag = "records",
    params(("site" = String, Path, description = "The site.")),
    responses((status = 200, description = "The log is whole.", body = VerificationView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_audit_verification(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(site): Segments<SiteId>,
) -> Result<Answer<VerificationView>, Problem> {
    may_read_audit(&api, &caller, &site).await?;
    let found = off_the_reactor(&api, move |api| api.audit.verify(&site)).await?;
    Ok(Answer(VerificationView { records: found.records, root_hash: found.root_hash }))
}

async fn may_read_audit(api: &Api, caller: &Caller, site: &SiteId) -> Result<(), Problem> {
    match caller {
        Caller::Platform if site.as_str() == PLATFORM_SITE || api.runtime.is_erased(site)? => Ok(()),
        _ => caller.on_site(api, site).await.map(drop),
    }
}

/// Reading a long log takes a while: it must not hold up the threads that serve other requests.
async fn off_the_reactor<T: Send + 'static>(
    api: &Arc<Api>,
    read: impl FnOnce(&Api) -> Result<T, sgen_audit::AuditError> + Send + 'static,
) -> Result<T, Problem> {
    let api = Arc::clone(api);
    let result = tokio::task::spawn_blocking(move || read(&api)).await;
    Ok(result.map_err(|e| Problem::from_internal(&e))??)
}
