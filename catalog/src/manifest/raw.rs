//! The manifest as it is written: names and shapes of the keys, nothing about what they mean. The same shape is TOML
//! in `connector.toml` and JSON in a release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::types::{
    Auth, Base, Batch, ConnectorType, CredentialKind, CredentialSlot, Endpoint, MappingTarget, Method, OAuth, Region,
    ScopeDefault, Setting, SettingKind, TargetKind, TokenGrant,
};
use super::{Allow, Manifest};
use crate::units::{ByteSize, Span};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    pub(super) id: String,
    pub(super) version: semver::Version,
    #[serde(rename = "type")]
    pub(super) kind: ConnectorType,
    pub(super) title: String,
    pub(super) summary: String,
    pub(super) world: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) endpoints: BTreeMap<String, RawEndpoint>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) credentials: BTreeMap<String, RawCredential>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) settings: BTreeMap<String, RawSetting>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) mapping: BTreeMap<String, RawTarget>,
    #[serde(default)]
    pub(super) scope: ScopeDefault,
    #[serde(default)]
    pub(super) batch: RawBatch,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEndpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base_setting: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base_pattern: Option<String>,
    pub(super) allow: Vec<RawAllow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) auth: Option<RawAuth>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) response_headers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_response: Option<ByteSize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<RawRate>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAllow {
    pub(super) methods: Vec<Method>,
    pub(super) paths: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scheme {
    Bearer,
    Basic,
    Header,
    Query,
    Hmac,
    #[serde(rename = "aws-sigv4")]
    AwsSigv4,
    #[serde(rename = "oauth2-authorization-code")]
    AuthorizationCode,
    #[serde(rename = "oauth2-client-credentials")]
    ClientCredentials,
    #[serde(rename = "service-account")]
    ServiceAccount,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    pub(super) scheme: Scheme,
    pub(super) slot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) region_setting: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
}

impl RawAuth {
    fn new(scheme: Scheme, slot: String) -> Self {
        Self { scheme, slot, name: None, format: None, region: None, region_setting: None, service: None }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    pub(super) requests: u32,
    pub(super) per: Span,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    pub(super) title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) help: Option<String>,
    pub(super) accepts: Vec<CredentialKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) oauth: Option<OAuth>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSetting {
    #[serde(rename = "type")]
    pub(super) kind: SettingKind,
    pub(super) title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) help: Option<String>,
    #[serde(default)]
    pub(super) required: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) values: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) min: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_length: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    #[serde(rename = "type")]
    pub(super) kind: TargetKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) required: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) preset: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBatch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) events: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<ByteSize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) linger: Option<Span>,
}

impl From<Manifest> for RawManifest {
    fn from(m: Manifest) -> Self {
        Self {
            id: m.id,
            version: m.version,
            kind: m.kind,
            title: m.title,
            summary: m.summary,
            world: m.world,
            endpoints: m.endpoints.into_iter().map(|(name, e)| (name, e.into())).collect(),
            credentials: m.credentials.into_iter().map(|(name, c)| (name, c.into())).collect(),
            settings: m.settings.into_iter().map(|(name, s)| (name, s.into())).collect(),
            mapping: m.mapping.into_iter().map(|(name, t)| (name, t.into())).collect(),
            scope: m.scope,
            batch: m.batch.into(),
        }
    }
}

impl From<Endpoint> for RawEndpoint {
    fn from(e: Endpoint) -> Self {
        let (base, base_setting, base_pattern) = match e.base {
            Base::Fixed(base) => (Some(base), None, None),
            Base::Setting { setting, pattern } => (None, Some(setting), Some(pattern)),
        };
        Self {
            base,
            base_setting,
            base_pattern,
            allow: e.allow.into_iter().map(RawAllow::from).collect(),
            auth: e.auth.map(RawAuth::from),
            response_headers: e.response_headers,
            timeout: Some(Span(e.timeout)),
            max_response: Some(ByteSize(e.max_response)),
            rate: e.rate.map(|r| RawRate { requests: r.requests, per: Span(r.per) }),
        }
    }
}

impl From<Allow> for RawAllow {
    fn from(a: Allow) -> Self {
        Self { methods: a.methods, paths: a.paths.iter().map(ToString::to_string).collect() }
    }
}

impl From<Auth> for RawAuth {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::Bearer { slot } => Self::new(Scheme::Bearer, slot),
            Auth::Basic { slot } => Self::new(Scheme::Basic, slot),
            Auth::Header { slot, name, format } => {
                Self { name: Some(name), format: Some(format), ..Self::new(Scheme::Header, slot) }
            }
            Auth::Query { slot, name } => Self { name: Some(name), ..Self::new(Scheme::Query, slot) },
            Auth::Hmac { slot } => Self::new(Scheme::Hmac, slot),
            Auth::AwsSigv4 { slot, region, service } => {
                let (region, region_setting) = match region {
                    Region::Fixed(region) => (Some(region), None),
                    Region::Setting(setting) => (None, Some(setting)),
                };
                Self { region, region_setting, service: Some(service), ..Self::new(Scheme::AwsSigv4, slot) }
            }
            Auth::Token { slot, grant } => {
                let scheme = match grant {
                    TokenGrant::AuthorizationCode => Scheme::AuthorizationCode,
                    TokenGrant::ClientCredentials => Scheme::ClientCredentials,
                    TokenGrant::ServiceAccount => Scheme::ServiceAccount,
                };
                Self::new(scheme, slot)
            }
        }
    }
}

impl From<CredentialSlot> for RawCredential {
    fn from(c: CredentialSlot) -> Self {
        Self { title: c.title, help: c.help, accepts: c.accepts, oauth: c.oauth }
    }
}

impl From<Setting> for RawSetting {
    fn from(s: Setting) -> Self {
        Self {
            kind: s.kind,
            title: s.title,
            help: s.help,
            required: s.required,
            default: s.default,
            values: s.values,
            options: s.options,
            min: s.min,
            max: s.max,
            max_length: s.max_length,
        }
    }
}

impl From<MappingTarget> for RawTarget {
    fn from(t: MappingTarget) -> Self {
        Self { kind: t.kind, title: Some(t.title), required: t.required, preset: t.preset, options: t.options }
    }
}

impl From<Batch> for RawBatch {
    fn from(b: Batch) -> Self {
        Self { events: Some(b.events), bytes: Some(ByteSize(b.bytes)), linger: Some(Span(b.linger)) }
    }
}
