//! From a manifest's settings to a JSON Schema, and whether one value fits one setting.

use serde_json::{Map, Value, json};

use crate::manifest::{Manifest, Setting, SettingKind};
use crate::pattern::base_url;

/// The longest text of a setting that sets no limit itself, in characters: settings are handed to every invocation.
const LONGEST: u32 = 4096;

/// The annotation that carries the source of live choices. Not a keyword of JSON Schema: validators pass over it.
const OPTIONS: &str = "x-options";

pub(crate) fn schema(manifest: &Manifest) -> Value {
    let properties: Map<String, Value> =
        manifest.settings.iter().map(|(name, setting)| (name.clone(), property(setting))).collect();
    let required: Vec<&String> =
        manifest.settings.iter().filter(|(_, setting)| setting.required).map(|(name, _)| name).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("{} settings", manifest.title),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(setting: &Setting) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    put("title", json!(setting.title));
    if let Some(help) = &setting.help {
        put("description", json!(help));
    }
    match setting.kind {
        SettingKind::String | SettingKind::Url => {
            put("type", json!("string"));
            put("maxLength", json!(setting.max_length.unwrap_or(LONGEST)));
            if setting.required {
                put("minLength", json!(1));
            }
            if setting.kind == SettingKind::Url {
                put("format", json!("uri"));
            }
        }
        SettingKind::Integer => {
            put("type", json!("integer"));
            if let Some(min) = setting.min {
                put("minimum", json!(min));
            }
            if let Some(max) = setting.max {
                put("maximum", json!(max));
            }
        }
        SettingKind::Boolean => put("type", json!("boolean")),
        SettingKind::Enum => put("enum", json!(setting.values)),
    }
    if let Some(default) = &setting.default {
        put("default", default.clone());
    }
    if let Some(source) = &setting.options {
        put(OPTIONS, json!(source));
    }
    Value::Object(out)
}

/// Whether a value fits a setting: the rules of [`schema`] for one property, used for defaults.
pub(crate) fn admits(setting: &Setting, value: &Value) -> bool {
    let short =
        |text: &str| u32::try_from(text.chars().count()).is_ok_and(|n| n <= setting.max_length.unwrap_or(LONGEST));
    match (setting.kind, value) {
        (SettingKind::String, Value::String(text)) => short(text) && !(setting.required && text.is_empty()),
        (SettingKind::Url, Value::String(text)) => short(text) && base_url(text).is_ok(),
        (SettingKind::Integer, Value::Number(number)) => number
            .as_i64()
            .is_some_and(|n| setting.min.is_none_or(|min| n >= min) && setting.max.is_none_or(|max| n <= max)),
        (SettingKind::Boolean, Value::Bool(_)) => true,
        (SettingKind::Enum, Value::String(text)) => setting.values.contains(text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_schema_has_one_property_per_setting_and_admits_no_other() {
        let manifest = Manifest::parse(
            r#"
            id = "x"
            version = "1.0.0"
            type = "custom"
            title = "X"
            summary = "Test."
            world = "sgen:connector@1.0.0"
            [settings.url]
            type = "url"
            title = "URL"
            required = true
            [settings.list]
            type = "string"
            title = "List"
            help = "Where contacts go."
            options = "lists"
            max_length = 80
            [settings.count]
            type = "integer"
            title = "Count"
            min = 1
            max = 10
            default = 3
            [settings.dry]
            type = "boolean"
            title = "Dry run"
            [settings.mode]
            type = "enum"
            title = "Mode"
            values = ["upsert", "insert"]
            default = "upsert"
            "#,
        )
        .unwrap();
        assert_eq!(
            manifest.settings_schema(),
            json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "X settings",
                "type": "object",
                "properties": {
                    "url": { "title": "URL", "type": "string", "format": "uri", "minLength": 1, "maxLength": 4096 },
                    "list": { "title": "List", "description": "Where contacts go.", "type": "string", "maxLength": 80, "x-options": "lists" },
                    "count": { "title": "Count", "type": "integer", "minimum": 1, "maximum": 10, "default": 3 },
                    "dry": { "title": "Dry run", "type": "boolean" },
                    "mode": { "title": "Mode", "enum": ["upsert", "insert"], "default": "upsert" },
                },
                "required": ["url"],
                "additionalProperties": false,
            })
        );
    }
}
