//! Routes of the platform's keys: which are in use, and their rotation.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sgen_delivery::RotatedKey;
use sgen_model::SiteId;
use sgen_vault::{KeyStatus, Resealed, Rewrapped};
use utoipa::{IntoParams, ToSchema};

use crate::access::PlatformCaller;
use crate::accounts::Nothing;
use crate::problem::Problem;
use crate::request::{Json, Parameters};
use crate::state::Api;

/// What to look at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeysQuery {
    /// Whether to count the records under each key, for which the whole store is read.
    #[serde(default)]
    count: bool,
}

/// The keys in use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeysView {
    /// `outer_key`, `older_outer_keys`, and `owners`: for each site (or account) the outer keys it is wrapped under, and its
    /// data keys with how many `records` are under each, the present one first.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    status: KeyStatus,
    /// How far sealing records anew is (`looked_at`, `resealed`, `unreadable`); absent when it is not under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    resealing: Option<Resealed>,
}

/// Whose data keys to rotate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateRequest {
    /// One site; every site and account when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    site: Option<SiteId>,
}

/// The data keys that have begun.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotatedView {
    /// Each with `site` or `account`, `key` and `previous`.
    #[schema(value_type = Vec<Object>)]
    rotated: Vec<RotatedKey>,
}

/// What rewrapping did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RewrappedView {
    /// `key`, how many `owners` had keys that were wrapped under it, and the keys that are `retired`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    rewrapped: Rewrapped,
}

/// Shows the keys in use
///
/// Ids of keys, which tell nothing of the keys.
#[utoipa::path(
    get,
    path = "/v1/platform/keys",
    tag = "platform",
    params(KeysQuery),
    responses((status = 200, description = "By site and account.", body = KeysView)),
    security(("platform" = []))
)]
pub(crate) async fn get_keys(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Parameters(KeysQuery { count }): Parameters<KeysQuery>,
) -> Result<Answer<KeysView>, Problem> {
    let status = api.runtime.key_status(count).await?;
    Ok(Answer(KeysView { status, resealing: api.runtime.resealing() }))
}

/// Rotates data keys
///
/// A new key seals from now on. What is under earlier ones is sealed anew beside the deliveries, also after a restart; an
/// earlier key goes when nothing is under it, at the latest with the start after that.
#[utoipa::path(
    post,
    path = "/v1/platform/keys/rotate",
    tag = "platform",
    request_body = RotateRequest,
    responses((status = 200, description = "The new keys seal.", body = RotatedView)),
    security(("platform" = []))
)]
pub(crate) async fn post_rotate(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Json(RotateRequest { site }): Json<RotateRequest>,
) -> Result<Answer<RotatedView>, Problem> {
    let rotated = to_the_end(async move { api.runtime.rotate_keys(site.as_ref()).await }).await?;
    Ok(Answer(RotatedView { rotated }))
}

/// Wraps data keys under the present vault key
///
/// When this has succeeded, the vault key before is not needed any more.
#[utoipa::path(
    post,
    path = "/v1/platform/keys/rewrap",
    tag = "platform",
    request_body = Nothing,
    responses((status = 200, description = "Everything is wrapped under the present vault key.", body = RewrappedView)),
    security(("platform" = []))
)]
pub(crate) async fn post_rewrap(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Answer<RewrappedView>, Problem> {
    let rewrapped = to_the_end(async move { api.runtime.rewrap_keys().await }).await?;
    Ok(Answer(RewrappedView { rewrapped }))
}

/// A key that is stored has to be taken into use, even when whoever asked goes away in between.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, sgen_delivery::DeliveryError>> + Send + 'static,
) -> Result<T, Problem> {
    Ok(tokio::spawn(work).await.map_err(|e| Problem::from_internal(&e))??)
}
