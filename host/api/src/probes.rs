//! Routes that ask a downstream: health check and live choices.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sgen_model::{Choice, DownstreamAccount, Failure, InstanceId, Verdict};
use utoipa::{IntoParams, ToSchema};

use crate::access::Caller;
use crate::instances::OtherEnvironmentParameter;
use crate::problem::Problem;
use crate::request::{Parameters, Segments};
use crate::state::Api;

/// The entries of one page when the query does not say.
pub(crate) const PAGE: usize = 100;
/// The most entries of one page.
pub(crate) const PAGE_LIMIT: usize = 1_000;

/// How many entries a page has.
pub(crate) fn page(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(PAGE),
        Some(limit) if (1..=PAGE_LIMIT).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::malformed(format!("limit is from 1 to {PAGE_LIMIT}"))),
    }
}

/// What a health check found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckView {
    /// `reachable`, `authorised`, `permitted`, `target_exists` (each yes, no or unverifiable), a summary, and the failure.
    #[schema(value_type = Object)]
    verdict: Verdict,
    /// The downstream account that the credential belongs to, when the connector can tell: id, label, sandbox.
    #[schema(value_type = Option<Object>)]
    account: Option<DownstreamAccount>,
    /// The failure that says which instance of another environment uses that account, when the instance is paused for it.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Failure>,
}

/// How to check.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CheckQuery {
    /// `allowed` when the account of the credential may be one that an instance of another environment uses: that is
    /// audited, and an instance that is paused for it goes on. `refused` when absent.
    #[serde(default)]
    #[param(inline)]
    other_environment: OtherEnvironmentParameter,
}

/// What to choose from.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OptionsQuery {
    /// The source, as the manifest names it (`lists`).
    source: String,
    /// Only choices that match this text.
    search: Option<String>,
}

/// Live choices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OptionsView {
    /// Each with `value` and `label`.
    #[schema(value_type = Vec<Object>)]
    choices: Vec<Choice>,
}

/// Checks an instance now
///
/// Asks the downstream whether it is reachable, accepts the credential, permits what delivery needs and has the target, and,
/// where the connector can tell, which account the credential belongs to. Of two instances of one site that share an account,
/// one of them live, the one that is not live is paused.
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/check",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), CheckQuery),
    responses((status = 200, description = "What was found, good or bad.", body = CheckView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_check(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Parameters(CheckQuery { other_environment }): Parameters<CheckQuery>,
) -> Result<Answer<CheckView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let result = api.runtime.check(&caller.actor(), &id, other_environment.into()).await?;
    Ok(Answer(CheckView { verdict: result.verdict, account: result.account, refused: result.refused }))
}

/// Lists live choices
///
/// For a settings field or a mapping target whose manifest names a source.
#[utoipa::path(
    get,
    path = "/v1/instances/{id}/options",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), OptionsQuery),
    responses((status = 200, description = "The downstream's answer.", body = OptionsView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_options(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Parameters(OptionsQuery { source, search }): Parameters<OptionsQuery>,
) -> Result<Answer<OptionsView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let choices = api.runtime.options(&id, &source, search.as_deref()).await?;
    Ok(Answer(OptionsView { choices }))
}
