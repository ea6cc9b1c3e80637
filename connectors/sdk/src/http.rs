//! Requests relative to an endpoint, and the responses to them.
//!
//! Plain data: nothing is checked here. What a connector may send is decided by the host from the signed manifest.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// The HTTP method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl Method {
    /// The method's name on the wire (`POST`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One header, name first. Names and fixed values cost no allocation.
pub type Header = (Cow<'static, str>, Cow<'static, str>);

/// One request, relative to an endpoint's base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// A path with an optional query, starting with `/`; or empty for exactly the base URL.
    pub path: Cow<'static, str>,
    /// Content headers and the vendor's own. `Authorization`, `Cookie`, `Host` and framing headers belong to the host.
    pub headers: Vec<Header>,
    /// The body, when there is one.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, path: impl Into<Cow<'static, str>>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None }
    }

    /// `GET path`
    pub fn get(path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::Get, path)
    }

    /// `POST path`
    pub fn post(path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::Post, path)
    }

    /// `PUT path`
    pub fn put(path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::Put, path)
    }

    /// `PATCH path`
    pub fn patch(path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::Patch, path)
    }

    /// `DELETE path`
    pub fn delete(path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::Delete, path)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a query parameter, percent-encoded.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let path = self.path.to_mut();
        path.push(if path.contains('?') { '&' } else { '?' });
        encode_into(path, name);
        path.push('=');
        encode_into(path, value);
        self
    }

    /// Sets the body as it is.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets a JSON body and its content type.
    ///
    /// # Errors
    /// `connector-fault` when the value has no JSON form (a map whose keys are no strings).
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Failure> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Failure::connector_fault(format!("the request body has no JSON form: {error}")))?;
        Ok(self.json_text(body))
    }

    /// Sets a body that is JSON text already, and its content type.
    #[must_use]
    pub fn json_text(self, text: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(text)
    }
}

/// One response. Redirects are not followed: a 3xx arrives as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers that the host passes on, with lower-case names.
    pub headers: Vec<(String, String)>,
    /// The complete body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without headers and body, for tests and backends.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// With one more header, its name in lower case.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..=299).contains(&self.status)
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether the host itself answered, because the vendor's rate leaves this request no turn in time. Nothing was sent,
    /// and the body is a sentence for the operator. A downstream cannot make such an answer: the host shows no
    /// `proxy-status` (RFC 9209) but its own.
    pub fn is_the_hosts(&self) -> bool {
        self.header("proxy-status").is_some_and(|status| status.split(';').next().map(str::trim) == Some("sgen-host"))
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// `connector-fault` when the body is not what the connector expects of this downstream.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::connector_fault(format!("the downstream's answer cannot be read: {error}"))
                .with_status(self.status)
        })
    }

    /// The body as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The beginning of the body for an operator's eye: one line, at most `characters` long.
    pub fn excerpt(&self, characters: usize) -> String {
        // Four bytes are the most that a character takes: what lies behind them cannot be shown anyway.
        let head = self.body.get(..characters.saturating_mul(4)).unwrap_or(&self.body);
        let text = String::from_utf8_lossy(head);
        let mut excerpt = String::new();
        for word in text.split_whitespace() {
            if !excerpt.is_empty() {
                excerpt.push(' ');
            }
            excerpt.push_str(word);
        }
        match excerpt.char_indices().nth(characters) {
            Some((end, _)) => format!("{}…", excerpt.get(..end).unwrap_or_default()),
            None => excerpt,
        }
    }
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The manifest or the address policy does not allow this request. Nothing was sent.
    Denied,
    /// The name did not resolve, the connection was refused or TLS failed. Nothing was sent.
    Connect,
    /// No answer within the endpoint's time. The downstream may have acted.
    Timeout,
    /// The connection broke after the request was (partly) sent. The downstream may have acted.
    Reset,
    /// The response exceeded a cap or was not valid HTTP. The downstream has acted.
    InvalidResponse,
    /// The credential is missing or cannot be used: the operator must act.
    Credential,
}

/// A request that got no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    /// What happened.
    pub kind: SendErrorKind,
    /// For the failure log.
    pub message: String,
}

impl SendError {
    /// A send error.
    pub fn new(kind: SendErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for SendError {}

/// Percent-encodes a text for one path segment, or for one name or value of a query: everything but RFC 3986's unreserved
/// characters.
pub fn encode_component(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode_into(&mut encoded, text);
    encoded
}

fn encode_into(encoded: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for nibble in [byte >> 4, byte & 0xf] {
                // A nibble is always a digit of base 16.
                encoded.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::FailureClass;

    #[test]
    fn a_json_request_carries_its_content_type() {
        let request = Request::post("/things").json(&serde_json::json!({"a": 1})).unwrap();
        assert_eq!(request.headers, vec![("content-type".into(), "application/json".into())]);
        assert_eq!(request.body.unwrap(), br#"{"a":1}"#);
    }

    #[test]
    fn a_body_without_json_form_is_the_connectors_fault() {
        let keys_are_lists = std::collections::BTreeMap::from([(vec![1], 2)]);
        let failure = Request::post("/things").json(&keys_are_lists).unwrap_err();
        assert_eq!(failure.class, FailureClass::ConnectorFault);
    }

    #[test]
    fn query_parameters_are_encoded() {
        let request = Request::get("/search").query("q", "a b&c=ü/").query("limit", "5");
        assert_eq!(request.path, "/search?q=a%20b%26c%3D%C3%BC%2F&limit=5");
    }

    #[test]
    fn an_id_cannot_leave_its_path_segment() {
        assert_eq!(encode_component("../a?b#c"), "..%2Fa%3Fb%23c");
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let response = Response::new(200).with_header("Retry-After", "3");
        assert_eq!(response.header("RETRY-after"), Some("3"));
        assert_eq!(response.header("date"), None);
    }

    #[test]
    fn an_answer_of_the_host_is_told_from_the_downstreams() {
        let of = |status: &str| Response::new(429).with_header("proxy-status", status).is_the_hosts();
        assert!(of("sgen-host; error=proxy_internal_response; details=\"rate\""));
        assert!(!of("a-proxy; error=connection_refused"));
        assert!(!of("sgen-hostile"));
        assert!(!Response::new(429).is_the_hosts());
    }

    #[test]
    fn an_excerpt_is_one_line_of_bounded_length() {
        let response = Response::new(500).with_body("  first\r\n\tsecond  third ");
        assert_eq!(response.excerpt(100), "first second third");
        assert_eq!(response.excerpt(7), "first s…");
        assert_eq!(Response::new(500).excerpt(7), "");
        assert_eq!(Response::new(500).with_body("üüüü").excerpt(2), "üü…");
    }
}
