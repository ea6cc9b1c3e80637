//! What HubSpot answers, and what it means. Pure: nothing is sent here.
//!
//! The shapes are those of HubSpot's public API reference ("Batch upsert contacts", "Error handling", "Multi-status
//! errors"). Fields are read leniently: an answer that lacks one still says the rest.

use serde::Deserialize;
use serde_json::Value;
use sgen_connector_sdk::{Failure, FailureClass, Response};

/// The answer to a batch upsert.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BatchAnswer {
    pub(crate) results: Vec<Written>,
    pub(crate) errors: Vec<ApiError>,
}

/// One record that was written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Written {
    pub(crate) id: String,
    pub(crate) object_write_trace_id: Option<String>,
    pub(crate) properties: Properties,
}

/// The one property by which a written record can be recognised without its trace id.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Properties {
    pub(crate) email: Option<String>,
}

/// An error: the body of a refused request, or one entry of a multi-status answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApiError {
    pub(crate) message: String,
    category: String,
    context: Value,
    errors: Vec<ErrorDetail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    message: String,
    code: Option<String>,
    context: Value,
}

/// A property that HubSpot refuses, as it tells it inside the text of a message.
#[derive(Debug, Deserialize)]
struct InvalidProperty {
    name: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// One thing that HubSpot finds wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The property at fault.
    pub(crate) property: Option<String>,
    /// HubSpot's code for it (`INVALID_EMAIL`), otherwise its category (`VALIDATION_ERROR`).
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Complaint {
    /// Whether the property itself is what is wrong, whatever its value: then every record that has it is refused.
    pub(crate) fn is_about_every_value(&self) -> bool {
        matches!(self.code.as_str(), "PROPERTY_DOESNT_EXIST" | "READ_ONLY_VALUE")
    }

    /// What it means for one record.
    pub(crate) fn failure(&self, category: &str, status: u16) -> Failure {
        let class = match category {
            "RATE_LIMITS" => FailureClass::RateLimited,
            "MISSING_SCOPES" => FailureClass::PermissionDenied,
            "INVALID_AUTHENTICATION" | "EXPIRED_AUTHENTICATION" => FailureClass::AuthRevoked,
            "INTERNAL_ERROR" | "SERVER_ERROR" => FailureClass::Unavailable,
            _ => FailureClass::Rejected,
        };
        let failure = Failure::new(class, self.message.clone()).with_status(status).with_code(self.code.clone());
        match &self.property {
            Some(property) if class == FailureClass::Rejected => failure.on_field(property.clone()),
            _ => failure,
        }
    }
}

impl ApiError {
    /// The body of a refused request; without content when it is none of HubSpot's (a proxy's page).
    pub(crate) fn of(response: &Response) -> Self {
        serde_json::from_slice(&response.body).unwrap_or_default()
    }

    pub(crate) fn category(&self) -> &str {
        &self.category
    }

    /// The trace ids of the records that this error is about, as far as HubSpot tells them.
    pub(crate) fn trace_ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.context)
            .chain(self.errors.iter().map(|detail| &detail.context))
            .flat_map(|context| texts(context, "objectWriteTraceId"))
    }

    /// What is wrong, at least one complaint. The most specific come first: details, then what the message embeds, then
    /// the error as a whole.
    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        let mut complaints: Vec<Complaint> =
            embedded(&self.message).into_iter().map(|invalid| self.complaint_on(invalid)).collect();
        for detail in &self.errors {
            let message = if detail.message.is_empty() { &self.message } else { &detail.message };
            let complaint = Complaint {
                property: property(&detail.context).or_else(|| property(&self.context)),
                code: detail.code.clone().unwrap_or_else(|| self.category.clone()),
                message: message.clone(),
            };
            if !complaints.iter().any(|known| known.property == complaint.property && known.code == complaint.code) {
                complaints.push(complaint);
            }
        }
        if complaints.is_empty() {
            let message = if self.message.is_empty() { "HubSpot gave no reason" } else { &self.message };
            complaints.push(Complaint {
                property: property(&self.context),
                code: self.category.clone(),
                message: message.to_owned(),
            });
        }
        // A complaint that names its property tells an operator more than one that does not.
        complaints.sort_by_key(|complaint| complaint.property.is_none());
        complaints
    }

    fn complaint_on(&self, invalid: InvalidProperty) -> Complaint {
        Complaint {
            code: invalid.error.unwrap_or_else(|| self.category.clone()),
            message: invalid.message.unwrap_or_else(|| self.message.clone()),
            property: Some(invalid.name),
        }
    }
}

/// The failure that a refused request is as a whole: by its status, with HubSpot's own words.
///
/// 423 (too much at once) and 477 (the account is being moved) are HubSpot's own ways of asking to wait.
pub(crate) fn failure_of(response: &Response) -> Option<Failure> {
    let mut failure = Failure::from_response(response)?;
    if response.is_the_hosts() {
        return Some(failure);
    }
    if matches!(response.status, 423 | 477) {
        failure = failure.with_class(FailureClass::RateLimited);
    }
    let error = ApiError::of(response);
    if !error.category.is_empty() {
        failure = failure.with_code(error.category);
    }
    let said = if error.message.is_empty() { response.excerpt(200) } else { error.message };
    if said.is_empty() {
        let message = format!("HubSpot answered {}", response.status);
        return Some(failure.with_message(message));
    }
    let message = format!("HubSpot answered {}: {said}", response.status);
    Some(failure.with_message(message))
}

/// `Property values were not valid: [{"name": …, "error": …, "message": …}]`
fn embedded(message: &str) -> Vec<InvalidProperty> {
    let Some((_, list)) = message.split_once(": [") else { return Vec::new() };
    // Read as a stream, since more text may follow the list.
    let list = format!("[{list}");
    let mut values = serde_json::Deserializer::from_str(&list).into_iter::<Vec<InvalidProperty>>();
    values.next().and_then(Result::ok).unwrap_or_default()
}

fn property(context: &Value) -> Option<String> {
    ["propertyName", "propertyNames", "properties", "name"]
        .into_iter()
        .find_map(|key| texts(context, key).next())
        .map(str::to_owned)
}

/// The texts under a key of a context, which HubSpot writes as a list, or as one text.
fn texts<'a>(context: &'a Value, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let value = context.get(key);
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    value.and_then(Value::as_str).into_iter().chain(list.iter().filter_map(Value::as_str))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use serde_json::json;
    use sgen_connector_sdk::testing::json_response;

    use super::*;

    fn complaints(body: Value) -> Vec<Complaint> {
        ApiError::of(&json_response(400, body)).complaints()
    }

    #[test]
    fn properties_embedded_in_a_message_are_found() {
        let found = complaints(json!({
            "status": "error",
            "message": "Property values were not valid: [{\"isValid\":false,\"message\":\"Property \\\"shoe\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"shoe\"}] (see the docs)",
            "category": "VALIDATION_ERROR",
        }));
        assert_eq!(
            found,
            [Complaint {
                property: Some("shoe".into()),
                code: "PROPERTY_DOESNT_EXIST".into(),
                message: "Property \"shoe\" does not exist".into(),
            }]
        );
        assert!(found[0].is_about_every_value());
    }

    #[test]
    fn details_with_a_property_come_before_those_without() {
        let found = complaints(json!({
            "message": "Two problems",
            "category": "VALIDATION_ERROR",
            "errors": [
                {"message": "vague"},
                {"message": "no address", "code": "INVALID_EMAIL", "context": {"propertyName": ["email"]}},
            ],
        }));
        assert_eq!(found[0].property.as_deref(), Some("email"));
        assert_eq!((found[1].message.as_str(), found[1].code.as_str()), ("vague", "VALIDATION_ERROR"));
    }

    #[test]
    fn an_error_that_says_nothing_is_still_a_complaint() {
        assert_eq!(complaints(json!("oops"))[0].message, "HubSpot gave no reason");
        assert_eq!(complaints(json!({"message": "Bad: [not json"}))[0].message, "Bad: [not json");
    }

    #[test]
    fn trace_ids_are_found_as_list_or_text_at_either_level() {
        let error: ApiError = serde_json::from_value(json!({
            "context": {"objectWriteTraceId": ["a", "b"]},
            "errors": [{"context": {"objectWriteTraceId": "c"}}, {"context": "{odd=[text]}"}],
        }))
        .unwrap();
        assert_eq!(error.trace_ids().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn hubspots_own_ways_of_asking_to_wait_are_rate_limits() {
        for status in [423, 477] {
            let failure = failure_of(&Response::new(status)).unwrap();
            assert_eq!(failure.class, FailureClass::RateLimited);
        }
    }

    #[test]
    fn what_the_host_held_back_is_not_put_into_hubspots_mouth() {
        let held = Response::new(429)
            .with_header("retry-after", "7")
            .with_header("proxy-status", "sgen-host; error=proxy_internal_response")
            .with_body("not sent: the host keeps to the vendor's rate");
        let failure = failure_of(&held).unwrap();
        assert_eq!((failure.class, failure.retry_after_ms), (FailureClass::RateLimited, Some(7_000)));
        assert_eq!(failure.message, "not sent: the host keeps to the vendor's rate");
    }

    #[test]
    fn a_proxys_page_is_told_in_its_own_words() {
        let failure = failure_of(&Response::new(502).with_body("<html> Bad\n gateway")).unwrap();
        assert_eq!(failure.class, FailureClass::Unavailable);
        assert_eq!(failure.message, "HubSpot answered 502: <html> Bad gateway");
    }
}
