//! Routes of the directory: sites, operators, ingest keys.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sgen_model::{AccountId, Environment, InstanceId, OperatorId, Place, SiteId};
use utoipa::ToSchema;

use crate::access::{Caller, PlatformCaller};
use crate::problem::{FieldProblem, Problem};
use crate::request::{Json, Segments};
use crate::state::Api;

/// A registered site.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteView {
    #[schema(value_type = String)]
    account: AccountId,
    #[schema(value_type = String)]
    site: SiteId,
}

/// The confirmation that a site is to be erased.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteErasure {
    /// The site's name once more.
    #[schema(example = "shop")]
    confirm: String,
}

/// A site that was erased.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErasedSiteView {
    #[schema(value_type = String)]
    account: AccountId,
    #[schema(value_type = String)]
    site: SiteId,
    /// The connector instances that it had.
    #[schema(value_type = Vec<String>)]
    instances: Vec<InstanceId>,
}

/// An operator to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOperator {
    /// Lower-case letters, digits, `-` and `_`; unique in the account.
    #[schema(value_type = String, example = "ada")]
    id: OperatorId,
}

/// An operator's token, shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct OperatorToken {
    id: String,
    /// `sgo_…`: the platform keeps only its digest.
    token: String,
}

/// An ingest key, shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewIngestKey {
    /// Names the key in the audit log and when it is revoked.
    id: String,
    /// `sgi_…`: the platform keeps only its digest.
    key: String,
}

/// Nothing to say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// Registers a site
///
/// Gives the site to an account and makes its data key. Repeating it changes nothing.
#[utoipa::path(
    put,
    path = "/v1/accounts/{account}/sites/{site}",
    tag = "directory",
    params(("account" = String, Path, description = "The account."), ("site" = String, Path, description = "The site.")),
    responses(
        (status = 201, description = "Registered.", body = SiteView),
        (status = 200, description = "It was registered to this account before.", body = SiteView)
    ),
    security(("platform" = []))
)]
pub(crate) async fn put_site(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Segments((account, site)): Segments<(AccountId, SiteId)>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Problem> {
    let new = api.directory.register_site(&account, &site, api.catalog_version()).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Answer(SiteView { account, site })).into_response())
}

/// Erases a site
///
/// For good: its lanes are stopped, its keys destroyed, and nothing that was sealed for it can be read here again.
/// A backup made before holds it still, as long as there is the vault key of that time. Its id is not given again. Audit records stay.
#[utoipa::path(
    delete,
    path = "/v1/accounts/{account}/sites/{site}",
    tag = "directory",
    params(("account" = String, Path, description = "The account."), ("site" = String, Path, description = "The site.")),
    request_body = SiteErasure,
    responses((status = 200, description = "Erased.", body = ErasedSiteView)),
    security(("platform" = []))
)]
pub(crate) async fn delete_site(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Segments((account, site)): Segments<(AccountId, SiteId)>,
    Json(SiteErasure { confirm }): Json<SiteErasure>,
) -> Result<Answer<ErasedSiteView>, Problem> {
    if confirm != site.as_str() {
        let message = format!("repeat the site's name: {site}");
        return Err(Problem::invalid(
            "erasing a site cannot be undone, and was not confirmed; nothing was changed",
            vec![FieldProblem::new("confirm", message)],
        ));
    }
    // To its end, even when whoever asked goes away.
    let task = tokio::spawn(async move {
        let instances = api.directory.erase_site(&api.runtime, &account, &site).await?;
        Ok(Answer(ErasedSiteView { account, site, instances }))
    });
    task.await.map_err(|e| Problem::from_internal(&e))?
}

/// Adds an operator
///
/// Operators act on every site of their account. The token is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/accounts/{account}/operators",
    tag = "directory",
    params(("account" = String, Path, description = "The account.")),
    request_body = NewOperator,
    responses((status = 201, description = "Added.", body = OperatorToken)),
    security(("platform" = []))
)]
pub(crate) async fn post_operator(
    State(api): State<Arc<Api>>,
    _: PlatformCaller,
    Segments(account): Segments<AccountId>,
    Json(NewOperator { id }): Json<NewOperator>,
) -> Result<Response, Problem> {
    let issued = api.directory.add_operator(&account, &id, api.catalog_version()).await?;
    Ok((StatusCode::CREATED, Answer(OperatorToken { id: issued.id, token: issued.token })).into_response())
}

/// Issues an ingest key
///
/// The key captures into this environment of this site and does nothing else. It is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/sites/{site}/environments/{environment}/ingest-keys",
    tag = "directory",
    params(("site" = String, Path, description = "The site."), ("environment" = String, Path, description = "Its environment.")),
    responses((status = 201, description = "Issued.", body = NewIngestKey)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_ingest_key(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment)): Segments<(SiteId, Environment)>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Problem> {
    caller.on_site(&api, &site).await?;
    let place = Place::new(site, environment);
    let issued = api.directory.issue_ingest_key(&caller.actor(), &place, api.catalog_version()).await?;
    Ok((StatusCode::CREATED, Answer(NewIngestKey { id: issued.id, key: issued.token })).into_response())
}

/// Revokes an ingest key
///
/// Nothing is captured with it any more.
#[utoipa::path(
    delete,
    path = "/v1/sites/{site}/environments/{environment}/ingest-keys/{id}",
    tag = "directory",
    params(
        ("site" = String, Path, description = "The site."),
        ("environment" = String, Path, description = "Its environment."),
        ("id" = String, Path, description = "The key's id, not the key.")
    ),
    responses((status = 204, description = "Revoked.")),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn delete_ingest_key(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((site, environment, id)): Segments<(SiteId, Environment, String)>,
) -> Result<StatusCode, Problem> {
    caller.on_site(&api, &site).await?;
    let place = Place::new(site, environment);
    api.directory.revoke_ingest_key(&caller.actor(), &place, &id, api.catalog_version()).await?;
    Ok(StatusCode::NO_CONTENT)
}
