//! One request: judge, compose, inject, wait for a turn, sign or add a token, send, cap, scrub.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use crate::auth::Injection;
use crate::compiled::{Compiled, query_names};
use crate::connect::ConnectFailure;
use crate::error::{SendError, SendErrorKind};
use crate::gate::{Limits, Way};
use crate::headers::{self, PROXY_STATUS};
use crate::limiter::{Limiter, NoTurn};
use crate::path::RelativePath;
use crate::scrub::shorten;
use crate::token::AccessToken;
use crate::webhook;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("sgen-connectors/", env!("CARGO_PKG_VERSION")));
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const WEBHOOK_ID: &str = "webhook-id";
/// A response that an intermediary makes without asking the next one (RFC 9209, 2.3). The SDK knows it by its first word.
const REFUSED: &str = "sgen-host; error=proxy_internal_response; details=\"rate\"";

/// The longest path quoted in a message, in bytes.
const QUOTED: usize = 200;

/// One request, relative to an endpoint's base URL.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// A path with an optional query, starting with `/`; or empty, for exactly the base URL.
    pub path: String,
    /// The guest's headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
}

/// One response. A redirect is a response like any other: it is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers that the guest may see, with lower-case names, scrubbed.
    pub headers: Vec<(String, String)>,
    /// The whole body, scrubbed.
    pub body: Vec<u8>,
}

/// What became of a request.
#[derive(Debug)]
pub struct Sent {
    /// The response, or why there is none.
    pub answer: Result<Response, SendError>,
    /// How long it waited for its turn under the vendor's rate.
    pub waited: Duration,
    /// Whether there was no turn in time. Nothing was sent then, and the answer is the gate's own: 429 with `retry-after`,
    /// marked by `proxy-status`.
    pub refused: bool,
}

/// A capability to send requests to one base URL with one credential.
pub struct Endpoint {
    compiled: Compiled,
    injection: Injection,
    limiter: Option<Arc<Limiter>>,
    way: Arc<Way>,
}

/// A request that is decided, but for the signature, which has a time in it, or the token, which may be renewed.
struct Prepared {
    head: http::Request<()>,
    body: Bytes,
}

impl Endpoint {
    pub(crate) fn new(compiled: Compiled, injection: Injection, limiter: Option<Arc<Limiter>>, way: Arc<Way>) -> Self {
        Self { compiled, injection, limiter, way }
    }

    /// The endpoint's name in the manifest.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.compiled.name
    }

    /// How long the vendor's rate would hold back a request that came now, at least.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.limiter.as_ref().map_or(Duration::ZERO, |limiter| limiter.delay())
    }

    /// Sends one request and waits for its whole response, and before that for its turn. Dropping the future gives the
    /// request up.
    ///
    /// # Errors
    /// [`SendError`] says why there is no response, and whether the downstream may have acted.
    pub async fn send(&self, request: Request) -> Result<Response, SendError> {
        self.send_by(request, None).await.answer
    }

    /// Sends one request, if its turn under the vendor's rate comes by `turn_by`; a request that need not wait goes in any
    /// case. The wait is none of the downstream's time: the endpoint's time limits begin with the turn.
    pub async fn send_by(&self, request: Request, turn_by: Option<Instant>) -> Sent {
        let prepared = match self.prepare(request) {
            Ok(prepared) => prepared,
            Err(error) => return self.sent(Err(error), Duration::ZERO),
        };
        let mut waited = Duration::ZERO;
        let mut renewed = None;
        loop {
            let mut turn = None;
            if let Some(limiter) = &self.limiter {
                let asked = Instant::now();
                let answer = limiter.turn(turn_by).await;
                waited = waited.saturating_add(asked.elapsed());
                match answer {
                    Ok(given) => turn = Some(given),
                    Err(no_turn) => return Sent { answer: Ok(refusal(&no_turn)), waited, refused: true },
                }
            }
            let again = renewed.is_some();
            let (answer, used) = match self.authorise(&prepared, renewed.take()).await {
                Ok((outgoing, used)) => (self.exchange(outgoing).await, used),
                Err(error) => (Err(error), None),
            };
            // It counts until here, however long the request was on its way.
            drop(turn);
            // A 401 says that the downstream has not acted: once, the request goes again with another token.
            if let (Injection::Token(tokens), Some(used), false, Ok(response)) = (&self.injection, used, again, &answer)
                && response.status == StatusCode::UNAUTHORIZED.as_u16()
            {
                match tokens.0.refused(used).await {
                    Ok(Some(token)) => {
                        renewed = Some(token);
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => return self.sent(Err(error), waited),
                }
            }
            return self.sent(answer, waited);
        }
    }

    fn sent(&self, answer: Result<Response, SendError>, waited: Duration) -> Sent {
        let answer = answer.map_err(|SendError { kind, message }| {
            let message = self.way.scrubber.text(format!("endpoint {}: {message}", self.compiled.name));
            SendError { kind, message }
        });
        Sent { answer, waited, refused: false }
    }

    /// Everything that is decided before anything is sent, and before a turn is asked for.
    fn prepare(&self, request: Request) -> Result<Prepared, SendError> {
        let Request { method, path, headers, body } = request;
        let Limits { request_body, request_headers, request_header_bytes, .. } = self.way.limits;
        let relative = RelativePath::parse(&path)
            .map_err(|reason| denied(format!("the connector's path {:?} is refused: {reason}", quoted(&path))))?;
        if !self.compiled.admits(&method, &relative.normalised()) {
            return Err(denied(format!("the manifest does not grant {method} {:?}", quoted(relative.path))));
        }
        let body = body.unwrap_or_default();
        if body.len() > request_body {
            return Err(denied(format!(
                "the request's body has {} bytes; at most {request_body} are allowed",
                body.len()
            )));
        }
        let mut map = HeaderMap::with_capacity(headers.len().saturating_add(8));
        headers::admit(headers, |name| self.injection.owns(name), request_headers, request_header_bytes, &mut map)
            .map_err(|reason| denied(format!("the connector's request is refused: {reason}")))?;
        map.insert(USER_AGENT, AGENT);
        map.insert(ACCEPT_ENCODING, IDENTITY);
        let pair = self.inject(&mut map, &relative)?;
        let uri = self
            .compiled
            .base
            .compose(relative, pair)
            .ok_or_else(|| denied("the composed URL is too long".to_owned()))?;
        let mut head = http::Request::new(());
        *head.method_mut() = method;
        *head.uri_mut() = uri;
        *head.headers_mut() = map;
        Ok(Prepared { head, body: Bytes::from(body) })
    }

    /// Puts the credential in. Answers what goes into the query.
    fn inject(&self, map: &mut HeaderMap, relative: &RelativePath<'_>) -> Result<Option<&str>, SendError> {
        match &self.injection {
            // The last two are put in when the request goes.
            Injection::None | Injection::Aws(_) | Injection::Token(_) => {}
            Injection::Unusable(reason) => return Err(SendError::new(SendErrorKind::Credential, reason)),
            Injection::Header(name, value) => {
                map.insert(name, value.clone());
            }
            Injection::Query { name, pair } => {
                if relative.query.is_some_and(|query| query_names(query, name)) {
                    return Err(denied(format!(
                        "the query parameter {name:?} is set by the host, never by a connector"
                    )));
                }
                return Ok(Some(pair));
            }
            Injection::Signature(_) => {
                if webhook_id(map).is_none() {
                    return Err(denied(
                        "a signed request needs the header webhook-id: 1 to 256 letters, digits, '-', '_', '.' or ':'"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(None)
    }

    /// Signs or adds a token, when the endpoint's credential does. Receivers refuse an old time or token, so this comes after
    /// the wait for a turn. Answers the token that was used.
    async fn authorise(
        &self,
        prepared: &Prepared,
        renewed: Option<Arc<AccessToken>>,
    ) -> Result<(http::Request<Full<Bytes>>, Option<Arc<AccessToken>>), SendError> {
        let Prepared { head, body } = prepared;
        let mut head = head.clone();
        let mut used = None;
        match &self.injection {
            Injection::Signature(signer) => {
                let signed = webhook_id(head.headers()).and_then(|id| signer.sign(id, self.way.clock.now(), body));
                let (timestamp, signature) = signed
                    .ok_or_else(|| SendError::new(SendErrorKind::Credential, "the request could not be signed"))?;
                head.headers_mut().insert("webhook-timestamp", timestamp);
                head.headers_mut().insert("webhook-signature", signature);
            }
            Injection::Aws(signer) => signer
                .sign(&mut head, body, self.way.clock.now())
                .map_err(|reason| denied(format!("the connector's request is refused: {reason}")))?,
            Injection::Token(tokens) => {
                let token = match renewed {
                    Some(token) => token,
                    None => tokens.0.token().await?,
                };
                head.headers_mut().insert(AUTHORIZATION, token.value());
                used = Some(token);
            }
            Injection::None | Injection::Header(..) | Injection::Query { .. } | Injection::Unusable(_) => {}
        }
        Ok((head.map(|()| Full::new(body.clone())), used))
    }

    async fn exchange(&self, outgoing: http::Request<Full<Bytes>>) -> Result<Response, SendError> {
        let limits = self.compiled.timeouts;
        let start = Instant::now();
        let deadline = start + limits.total;
        let head_deadline = deadline.min(start + limits.first_byte);
        let receive = async {
            let turn = self.way.turns.acquire().await;
            let _turn = turn.map_err(|_| SendError::new(SendErrorKind::Connect, "the gate is closed"))?;
            let response = if head_deadline < deadline {
                timeout_at(head_deadline, self.way.client.request(outgoing)).await.map_err(|_| {
                    late(format!(
                        "{} did not begin to answer within {:?}",
                        self.compiled.base.authority(),
                        limits.first_byte
                    ))
                })?
            } else {
                self.way.client.request(outgoing).await
            };
            self.receive(response.map_err(|error| self.broken(&error))?).await
        };
        timeout_at(deadline, receive).await.unwrap_or_else(|_| {
            Err(late(format!("{} did not answer within {:?}", self.compiled.base.authority(), limits.total)))
        })
    }

    async fn receive(&self, response: http::Response<Incoming>) -> Result<Response, SendError> {
        let (head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(invalid("it switches protocols, which nobody asked for".to_owned()));
        }
        if head
            .headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(invalid("it is compressed, though the request accepts no encoding".to_owned()));
        }
        headers::one_length(&head.headers).map_err(|reason| invalid(reason.to_owned()))?;
        let headers = self.shown(&head.headers)?;
        let body = self.collect(&head.headers, body).await?;
        Ok(Response { status: head.status.as_u16(), headers, body: self.way.scrubber.bytes(body) })
    }

    fn shown(&self, given: &HeaderMap) -> Result<Vec<(String, String)>, SendError> {
        let Limits { response_headers, response_header_bytes, .. } = self.way.limits;
        let mut shown = Vec::new();
        let mut size = 0_usize;
        // Every header is copied into the sandbox. Nearly all responses have a date, and a connector, which has no clock,
        // needs it only to understand a retry-after that names a time.
        let dated = given.contains_key(RETRY_AFTER);
        let passes = |name: &HeaderName| self.compiled.shows(name) && (dated || name != DATE);
        for (name, value) in given.iter().filter(|(name, _)| passes(name)) {
            size = size.saturating_add(name.as_str().len()).saturating_add(value.len());
            if shown.len() >= response_headers {
                return Err(invalid(format!("it has more than {response_headers} headers for the connector")));
            }
            if size > response_header_bytes {
                return Err(invalid(format!(
                    "its headers for the connector have more than {response_header_bytes} bytes"
                )));
            }
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            shown.push((name.as_str().to_owned(), self.way.scrubber.text(text)));
        }
        Ok(shown)
    }

    async fn collect(&self, headers: &HeaderMap, mut body: Incoming) -> Result<Vec<u8>, SendError> {
        let cap = self.compiled.max_response;
        let too_large = || invalid(format!("its body has more than {cap} bytes, the endpoint's max_response"));
        // Of a response without a body (to HEAD) the length says nothing.
        let announced = headers.get(CONTENT_LENGTH).filter(|_| !body.is_end_stream());
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
        if announced > cap {
            return Err(too_large());
        }
        let mut whole = Vec::with_capacity(announced);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            // Trailers are dropped.
            let Ok(mut data) = frame.into_data() else { continue };
            if whole.len().saturating_add(data.remaining()) > cap {
                return Err(too_large());
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                whole.extend_from_slice(chunk);
                data.advance(chunk.len());
            }
        }
        Ok(whole)
    }

    /// Classifies an error of the HTTP client.
    fn broken(&self, error: &(dyn StdError + 'static)) -> SendError {
        let host = self.compiled.base.authority();
        let mut cause = Some(error);
        let mut deepest = error;
        while let Some(error) = cause {
            if let Some(failure) = error.downcast_ref::<ConnectFailure>() {
                return SendError::new(failure.kind, format!("{host}: {}", failure.message));
            }
            if let Some(error) = error.downcast_ref::<hyper::Error>()
                && (error.is_parse() || error.is_parse_too_large())
            {
                return invalid(format!("it is not valid HTTP ({error})"));
            }
            if let Some(error) = error.downcast_ref::<std::io::Error>()
                && matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
            {
                return invalid(format!("it is not valid HTTP ({error})"));
            }
            deepest = error;
            cause = error.source();
        }
        let message = format!("the connection to {host} broke ({deepest}); the downstream may have acted");
        SendError::new(SendErrorKind::Reset, message)
    }
}

fn webhook_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(WEBHOOK_ID).and_then(|id| id.to_str().ok()).filter(|id| webhook::id_is_sound(id))
}

/// The gate's own answer to a request that gets no turn in time. Connectors take it for what it is, an instance that sends
/// more than the vendor admits: rate-limited, with the time to wait.
fn refusal(no_turn: &NoTurn) -> Response {
    // Whole seconds (RFC 9110, 10.2.3), rounded up: whoever waits for so long finds the turn come.
    let seconds = no_turn.wait.as_millis().div_ceil(1000).max(1);
    let header = |name: HeaderName, value: String| (name.as_str().to_owned(), value);
    Response {
        status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
        headers: vec![
            header(CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
            header(RETRY_AFTER, seconds.to_string()),
            (PROXY_STATUS.to_owned(), REFUSED.to_owned()),
        ],
        body: no_turn.to_string().into_bytes(),
    }
}

fn denied(message: String) -> SendError {
    SendError::new(SendErrorKind::Denied, message)
}

fn late(message: String) -> SendError {
    SendError::new(SendErrorKind::Timeout, format!("{message}; the downstream may have acted"))
}

fn invalid(message: String) -> SendError {
    SendError::new(SendErrorKind::InvalidResponse, format!("the downstream's response is unusable: {message}"))
}

/// What of a path may be quoted: no query, which may hold anything.
fn quoted(path: &str) -> std::borrow::Cow<'_, str> {
    shorten(path.split(['?', '#']).next().unwrap_or_default(), QUOTED)
}
