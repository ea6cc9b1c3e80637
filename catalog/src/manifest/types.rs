//! The parts of a manifest. Plain data; what makes them valid is in `check`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pattern::PathPattern;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word that manifests use for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// The kind of downstream that a connector serves.
    ConnectorType {
        /// Customer relationship management.
        Crm = "crm",
        /// Product and web analytics.
        Analytics = "analytics",
        /// Data warehouses.
        Warehouse = "warehouse",
        /// Marketing automation.
        Marketing = "marketing",
        /// Payments.
        Payment = "payment",
        /// Identity providers.
        Identity = "identity",
        /// Any HTTP receiver.
        Webhook = "webhook",
        /// Made for one customer.
        Custom = "custom",
    }
);

words!(
    /// An HTTP method that a manifest can grant.
    Method {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// PATCH.
        Patch = "PATCH",
        /// DELETE.
        Delete = "DELETE",
    }
);

words!(
    /// What a credential slot takes.
    CredentialKind {
        /// One secret text: an API key or a long-lived token.
        ApiKey = "api-key",
        /// A user name and a password.
        Basic = "basic",
        /// The key of a message authentication code.
        HmacSecret = "hmac-secret",
        /// The access key of an AWS principal.
        AwsAccessKey = "aws-access-key",
        /// The key file of a service account, as Google hands it out.
        ServiceAccount = "service-account",
        /// The id of an OAuth client, and its secret if it has one.
        OAuthClient = "oauth2-client",
        /// What a vendor grants when somebody consents in a browser. Obtained by the host; nobody enters it.
        OAuthGrant = "oauth2-grant",
    }
);

words!(
    /// The type of a setting's value.
    SettingKind {
        /// Text.
        String = "string",
        /// A whole number.
        Integer = "integer",
        /// Yes or no.
        Boolean = "boolean",
        /// An absolute URL.
        Url = "url",
        /// One of [`Setting::values`].
        Enum = "enum",
    }
);

words!(
    /// The type that a mapped value is brought to.
    TargetKind {
        /// Text.
        Text = "text",
        /// An e-mail address.
        Email = "email",
        /// A telephone number.
        Phone = "phone",
        /// A number.
        Number = "number",
        /// A whole number.
        Integer = "integer",
        /// Yes or no.
        Boolean = "boolean",
        /// A point in time.
        Timestamp = "timestamp",
        /// Any JSON value, unchanged.
        Json = "json",
    }
);

/// A capability: one downstream base URL with what may be asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub base: Base,
    /// What may be asked: a request must match one of these.
    pub allow: Vec<Allow>,
    /// How the host authenticates a request; nothing when it does not.
    pub auth: Option<Auth>,
    /// Response headers that are passed on besides the usual ones, lower case.
    pub response_headers: Vec<String>,
    /// How long one request may take.
    pub timeout: Duration,
    /// The longest response body, in bytes.
    pub max_response: u64,
    /// How many requests the downstream takes, when the manifest says so.
    pub rate: Option<Rate>,
}

/// Where an endpoint's base URL comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The manifest itself. Never ends with `/`.
    Fixed(String),
    /// The operator, by a setting.
    Setting {
        /// The name of a required setting of kind [`SettingKind::Url`].
        setting: String,
        /// The pattern that its value must match ([`crate::UrlPattern`]).
        pattern: String,
    },
}

/// Methods and paths that may be combined freely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// At least one.
    pub methods: Vec<Method>,
    /// At least one.
    pub paths: Vec<PathPattern>,
}

/// How the host authenticates a request with the credential of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer {
        /// The credential slot.
        slot: String,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The credential slot.
        slot: String,
    },
    /// A header of the vendor's own.
    Header {
        /// The credential slot.
        slot: String,
        /// The header's name.
        name: String,
        /// The header's value, with `{secret}` exactly once.
        format: String,
    },
    /// A query parameter.
    Query {
        /// The credential slot.
        slot: String,
        /// The parameter's name.
        name: String,
    },
    /// A signature over the body, as Standard Webhooks defines it.
    Hmac {
        /// The credential slot.
        slot: String,
    },
    /// A signature over the whole request, AWS Signature Version 4.
    AwsSigv4 {
        /// The credential slot.
        slot: String,
        /// The region.
        region: Region,
        /// The service's name in signatures, such as `kinesis`.
        service: String,
    },
    /// `Authorization: Bearer …` with an access token that the host obtains for the slot ([`CredentialSlot::oauth`]).
    Token {
        /// The credential slot.
        slot: String,
        /// How it is obtained.
        grant: TokenGrant,
    },
}

words!(
    /// How an access token is obtained.
    TokenGrant {
        /// With a refresh token that somebody's consent in a browser gave (RFC 6749, 4.1; PKCE of RFC 7636).
        AuthorizationCode = "oauth2-authorization-code",
        /// With the client's own credential (RFC 6749, 4.4).
        ClientCredentials = "oauth2-client-credentials",
        /// With an assertion that a service account's key signs (RFC 7523).
        ServiceAccount = "service-account",
    }
);

impl TokenGrant {
    /// The kind of credential that it needs.
    #[must_use]
    pub fn needs(self) -> CredentialKind {
        match self {
            Self::AuthorizationCode => CredentialKind::OAuthGrant,
            Self::ClientCredentials => CredentialKind::OAuthClient,
            Self::ServiceAccount => CredentialKind::ServiceAccount,
        }
    }
}

/// Where a request's region comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Region {
    /// The manifest itself.
    Fixed(String),
    /// A required setting of kind [`SettingKind::String`] or [`SettingKind::Enum`].
    Setting(String),
}

impl Auth {
    /// The credential slot that it uses.
    #[must_use]
    pub fn slot(&self) -> &str {
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

    /// The kind of credential that it needs.
    #[must_use]
    pub fn needs(&self) -> CredentialKind {
        match self {
            Self::Bearer { .. } | Self::Header { .. } | Self::Query { .. } => CredentialKind::ApiKey,
            Self::Basic { .. } => CredentialKind::Basic,
            Self::Hmac { .. } => CredentialKind::HmacSecret,
            Self::AwsSigv4 { .. } => CredentialKind::AwsAccessKey,
            Self::Token { grant, .. } => grant.needs(),
        }
    }
}

/// A rate that the downstream allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests, at least one.
    pub requests: u32,
    /// In this time.
    pub per: Duration,
}

/// What the operator gives once, in confidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSlot {
    /// For people.
    pub title: String,
    /// Where to find it, for people.
    pub help: Option<String>,
    /// What it takes; at least one.
    pub accepts: Vec<CredentialKind>,
    /// How access tokens are obtained with it, where they are.
    pub oauth: Option<OAuth>,
}

impl CredentialSlot {
    /// Whether the operator enters it. A grant is obtained by the host.
    #[must_use]
    pub fn is_entered(&self) -> bool {
        !self.accepts.contains(&CredentialKind::OAuthGrant)
    }
}

/// How access tokens are obtained. Every URL is the manifest's: none is taken from a credential or from an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// The token endpoint.
    pub token: String,
    /// The authorization endpoint, to which a browser is sent. For grants, and only for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize: Option<String>,
    /// The revocation endpoint (RFC 7009), where the vendor has one. For grants only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<String>,
    /// What is asked for, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The slot of the OAuth client that asks. For grants, and only for them; it accepts `oauth2-client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// How the client authenticates at the token endpoint.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// The audience of assertions; the token endpoint when there is none. For service accounts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Further parameters of the authorization URL, such as `access_type = "offline"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorize_parameters: BTreeMap<String, String>,
    /// Further parameters of every token request, such as `audience`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub token_parameters: BTreeMap<String, String>,
}

/// How an OAuth client authenticates at the token endpoint (RFC 6749, 2.3.1). A client without a secret only names itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// By HTTP Basic, which every server must support.
    #[default]
    Basic,
    /// By `client_id` and `client_secret` in the form.
    Form,
}

/// What the operator chooses.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The type of the value.
    pub kind: SettingKind,
    /// For people.
    pub title: String,
    /// For people.
    pub help: Option<String>,
    /// Whether there must be a value.
    pub required: bool,
    /// What a form starts with; valid for the setting itself.
    pub default: Option<serde_json::Value>,
    /// The values of an enum, in the manifest's order; empty for other kinds.
    pub values: Vec<String>,
    /// The source of live choices (`choices.options`), for strings.
    pub options: Option<String>,
    /// The least integer.
    pub min: Option<i64>,
    /// The greatest integer.
    pub max: Option<i64>,
    /// The longest text, in characters.
    pub max_length: Option<u32>,
}

/// A field of the downstream that captured fields are mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingTarget {
    /// The type that values are brought to.
    pub kind: TargetKind,
    /// For people; the target's name when the manifest gives none.
    pub title: String,
    /// Whether an event without a value for it is refused.
    pub required: bool,
    /// Where a new instance takes the value from: the first path that exists in the event.
    pub preset: Vec<String>,
    /// The source of live choices for the target's *name*.
    pub options: Option<String>,
}

/// What a new instance takes unless the operator says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeDefault {
    /// Patterns over surfaces: `form:contact`, `form:*`, or `*` for all. Empty: the operator must choose.
    #[serde(default)]
    pub default: Vec<String>,
}

/// How events are gathered before `deliver` is called: whichever limit is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// At most so many events.
    pub events: u32,
    /// At most so many bytes of mapped fields.
    pub bytes: u64,
    /// At most so long after the first event.
    pub linger: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self { events: 100, bytes: 1 << 20, linger: Duration::from_millis(250) }
    }
}
