//! What the signed manifest, together with an instance's settings, says of an endpoint. Plain data; judged when granted.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use http::Method;
use sgen_model::{SecretBytes, SlotName};
use url::Url;

use crate::auth::Injection;
use crate::token::Tokens;

/// One endpoint to be granted.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// The name by which the guest opens it.
    pub name: String,
    /// The base URL, with settings filled in. Its scheme, host and port are what is dialled, whatever the guest says. A
    /// query in it is kept and comes before the guest's.
    pub base: Url,
    /// What may be requested; the first rule that admits method and path decides.
    pub allow: Vec<AllowRule>,
    /// How the credential is put in.
    pub auth: Option<Auth>,
    /// Response headers that the guest may see beside the standard ones.
    pub response_headers: Vec<String>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// The largest response body, in bytes.
    pub max_response: u64,
    /// How many requests the downstream takes of one connector instance; `None` when it does not say.
    pub rate: Option<Rate>,
}

impl EndpointSpec {
    /// An endpoint that admits nothing yet, with the default limits.
    #[must_use]
    pub fn new(name: impl Into<String>, base: Url) -> Self {
        Self {
            name: name.into(),
            base,
            allow: Vec::new(),
            auth: None,
            response_headers: Vec::new(),
            timeouts: Timeouts::default(),
            max_response: 1024 * 1024,
            rate: None,
        }
    }
}

/// A downstream's limit: in no time as long as `per` does it get more than `requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests, also those that fail.
    pub requests: NonZeroU32,
    /// In this time, more than nothing.
    pub per: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests per {:?}", self.requests, self.per)
    }
}

/// Methods on paths, relative to the base URL.
#[derive(Debug, Clone)]
pub struct AllowRule {
    /// GET, HEAD, POST, PUT, PATCH or DELETE.
    pub methods: Vec<Method>,
    /// `*` is one segment, `**` any number of segments, none included; `""` is exactly the base URL.
    pub paths: Vec<String>,
}

/// How a credential slot authenticates an endpoint's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer SECRET` (RFC 6750).
    Bearer {
        /// The slot.
        slot: SlotName,
    },
    /// `Authorization: Basic …` (RFC 7617); the slot holds `user:password`.
    Basic {
        /// The slot.
        slot: SlotName,
    },
    /// A header of the vendor's own.
    Header {
        /// The slot.
        slot: SlotName,
        /// The header's name.
        name: String,
        /// Its value, with `{secret}` exactly once.
        format: String,
    },
    /// A query parameter.
    Query {
        /// The slot.
        slot: SlotName,
        /// The parameter's name.
        name: String,
    },
    /// A signature over the request, after Standard Webhooks; the slot holds `whsec_<base64>`, or the base64 alone.
    Hmac {
        /// The slot.
        slot: SlotName,
    },
    /// AWS Signature Version 4; the slot holds `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, and `:SESSION_TOKEN` after it for temporary
    /// keys.
    AwsSigv4 {
        /// The slot.
        slot: SlotName,
        /// The region, such as `eu-central-1`.
        region: String,
        /// The service's name in signatures, such as `kinesis`.
        service: String,
    },
    /// `Authorization: Bearer TOKEN` (RFC 6750), with a token that is obtained with what the slot holds.
    Token {
        /// The slot.
        slot: SlotName,
        /// Who obtains it.
        tokens: Tokens,
    },
}

impl Auth {
    /// The slot that it takes its credential from.
    #[must_use]
    pub fn slot(&self) -> &SlotName {
        match self {
            Self::Bearer { slot }
            | Self::Basic { slot }
            | Self::Header { slot, .. }
            | Self::Query { slot, .. }
            | Self::Hmac { slot }
            | Self::AwsSigv4 { slot, .. }
            | Self::Token { slot, .. } => slot,
        }
    }

    /// Checks that a secret has the form that this scheme needs, so that its giver is told and not the first delivery.
    ///
    /// # Errors
    /// What is wrong, without repeating the secret.
    pub fn check(&self, secret: &SecretBytes) -> Result<(), &'static str> {
        Injection::from_secret(self, secret, None).map(drop)
    }
}

/// Time limits of one request. Connecting has one of its own ([`crate::Limits::connect`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the head of the response is there.
    pub first_byte: Duration,
    /// Until the whole response is there.
    pub total: Duration,
}

impl Timeouts {
    /// One limit for everything.
    #[must_use]
    pub fn of(total: Duration) -> Self {
        Self { first_byte: total, total }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::of(Duration::from_secs(30))
    }
}
