//! What can go wrong at the gate, whose fault it is, and what to do. No message ever holds a secret.

use sgen_model::Fault;

/// Why a gate or a grant cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The configuration names a development host that is none.
    #[error("egress.development_hosts: {entry:?} is not HOST:PORT ({reason}); write for example \"127.0.0.1:4010\"")]
    DevelopmentHost {
        /// As configured.
        entry: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The trusted certificates cannot be used.
    #[error(
        "the trusted root certificates cannot be used: {0}; install the system's CA certificates, or configure roots"
    )]
    Trust(String),
    /// A limit that cannot work.
    #[error("egress limit {name} is {value}: {reason}")]
    Limit {
        /// The limit.
        name: &'static str,
        /// As configured.
        value: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An endpoint that cannot be granted.
    #[error("endpoint {name}: {reason}")]
    Endpoint {
        /// The endpoint's name in the manifest.
        name: String,
        /// What is wrong, and what to change.
        reason: String,
        /// Whose it is: the operator's when a setting gave the base URL, otherwise the platform's; the caller knows which.
        base: bool,
    },
    /// The credentials cannot be scrubbed.
    #[error("the credentials cannot be prepared for scrubbing: {0}; give shorter credentials")]
    Scrub(String),
}

impl GateError {
    /// Who has to act. An unusable base URL is the operator's when a setting gave it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Endpoint { base: true, .. } | Self::Scrub(_) => Fault::Operator,
            _ => Fault::Platform,
        }
    }
}

/// Why there is no response. The same classes as in the connector's interface (`send-error-kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The manifest or the address policy does not allow it. Nothing was sent. The connector's fault, or the manifest's.
    Denied,
    /// The name did not resolve, the connection was refused, TLS failed, or no access token can be had now. Nothing was sent.
    /// The downstream's.
    Connect,
    /// No answer in time. The downstream may have acted.
    Timeout,
    /// The connection broke. The downstream may have acted.
    Reset,
    /// The answer exceeded a cap or was not valid HTTP. The downstream has acted.
    InvalidResponse,
    /// The credential is missing or cannot be used. The operator's.
    Credential,
}

/// A request that got no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// The class.
    pub kind: SendErrorKind,
    /// For the failure log: what happened, with which endpoint, and who must act. Scrubbed of secrets.
    pub message: String,
}

impl SendError {
    /// An error of a class. The message must hold no secret.
    #[must_use]
    pub fn new(kind: SendErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
