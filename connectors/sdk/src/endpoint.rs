//! The way out: an endpoint that the manifest grants.

use crate::{Request, Response, SendError};

/// A capability to send requests to one downstream base URL with one credential, neither of which can be seen from here.
pub struct Endpoint {
    #[cfg(target_arch = "wasm32")]
    handle: crate::guest::EndpointHandle,
    #[cfg(not(target_arch = "wasm32"))]
    handle: crate::backend::EndpointHandle,
}

impl Endpoint {
    /// Opens the endpoint that the manifest calls `name` (`[endpoints.NAME]`).
    ///
    /// # Errors
    /// `denied` when the manifest has none of this name.
    pub fn open(name: &str) -> Result<Self, SendError> {
        #[cfg(target_arch = "wasm32")]
        let handle = crate::guest::EndpointHandle::open(name)?;
        #[cfg(not(target_arch = "wasm32"))]
        let handle = crate::backend::EndpointHandle::open(name)?;
        Ok(Self { handle })
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// Why there is no response. A response of any status is no error here.
    pub fn send(&self, request: Request) -> Result<Response, SendError> {
        self.handle.send(request)
    }

    /// Sends all requests concurrently and answers in their order. The natural way to send: it costs one call into the
    /// host, whatever the number of requests.
    pub fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, SendError>> {
        if requests.is_empty() {
            return Vec::new();
        }
        self.handle.send_all(requests)
    }
}
