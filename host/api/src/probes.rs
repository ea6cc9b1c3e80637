//! Routes that look at an instance: health check, live choices, dead letters, integration log.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sgen_delivery::{DeadLetter, JournalEntry};
use sgen_model::{Choice, DownstreamAccount, InstanceId, Sequence, Verdict};
use utoipa::{IntoParams, ToSchema};

use crate::access::Caller;
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

/// A page of a log that is numbered by position.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SequencePage {
    /// Only entries before this position: the `next` of the page before.
    pub(crate) before: Option<u64>,
    /// At most so many, 100 when absent, 1,000 at most.
    pub(crate) limit: Option<usize>,
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LimitQuery {
    /// At most so many, 100 when absent, 1,000 at most.
    limit: Option<usize>,
}

/// Events that an instance could not deliver.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterPage {
    /// Newest first: sequence, event id, surface, times, attempts, failure.
    #[schema(value_type = Vec<Object>)]
    dead_letters: Vec<DeadLetter>,
    /// Give as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// An instance's integration log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogView {
    /// Newest first: one entry per batch attempt.
    #[schema(value_type = Vec<Object>)]
    entries: Vec<JournalEntry>,
}

/// Checks an instance now
///
/// Asks the downstream whether it is reachable, accepts the credential, permits what delivery needs and has the target.
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/check",
    tag = "instances",
    params(("id" = String, Path, description = "The instance.")),
    responses((status = 200, description = "What was found, good or bad.", body = CheckView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_check(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
) -> Result<Answer<CheckView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let result = api.runtime.check(&id).await?;
    Ok(Answer(CheckView { verdict: result.verdict, account: result.account }))
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

/// Lists dead letters
#[utoipa::path(
    get,
    path = "/v1/instances/{id}/dead-letters",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), SequencePage),
    responses((status = 200, description = "Newest first.", body = DeadLetterPage)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_dead_letters(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Parameters(query): Parameters<SequencePage>,
) -> Result<Answer<DeadLetterPage>, Problem> {
    caller.on_instance(&api, &id).await?;
    let limit = page(query.limit)?;
    let dead_letters = api.runtime.dead_letters(&id, query.before.map(Sequence), limit)?;
    let next = dead_letters.last().filter(|_| dead_letters.len() == limit).map(|last| last.sequence.0);
    Ok(Answer(DeadLetterPage { dead_letters, next }))
}

/// Shows the integration log
#[utoipa::path(
    get,
    path = "/v1/instances/{id}/log",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), LimitQuery),
    responses((status = 200, description = "Newest first.", body = LogView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_log(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Parameters(query): Parameters<LimitQuery>,
) -> Result<Answer<LogView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let entries = api.runtime.journal(&id, page(query.limit)?)?;
    Ok(Answer(LogView { entries }))
}
