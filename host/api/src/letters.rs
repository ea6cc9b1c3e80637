//! Routes of dead letters and of the integration log.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sgen_delivery::{DeadLetter, Job, JobKind, JournalEntry, JournalQuery, LetterDetail, Preview, Selection};
use sgen_model::{FailureClass, InstanceId, Sequence, Timestamp};
use utoipa::{IntoParams, ToSchema};

use crate::access::Caller;
use crate::probes::page;
use crate::problem::Problem;
use crate::request::{Json, Parameters, Segments, TimeParameter};
use crate::state::Api;

/// Which dead letters, page by page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LetterQuery {
    /// Only of this cause in triage (`schema-mismatch/email`).
    cause: Option<String>,
    /// Only of this class (`rejected`).
    #[param(value_type = Option<String>)]
    class: Option<FailureClass>,
    /// Only given up at or after this time: RFC 3339, or milliseconds since 1970.
    #[param(value_type = Option<String>)]
    since: Option<TimeParameter>,
    /// Only entries before this position: the `next` of the page before.
    before: Option<u64>,
    /// At most so many, 100 when absent, 1,000 at most.
    limit: Option<usize>,
}

/// Which entries of an integration log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// `failures` for the failure log: only attempts that failed, wholly or in part.
    #[param(value_type = Option<String>)]
    only: Option<Only>,
    /// Only attempts at or after this time: RFC 3339, or milliseconds since 1970.
    #[param(value_type = Option<String>)]
    since: Option<TimeParameter>,
    /// Only entries before this one: the `next` of the page before.
    before: Option<String>,
    /// At most so many, 100 when absent, 1,000 at most.
    limit: Option<usize>,
}

/// What a log is narrowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Only {
    /// Attempts that failed.
    Failures,
}

/// Events that an instance could not deliver.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterPage {
    /// Newest first: sequence, event id, surface, times, attempts, failure, cause, mapped fields.
    #[schema(value_type = Vec<Object>)]
    dead_letters: Vec<DeadLetter>,
    /// Give as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// An instance's integration log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogView {
    /// Newest first: one entry per batch attempt, with response codes and times.
    #[schema(value_type = Vec<Object>)]
    entries: Vec<JournalEntry>,
    /// Give as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which dead letters; every condition given must hold. At least one has to be given, or `all`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelectionRequest {
    /// Every letter of the instance.
    #[serde(default)]
    all: bool,
    /// The letter at this position.
    #[schema(value_type = Option<u64>)]
    sequence: Option<Sequence>,
    /// Letters of this cause in triage.
    cause: Option<String>,
    /// Letters of this class.
    #[schema(value_type = Option<String>)]
    class: Option<FailureClass>,
    /// Letters that were given up at or after this time.
    #[schema(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Only tell how many there are; nothing is changed.
    #[serde(default)]
    dry_run: bool,
}

impl SelectionRequest {
    fn selection(&self) -> Result<Selection, Problem> {
        let Self { all, sequence, cause, class, since, .. } = self.clone();
        let selection = Selection { sequence, cause, class, since };
        if all == (selection == Selection::default()) {
            return Ok(selection);
        }
        Err(Problem::malformed(
            "say which dead letters: sequence, cause, class or since; or `\"all\": true` alone for every one",
        ))
    }
}

/// A replay or discard that has begun, or would.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobView {
    /// How many letters match, with the oldest and the newest position.
    #[schema(value_type = Object)]
    matched: Preview,
    /// What has begun; absent for a dry run. Its progress is in the instance's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    job: Option<Job>,
}

/// Lists dead letters
#[utoipa::path(
    get,
    path = "/v1/instances/{id}/dead-letters",
    tag = "dead letters",
    params(("id" = String, Path, description = "The instance."), LetterQuery),
    responses((status = 200, description = "Newest first.", body = DeadLetterPage)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_dead_letters(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Parameters(query): Parameters<LetterQuery>,
) -> Result<Answer<DeadLetterPage>, Problem> {
    caller.on_instance(&api, &id).await?;
    let limit = page(query.limit)?;
    let LetterQuery { cause, class, since, before, .. } = query;
    let selection = Selection { sequence: None, cause, class, since: since.map(|time| time.0) };
    let dead_letters = api.runtime.dead_letters(&id, &selection, before.map(Sequence), limit)?;
    let next = dead_letters.last().filter(|_| dead_letters.len() == limit).map(|last| last.sequence.0);
    Ok(Answer(DeadLetterPage { dead_letters, next }))
}

/// Shows a dead letter
///
/// With what was sent (the mapped fields), every attempt, and the downstream's responses.
#[utoipa::path(
    get,
    path = "/v1/instances/{id}/dead-letters/{sequence}",
    tag = "dead letters",
    params(("id" = String, Path, description = "The instance."), ("sequence" = u64, Path, description = "The event's position.")),
    responses((status = 200, description = "The letter.", body = Object)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_dead_letter(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((id, sequence)): Segments<(InstanceId, Sequence)>,
) -> Result<Answer<LetterDetail>, Problem> {
    caller.on_instance(&api, &id).await?;
    Ok(Answer(api.runtime.dead_letter(&id, sequence)?))
}

/// Replays dead letters
///
/// They are mapped anew from what was captured and delivered with the whole retry policy, paced so that fresh events are
/// not delayed. With `dry_run` it only tells how many there are.
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/dead-letters/replay",
    tag = "dead letters",
    params(("id" = String, Path, description = "The instance.")),
    request_body = SelectionRequest,
    responses((status = 202, description = "It has begun, and goes on across restarts.", body = JobView),
        (status = 200, description = "A dry run.", body = JobView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_replay(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Json(request): Json<SelectionRequest>,
) -> Result<(StatusCode, Answer<JobView>), Problem> {
    begin(&api, &caller, &id, JobKind::Replay, &request).await
}

/// Discards dead letters
///
/// They are given up for good. With `dry_run` it only tells how many there are.
#[utoipa::path(
    post,
    path = "/v1/instances/{id}/dead-letters/discard",
    tag = "dead letters",
    params(("id" = String, Path, description = "The instance.")),
    request_body = SelectionRequest,
    responses((status = 202, description = "It has begun, and goes on across restarts.", body = JobView),
        (status = 200, description = "A dry run.", body = JobView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn post_discard(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Json(request): Json<SelectionRequest>,
) -> Result<(StatusCode, Answer<JobView>), Problem> {
    begin(&api, &caller, &id, JobKind::Discard, &request).await
}

async fn begin(
    api: &Api,
    caller: &Caller,
    id: &InstanceId,
    kind: JobKind,
    request: &SelectionRequest,
) -> Result<(StatusCode, Answer<JobView>), Problem> {
    caller.on_instance(api, id).await?;
    let selection = request.selection()?;
    if request.dry_run {
        let matched = api.runtime.preview(id, &selection).await?;
        return Ok((StatusCode::OK, Answer(JobView { matched, job: None })));
    }
    let (job, matched) = api.runtime.begin_job(&caller.actor(), id, kind, selection).await?;
    Ok((StatusCode::ACCEPTED, Answer(JobView { matched, job: Some(job) })))
}

/// Ends a replay or discard
///
/// What it has done stays done.
#[utoipa::path(
    delete,
    path = "/v1/instances/{id}/jobs/{job}",
    tag = "dead letters",
    params(("id" = String, Path, description = "The instance."), ("job" = u64, Path, description = "The job's number.")),
    responses((status = 204, description = "It has ended.")),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn delete_job(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments((id, job)): Segments<(InstanceId, u64)>,
) -> Result<StatusCode, Problem> {
    caller.on_instance(&api, &id).await?;
    api.runtime.cancel_job(&id, job).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows the integration log
///
/// One entry per batch attempt; with `only=failures` it is the failure log.
#[utoipa::path(
    get,
    path = "/v1/instances/{id}/log",
    tag = "instances",
    params(("id" = String, Path, description = "The instance."), LogQuery),
    responses((status = 200, description = "Newest first.", body = LogView)),
    security(("platform" = []), ("operator" = []))
)]
pub(crate) async fn get_log(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id): Segments<InstanceId>,
    Parameters(query): Parameters<LogQuery>,
) -> Result<Answer<LogView>, Problem> {
    caller.on_instance(&api, &id).await?;
    let limit = page(query.limit)?;
    let query = JournalQuery {
        failures_only: query.only == Some(Only::Failures),
        since: query.since.map(|time| time.0),
        before: query.before,
    };
    let found = api.runtime.journal(&id, &query, limit)?;
    Ok(Answer(LogView { entries: found.entries, next: found.next }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_selection_says_which_letters_or_that_it_is_all_of_them() {
        let read = |json: &str| serde_json::from_str::<SelectionRequest>(json).unwrap().selection().is_ok();
        assert!(read(r#"{"all":true}"#) && read(r#"{"sequence":7}"#) && read(r#"{"class":"rejected","dry_run":true}"#));
        assert!(!read("{}") && !read(r#"{"dry_run":true}"#) && !read(r#"{"all":true,"sequence":7}"#));
        assert!(serde_json::from_str::<SelectionRequest>(r#"{"everything":true}"#).is_err());
    }
}
