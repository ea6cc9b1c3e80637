//! Reading requests: typed paths, queries and JSON bodies, whose errors are problem details and never repeat a value.
//!
//! A value that does not fit may be a secret put into the wrong field, so an error names the field and what is expected
//! of it, and not what was found there.

use std::fmt;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use sgen_model::{SecretBytes, Timestamp};

use crate::problem::{FieldProblem, Problem};

/// The largest body of an administrative request, in bytes. Events have limits of their own.
const BODY_LIMIT: usize = 1024 * 1024;

/// A JSON body. An empty body stands for `{}`.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = collect(body).await?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return parse(b"{}").map(Self);
        }
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::unsupported_media_type("send the body as `Content-Type: application/json`"));
        }
        parse(&body).map(Self)
    }
}

async fn collect(body: Body) -> Result<bytes::Bytes, Problem> {
    axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|error| {
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            if cause.is::<http_body_util::LengthLimitError>() {
                return Problem::too_large(format!("the body exceeds {BODY_LIMIT} bytes"));
            }
            source = cause.source();
        }
        Problem::malformed("the body did not arrive whole")
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.inner();
        if cause.is_data() {
            Problem::invalid("the body is not what this route takes", vec![FieldProblem::new(path, expectation(cause))])
        } else {
            Problem::malformed(format!("the body is not JSON (line {}, column {})", cause.line(), cause.column()))
        }
    })?;
    deserializer.end().map_err(|_| Problem::malformed("something follows the JSON of the body"))?;
    Ok(value)
}

/// What a JSON error expects, without the value that it found.
fn expectation(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The parser appends where it was: the path says it better.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let repeats = ["invalid type: ", "invalid value: ", "invalid length "].iter().any(|start| text.starts_with(start));
    match text.rsplit_once(", expected ") {
        Some((_, expected)) if repeats => format!("expected {expected}"),
        _ => text.to_owned(),
    }
}

/// A typed path.
#[derive(Debug)]
pub(crate) struct Segments<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::malformed(format!("the path is not valid: {}", rejection.body_text()))),
        }
    }
}

/// A typed query, whose unknown parameters are refused by the type.
#[derive(Debug)]
pub(crate) struct Parameters<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::malformed(format!("the query is not valid: {}", rejection.body_text()))),
        }
    }
}

/// A point in time in a query: RFC 3339, or milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeParameter(pub(crate) Timestamp);

impl<'de> serde::Deserialize<'de> for TimeParameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(ms) = text.parse::<u64>() {
            return Ok(Self(Timestamp(ms.min(Timestamp::MAX.0))));
        }
        Timestamp::parse(&text).map(Self).map_err(|e| {
            serde::de::Error::custom(format!(
                "a time is RFC 3339 (2026-11-23T18:00:00Z) or milliseconds since 1970: {e}"
            ))
        })
    }
}

/// A secret in a request body: goes into wiped memory at once, and no error repeats it.
pub(crate) struct Secret(pub(crate) SecretBytes);

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        const EXPECTED: &str = "a secret is a JSON text";

        impl<'de> Visitor<'de> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(SecretBytes::new(text.as_bytes().to_vec())))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret(SecretBytes::from(text)))
            }

            // The defaults of these repeat the value in their error.
            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Secret, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
                Err(serde::de::Error::custom(EXPECTED))
            }

            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
                Err(serde::de::Error::custom(EXPECTED))
            }
        }

        deserializer.deserialize_string(Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Form {
        title: Option<String>,
        settings: serde_json::Map<String, serde_json::Value>,
        credentials: BTreeMap<String, Secret>,
    }

    fn refused(body: &str) -> Problem {
        parse::<Form>(body.as_bytes()).err().unwrap()
    }

    #[test]
    fn an_error_names_the_field_and_never_the_value() {
        let cases = [
            (r#"{"settings":{},"credentials":{"token":98765432100}}"#, "credentials.token"),
            (r#"{"settings":{},"credentials":{"token":["98765432100"]}}"#, "credentials.token"),
            (r#"{"settings":{},"credentials":{"token":{"98765432100":1}}}"#, "credentials.token"),
            (r#"{"settings":{},"credentials":"98765432100, expected 98765432100"}"#, "credentials"),
            (r#"{"settings":"98765432100","credentials":{}}"#, "settings"),
            (r#"{"title":98765432100,"settings":{},"credentials":{}}"#, "title"),
        ];
        for (body, field) in cases {
            let problem = refused(body);
            assert_eq!(problem.status, 422, "{body}");
            assert_eq!(problem.problems[0].field, field, "{body}");
            let shown = serde_json::to_string(&problem).unwrap();
            assert!(!shown.contains("98765432100"), "{shown}");
        }
    }

    #[test]
    fn unknown_fields_and_bad_syntax_are_told_apart() {
        assert_eq!(refused(r#"{"settings":{},"credentials":{},"colour":1}"#).status, 422);
        assert!(refused(r#"{"settings":{},"credentials":{},"colour":1}"#).problems[0].message.contains("colour"));
        assert_eq!(refused(r#"{"settings":{},"credentials":{}"#).status, 400);
        assert_eq!(refused(r#"{"settings":{},"credentials":{}} x"#).status, 400);
        assert_eq!(refused("{}").problems[0].message, "missing field `settings`");
    }

    #[test]
    fn a_secret_arrives_whole() {
        let form: BTreeMap<String, Secret> = parse(br#"{"a":"p\u00e4ss"}"#).unwrap();
        assert_eq!(form["a"].0.expose(), "p\u{e4}ss".as_bytes());
    }
}
