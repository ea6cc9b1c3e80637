//! A captured event as the contact that HubSpot is to create or update. Pure: nothing is sent here.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use sgen_connector_sdk::{Event, Failure};

/// The property by which HubSpot recognises a contact, and the mapping target for it.
pub(crate) const EMAIL: &str = "email";

/// One contact to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Record {
    /// Where the event stands in the batch.
    #[serde(skip)]
    pub(crate) position: usize,
    /// The value of [`EMAIL`] by which HubSpot looks the contact up.
    #[serde(rename = "id")]
    pub(crate) email: String,
    #[serde(rename = "idProperty")]
    id_property: &'static str,
    /// Comes back with what HubSpot says about this record: the event's id.
    #[serde(rename = "objectWriteTraceId")]
    pub(crate) trace_id: String,
    #[serde(serialize_with = "as_map")]
    pub(crate) properties: Vec<(String, String)>,
}

impl Record {
    /// Reads the mapped fields. A field without a value is left out, so that a form that does not ask for something never
    /// clears what HubSpot knows.
    pub(crate) fn from_event(position: usize, event: &Event) -> Result<Self, Failure> {
        let fields: Map<String, Value> = event.fields()?;
        let mut email = None;
        let mut properties = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let Some(mut text) = property_text(&name, value)? else { continue };
            if name == EMAIL {
                // HubSpot compares without regard to case; two spellings in one batch are a duplicate to it.
                text = text.trim().to_lowercase();
                email = Some(text.clone());
            }
            properties.push((name, text));
        }
        let email = email.filter(|email| !email.is_empty()).ok_or_else(|| {
            Failure::schema_mismatch(EMAIL, "a contact needs an email address, and this event has none")
        })?;
        Ok(Self { position, email, id_property: EMAIL, trace_id: event.id.clone(), properties })
    }

    pub(crate) fn has_property(&self, name: &str) -> bool {
        self.properties.iter().any(|(own, _)| own == name)
    }
}

/// HubSpot takes property values as text; several choices of one property are separated by semicolons.
fn property_text(name: &str, value: Value) -> Result<Option<String>, Failure> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Bool(yes) => Ok(Some(yes.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Array(items) => {
            let mut joined = String::new();
            for item in items {
                if item.is_array() || item.is_object() {
                    return Err(no_property_value(name));
                }
                if let Some(text) = property_text(name, item)? {
                    if !joined.is_empty() {
                        joined.push(';');
                    }
                    joined.push_str(&text);
                }
            }
            Ok(Some(joined))
        }
        Value::Object(_) => Err(no_property_value(name)),
    }
}

fn no_property_value(name: &str) -> Failure {
    Failure::schema_mismatch(
        name,
        format!("\"{name}\" is a structure, and a HubSpot property takes text, numbers or choices"),
    )
}

fn as_map<S: Serializer>(properties: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(properties.len()))?;
    for (name, value) in properties {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use serde_json::json;
    use sgen_connector_sdk::FailureClass;
    use sgen_connector_sdk::testing::event;

    use super::*;

    fn record(fields: Value) -> Result<Record, Failure> {
        Record::from_event(0, &event("form:contact", fields))
    }

    #[test]
    fn every_scalar_becomes_text_and_nothing_clears_a_property() {
        let record = record(json!({
            "email": " Ada@Example.COM ",
            "age": 36,
            "score": 1.5,
            "newsletter": true,
            "phone": null,
            "interests": ["maths", null, "machines", 3],
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            json!({
                "id": "ada@example.com",
                "idProperty": "email",
                "objectWriteTraceId": "event-1",
                "properties": {
                    "email": "ada@example.com",
                    "age": "36",
                    "score": "1.5",
                    "newsletter": "true",
                    "interests": "maths;machines;3",
                }
            })
        );
    }

    #[test]
    fn a_contact_without_email_names_the_field() {
        for fields in [json!({}), json!({"email": null}), json!({"email": "  "})] {
            let failure = record(fields).unwrap_err();
            assert_eq!((failure.class, failure.field.as_deref()), (FailureClass::SchemaMismatch, Some("email")));
        }
    }

    #[test]
    fn a_structure_is_no_property_value() {
        for value in [json!({"a": 1}), json!([[1]]), json!([{"a": 1}])] {
            let failure = record(json!({"email": "a@example.com", "address": value})).unwrap_err();
            assert_eq!((failure.class, failure.field.as_deref()), (FailureClass::SchemaMismatch, Some("address")));
        }
    }
}
