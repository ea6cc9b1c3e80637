//! Checking what an operator gives against the manifest, before anything is stored.

use serde_json::{Map, Value};
use sgen_catalog::manifest::Manifest;
use sgen_model::{FieldMapping, MappingSource, Scope};

use crate::error::Problem;

/// Fills in the settings' defaults and checks them against the manifest's schema.
///
/// # Errors
/// One problem per fault, naming the setting.
pub(crate) fn settings(manifest: &Manifest, mut given: Map<String, Value>) -> Result<Map<String, Value>, Vec<Problem>> {
    for (name, setting) in &manifest.settings {
        if let Some(default) = &setting.default
            && !given.contains_key(name)
        {
            given.insert(name.clone(), default.clone());
        }
    }
    let schema = manifest.settings_schema();
    let validator = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator,
        Err(error) => return Err(vec![Problem::new("settings", format!("the connector's settings schema: {error}"))]),
    };
    let value = Value::Object(given);
    let problems: Vec<Problem> = validator
        .iter_errors(&value)
        .map(|error| {
            let at = error.instance_path().to_string().replace('/', ".");
            // A masked value: a credential pasted into the wrong field must not come back in an error.
            Problem::new(format!("settings{at}"), error.masked().to_string())
        })
        .collect();
    match value {
        Value::Object(settings) if problems.is_empty() => Ok(settings),
        _ => Err(problems),
    }
}

/// Fills in the preset of every required target that the operator has left out.
pub(crate) fn with_presets(manifest: &Manifest, mut mapping: FieldMapping) -> FieldMapping {
    if mapping.0.contains_key("*") {
        return mapping;
    }
    for (name, target) in manifest.mapping.iter().filter(|(_, target)| target.required) {
        if let Some(preset) = target.preset.first()
            && !mapping.0.contains_key(name)
        {
            mapping.0.insert(name.clone(), MappingSource { from: Some(preset.clone()), ..MappingSource::default() });
        }
    }
    mapping
}

/// The scope that an instance has when its operator gives none.
///
/// # Errors
/// When the manifest's default is no scope.
pub(crate) fn default_scope(manifest: &Manifest) -> Result<Scope, Vec<Problem>> {
    Scope::parse(&manifest.scope.default).map_err(|said| vec![Problem::new("scope", said)])
}
