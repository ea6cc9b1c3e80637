//! Errors as problem details (RFC 9457): what is wrong, whose it is, and which fields are at fault.
//!
//! A problem never carries a secret, a path on the host's disk or the text of an internal error: those go to the host's
//! log under the request's id.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use sgen_delivery::DeliveryError;
use sgen_model::{Failure, IdError};
use sgen_vault::VaultError;
use utoipa::ToSchema;

/// The media type of RFC 9457.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// Whose a problem is to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemFault {
    /// Whoever sent the request.
    Sender,
    /// The site's operator: settings, mapping, credentials.
    Operator,
    /// The downstream service.
    Downstream,
    /// The platform.
    Platform,
}

impl From<sgen_model::Fault> for ProblemFault {
    fn from(fault: sgen_model::Fault) -> Self {
        match fault {
            sgen_model::Fault::Operator => Self::Operator,
            sgen_model::Fault::Downstream => Self::Downstream,
            sgen_model::Fault::Platform => Self::Platform,
        }
    }
}

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// Where: `settings.url`, `events[3].surface`, `lines[7].id` (lines count from 1, events from 0).
    pub field: String,
    /// What is wrong with it and what is expected.
    pub message: String,
}

impl FieldProblem {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A problem details document.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem for programs: `urn:sgen:problem:<slug>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same kind for people.
    pub title: &'static str,
    /// The HTTP status.
    #[serde(serialize_with = "status_number")]
    #[schema(value_type = u16)]
    pub status: StatusCode,
    /// This occurrence, and what to do about it.
    pub detail: String,
    /// Whose it is to mend.
    pub fault: ProblemFault,
    /// The fields at fault, when fields are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FieldProblem>,
    /// The failure that a downstream call ended with, when one did: class, status, code, message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Box<Failure>>,
    /// Seconds to wait before trying again; sent as `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

// Serde hands the value over by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn status_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of the sender's with a slug, a title, a status and a sentence.
    pub(crate) fn new(slug: &str, title: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:sgen:problem:{slug}"),
            title,
            status,
            detail: detail.into(),
            fault: ProblemFault::Sender,
            problems: Vec::new(),
            failure: None,
            retry_after: None,
        }
    }

    pub(crate) fn of(mut self, fault: ProblemFault) -> Self {
        self.fault = fault;
        self
    }

    pub(crate) fn at(mut self, problems: Vec<FieldProblem>) -> Self {
        self.problems = problems;
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn unauthenticated(detail: &str) -> Self {
        Self::new("unauthenticated", "Not authenticated", StatusCode::UNAUTHORIZED, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new("forbidden", "Not allowed", StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not-found", "Not found", StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new("conflict", "Conflict", StatusCode::CONFLICT, detail)
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new("malformed", "Malformed request", StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>, problems: Vec<FieldProblem>) -> Self {
        Self::new("invalid", "Invalid content", StatusCode::UNPROCESSABLE_ENTITY, detail).at(problems)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new("too-large", "Too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    pub(crate) fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new("unsupported-media-type", "Unsupported content type", StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new("unavailable", "Not available now", StatusCode::SERVICE_UNAVAILABLE, detail)
            .of(ProblemFault::Platform)
            .retry_after(5)
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            "internal",
            "The platform failed",
            StatusCode::INTERNAL_SERVER_ERROR,
            "the platform failed to do this; its log says why under this answer's x-request-id",
        )
        .of(ProblemFault::Platform)
    }

    /// A failure inside the platform: the cause is logged here and not shown.
    pub(crate) fn from_internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, "a request failed inside the platform");
        Self::internal()
    }

    fn from_store(error: &sgen_store::StoreError) -> Self {
        tracing::error!(error = %error, "a request failed in the store");
        match error {
            sgen_store::StoreError::Failed(_) | sgen_store::StoreError::Closed => {
                Self::unavailable("the platform cannot store anything now; nothing of this request was kept")
            }
            sgen_store::StoreError::TooLarge { .. } => Self::too_large("the request is larger than what can be stored"),
            _ => Self::internal(),
        }
    }

    /// A release that is not activated. Shown to the platform only, so it says why.
    pub(crate) fn refused_release(detail: impl Into<String>) -> Self {
        Self::new("release-refused", "The release was refused", StatusCode::CONFLICT, detail).of(ProblemFault::Platform)
    }

    /// Turns a conflict into the answer to a failed `If-Match`.
    pub(crate) fn into_precondition(mut self) -> Self {
        if self.status == StatusCode::CONFLICT {
            self.kind = "urn:sgen:problem:precondition-failed".to_owned();
            self.title = "Changed meanwhile";
            self.status = StatusCode::PRECONDITION_FAILED;
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<IdError> for Problem {
    fn from(error: IdError) -> Self {
        Self::malformed(error.to_string())
    }
}

impl From<sgen_store::StoreError> for Problem {
    fn from(error: sgen_store::StoreError) -> Self {
        Self::from_store(&error)
    }
}

impl From<sgen_audit::AuditError> for Problem {
    fn from(error: sgen_audit::AuditError) -> Self {
        match &error {
            sgen_audit::AuditError::Store(store) => Self::from_store(store),
            _ => Self::from_internal(&error),
        }
    }
}

impl From<DeliveryError> for Problem {
    fn from(error: DeliveryError) -> Self {
        let detail = || error.to_string();
        match &error {
            DeliveryError::UnknownInstance(_)
            | DeliveryError::UnknownSite(_)
            | DeliveryError::UnknownEvent(_)
            | DeliveryError::Unknown(_)
            | DeliveryError::UnknownSlot { .. } => Self::not_found(detail()),
            DeliveryError::UnknownConnector(_) => {
                Self::invalid(detail(), vec![FieldProblem::new("connector", "not in the active catalog")])
                    .of(ProblemFault::Operator)
            }
            DeliveryError::Invalid(problems) => {
                let problems = problems.iter().map(|p| FieldProblem::new(p.field.clone(), p.message.clone())).collect();
                Self::invalid("the configuration is not valid; correct the fields named", problems)
                    .of(ProblemFault::Operator)
            }
            DeliveryError::AccountElsewhere { .. } => {
                let mut problem = Self::conflict(detail()).of(ProblemFault::Operator);
                problem.kind = "urn:sgen:problem:account-of-another-environment".to_owned();
                problem.title = "The account of another environment";
                problem.at(vec![FieldProblem::new("credentials", "of an account that another environment uses")])
            }
            DeliveryError::Conflict(_) => Self::conflict(detail()),
            DeliveryError::NoCatalog => {
                Self::unavailable("no catalog release is active; platform support has to activate one")
            }
            DeliveryError::NotConfigured(_) => {
                Self::new("not-configured", "Not configured", StatusCode::CONFLICT, detail()).of(ProblemFault::Platform)
            }
            DeliveryError::Downstream(failure) => {
                let mut problem = Self::new(
                    "downstream",
                    "The downstream call failed",
                    StatusCode::BAD_GATEWAY,
                    format!("{failure}; {}", failure.class.advice()),
                )
                .of(failure.class.fault().into());
                problem.failure = Some(Box::new(failure.clone()));
                problem
            }
            DeliveryError::Rollback { .. } | DeliveryError::Component { .. } => Self::refused_release(detail()),
            DeliveryError::Store(store) => Self::from_store(store),
            DeliveryError::Vault(VaultError::UnknownSite { .. } | VaultError::SiteDestroyed { .. }) => {
                Self::not_found(detail())
            }
            DeliveryError::Vault(VaultError::TooManyKeys { .. }) => Self::conflict(detail()).of(ProblemFault::Platform),
            DeliveryError::Vault(vault) if vault.fault() == sgen_model::Fault::Operator => {
                Self::invalid(detail(), vec![FieldProblem::new("credentials", vault.to_string())])
                    .of(ProblemFault::Operator)
            }
            DeliveryError::Stopping => Self::unavailable("the host is stopping; try again shortly"),
            _ => Self::from_internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use http_body_util::BodyExt as _;
    use sgen_model::{FailureClass, SiteId};

    async fn answered(problem: Problem) -> (http::HeaderMap, serde_json::Value) {
        let response = problem.into_response();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_problem_is_written_as_rfc_9457_says() {
        let problem = Problem::invalid("no", vec![FieldProblem::new("settings.url", "is missing")]);
        let (headers, body) = answered(problem).await;
        assert_eq!(headers[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:sgen:problem:invalid", "title": "Invalid content", "status": 422, "detail": "no",
                "fault": "sender", "problems": [{"field": "settings.url", "message": "is missing"}]
            })
        );
    }

    #[tokio::test]
    async fn an_unauthenticated_answer_names_the_scheme_and_an_unavailable_one_says_when() {
        let (headers, _) = answered(Problem::unauthenticated("x")).await;
        assert_eq!(headers[WWW_AUTHENTICATE], "Bearer");
        let (headers, body) = answered(Problem::unavailable("x")).await;
        assert_eq!(headers[RETRY_AFTER], "5");
        assert_eq!(body["fault"], "platform");
    }

    #[test]
    fn each_delivery_error_has_its_status_and_its_culprit() {
        let site = SiteId::parse("acme").unwrap();
        let failed = || sgen_store::StoreError::Failed("disk".to_owned());
        let cases = [
            (DeliveryError::Vault(VaultError::SiteDestroyed { site: site.clone() }), 404, ProblemFault::Sender),
            (DeliveryError::UnknownSite(site), 404, ProblemFault::Sender),
            (DeliveryError::NoCatalog, 503, ProblemFault::Platform),
            (DeliveryError::Invalid(Vec::new()), 422, ProblemFault::Operator),
            (DeliveryError::Conflict("x".to_owned()), 409, ProblemFault::Sender),
            (DeliveryError::Stopping, 503, ProblemFault::Platform),
            (DeliveryError::Store(failed()), 503, ProblemFault::Platform),
            (DeliveryError::Downstream(Failure::new(FailureClass::AuthRevoked, "no")), 502, ProblemFault::Operator),
            (DeliveryError::Downstream(Failure::new(FailureClass::Unavailable, "no")), 502, ProblemFault::Downstream),
        ];
        for (error, status, fault) in cases {
            let text = error.to_string();
            let problem = Problem::from(error);
            assert_eq!((problem.status.as_u16(), problem.fault), (status, fault), "{text}");
        }
    }

    #[test]
    fn an_internal_error_is_not_shown() {
        let error = sgen_store::StoreError::Read("/secret/path".to_owned());
        let problem = Problem::from(error);
        assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!serde_json::to_string(&problem).unwrap().contains("/secret/path"));
    }
}
