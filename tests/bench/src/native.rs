//! The baseline: the same connector code, run natively in this process through the same gate.

use std::sync::Arc;

use futures_util::future::join_all;
use sgen_connector_sdk::backend::Backend;
use sgen_connector_sdk::log::Level;
use sgen_connector_sdk::{Method, Request, Response, SendError, SendErrorKind};
use sgen_egress::Grant;
use tokio::runtime::Runtime;

/// Sends a natively running connector's requests through a grant.
pub(crate) struct ThroughGate {
    pub(crate) grant: Arc<Grant>,
    pub(crate) runtime: Arc<Runtime>,
}

impl Backend for ThroughGate {
    fn open(&self, name: &str) -> Result<(), SendError> {
        self.grant.open(name).map(drop).map_err(refused)
    }

    fn send_all(&self, endpoint: &str, requests: Vec<Request>) -> Vec<Result<Response, SendError>> {
        let endpoint = match self.grant.open(endpoint) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let error = refused(error);
                return requests.iter().map(|_| Err(error.clone())).collect();
            }
        };
        self.runtime.block_on(async {
            let answers = join_all(requests.into_iter().map(|request| endpoint.send(outgoing(request)))).await;
            answers.into_iter().map(|answer| answer.map(incoming).map_err(refused)).collect()
        })
    }

    fn log(&self, _level: Level, _message: &str, _fields: &[(&str, String)]) {}
}

fn outgoing(request: Request) -> sgen_egress::Request {
    let method = match request.method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    };
    let headers = request.headers.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    sgen_egress::Request { method, path: request.path.into_owned(), headers, body: request.body }
}

fn incoming(response: sgen_egress::Response) -> Response {
    Response { status: response.status, headers: response.headers, body: response.body }
}

fn refused(error: sgen_egress::SendError) -> SendError {
    let kind = match error.kind {
        sgen_egress::SendErrorKind::Denied => SendErrorKind::Denied,
        sgen_egress::SendErrorKind::Connect => SendErrorKind::Connect,
        sgen_egress::SendErrorKind::Timeout => SendErrorKind::Timeout,
        sgen_egress::SendErrorKind::Reset => SendErrorKind::Reset,
        sgen_egress::SendErrorKind::InvalidResponse => SendErrorKind::InvalidResponse,
        sgen_egress::SendErrorKind::Credential => SendErrorKind::Credential,
    };
    SendError::new(kind, error.message)
}
