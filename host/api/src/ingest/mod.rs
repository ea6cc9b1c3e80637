//! Ingest: captured events come in here, and 202 means that they are on disk.
//!
//! All or nothing: a request with one invalid event stores none of them. The key is checked before the body is read.

mod admission;
mod parse;

pub(crate) use admission::{Admission, Gauge, Refused, Reservation};

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use serde::Serialize;
use sgen_delivery::Receipt;
use sgen_model::{CaptureEvent, EventId, Place, Sequence};
use utoipa::ToSchema;

use crate::access::IngestCaller;
use crate::problem::{Problem, ProblemFault};
use crate::state::Api;
use parse::Format;

/// How long a body may take to arrive: a slow sender holds memory that others need.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Above this many bytes, parsing leaves the threads that serve other requests.
const PARSE_INLINE: usize = 64 * 1024;

/// A captured event, as a site posts it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body for the OpenAPI document; it is parsed by the model's own type")]
#[schema(as = CaptureEvent)]
pub(crate) struct PostedEvent {
    /// Chosen by the capturing side: printable ASCII without spaces and `/`, at most 128 bytes. A second event with the
    /// same id in the same environment is a duplicate.
    id: String,
    /// `form:NAME`, `analytics:NAME`, `phone-tap:NAME` or `event:NAME`.
    #[schema(example = "form:contact")]
    surface: String,
    /// RFC 3339, or milliseconds since 1970.
    #[schema(example = "2026-11-23T18:00:00Z")]
    captured_at: String,
    /// What was captured.
    fields: Option<std::collections::HashMap<String, serde_json::Value>>,
    /// Circumstances: page, referrer, campaign.
    context: Option<std::collections::HashMap<String, serde_json::Value>>,
}

/// Whether an event was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReceiptStatus {
    /// Stored by this request.
    Accepted,
    /// An event with this id was stored before; this one was not.
    Duplicate,
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventReceipt {
    #[schema(value_type = String)]
    id: EventId,
    /// Its position in the environment's log; of a duplicate, the first one's.
    #[schema(value_type = u64)]
    sequence: Sequence,
    status: ReceiptStatus,
}

/// The answer to captured events, given only when they are on disk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// How many were new.
    accepted: usize,
    /// How many had been stored before.
    duplicates: usize,
    /// One per event, in the order of the request.
    events: Vec<EventReceipt>,
}

impl From<Vec<Receipt>> for Accepted {
    fn from(receipts: Vec<Receipt>) -> Self {
        let duplicates = receipts.iter().filter(|receipt| receipt.duplicate).count();
        let accepted = receipts.len().saturating_sub(duplicates);
        let events = receipts
            .into_iter()
            .map(|Receipt { id, sequence, duplicate, .. }| EventReceipt {
                id,
                sequence,
                status: if duplicate { ReceiptStatus::Duplicate } else { ReceiptStatus::Accepted },
            })
            .collect();
        Self { accepted, duplicates, events }
    }
}

/// Captures events
///
/// One object, an array of objects, or one object a line. At most 8 MiB and 1,000 events in a request and 256 KiB in an
/// event. All or nothing: an invalid event refuses the request and is named by its position. Safe to repeat: an event that
/// was stored before is answered as a duplicate.
#[utoipa::path(
    post,
    path = "/v1/sites/{site}/environments/{environment}/events",
    tag = "ingest",
    params(("site" = String, Path, description = "The site."), ("environment" = String, Path, description = "Its environment.")),
    request_body(content(
        (PostedEvent = "application/json"),
        (Vec<PostedEvent> = "application/json"),
        (String = "application/x-ndjson")
    )),
    responses((status = 202, description = "Every event is on disk.", body = Accepted)),
    security(("ingest" = []))
)]
pub(crate) async fn post_events(
    State(api): State<Arc<Api>>,
    IngestCaller(key): IngestCaller,
    path: RawPathParams,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if !names(&path, &key.place) {
        return Err(Problem::not_found("this ingest key belongs to another site or environment"));
    }
    let format = format(&headers)?;
    let mut reservation = api.admission.enter(&key.in_flight);
    let body = tokio::time::timeout(BODY_TIME, receive(&headers, body, api.limits.body, &mut reservation))
        .await
        .map_err(|_| too_slow())??;
    let events = events(format, body).await?;
    let receipts = api.runtime.capture(&key.place, events).await?;
    // What is in the house is counted until it is on disk.
    drop(reservation);
    let answer = serde_json::to_vec(&Accepted::from(receipts)).map_err(|e| Problem::from_internal(&e))?;
    Ok((StatusCode::ACCEPTED, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer).into_response())
}

fn names(path: &RawPathParams, place: &Place) -> bool {
    path.iter().all(|(name, value)| match name {
        "site" => value == place.site.as_str(),
        "environment" => value == place.environment.as_str(),
        _ => true,
    })
}

fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::of(content_type).ok_or_else(|| {
        Problem::unsupported_media_type("send events as `application/json` or, one a line, as `application/x-ndjson`")
    })?;
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Problem::unsupported_media_type("send the body without a content encoding"))
        }
        _ => Ok(format),
    }
}

/// Reads the body, reserving what arrives. A body of one frame, the usual case, is not copied.
async fn receive(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    reservation: &mut Reservation<'_>,
) -> Result<Bytes, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(too_many_bytes(limit));
    }
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::malformed("the body did not arrive whole; nothing of it was kept"))?;
        let Ok(data) = frame.into_data() else { continue };
        let size = first.len().saturating_add(rest.len()).saturating_add(data.len());
        if size > limit {
            return Err(too_many_bytes(limit));
        }
        reservation.grow(data.len()).map_err(full)?;
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.unwrap_or(size).max(size));
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

async fn events(format: Format, body: Bytes) -> Result<Vec<CaptureEvent>, Problem> {
    if body.len() <= PARSE_INLINE {
        return parse::parse(format, &body);
    }
    let parsed = tokio::task::spawn_blocking(move || parse::parse(format, &body)).await;
    parsed.map_err(|e| Problem::from_internal(&e))?
}

fn too_many_bytes(limit: usize) -> Problem {
    Problem::too_large(format!("the body exceeds {limit} bytes; send the events in several requests"))
}

fn too_slow() -> Problem {
    Problem::new(
        "too-slow",
        "The body took too long",
        StatusCode::REQUEST_TIMEOUT,
        format!("the body did not arrive within {} s; nothing of it was kept", BODY_TIME.as_secs()),
    )
}

fn full(refused: Refused) -> Problem {
    match refused {
        Refused::Place => Problem::new(
            "too-much-in-flight",
            "Too much at once",
            StatusCode::TOO_MANY_REQUESTS,
            "this site has too many bytes in flight; wait for answers, then send again. Nothing of this request was kept",
        )
        .retry_after(1),
        Refused::Host => Problem::new(
            "too-much-in-flight",
            "Too much at once",
            StatusCode::SERVICE_UNAVAILABLE,
            "the platform has too many bytes in flight; send again shortly. Nothing of this request was kept",
        )
        .of(ProblemFault::Platform)
        .retry_after(1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::stream;

    fn chunked(chunks: &[&'static str]) -> Body {
        let frames: Vec<Result<&'static str, std::io::Error>> = chunks.iter().map(|chunk| Ok(*chunk)).collect();
        Body::from_stream(stream::iter(frames))
    }

    async fn received(body: Body, limit: usize, admission: &Admission) -> Result<Bytes, Problem> {
        let place = Arc::<Gauge>::default();
        let mut reservation = admission.enter(&place);
        receive(&HeaderMap::new(), body, limit, &mut reservation).await
    }

    #[tokio::test]
    async fn a_body_arrives_whole_however_it_is_cut() {
        let admission = Admission::new(1_000, 1_000);
        for chunks in [&["abcdef"][..], &["abc", "def"], &["", "a", "bcde", "", "f"]] {
            assert_eq!(received(chunked(chunks), 6, &admission).await.unwrap(), "abcdef", "{chunks:?}");
        }
        assert_eq!(received(Body::empty(), 6, &admission).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_is_stopped_at_the_limit_and_at_the_caps_as_it_arrives() {
        let roomy = Admission::new(1_000, 1_000);
        assert_eq!(received(chunked(&["abc", "defg"]), 6, &roomy).await.unwrap_err().status, 413);
        let host_full = Admission::new(5, 1_000);
        assert_eq!(received(chunked(&["abc", "def"]), 6, &host_full).await.unwrap_err().status, 503);
        let place_full = Admission::new(1_000, 5);
        let problem = received(chunked(&["abc", "def"]), 6, &place_full).await.unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.retry_after), (429, Some(1)));
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_refused_before_anything_is_read() {
        let admission = Admission::new(1_000, 1_000);
        let place = Arc::<Gauge>::default();
        let mut reservation = admission.enter(&place);
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("7"))]);
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(receive(&headers, never, 6, &mut reservation).await.unwrap_err().status, 413);
    }
}
