//! Routes of the credentials that the sites of one account share, and of the references to them.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sgen_delivery::SharedCredential;
use sgen_model::{AccountId, InstanceId, SharedId, SlotName, Timestamp};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::instances::{CredentialView, OtherEnvironmentParameter};
use crate::problem::Problem;
use crate::request::{Json, Secret, Segments};
use crate::state::Api;

/// What may be shown of a shared credential.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SharedView {
    #[schema(value_type = String)]
    id: SharedId,
    /// Counts rotations, from 1.
    version: u32,
    /// Equal for equal secrets, and otherwise meaningless.
    fingerprint: String,
    #[schema(value_type = String)]
    set_at: Timestamp,
    /// The slots that refer to it.
    referred_by: Vec<ReferringView>,
}

/// A slot that refers to a shared credential.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReferringView {
    #[schema(value_type = String)]
    instance: InstanceId,
    #[schema(value_type = String)]
    slot: SlotName,
}

impl From<SharedCredential> for SharedView {
    fn from(credential: SharedCredential) -> Self {
        let SharedCredential { id, version, fingerprint, set_at, referred_by } = credential;
        let referred_by = referred_by.into_iter().map(|(instance, slot)| ReferringView { instance, slot }).collect();
        Self { id, version, fingerprint, set_at, referred_by }
    }
}

/// The shared credentials of an account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SharedList {
    credentials: Vec<SharedView>,
}

/// A secret to share.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SharedRequest {
    /// Sealed at once, shown by no answer.
    #[schema(value_type = String, write_only)]
    secret: Secret,
}

/// What a slot is to refer to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReferenceRequest {
    /// A shared credential of the instance's account.
    #[schema(value_type = String)]
    shared: SharedId,
    /// `allowed` when it may belong to a downstream account that an instance of another environment of the site uses,
    /// which is audited; `refused` when absent.
    #[serde(default)]
    #[schema(inline)]
    other_environment: OtherEnvironmentParameter,
}

/// Lists shared credentials
///
/// Those of one account, with the slots that refer to each.
#[utoipa::path(
    get,
    path = "/v1/accounts/{account}/credentials",
    tag = "shared credentials",
    params(("account" = String, Path, description = "The account.")),
    responses((status = 200, description = "All of them.", body = SharedList)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_shared(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(account): Segments<AccountId>,
) -> Result<Answer<SharedList>, Problem> {
    caller.on_account(&api, &account).await?;
    let credentials = api.runtime.shared_credentials(&account)?.into_iter().map(SharedView::from).collect();
    Ok(Answer(SharedList { credentials }))
}

/// Gives or rotates a shared credential
///
/// Every slot that refers to it goes over, each with a record in its own site's audit log, and delivery that waited for it
/// goes on by itself.
#[utoipa::path(
    put,
    path = "/v1/accounts/{account}/credentials/{id}",
    tag = "shared credentials",
    params(("account" = String, Path, description = "The account."), ("id" = String, Path, description = "The credential.")),
    request_body = SharedRequest,
    responses((status = 200, description = "It is in force.", body = SharedView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn put_shared(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((account, id)): Segments<(AccountId, SharedId)>,
    Json(SharedRequest { secret }): Json<SharedRequest>,
) -> Result<Answer<SharedView>, Problem> {
    caller.on_account(&api, &account).await?;
    let actor = caller.actor();
    // To its end, even when whoever asked goes away: every slot has to go over.
    let task = tokio::spawn(async move { api.runtime.share(&actor, &account, &id, secret.0).await });
    Ok(Answer(task.await.map_err(|e| Problem::from_internal(&e))??.into()))
}

/// Deletes a shared credential
///
/// One that no slot refers to (409 otherwise).
#[utoipa::path(
    delete,
    path = "/v1/accounts/{account}/credentials/{id}",
    tag = "shared credentials",
    params(("account" = String, Path, description = "The account."), ("id" = String, Path, description = "The credential.")),
    responses((status = 204, description = "Deleted.")),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn delete_shared(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((account, id)): Segments<(AccountId, SharedId)>,
) -> Result<StatusCode, Problem> {
    caller.on_account(&api, &account).await?;
    api.runtime.unshare(&caller.actor(), &account, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refers to a shared credential
///
/// The slot gets the shared credential of the instance's account; a credential of its own that it had is deleted. The
/// account that it belongs to is asked for as when a credential is rotated.
#[utoipa::path(
    put,
    path = "/v1/instances/{id}/credentials/{slot}/reference",
    tag = "shared credentials",
    params(("id" = String, Path, description = "The instance."), ("slot" = String, Path, description = "The credential slot.")),
    request_body = ReferenceRequest,
    responses((status = 200, description = "Granted.", body = CredentialView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn put_reference(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((id, slot)): Segments<(InstanceId, SlotName)>,
    Json(ReferenceRequest { shared, other_environment }): Json<ReferenceRequest>,
) -> Result<Answer<CredentialView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let reference = api.runtime.refer(&caller.actor(), &id, &slot, &shared, other_environment.into()).await?;
    Ok(Answer(reference.into()))
}

/// Revokes a reference
///
/// This instance is paused until it has a credential again; others that refer to the same one go on.
#[utoipa::path(
    delete,
    path = "/v1/instances/{id}/credentials/{slot}/reference",
    tag = "shared credentials",
    params(("id" = String, Path, description = "The instance."), ("slot" = String, Path, description = "The credential slot.")),
    responses((status = 204, description = "Revoked.")),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn delete_reference(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((id, slot)): Segments<(InstanceId, SlotName)>,
) -> Result<StatusCode, Problem> {
    caller.on_instance(&api, &id).await?;
    api.runtime.revoke_reference(&caller.actor(), &id, &slot).await?;
    Ok(StatusCode::NO_CONTENT)
}
