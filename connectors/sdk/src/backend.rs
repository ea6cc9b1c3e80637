//! Native builds only: what stands in for the host behind [`Endpoint`](crate::Endpoint) and [`log`](crate::log).
//!
//! A backend is set for a scope of the current thread, so that tests run beside each other.

use std::cell::RefCell;
use std::sync::Arc;

use crate::log::Level;
use crate::{Request, Response, SendError, SendErrorKind};

/// The host's side of a connector that runs natively.
pub trait Backend {
    /// Opens an endpoint.
    ///
    /// # Errors
    /// `denied` for a name that is not granted.
    fn open(&self, name: &str) -> Result<(), SendError>;

    /// Sends all requests and answers one for one, in order.
    fn send_all(&self, endpoint: &str, requests: Vec<Request>) -> Vec<Result<Response, SendError>>;

    /// Takes one line of the connector's log.
    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]);
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Backend>>> = const { RefCell::new(None) };
}

/// Runs `body` with this backend on the current thread; the one before is back afterwards, even after a panic.
pub fn with_backend<R>(backend: Arc<dyn Backend>, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Backend>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(backend)));
    body()
}

pub(crate) struct EndpointHandle {
    backend: Arc<dyn Backend>,
    name: String,
}

impl EndpointHandle {
    pub(crate) fn open(name: &str) -> Result<Self, SendError> {
        let backend = CURRENT.with_borrow(Clone::clone).ok_or_else(|| {
            SendError::new(SendErrorKind::Denied, "no backend here: run the connector inside with_backend")
        })?;
        backend.open(name)?;
        Ok(Self { backend, name: name.to_owned() })
    }

    pub(crate) fn send(&self, request: Request) -> Result<Response, SendError> {
        self.send_all(vec![request]).pop().unwrap_or_else(|| {
            Err(SendError::new(SendErrorKind::InvalidResponse, "the backend gave no answer to a request"))
        })
    }

    pub(crate) fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, SendError>> {
        self.backend.send_all(&self.name, requests)
    }
}

pub(crate) fn write_log(level: Level, message: &str, fields: &[(&str, String)]) {
    if let Some(backend) = CURRENT.with_borrow(Clone::clone) {
        backend.log(level, message, fields);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::Endpoint;
    use crate::testing::ScriptedEndpoints;

    #[test]
    fn without_a_backend_there_is_no_way_out() {
        let Err(error) = Endpoint::open("api") else { panic!("opened an endpoint without a backend") };
        assert_eq!(error.kind, SendErrorKind::Denied);
    }

    #[test]
    fn the_outer_backend_is_back_after_the_inner_one_even_after_a_panic() {
        let inner = ScriptedEndpoints::new().endpoint("inner", |_| Ok(Response::new(200)));
        let outer = ScriptedEndpoints::new().endpoint("outer", |_| Ok(Response::new(200)));
        outer.run(|| {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                inner.run(|| panic!("inside"));
            }));
            assert!(panicked.is_err());
            assert!(Endpoint::open("outer").is_ok());
            assert!(Endpoint::open("inner").is_err());
        });
    }
}
