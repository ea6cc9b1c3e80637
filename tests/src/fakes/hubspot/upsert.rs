//! `POST /crm/v3/objects/contacts/batch/upsert` as HubSpot documents it: pure, from a body and the contacts to an answer.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::properties::{self, Refused};
use super::{Problem, State};

/// The most inputs of one call.
pub const INPUTS_LIMIT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    inputs: Vec<Input>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Input {
    id: String,
    #[serde(default)]
    id_property: Option<String>,
    #[serde(default)]
    object_write_trace_id: Option<String>,
    properties: BTreeMap<String, Scalar>,
}

/// HubSpot keeps every value as text and takes JSON's scalars for it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Boolean(bool),
    Number(serde_json::Number),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Boolean(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Applies one call. Answers the status (200 or 207) and the body.
///
/// # Errors
/// A whole-batch refusal: nothing was written.
pub(super) fn upsert(state: &mut State, body: &[u8]) -> Result<(u16, Value), Problem> {
    let started = jiff::Timestamp::now();
    let body: Body = serde_json::from_slice(body).map_err(|e| {
        Problem::validation(format!("Invalid input JSON on line {}, column {}: {e}", e.line(), e.column()))
    })?;
    check_shape(&body.inputs)?;

    let mut judged = Vec::with_capacity(body.inputs.len());
    for input in &body.inputs {
        let refusals = judge(input);
        if refusals.iter().any(|r| r.error == "PROPERTY_DOESNT_EXIST") {
            return Err(Problem::validation(sentence(&refusals)));
        }
        if !refusals.is_empty() && input.object_write_trace_id.is_none() {
            // Without a trace id there is no way to say which input is meant, so none is written.
            return Err(Problem::validation(sentence(&refusals)));
        }
        judged.push((input, refusals));
    }

    let mut results = Vec::new();
    let mut errors = Vec::new();
    for (input, refusals) in judged {
        let trace = input.object_write_trace_id.as_deref();
        if refusals.is_empty() {
            results.push(write(state, input));
            continue;
        }
        if let Some(trace) = trace {
            state.traces.entry(trace.to_owned()).or_default().refused += 1;
        }
        errors.push(json!({
            "status": "error",
            "category": "VALIDATION_ERROR",
            "message": sentence(&refusals),
            "context": { "objectWriteTraceId": trace.into_iter().collect::<Vec<_>>() },
        }));
    }
    let mut answer = json!({
        "status": "COMPLETE",
        "results": results,
        "startedAt": started.to_string(),
        "completedAt": jiff::Timestamp::now().to_string(),
    });
    let status = if errors.is_empty() { 200 } else { 207 };
    if let (false, Some(answer)) = (errors.is_empty(), answer.as_object_mut()) {
        answer.insert("numErrors".to_owned(), Value::from(errors.len()));
        answer.insert("errors".to_owned(), Value::from(errors));
    }
    Ok((status, answer))
}

fn check_shape(inputs: &[Input]) -> Result<(), Problem> {
    if inputs.is_empty() {
        return Err(Problem::validation("Invalid input: inputs must not be empty".to_owned()));
    }
    if inputs.len() > INPUTS_LIMIT {
        return Err(Problem::validation(format!(
            "The batch has {} inputs, which exceeds the maximum of {INPUTS_LIMIT}",
            inputs.len()
        )));
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut traces: BTreeMap<&str, usize> = BTreeMap::new();
    for input in inputs {
        match input.id_property.as_deref() {
            Some("email") => {}
            Some(other) => {
                return Err(Problem::validation(format!(
                    "Unable to perform update/upsert by non-unique 0-1 property '{other}'"
                )));
            }
            None => return Err(Problem::validation("Invalid input: idProperty is required for an upsert".to_owned())),
        }
        *seen.entry(input.id.to_lowercase()).or_default() += 1;
        if let Some(trace) = input.object_write_trace_id.as_deref() {
            *traces.entry(trace).or_default() += 1;
        }
    }
    let twice: Vec<&String> = seen.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id).collect();
    if !twice.is_empty() {
        return Err(Problem::validation(format!("Duplicate IDs found in batch input: {twice:?}. IDs must be unique")));
    }
    let twice: Vec<&&str> = traces.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id).collect();
    if !twice.is_empty() {
        return Err(Problem::validation(format!("objectWriteTraceId must be unique in a batch: {twice:?}")));
    }
    Ok(())
}

fn judge(input: &Input) -> Vec<Refused> {
    let mut refusals: Vec<Refused> =
        input.properties.iter().filter_map(|(name, value)| properties::check(name, &value.text())).collect();
    // The id is an address as well; when the properties repeat it, its refusal is there already.
    if refusals.iter().all(|refused| refused.name != "email") {
        refusals.extend(properties::check("email", &input.id));
    }
    refusals
}

fn sentence(refusals: &[Refused]) -> String {
    let list: Vec<Value> = refusals.iter().map(Refused::to_json).collect();
    format!("Property values were not valid: {}", Value::from(list))
}

fn write(state: &mut State, input: &Input) -> Value {
    let key = input.id.to_lowercase();
    let known = state.by_email.get(&key).copied();
    let id = known.unwrap_or_else(|| {
        state.last_id += 1;
        state.last_id
    });
    let now = jiff::Timestamp::now().to_string();
    let contact = state.contacts.entry(id).or_insert_with(|| super::Contact {
        id,
        created_at: now.clone(),
        updated_at: now.clone(),
        properties: BTreeMap::new(),
        writes: 0,
    });
    contact.properties.entry("email".to_owned()).or_insert_with(|| key.clone());
    for (name, value) in &input.properties {
        let text = value.text();
        let text = if name == "email" { text.to_lowercase() } else { text };
        contact.properties.insert(name.clone(), text);
    }
    contact.updated_at = now;
    contact.writes += 1;
    let email = contact.properties.get("email").cloned().unwrap_or_default();
    let mut properties: Map<String, Value> =
        contact.properties.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    properties.insert("hs_object_id".to_owned(), Value::from(id.to_string()));
    let mut result = json!({
        "id": id.to_string(),
        "properties": properties,
        "createdAt": contact.created_at,
        "updatedAt": contact.updated_at,
        "archived": false,
        "new": known.is_none(),
    });
    if email != key {
        state.by_email.remove(&key);
    }
    state.by_email.insert(email, id);
    if let Some(trace) = input.object_write_trace_id.as_deref() {
        state.traces.entry(trace.to_owned()).or_default().written += 1;
        if let Some(result) = result.as_object_mut() {
            result.insert("objectWriteTraceId".to_owned(), Value::from(trace));
        }
    }
    result
}
