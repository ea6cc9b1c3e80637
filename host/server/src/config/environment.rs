//! What the environment says: overrides of keys, and secrets handed over beside the configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use sgen_model::SecretBytes;

use super::explain::ConfigError;

/// What every name starts with.
const PREFIX: &str = "SGEN_";
/// Stands between section and key.
const SEPARATOR: &str = "__";
/// The sections, to recognise a name in which one `_` was forgotten.
const SECTIONS: [&str; 9] = ["SERVER", "STORE", "CATALOG", "VAULT", "ACCESS", "EGRESS", "ENGINE", "RETENTION", "LOG"];
/// The only keys whose values are not plain texts.
const STRUCTURED: [&str; 3] = ["EGRESS__DEVELOPMENT_HOSTS", "EGRESS__BASE_OVERRIDES", "SERVER__STOP_GRACE_SECONDS"];
const VAULT_KEY: &str = "VAULT__KEY";
const PREVIOUS_VAULT_KEY: &str = "VAULT__PREVIOUS_KEY";
const PLATFORM_TOKEN: &str = "ACCESS__PLATFORM_TOKEN";
/// Where systemd puts credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Secrets and places that the environment hands over. Taken out before anything looks at the rest.
#[derive(Default)]
pub(crate) struct Handed {
    pub(crate) keys: HandedKeys,
    pub(crate) platform_token: Option<SecretBytes>,
}

/// What is handed over of the vault's keys.
#[derive(Default)]
pub(crate) struct HandedKeys {
    pub(crate) credentials_directory: Option<PathBuf>,
    pub(crate) vault_key: Option<SecretBytes>,
    pub(crate) previous_vault_key: Option<SecretBytes>,
}

/// The overrides, by name without the prefix.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    overrides: BTreeMap<String, String>,
    malformed: Vec<String>,
}

impl Environment {
    /// Sorts the variables of the environment.
    pub(crate) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> (Self, Handed) {
        let (mut environment, mut handed) = (Self::default(), Handed::default());
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            if name == CREDENTIALS_DIRECTORY {
                handed.keys.credentials_directory = Some(PathBuf::from(value));
                continue;
            }
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            match (key, value.into_string()) {
                (_, Err(_)) => environment.malformed.push(format!("{name}: the value is not UTF-8")),
                (VAULT_KEY, Ok(secret)) => handed.keys.vault_key = Some(SecretBytes::from(secret)),
                (PREVIOUS_VAULT_KEY, Ok(secret)) => handed.keys.previous_vault_key = Some(SecretBytes::from(secret)),
                (PLATFORM_TOKEN, Ok(secret)) => handed.platform_token = Some(SecretBytes::from(secret)),
                (key, Ok(value)) if key == "DEPLOYMENT" || key.contains(SEPARATOR) => {
                    environment.overrides.insert(key.to_owned(), value);
                }
                (key, Ok(_)) => {
                    // A forgotten underscore would otherwise be an override that silently does nothing.
                    if let Some((section, rest)) = key.split_once('_').filter(|(section, _)| SECTIONS.contains(section))
                    {
                        environment.malformed.push(format!(
                            "{name}: section and key are separated by two underscores: {PREFIX}{section}{SEPARATOR}{rest}"
                        ));
                    }
                }
            }
        }
        (environment, handed)
    }

    /// # Errors
    /// [`ConfigError::Keys`] with every name that cannot be meant.
    pub(super) fn check_names(&self) -> Result<(), ConfigError> {
        if self.malformed.is_empty() { Ok(()) } else { Err(ConfigError::Keys(self.malformed.clone())) }
    }

    /// How a key is written in the environment.
    pub(super) fn name(path: &[String]) -> String {
        format!("{PREFIX}{}", path.join(SEPARATOR).to_uppercase())
    }

    fn dict(&self) -> Dict {
        let mut root = Dict::new();
        for (name, text) in &self.overrides {
            let value = match text.parse() {
                Ok(parsed) if STRUCTURED.contains(&name.as_str()) => parsed,
                _ => Value::from(text.as_str()),
            };
            let path: Vec<String> = name.split(SEPARATOR).map(str::to_lowercase).collect();
            insert(&mut root, &path, value);
        }
        root
    }
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            dict.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let entry = dict.entry(section.clone()).or_insert_with(|| Value::from(Dict::new()));
            if !matches!(entry, Value::Dict(..)) {
                *entry = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

impl Provider for &Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(super::explain::ENVIRONMENT)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict())]))
    }
}
