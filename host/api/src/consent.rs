//! Routes of consent in a browser: where to send it, what comes back, and giving a grant back.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sgen_delivery::{Authorization, Consented, Upstream};
use sgen_model::{InstanceId, SlotName, Timestamp};
use utoipa::{IntoParams, ToSchema};

use crate::access::Caller;
use crate::instances::CredentialView;
use crate::problem::{Problem, ProblemFault};
use crate::request::{Json, Parameters, Segments};
use crate::state::Api;

/// How much of what a vendor says is passed on, in characters.
const QUOTED: usize = 300;

/// Nothing to say: an empty body or `{}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthorizeRequest {}

/// Where to give consent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuthorizationView {
    /// Open it in a browser. It is good for one consent, and for whoever has it.
    authorize_url: String,
    /// Until when the consent is taken.
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

/// What a vendor sends a browser back with (RFC 6749, 4.1.2). Vendors add parameters of their own.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CallbackQuery {
    /// As it was in the authorization URL.
    state: String,
    /// What tokens are obtained for.
    code: Option<String>,
    /// Why there is no code.
    error: Option<String>,
    /// The same for people.
    error_description: Option<String>,
}

/// A consent that is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConsentView {
    #[schema(value_type = String)]
    instance: InstanceId,
    #[schema(value_type = String)]
    slot: SlotName,
    /// What may be shown of the grant.
    credential: CredentialView,
}

/// What became of a grant that was given back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DisconnectionView {
    /// `revoked`, `not-offered` (the vendor has no endpoint for it), or `failed`: then it may still count at the vendor, where the
    /// operator can end it.
    upstream: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Begins a consent
///
/// For slots that accept `oauth2-grant`. Answers the vendor's page; the vendor then sends the browser to the callback.
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/credentials/{slot}/authorize",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), ("slot" = String, Path, description = "The credential slot.")),
    request_body = AuthorizeRequest,
    responses((status = 200, description = "Where to give consent.", body = AuthorizationView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_authorize(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((id, slot)): Segments<(InstanceId, SlotName)>,
    Json(AuthorizeRequest {}): Json<AuthorizeRequest>,
) -> Result<Answer<AuthorizationView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let Authorization { url, until } = api.runtime.authorize(&caller.actor(), &id, &slot)?;
    Ok(Answer(AuthorizationView { authorize_url: url, expires_at: until }))
}

/// Takes a vendor's answer
///
/// Called by the browser, without a token: the state, which was given to an operator and counts once, says whose it is.
/// Delivery that waited for the grant goes on by itself.
#[utoipa::path(
    get,
    path = "/v1/oauth/callback",
    tag = "instances",
    params(CallbackQuery),
    responses((status = 200, description = "The grant is kept.", body = ConsentView)),
    security(())
)]
pub(crate) async fn get_callback(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<CallbackQuery>,
) -> Result<Answer<ConsentView>, Problem> {
    let CallbackQuery { state, code, error, error_description } = query;
    let Some(code) = code.filter(|_| error.is_none()) else {
        return Err(declined(error, error_description));
    };
    let Consented { instance, slot, reference } = api.runtime.authorized(&state, &code).await?;
    Ok(Answer(ConsentView { instance, slot, credential: CredentialView::from(reference) }))
}

/// Gives a grant back
///
/// Revokes it at the vendor, where that has an endpoint for it, and deletes it here in any case.
#[utoipa::path(
    delete,
    path = "/v1/instances/{id}/credentials/{slot}",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), ("slot" = String, Path, description = "The credential slot.")),
    responses((status = 200, description = "It is gone.", body = DisconnectionView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn delete_credential(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((id, slot)): Segments<(InstanceId, SlotName)>,
) -> Result<Answer<DisconnectionView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let (upstream, reason) = match api.runtime.disconnect(&caller.actor(), &id, &slot).await? {
        Upstream::Revoked => ("revoked", None),
        Upstream::NotOffered => ("not-offered", None),
        Upstream::Failed(reason) => ("failed", Some(reason)),
    };
    Ok(Answer(DisconnectionView { upstream, reason }))
}

/// The vendor sent no code. What it says is a stranger's text: whoever opens the callback can write it.
fn declined(error: Option<String>, description: Option<String>) -> Problem {
    let shown = |text: String| text.chars().filter(|c| !c.is_control()).take(QUOTED).collect::<String>();
    let said: Vec<String> = [error, description].into_iter().flatten().map(shown).collect();
    let said = if said.is_empty() { "no code and no error".to_owned() } else { said.join(": ") };
    let detail = format!("the vendor granted nothing ({said}); begin again when it should");
    Problem::new("consent-declined", "No consent", StatusCode::BAD_REQUEST, detail).of(ProblemFault::Operator)
}
