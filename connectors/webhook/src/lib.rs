//! Standard Webhooks: one POST per captured event, signed by the host.
//!
//! The body is `{"type": surface, "timestamp": RFC 3339, "data": mapped fields}`; `webhook-id` is the event's idempotency
//! key, so a receiver recognises a repetition. `webhook-timestamp` and `webhook-signature` are the host's, which has clock
//! and secret.

use sgen_connector_sdk::{
    Connector, Event, Failure, FailureClass, Outcome, Request, Response, Verdict, deliver_each, export, timestamps,
};

/// Nothing of the settings is read here: the URL is the endpoint's base, which the host composes.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {}

/// The connector.
pub struct Webhook;

impl Connector for Webhook {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        deliver_each("receiver", batch, request, |_event, response| outcome(response))
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A webhook receiver has no probe that is not a delivery: send an event to see it arrive.")
    }
}

export!(Webhook);

fn request(event: &Event) -> Result<Request, Failure> {
    // The mapped fields are JSON text already: they are put in as they are instead of being read and written again.
    let fields = event.fields_raw();
    let surface = serde_json::to_string(&event.surface)
        .map_err(|error| Failure::connector_fault(format!("the surface has no JSON form: {error}")))?;
    let mut body = String::with_capacity(64 + surface.len() + fields.len());
    body.push_str(r#"{"type":"#);
    body.push_str(&surface);
    body.push_str(r#","timestamp":""#);
    timestamps::push_rfc3339(&mut body, event.captured_at_ms);
    body.push_str(r#"","data":"#);
    body.push_str(fields);
    body.push('}');
    Ok(Request::post("").header("webhook-id", event.idempotency_key.clone()).json_text(body))
}

fn outcome(response: &Response) -> Outcome {
    let Some(failure) = Failure::from_response(response) else { return Outcome::Delivered(None) };
    if response.is_the_hosts() {
        return Outcome::Failed(failure);
    }
    // What the receiver itself asks for goes before what its status means.
    let class = match response.header("webhook-delivery").map(str::trim) {
        Some("disable") => FailureClass::Gone,
        Some("abort-message") => FailureClass::Rejected,
        _ => failure.class,
    };
    let status = response.status;
    let message = match (class, status) {
        (_, 300..=399) => {
            format!("the receiver answered {status}: redirects are not followed, so set the URL that it redirects to")
        }
        (FailureClass::Gone, _) => format!("the receiver answered {status}: it wants no more deliveries"),
        _ => {
            let excerpt = response.excerpt(200);
            let separator = if excerpt.is_empty() { "" } else { ": " };
            format!("the receiver answered {status}{separator}{excerpt}")
        }
    };
    Outcome::Failed(failure.with_class(class).with_message(message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use serde_json::json;
    use sgen_connector_sdk::testing::{ScriptedEndpoints, event, json_body};
    use sgen_connector_sdk::{Finding, Method, SendError, SendErrorKind, invoke};

    use super::*;

    const SETTINGS: &str = r#"{"url":"https://receiver.example/hooks"}"#;

    fn outcome_of(answer: Result<Response, SendError>) -> Outcome {
        let receiver = ScriptedEndpoints::new().answers("receiver", [answer]);
        let batch = [event("form:contact", json!({}))];
        receiver.run(|| invoke::deliver::<Webhook>(SETTINGS, &batch)).pop().unwrap()
    }

    fn class_of(answer: Response) -> FailureClass {
        outcome_of(Ok(answer)).failure().unwrap().class
    }

    #[test]
    fn an_event_is_posted_to_exactly_the_base_url_with_its_id() {
        let receiver = ScriptedEndpoints::new().answers("receiver", [Ok(Response::new(204))]);
        let batch = [event("form:contact", json!({"email": "ada@example.com", "nested": {"a": [1, null]}}))];
        let outcomes = receiver.run(|| invoke::deliver::<Webhook>(SETTINGS, &batch));
        assert_eq!(outcomes, vec![Outcome::Delivered(None)]);

        let [request] = receiver.requests("receiver").try_into().unwrap();
        assert_eq!((request.method, request.path.as_ref()), (Method::Post, ""));
        assert_eq!(
            request.headers,
            vec![("webhook-id".into(), "key-1".into()), ("content-type".into(), "application/json".into())]
        );
        assert_eq!(
            String::from_utf8(request.body.unwrap()).unwrap(),
            concat!(
                r#"{"type":"form:contact","timestamp":"2026-01-01T00:00:00.000Z","#,
                r#""data":{"email":"ada@example.com","nested":{"a":[1,null]}}}"#
            )
        );
    }

    #[test]
    fn a_surface_with_quotes_is_still_json() {
        let receiver = ScriptedEndpoints::new().answers("receiver", [Ok(Response::new(200))]);
        let batch = [event("form:\"odd\"\n", json!({}))];
        receiver.run(|| invoke::deliver::<Webhook>(SETTINGS, &batch));
        let body = json_body(receiver.requests("receiver").first().unwrap());
        assert_eq!(body["type"], "form:\"odd\"\n");
    }

    #[test]
    fn a_batch_is_one_call_and_each_event_has_its_own_outcome() {
        let statuses = [200, 500, 202, 410];
        let receiver = ScriptedEndpoints::new().answers("receiver", statuses.map(|status| Ok(Response::new(status))));
        let batch = statuses.map(|status| event("event:signup", json!({ "status": status })));
        let outcomes = receiver.run(|| invoke::deliver::<Webhook>(SETTINGS, &batch));
        assert_eq!(receiver.calls(), 1);
        let classes: Vec<_> = outcomes.iter().map(|outcome| outcome.failure().map(|failure| failure.class)).collect();
        assert_eq!(classes, [None, Some(FailureClass::Unavailable), None, Some(FailureClass::Gone)]);
    }

    #[test]
    fn a_redirect_is_refused_and_the_message_says_so() {
        let outcome = outcome_of(Ok(Response::new(302)));
        let failure = outcome.failure().unwrap();
        assert_eq!((failure.class, failure.status), (FailureClass::Rejected, Some(302)));
        assert!(failure.message.contains("redirects are not followed"), "{}", failure.message);
    }

    #[test]
    fn a_failing_receivers_words_reach_the_operator() {
        let outcome = outcome_of(Ok(Response::new(422).with_body("{\n \"error\": \"no such tenant\" }")));
        let failure = outcome.failure().unwrap();
        assert_eq!(failure.class, FailureClass::Rejected);
        assert_eq!(failure.message, r#"the receiver answered 422: { "error": "no such tenant" }"#);
    }

    #[test]
    fn a_receiver_that_asks_for_a_pause_gets_it() {
        let outcome = outcome_of(Ok(Response::new(429).with_header("retry-after", "30")));
        let failure = outcome.failure().unwrap();
        assert_eq!((failure.class, failure.retry_after_ms), (FailureClass::RateLimited, Some(30_000)));
    }

    #[test]
    fn what_the_host_held_back_is_not_put_into_the_receivers_mouth() {
        let held = Response::new(429)
            .with_header("retry-after", "2")
            .with_header("proxy-status", "sgen-host; error=proxy_internal_response")
            .with_body("not sent: the host keeps to the vendor's rate");
        let outcome = outcome_of(Ok(held));
        let failure = outcome.failure().unwrap();
        assert_eq!((failure.class, failure.retry_after_ms), (FailureClass::RateLimited, Some(2_000)));
        assert_eq!(failure.message, "not sent: the host keeps to the vendor's rate");
    }

    #[test]
    fn the_receiver_can_end_deliveries_or_drop_one_message() {
        assert_eq!(class_of(Response::new(500).with_header("webhook-delivery", "disable")), FailureClass::Gone);
        assert_eq!(
            class_of(Response::new(500).with_header("webhook-delivery", "abort-message")),
            FailureClass::Rejected
        );
        assert_eq!(class_of(Response::new(500).with_header("webhook-delivery", "what")), FailureClass::Unavailable);
        let delivered = outcome_of(Ok(Response::new(200).with_header("webhook-delivery", "disable")));
        assert!(delivered.is_delivered(), "what was taken was delivered");
    }

    #[test]
    fn a_receiver_that_cannot_be_reached_is_unavailable() {
        let outcome = outcome_of(Err(SendError::new(SendErrorKind::Connect, "connection refused")));
        assert_eq!(outcome.failure().unwrap().class, FailureClass::Unavailable);
    }

    #[test]
    fn health_is_honestly_unverifiable() {
        let verdict = invoke::check::<Webhook>(SETTINGS);
        assert_eq!((verdict.reachable, verdict.target_exists), (Finding::Unverifiable, Finding::Unverifiable));
        assert_eq!(verdict.failure, None);
    }
}
