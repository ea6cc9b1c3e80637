//! Native builds only: a scripted downstream, with which a connector's tests need neither a sandbox nor a network.
//!
//! ```
//! use sgen_connector_sdk::testing::ScriptedEndpoints;
//! use sgen_connector_sdk::{Endpoint, Request, Response};
//!
//! let downstream = ScriptedEndpoints::new().endpoint("api", |request| {
//!     Ok(Response::new(if request.path == "/known" { 200 } else { 404 }))
//! });
//! let response = downstream.run(|| Endpoint::open("api")?.send(Request::get("/known")));
//! assert_eq!(response.map(|response| response.status), Ok(200));
//! assert_eq!(downstream.requests("api").len(), 1);
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::backend::{Backend, with_backend};
use crate::log::Level;
use crate::{Event, Request, Response, SendError, SendErrorKind};

type Answer = Box<dyn FnMut(&Request) -> Result<Response, SendError>>;

/// One line that the connector logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: Level,
    /// The message.
    pub message: String,
    /// The named fields, in order.
    pub fields: Vec<(String, String)>,
}

#[derive(Default)]
struct Script {
    endpoints: RefCell<BTreeMap<String, Answer>>,
    requests: RefCell<Vec<(String, Request)>>,
    lines: RefCell<Vec<LogLine>>,
    calls: Cell<usize>,
}

/// Endpoints that answer by a script and record what they were sent. Endpoints without a script are denied.
#[derive(Default)]
pub struct ScriptedEndpoints {
    script: Rc<Script>,
}

impl ScriptedEndpoints {
    /// Without any endpoint.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants an endpoint that answers each request by this function.
    #[must_use]
    pub fn endpoint(self, name: &str, answer: impl FnMut(&Request) -> Result<Response, SendError> + 'static) -> Self {
        self.script.endpoints.borrow_mut().insert(name.to_owned(), Box::new(answer));
        self
    }

    /// Grants an endpoint that gives these answers one after the other, and then only resets.
    #[must_use]
    pub fn answers(self, name: &str, answers: impl IntoIterator<Item = Result<Response, SendError>>) -> Self {
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        self.endpoint(name, move |_| {
            answers
                .pop_front()
                .unwrap_or_else(|| Err(SendError::new(SendErrorKind::Reset, "the script has no further answer")))
        })
    }

    /// Runs connector code against these endpoints.
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        // The scope is bound to this thread, and so is the script within.
        #[expect(clippy::arc_with_non_send_sync, reason = "the seam is shared with backends that do cross threads")]
        with_backend(Arc::new(Scripted(Rc::clone(&self.script))), body)
    }

    /// What the endpoint was sent so far, in order.
    pub fn requests(&self, endpoint: &str) -> Vec<Request> {
        let requests = self.script.requests.borrow();
        requests.iter().filter(|(name, _)| name == endpoint).map(|(_, request)| request.clone()).collect()
    }

    /// How many calls into the host the requests took.
    pub fn calls(&self) -> usize {
        self.script.calls.get()
    }

    /// What the connector logged so far.
    pub fn lines(&self) -> Vec<LogLine> {
        self.script.lines.borrow().clone()
    }
}

struct Scripted(Rc<Script>);

impl Backend for Scripted {
    fn open(&self, name: &str) -> Result<(), SendError> {
        if self.0.endpoints.borrow().contains_key(name) {
            Ok(())
        } else {
            Err(SendError::new(SendErrorKind::Denied, format!("the manifest grants no endpoint \"{name}\"")))
        }
    }

    fn send_all(&self, endpoint: &str, requests: Vec<Request>) -> Vec<Result<Response, SendError>> {
        self.0.calls.set(self.0.calls.get() + 1);
        let mut endpoints = self.0.endpoints.borrow_mut();
        let mut record = self.0.requests.borrow_mut();
        requests
            .into_iter()
            .map(|request| {
                let answer = match endpoints.get_mut(endpoint) {
                    Some(answer) => answer(&request),
                    None => Err(SendError::new(SendErrorKind::Denied, "not opened")),
                };
                record.push((endpoint.to_owned(), request));
                answer
            })
            .collect()
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.0.lines.borrow_mut().push(LogLine { level, message: message.to_owned(), fields });
    }
}

/// An event with these fields, captured at 2026-01-01T00:00:00Z; set what else a test needs.
pub fn event(surface: &str, fields: serde_json::Value) -> Event {
    Event {
        id: "event-1".to_owned(),
        idempotency_key: "key-1".to_owned(),
        captured_at_ms: 1_767_225_600_000,
        surface: surface.to_owned(),
        fields: fields.to_string(),
    }
}

/// A response with a JSON body.
pub fn json_response(status: u16, body: serde_json::Value) -> Response {
    Response::new(status).with_header("content-type", "application/json").with_body(body.to_string())
}

/// A request's body as JSON; `null` when it has none or is none.
pub fn json_body(request: &Request) -> serde_json::Value {
    request.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::{Endpoint, log};

    #[test]
    fn answers_are_given_in_order_and_then_the_connection_resets() {
        let downstream = ScriptedEndpoints::new().answers("api", [Ok(Response::new(200)), Ok(Response::new(500))]);
        let answers = downstream.run(|| {
            Endpoint::open("api").unwrap().send_all(vec![Request::get("/1"), Request::get("/2"), Request::get("/3")])
        });
        assert_eq!(answers[0].as_ref().unwrap().status, 200);
        assert_eq!(answers[1].as_ref().unwrap().status, 500);
        assert_eq!(answers[2].as_ref().unwrap_err().kind, SendErrorKind::Reset);
        assert_eq!((downstream.requests("api").len(), downstream.calls()), (3, 1));
    }

    #[test]
    fn nothing_to_send_is_no_call() {
        let downstream = ScriptedEndpoints::new().answers("api", []);
        downstream.run(|| Endpoint::open("api").unwrap().send_all(Vec::new()));
        assert_eq!(downstream.calls(), 0);
    }

    #[test]
    fn log_lines_are_recorded_with_their_fields() {
        let downstream = ScriptedEndpoints::new();
        downstream.run(|| log::warn("split", &[("parts", &2), ("why", &"bad record")]));
        let expected = LogLine {
            level: Level::Warn,
            message: "split".into(),
            fields: vec![("parts".into(), "2".into()), ("why".into(), "bad record".into())],
        };
        assert_eq!(downstream.lines(), vec![expected]);
    }
}
