//! What surrounds every request: its id, its span in the log, and the answers to panics and unknown routes.
//!
//! The log has method, path and status; never a body, a query or a header.

use std::any::Any;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use tracing::Instrument as _;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::state::Api;

/// Names one request in the log and in its answer.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id taken from a sender, in bytes.
const REQUEST_ID_LIMIT: usize = 64;

/// Gives a request an id and a span, and logs how it ended.
pub(crate) async fn observe(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_request_id(id));
    let id = given.map_or_else(|| api.next_request_id(), str::to_owned);
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    async {
        let mut response = next.run(request).await;
        let status = response.status();
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), "answered");
        } else {
            tracing::debug!(status = status.as_u16(), "answered");
        }
        if let Ok(value) = HeaderValue::try_from(id.as_str()) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }
    .instrument(span)
    .await
}

/// A sender's id goes into the log: short, and of characters that need no escape.
fn is_request_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= REQUEST_ID_LIMIT
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Answers a request whose handler panicked: a defect of the host, which goes on serving.
pub(crate) fn on_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("without a message"), "a request handler panicked");
    Problem::internal().into_response()
}

pub(crate) async fn no_route(request: Request) -> Problem {
    Problem::not_found(format!("there is no route {}; /openapi.json lists them all", request.uri().path()))
}

pub(crate) async fn no_method(request: Request) -> Problem {
    Problem::new(
        "method-not-allowed",
        "Method not allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {}; /openapi.json lists what it takes", request.uri().path(), request.method()),
    )
}

/// The host's state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
    /// The active catalog's version, once ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    catalog: Option<String>,
}

/// Tells that the process is alive
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, description = "Alive.", body = Health))
)]
pub(crate) async fn get_health() -> Answer<Health> {
    Answer(Health { status: "alive", catalog: None })
}

/// Tells whether the host can do its work
///
/// The store takes commits and a catalog is active.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses((status = 200, description = "Ready.", body = Health))
)]
pub(crate) async fn get_ready(State(api): State<Arc<Api>>) -> Result<Answer<Health>, Problem> {
    if api.store_failure.borrow().is_some() {
        return Err(Problem::unavailable("the store has failed; the host's log says why"));
    }
    let Some(catalog) = api.catalog_version() else {
        return Err(Problem::unavailable("no catalog release is active; the host's log says why"));
    };
    Ok(Answer(Health { status: "ready", catalog: Some(catalog) }))
}

/// Carries a request through even when its client goes away: a change that is half made (stored, and not yet in force)
/// must be finished, and what a request holds in memory is counted until it is done.
pub(crate) async fn to_the_end(request: Request, next: Next) -> Response {
    let span = tracing::Span::current();
    match tokio::spawn(next.run(request).instrument(span)).await {
        Ok(response) => response,
        // Only when the runtime itself shuts down: panics are answered further in.
        Err(_) => Problem::internal().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_request_ids_are_taken_over() {
        for (id, taken) in
            [("a-b_c.1", true), ("", false), ("a b", false), ("a\"b", false), ("é", false), (&*"x".repeat(65), false)]
        {
            assert_eq!(is_request_id(id), taken, "{id}");
        }
    }

    #[test]
    fn a_panic_is_answered_without_its_message() {
        let response = on_panic(Box::new("secret detail".to_owned()));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
