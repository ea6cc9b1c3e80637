//! In the sandbox only: the component bindings, and the way between their types and this crate's.
//!
//! Requests are lowered from where they lie and everything lifted is moved, so that no text or body is copied on this side.

use std::sync::Once;

use crate::log::Level;
use crate::{
    Account, Choice, Connector, Erase, Event, Failure, FailureClass, Finding, Identify, Method, Migrate, Outcome,
    Request, Response, Revoke, SendError, SendErrorKind, Verdict, invoke,
};

mod bindings;

pub use bindings::{connector, erasure, identity, migration, revocation};

use bindings::connector::exports::sgen::connector::{choices, delivery, health};
use bindings::connector::sgen::connector::{egress, failures, log as host_log};
use bindings::erasure::exports::sgen::connector::erasure as erasure_export;
use bindings::identity::exports::sgen::connector::identity as identity_export;
use bindings::migration::exports::sgen::connector::migration as migration_export;
use bindings::revocation::exports::sgen::connector::revocation as revocation_export;

/// Gives a connector the shape that the bindings export.
pub struct Adapter<C>(std::marker::PhantomData<C>);

impl<C: Connector> delivery::Guest for Adapter<C> {
    fn deliver(settings: String, batch: Vec<delivery::Event>) -> Vec<delivery::Outcome> {
        forward_panics();
        let batch: Vec<Event> = batch.into_iter().map(event).collect();
        invoke::deliver::<C>(&settings, &batch).into_iter().map(outcome).collect()
    }
}

impl<C: Connector> health::Guest for Adapter<C> {
    fn check(settings: String) -> health::Verdict {
        forward_panics();
        verdict(invoke::check::<C>(&settings))
    }
}

impl<C: Connector> choices::Guest for Adapter<C> {
    fn options(
        settings: String,
        source: String,
        search: Option<String>,
    ) -> Result<Vec<choices::Choice>, failures::Failure> {
        forward_panics();
        let choices = invoke::options::<C>(&settings, &source, search.as_deref()).map_err(failure)?;
        Ok(choices.into_iter().map(|Choice { value, label }| choices::Choice { value, label }).collect())
    }
}

impl<C: Identify> identity_export::Guest for Adapter<C> {
    fn account_of_credential(settings: String) -> Result<identity_export::Account, failures::Failure> {
        forward_panics();
        let Account { id, label, sandbox } = invoke::account_of_credential::<C>(&settings).map_err(failure)?;
        Ok(identity_export::Account { id, label, sandbox })
    }
}

impl<C: Revoke> revocation_export::Guest for Adapter<C> {
    fn revoke(settings: String) -> Result<(), failures::Failure> {
        forward_panics();
        invoke::revoke::<C>(&settings).map_err(failure)
    }
}

impl<C: Erase> erasure_export::Guest for Adapter<C> {
    fn erase(settings: String, field: String, value: String) -> Result<(), failures::Failure> {
        forward_panics();
        invoke::erase::<C>(&settings, &field, &value).map_err(failure)
    }
}

impl<C: Migrate> migration_export::Guest for Adapter<C> {
    fn migrate(from_version: String, settings: String) -> Result<String, String> {
        // No panic hook: this ability has no log to write to.
        invoke::migrate::<C>(&from_version, &settings)
    }
}

/// A panic traps, and the trap alone says nothing: the message and its place go to the log first.
fn forward_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = panic.payload_as_str().unwrap_or("a panic without a message");
            match panic.location() {
                Some(location) => crate::log::error(message, &[("panicked-at", location)]),
                None => crate::log::error(message, &[]),
            }
        }));
    });
}

pub(crate) struct EndpointHandle(egress::Endpoint);

impl EndpointHandle {
    pub(crate) fn open(name: &str) -> Result<Self, SendError> {
        egress::Endpoint::open(name).map(Self).map_err(send_error)
    }

    pub(crate) fn send(&self, request: Request) -> Result<Response, SendError> {
        let headers = headers_of(&request);
        self.0.send(lowered(&request, &headers)).map(response).map_err(send_error)
    }

    pub(crate) fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, SendError>> {
        // The headers of all requests lie in one list, and each request borrows its part.
        let mut headers = Vec::with_capacity(requests.iter().map(|request| request.headers.len()).sum());
        for request in &requests {
            headers.extend(headers_of(request));
        }
        let mut rest = headers.as_slice();
        let lowered: Vec<_> = requests
            .iter()
            .map(|request| {
                let (own, others) = rest.split_at_checked(request.headers.len()).unwrap_or((rest, &[]));
                rest = others;
                lowered(request, own)
            })
            .collect();
        let answers = self.0.send_all(&lowered);
        answers.into_iter().map(|answer| answer.map(response).map_err(send_error)).collect()
    }
}

fn headers_of(request: &Request) -> Vec<egress::HeaderParam<'_>> {
    request.headers.iter().map(|(name, value)| egress::HeaderParam { name, value }).collect()
}

fn lowered<'a>(request: &'a Request, headers: &'a [egress::HeaderParam<'a>]) -> egress::Request<'a> {
    egress::Request {
        method: match request.method {
            Method::Get => egress::Method::Get,
            Method::Head => egress::Method::Head,
            Method::Post => egress::Method::Post,
            Method::Put => egress::Method::Put,
            Method::Patch => egress::Method::Patch,
            Method::Delete => egress::Method::Delete,
        },
        path: &request.path,
        headers,
        body: request.body.as_deref(),
    }
}

fn response(response: egress::Response) -> Response {
    Response {
        status: response.status,
        headers: response.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        body: response.body,
    }
}

fn send_error(error: egress::SendError) -> SendError {
    let kind = match error.kind {
        egress::SendErrorKind::Denied => SendErrorKind::Denied,
        egress::SendErrorKind::Connect => SendErrorKind::Connect,
        egress::SendErrorKind::Timeout => SendErrorKind::Timeout,
        egress::SendErrorKind::Reset => SendErrorKind::Reset,
        egress::SendErrorKind::InvalidResponse => SendErrorKind::InvalidResponse,
        egress::SendErrorKind::Credential => SendErrorKind::Credential,
    };
    SendError { kind, message: error.message }
}

pub(crate) fn write_log(level: Level, message: &str, fields: &[(&str, String)]) {
    let level = match level {
        Level::Trace => host_log::Level::Trace,
        Level::Debug => host_log::Level::Debug,
        Level::Info => host_log::Level::Info,
        Level::Warn => host_log::Level::Warn,
        Level::Error => host_log::Level::Error,
    };
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    host_log::write(level, message, &fields);
}

fn event(event: delivery::Event) -> Event {
    Event {
        id: event.id,
        idempotency_key: event.idempotency_key,
        captured_at_ms: event.captured_at_ms,
        surface: event.surface,
        fields: event.fields,
    }
}

fn outcome(outcome: Outcome) -> delivery::Outcome {
    match outcome {
        Outcome::Delivered(id) => delivery::Outcome::Delivered(id),
        Outcome::Failed(why) => delivery::Outcome::Failed(failure(why)),
    }
}

fn failure(failure: Failure) -> failures::Failure {
    let class = match failure.class {
        FailureClass::AuthRevoked => failures::FailureClass::AuthRevoked,
        FailureClass::PermissionDenied => failures::FailureClass::PermissionDenied,
        FailureClass::RateLimited => failures::FailureClass::RateLimited,
        FailureClass::Unavailable => failures::FailureClass::Unavailable,
        FailureClass::SchemaMismatch => failures::FailureClass::SchemaMismatch,
        FailureClass::Rejected => failures::FailureClass::Rejected,
        FailureClass::TooLarge => failures::FailureClass::TooLarge,
        FailureClass::Gone => failures::FailureClass::Gone,
        FailureClass::ConnectorFault => failures::FailureClass::ConnectorFault,
        FailureClass::EgressDenied => failures::FailureClass::EgressDenied,
    };
    failures::Failure {
        class,
        status: failure.status,
        code: failure.code,
        message: failure.message,
        field: failure.field,
        retry_after_ms: failure.retry_after_ms,
    }
}

fn verdict(verdict: Verdict) -> health::Verdict {
    let finding = |finding| match finding {
        Finding::Yes => health::Finding::Yes,
        Finding::No => health::Finding::No,
        Finding::Unverifiable => health::Finding::Unverifiable,
    };
    health::Verdict {
        reachable: finding(verdict.reachable),
        authorised: finding(verdict.authorised),
        permitted: finding(verdict.permitted),
        target_exists: finding(verdict.target_exists),
        summary: verdict.summary,
        failure: verdict.failure.map(failure),
    }
}
