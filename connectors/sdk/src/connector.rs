//! What a connector implements, and the loop that most of them are.

use serde::de::DeserializeOwned;

use crate::{Account, Choice, Endpoint, Event, Failure, Outcome, Request, Response, Verdict};

/// A connector: delivery, health, and live choices for its settings.
pub trait Connector {
    /// The settings as the manifest declares them (`[settings.NAME]`). The host has validated them; a type that does not
    /// fit all the same fails every event as `connector-fault`.
    type Settings: DeserializeOwned;

    /// Delivers a batch and answers one outcome per event, in order.
    fn deliver(settings: &Self::Settings, batch: &[Event]) -> Vec<Outcome>;

    /// Probes the downstream without writing to it.
    fn check(settings: &Self::Settings) -> Verdict;

    /// Lists the choices of a source that the manifest names (`options = "SOURCE"`), filtered by a search text.
    ///
    /// # Errors
    /// What kept the downstream from answering. The default knows no source.
    fn options(settings: &Self::Settings, source: &str, search: Option<&str>) -> Result<Vec<Choice>, Failure> {
        let _ = (settings, search);
        Err(unknown_source(source))
    }
}

/// The failure for a source of choices that the connector does not know: manifest and code disagree.
fn unknown_source(source: &str) -> Failure {
    Failure::connector_fault(format!("this connector lists no choices called \"{source}\""))
}

/// Ability: tell which downstream account the credential belongs to. Exported with [`crate::export_identity!`].
pub trait Identify: Connector {
    /// The downstream's account.
    ///
    /// # Errors
    /// What kept the downstream from answering.
    fn account(settings: &Self::Settings) -> Result<Account, Failure>;
}

/// Ability: revoke the grant at the downstream when an instance is retired. Exported with [`crate::export_revocation!`].
pub trait Revoke: Connector {
    /// Revokes the grant. A grant that is revoked already is a success.
    ///
    /// # Errors
    /// What kept the downstream from revoking.
    fn revoke(settings: &Self::Settings) -> Result<(), Failure>;
}

/// Ability: erase a person at the downstream. Exported with [`crate::export_erasure!`].
pub trait Erase: Connector {
    /// Erases the record whose mapped field `field` has the value `value`. A record that is gone already is a success.
    ///
    /// # Errors
    /// What kept the downstream from erasing; `schema-mismatch` for a field by which it cannot erase.
    fn erase(settings: &Self::Settings, field: &str, value: &str) -> Result<(), Failure>;
}

/// Ability: bring settings of an earlier connector version to this one's shape. Exported with
/// [`crate::export_migration!`]. Pure: no endpoint may be opened.
pub trait Migrate {
    /// The settings of `from_version` in this version's shape.
    ///
    /// # Errors
    /// A sentence for the operator, when they have no such form.
    fn migrate(from_version: &str, settings: serde_json::Value) -> Result<serde_json::Value, String>;
}

/// Delivers one request per event, all of them concurrently through `endpoint`.
///
/// `build` makes an event's request, or says why there is none; `judge` reads its response. An event whose request gets
/// no response fails with [`Failure::from_send_error`].
pub fn deliver_each(
    endpoint: &str,
    batch: &[Event],
    mut build: impl FnMut(&Event) -> Result<Request, Failure>,
    mut judge: impl FnMut(&Event, &Response) -> Outcome,
) -> Vec<Outcome> {
    let endpoint = match Endpoint::open(endpoint) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let failure = Failure::from_send_error(&error);
            return batch.iter().map(|_| Outcome::Failed(failure.clone())).collect();
        }
    };
    let mut requests = Vec::with_capacity(batch.len());
    let built: Vec<Option<Failure>> = batch
        .iter()
        .map(|event| match build(event) {
            Ok(request) => {
                requests.push(request);
                None
            }
            Err(failure) => Some(failure),
        })
        .collect();
    let mut answers = endpoint.send_all(requests).into_iter();
    batch
        .iter()
        .zip(built)
        .map(|(event, failed)| match failed {
            Some(failure) => Outcome::Failed(failure),
            None => match answers.next() {
                Some(Ok(response)) => judge(event, &response),
                Some(Err(error)) => Outcome::Failed(error.into()),
                // The host answers one for one; whatever else it did, this event has no answer.
                None => Outcome::Failed(Failure::connector_fault("the host gave fewer answers than it got requests")),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use serde_json::json;

    use super::*;
    use crate::testing::{ScriptedEndpoints, event};
    use crate::{FailureClass, SendErrorKind};

    fn request_for(event: &Event) -> Result<Request, Failure> {
        if event.surface == "form:unsendable" {
            return Err(Failure::schema_mismatch("name", "no name"));
        }
        Ok(Request::post("/events").json_text(event.fields_raw()))
    }

    #[test]
    fn an_event_without_a_request_does_not_shift_the_answers_of_the_others() {
        let downstream = ScriptedEndpoints::new().endpoint("api", |request| {
            let text = String::from_utf8(request.body.clone().unwrap()).unwrap();
            Ok(Response::new(if text.contains("bad") { 400 } else { 200 }))
        });
        let batch = [
            event("form:contact", json!({"a": "bad"})),
            event("form:unsendable", json!({})),
            event("form:contact", json!({"a": "good"})),
        ];
        let outcomes =
            downstream.run(|| deliver_each("api", &batch, request_for, |_, response| Outcome::from_status(response)));
        assert_eq!(outcomes[0].failure().unwrap().class, FailureClass::Rejected);
        assert_eq!(outcomes[1].failure().unwrap().field.as_deref(), Some("name"));
        assert!(outcomes[2].is_delivered());
        assert_eq!(downstream.calls(), 1, "all requests go in one call");
    }

    #[test]
    fn an_endpoint_that_cannot_be_opened_fails_every_event() {
        let batch = [event("form:contact", json!({})), event("form:contact", json!({}))];
        let outcomes = ScriptedEndpoints::new()
            .run(|| deliver_each("api", &batch, request_for, |_, response| Outcome::from_status(response)));
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes.iter().all(|outcome| outcome.failure().unwrap().class == FailureClass::EgressDenied));
    }

    #[test]
    fn a_request_without_response_fails_its_own_event_only() {
        let downstream = ScriptedEndpoints::new().endpoint("api", |request| {
            if request.body.as_deref() == Some(b"{}") {
                Err(SendError::new(SendErrorKind::Timeout, "no answer in 30 s"))
            } else {
                Ok(Response::new(204))
            }
        });
        use crate::SendError;
        let batch = [event("form:contact", json!({})), event("form:contact", json!({"a": 1}))];
        let outcomes =
            downstream.run(|| deliver_each("api", &batch, request_for, |_, response| Outcome::from_status(response)));
        assert_eq!(outcomes[0].failure().unwrap().class, FailureClass::Unavailable);
        assert!(outcomes[1].is_delivered());
    }
}
