//! What is wrong with a configuration, in words that name the place and what to write there. Values are not repeated.

use std::path::{Path, PathBuf};

use figment::error::Kind;

use super::Environment;

/// How values from the environment are marked.
pub(super) const ENVIRONMENT: &str = "environment";

/// The configuration cannot be used. Whoever runs the host must correct it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {reason}; give an existing file with --config (sgen-host.example.toml is one to start from)", .path.display())]
    File { path: PathBuf, reason: String },
    /// Keys at fault.
    #[error("the configuration is not valid:\n  {}", .0.join("\n  "))]
    Keys(Vec<String>),
    /// No platform token.
    #[error(
        "there is no platform token: make one with `sgen-host token generate --out FILE` and name it as access.platform_token_file, or give SGEN_ACCESS__PLATFORM_TOKEN"
    )]
    NoPlatformToken,
    /// The token's file cannot be used.
    #[error("the platform token in {} cannot be used: {reason}", .path.display())]
    PlatformTokenFile { path: PathBuf, reason: String },
    /// A token that can be guessed.
    #[error(
        "the platform token has {length} bytes; at least {least} are needed. Make one with `sgen-host token generate --out FILE`"
    )]
    WeakPlatformToken { length: usize, least: usize },
}

/// Turns the reader's errors into one line per key.
pub(super) fn keys(file: &Path, error: figment::Error) -> ConfigError {
    ConfigError::Keys(error.into_iter().map(|error| line(file, &error)).collect())
}

fn line(file: &Path, error: &figment::Error) -> String {
    let from_environment = error.metadata.as_ref().is_some_and(|metadata| metadata.name == ENVIRONMENT);
    let mut path = error.path.clone();
    if let Kind::MissingField(name) = &error.kind {
        path.push(name.to_string());
    }
    if let Kind::UnknownField(name, _) = &error.kind
        && path.last() != Some(name)
    {
        path.push(name.clone());
    }
    let place =
        if from_environment { Environment::name(&path) } else { format!("{}: {}", file.display(), path.join(".")) };
    let place = if path.is_empty() && !from_environment { file.display().to_string() } else { place };
    let problem = match &error.kind {
        Kind::MissingField(_) => "is missing; sgen-host.example.toml shows it".to_owned(),
        Kind::UnknownField(_, []) => "is not a key".to_owned(),
        Kind::UnknownField(_, known) => format!("is not a key; there are {}", known.join(", ")),
        Kind::UnknownVariant(_, known) => format!("is not one of {}", known.join(", ")),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("{expected} is expected"),
        Kind::InvalidLength(_, expected) => format!("{expected} is expected"),
        other => other.to_string(),
    };
    format!("{place}: {problem}")
}
