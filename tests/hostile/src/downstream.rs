//! The downstreams: one for hostile components, which sends credentials back and keeps what it gets, and a plain one for
//! the neighbour.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Response, StatusCode};
use sgen_tests::fakes::server::{Received, Service};

/// The largest response that an endpoint of the stage takes, in bytes.
pub(crate) const LARGE: usize = 1 << 20;

/// Sends credentials back, a megabyte from `/large`, and keeps what it is asked.
#[derive(Default)]
pub(crate) struct Mirror {
    seen: Mutex<Vec<Received>>,
}

impl Mirror {
    /// Takes what was seen of one run: the requests that carried its token, and those without one below its path.
    pub(crate) fn take(&self, token: &str, run: &str) -> Vec<Received> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |request: &Received| match request.header("authorization") {
            Some(given) => given == format!("Bearer {token}"),
            None => request.path.starts_with(&format!("/{run}/")),
        };
        let (taken, left) = std::mem::take(&mut *seen).into_iter().partition(own);
        *seen = left;
        taken
    }
}

impl Service for Mirror {
    fn answer(&self, request: &Received) -> Response<Bytes> {
        let large = request.path.ends_with("/large");
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            // A body of a flood is counted by its request.
            let body = if request.body.len() > LARGE { Bytes::new() } else { request.body.clone() };
            seen.push(Received { body, ..request.clone() });
        }
        if large {
            return Response::new(Bytes::from(vec![b'l'; LARGE]));
        }
        let credential = request.header("authorization").unwrap_or_default();
        let mut answer = Response::new(Bytes::from(format!("you sent {credential}")));
        if let Ok(value) = credential.strip_prefix("Bearer ").unwrap_or("none").parse() {
            answer.headers_mut().insert("x-request-id", value);
        }
        answer
    }
}

/// Takes everything.
pub(crate) struct Plain;

impl Service for Plain {
    fn answer(&self, _: &Received) -> Response<Bytes> {
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }
}
