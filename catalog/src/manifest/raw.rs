//! The manifest as it is written: names and shapes of the keys, nothing about what they mean. The same shape is TOML
//! in `connector.toml` and JSON in a release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::types::{
    Auth, Base, Batch, ConnectorType, CredentialKind, CredentialSlot, Endpoint, MappingTarget, Method, ScopeDefault,
    Setting, SettingKind, TargetKind,
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
        let (scheme, slot, name, format) = match auth {
            Auth::Bearer { slot } => (Scheme::Bearer, slot, None, None),
            Auth::Basic { slot } => (Scheme::Basic, slot, None, None),
            Auth::Header { slot, name, format } => (Scheme::Header, slot, Some(name), Some(format)),
            Auth::Query { slot, name } => (Scheme::Query, slot, Some(name), None),
            Auth::Hmac { slot } => (Scheme::Hmac, slot, None, None),
        };
        Self { scheme, slot, name, format }
    }
}

impl From<CredentialSlot> for RawCredential {
    fn from(c: CredentialSlot) -> Self {
        Self { title: c.title, help: c.help, accepts: c.accepts }
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
