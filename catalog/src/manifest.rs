//! The manifest: what a connector declares about itself, what the platform signs, and what the operator fills in.
//!
//! A [`Manifest`] exists only validated: [`Manifest::parse`] reads `connector.toml`, deserialising reads the JSON form
//! inside a release, and both go through the same checks. Nothing here acts on a manifest; the host's gate does.

mod authentication;
mod check;
mod raw;
mod types;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::pattern::PathPattern;
use crate::pattern::{PatternError, UrlPattern, base_url};
use raw::RawManifest;
pub use types::{
    Allow, Auth, Base, Batch, ClientAuth, ConnectorType, CredentialKind, CredentialSlot, Endpoint, MappingTarget,
    Method, OAuth, Rate, Region, ScopeDefault, Setting, SettingKind, TargetKind, TokenGrant,
};

/// The name under `[mapping]` that stands for every target not named by itself.
pub const ANY_TARGET: &str = "*";

/// A validated manifest. All maps are by the name that the manifest gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawManifest", into = "RawManifest")]
pub struct Manifest {
    /// The connector's id in the catalog: lower-case letters, digits, `-` and `_`, at most 64 bytes.
    pub id: String,
    /// The connector's own version.
    pub version: semver::Version,
    /// What kind of downstream it serves.
    pub kind: ConnectorType,
    /// Its name, for people.
    pub title: String,
    /// One sentence about it, for people.
    pub summary: String,
    /// The WIT world it implements: [`crate::WORLD`].
    pub world: String,
    /// What it may send requests to.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What the operator gives in confidence.
    pub credentials: BTreeMap<String, CredentialSlot>,
    /// What the operator chooses.
    pub settings: BTreeMap<String, Setting>,
    /// The target fields of the downstream; [`ANY_TARGET`] stands for any other name.
    pub mapping: BTreeMap<String, MappingTarget>,
    /// What a new instance takes unless the operator says otherwise.
    pub scope: ScopeDefault,
    /// How events are gathered before `deliver` is called.
    pub batch: Batch,
}

/// Why a text is no manifest. The connector's author must act (before a release), or the platform (in a release).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It does not have the shape of a manifest: not TOML, an unknown key, a value of another type.
    #[error("the manifest cannot be read: {0}")]
    Shape(String),
    /// It has the shape, and says something that cannot be.
    #[error("the manifest is invalid: {}", list(.0))]
    Invalid(Vec<Problem>),
}

/// One thing wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path of keys: `endpoints.api.auth.slot`.
    pub at: String,
    /// What is wrong and what is expected.
    pub what: String,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{}: {}", p.at, p.what)).collect::<Vec<_>>().join("; ")
}

impl ManifestError {
    /// Every reason by itself, one line each.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Shape(text) => vec![text.clone()],
            Self::Invalid(problems) => problems.iter().map(|p| format!("{}: {}", p.at, p.what)).collect(),
        }
    }
}

impl Manifest {
    /// Reads and validates a `connector.toml`.
    ///
    /// # Errors
    /// [`ManifestError`] with every problem, not only the first.
    pub fn parse(toml_text: &str) -> Result<Self, ManifestError> {
        let raw: RawManifest = toml::from_str(toml_text).map_err(|e| ManifestError::Shape(e.to_string()))?;
        Self::try_from(raw)
    }

    /// The JSON Schema (draft 2020-12) that an instance's settings are validated against, and that a settings form is
    /// drawn from: an object with one property per setting and no others.
    #[must_use]
    pub fn settings_schema(&self) -> serde_json::Value {
        crate::settings::schema(self)
    }

    /// The target of this name: the one declared, or the one for any other name if there is one.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&MappingTarget> {
        self.mapping.get(name).or_else(|| self.mapping.get(ANY_TARGET))
    }
}

/// Why an instance's settings give an endpoint no base URL. The operator must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// The setting has no text.
    #[error("the setting {setting:?} must hold the URL to send to; enter it")]
    Missing {
        /// The setting's name.
        setting: String,
    },
    /// The text is no URL that could be a base.
    // Without the text: it may be a credential that was pasted into the wrong field.
    #[error("the setting {setting:?} cannot be used: {}", source.problem)]
    Url {
        /// The setting's name.
        setting: String,
        /// What is wrong.
        source: PatternError,
    },
    /// The URL is outside what the connector was signed for.
    #[error(
        "the setting {setting:?} holds a URL outside {pattern}, which is all that this connector may send to; enter another"
    )]
    Outside {
        /// The setting's name.
        setting: String,
        /// The pattern of the manifest.
        pattern: String,
    },
}

impl Base {
    /// The base URL under an instance's settings (a JSON object), in its normal form.
    ///
    /// # Errors
    /// [`BaseError`] when an operator-given base is missing, malformed or outside the signed pattern.
    pub fn resolve(&self, settings: &serde_json::Value) -> Result<String, BaseError> {
        let (setting, pattern) = match self {
            Self::Fixed(base) => return Ok(base.clone()),
            Self::Setting { setting, pattern } => (setting, pattern),
        };
        let text = settings.get(setting).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| BaseError::Missing { setting: setting.clone() })?;
        let url = base_url(text).map_err(|source| BaseError::Url { setting: setting.clone(), source })?;
        let compiled: UrlPattern =
            pattern.parse().map_err(|source| BaseError::Url { setting: setting.clone(), source })?;
        if compiled.matches(text) {
            Ok(url.into())
        } else {
            Err(BaseError::Outside { setting: setting.clone(), pattern: pattern.clone() })
        }
    }
}

impl Endpoint {
    /// Whether the manifest grants this method on this path (without query).
    #[must_use]
    pub fn allows(&self, method: Method, path: &str) -> bool {
        self.allow
            .iter()
            .any(|allow| allow.methods.contains(&method) && allow.paths.iter().any(|pattern| pattern.matches(path)))
    }
}

#[cfg(test)]
mod tests;
