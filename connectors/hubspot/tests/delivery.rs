//! The HubSpot connector's deliveries against a scripted HubSpot: the requests it makes, and what becomes of each event.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};
use sgen_connector_hubspot::HubSpot;
use sgen_connector_sdk::testing::{ScriptedEndpoints, event, json_body, json_response};
use sgen_connector_sdk::{
    Event, Failure, FailureClass, Method, Outcome, Request, Response, SendError, SendErrorKind, invoke,
};

const UPSERT: &str = "/crm/v3/objects/contacts/batch/upsert";
const NO_LIST: &str = "{}";

fn contact(id: &str, email: &str) -> Event {
    contact_with(id, json!({ "email": email }))
}

fn contact_with(id: &str, fields: Value) -> Event {
    Event { id: id.to_owned(), ..event("form:contact", fields) }
}

fn deliver(downstream: &ScriptedEndpoints, settings: &str, batch: &[Event]) -> Vec<Outcome> {
    let outcomes = downstream.run(|| invoke::deliver::<HubSpot>(settings, batch));
    assert_eq!(outcomes.len(), batch.len(), "one outcome per event");
    outcomes
}

fn failure(outcome: &Outcome) -> &Failure {
    outcome.failure().unwrap_or_else(|| panic!("delivered: {outcome:?}"))
}

fn inputs(request: &Request) -> Vec<Value> {
    json_body(request)["inputs"].as_array().cloned().unwrap_or_default()
}

fn emails(request: &Request) -> Vec<String> {
    inputs(request).iter().map(|input| input["id"].as_str().unwrap().to_owned()).collect()
}

/// What HubSpot answers when it writes all that it was given; the contact's id is made from the trace id.
fn all_written(request: &Request) -> Response {
    let results: Vec<Value> = inputs(request)
        .iter()
        .map(|input| {
            json!({
                "id": format!("contact-of-{}", input["objectWriteTraceId"].as_str().unwrap()),
                "objectWriteTraceId": input["objectWriteTraceId"],
                "properties": {"email": input["id"]},
                "new": true,
            })
        })
        .collect();
    json_response(200, json!({"status": "COMPLETE", "results": results}))
}

fn refused(message: &str, errors: Value) -> Response {
    json_response(400, json!({"status": "error", "category": "VALIDATION_ERROR", "message": message, "errors": errors}))
}

/// A HubSpot that refuses a whole call when it names a contact twice or an address is bad, with or without saying whose.
fn strict_hubspot(quotes_the_address: bool) -> ScriptedEndpoints {
    ScriptedEndpoints::new().endpoint("api", move |request| {
        let emails = emails(request);
        if emails.iter().enumerate().any(|(index, email)| emails[..index].contains(email)) {
            return Ok(refused("Duplicate IDs found in batch input", json!([])));
        }
        Ok(match emails.iter().find(|email| email.starts_with("bad")) {
            None => all_written(request),
            Some(email) => {
                let quoted = if quotes_the_address { email.as_str() } else { "that was given" };
                let detail = json!({
                    "message": format!("Email address {quoted} is invalid"),
                    "code": "INVALID_EMAIL",
                    "context": {"propertyName": ["email"]},
                });
                refused("Property values were not valid", json!([detail]))
            }
        })
    })
}

#[test]
fn a_batch_is_one_upsert_by_email_with_a_trace_id_per_event() {
    let downstream = strict_hubspot(true);
    let batch = [
        contact_with("ev-1", json!({"email": "Ada@Example.com", "firstname": "Ada"})),
        contact_with("ev-2", json!({"email": "bob@example.com", "age": 7})),
    ];
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert_eq!(outcomes, ["contact-of-ev-1", "contact-of-ev-2"].map(Outcome::delivered_as));

    let [request] = downstream.requests("api").try_into().unwrap();
    assert_eq!((request.method, request.path.as_ref()), (Method::Post, UPSERT));
    assert_eq!(request.headers, vec![("content-type".into(), "application/json".into())]);
    assert_eq!(
        String::from_utf8(request.body.unwrap()).unwrap(),
        concat!(
            r#"{"inputs":[{"id":"ada@example.com","idProperty":"email","objectWriteTraceId":"ev-1","#,
            r#""properties":{"email":"ada@example.com","firstname":"Ada"}},"#,
            r#"{"id":"bob@example.com","idProperty":"email","objectWriteTraceId":"ev-2","#,
            r#""properties":{"age":"7","email":"bob@example.com"}}]}"#
        )
    );
}

#[test]
fn more_than_a_hundred_events_are_several_requests_in_one_call() {
    let downstream = strict_hubspot(true);
    let batch: Vec<Event> = (0..250).map(|n| contact(&format!("ev-{n}"), &format!("c{n}@example.com"))).collect();
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert!(outcomes.iter().all(Outcome::is_delivered));
    let sizes: Vec<usize> = downstream.requests("api").iter().map(|request| inputs(request).len()).collect();
    assert_eq!((sizes, downstream.calls()), (vec![100, 100, 50], 1));
}

#[test]
fn a_multi_status_answer_gives_each_event_its_own_outcome() {
    let downstream = ScriptedEndpoints::new().answers(
        "api",
        [Ok(json_response(
            207,
            json!({
                "status": "COMPLETE",
                "results": [{"id": "501", "objectWriteTraceId": "ev-1"}],
                "numErrors": 2,
                "errors": [
                    {
                        "status": "error", "category": "VALIDATION_ERROR", "message": "bob is not a valid email",
                        "context": {"objectWriteTraceId": ["ev-2"], "propertyName": ["email"]},
                    },
                    {
                        "status": "error", "category": "RATE_LIMITS", "message": "too fast",
                        "context": {"objectWriteTraceId": ["ev-3"]},
                    },
                ],
            }),
        ))],
    );
    let batch = [contact("ev-1", "a@example.com"), contact("ev-2", "bob"), contact("ev-3", "c@example.com")];
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert_eq!(outcomes[0], Outcome::delivered_as("501"));
    let invalid = failure(&outcomes[1]);
    assert_eq!((invalid.class, invalid.field.as_deref()), (FailureClass::SchemaMismatch, Some("email")));
    assert_eq!((invalid.status, invalid.message.as_str()), (Some(207), "bob is not a valid email"));
    assert_eq!(failure(&outcomes[2]).class, FailureClass::RateLimited);
}

#[test]
fn a_written_contact_is_recognised_by_its_address_when_the_trace_id_is_missing() {
    let answer = json_response(201, json!({"results": [{"id": "9", "properties": {"email": "A@Example.com"}}]}));
    let downstream = ScriptedEndpoints::new().answers("api", [Ok(answer)]);
    let outcomes = deliver(&downstream, NO_LIST, &[contact("ev-1", "a@example.com")]);
    assert_eq!(outcomes, [Outcome::delivered_as("9")]);
}

#[test]
fn a_success_that_wrote_nothing_is_no_delivery() {
    let silent = json_response(200, json!({"status": "COMPLETE", "results": []}));
    let downstream = ScriptedEndpoints::new().answers("api", [Ok(silent)]);
    let outcomes = deliver(&downstream, NO_LIST, &[contact("ev-1", "a@example.com")]);
    assert_eq!(failure(&outcomes[0]).class, FailureClass::Rejected);

    let with_reason = json_response(
        200,
        json!({"results": [], "errors": [{"category": "OBJECT_QUOTA", "message": "the account is full"}]}),
    );
    let downstream = ScriptedEndpoints::new().answers("api", [Ok(with_reason)]);
    let outcomes = deliver(&downstream, NO_LIST, &[contact("ev-1", "a@example.com")]);
    let failure = failure(&outcomes[0]);
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Rejected, "the account is full"));
    assert_eq!(failure.code.as_deref(), Some("OBJECT_QUOTA"));
}

#[test]
fn two_events_of_one_contact_are_written_one_after_the_other() {
    let downstream = strict_hubspot(true);
    let batch = [
        contact_with("ev-1", json!({"email": "ada@example.com", "city": "London"})),
        contact("ev-2", "bob@example.com"),
        contact_with("ev-3", json!({"email": " ADA@example.com", "city": "Paris"})),
    ];
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert!(outcomes.iter().all(Outcome::is_delivered));
    let requests = downstream.requests("api");
    assert_eq!(emails(&requests[0]), ["ada@example.com", "bob@example.com"]);
    assert_eq!(emails(&requests[1]), ["ada@example.com"]);
    assert_eq!(inputs(&requests[1])[0]["properties"]["city"], "Paris", "the last state wins");
    assert_eq!(downstream.calls(), 2, "the second only after the first was answered");
}

#[test]
fn a_later_event_does_not_overtake_an_earlier_one_that_will_be_retried() {
    let downstream = ScriptedEndpoints::new().answers("api", [Ok(Response::new(503).with_header("retry-after", "5"))]);
    let batch = [contact("ev-1", "ada@example.com"), contact("ev-2", "ada@example.com")];
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert_eq!(failure(&outcomes[0]).class, FailureClass::Unavailable);
    assert_eq!(
        (failure(&outcomes[1]).class, failure(&outcomes[1]).retry_after_ms),
        (FailureClass::Unavailable, Some(5000))
    );
    assert!(failure(&outcomes[1]).message.starts_with("held back"));
    assert_eq!(downstream.requests("api").len(), 1);
}

#[test]
fn a_later_event_goes_on_when_the_earlier_one_is_refused_for_good() {
    let mut refuse = true;
    let downstream = ScriptedEndpoints::new().endpoint("api", move |request| {
        Ok(if std::mem::take(&mut refuse) { refused("no", json!([])) } else { all_written(request) })
    });
    let batch = [contact("ev-1", "ada@example.com"), contact("ev-2", "ada@example.com")];
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert_eq!(failure(&outcomes[0]).class, FailureClass::Rejected);
    assert!(outcomes[1].is_delivered());
}

#[test]
fn one_bad_record_among_a_hundred_fails_alone() {
    for quotes_the_address in [true, false] {
        let downstream = strict_hubspot(quotes_the_address);
        let mut batch: Vec<Event> =
            (0..100).map(|n| contact(&format!("ev-{n}"), &format!("c{n}@example.com"))).collect();
        batch[37] = contact("ev-37", "bad@example");
        let outcomes = deliver(&downstream, NO_LIST, &batch);
        for (position, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.is_delivered(), position != 37, "event {position}: {outcome:?}");
        }
        let why = failure(&outcomes[37]);
        assert_eq!((why.class, why.field.as_deref()), (FailureClass::SchemaMismatch, Some("email")));
        assert_eq!((why.code.as_deref(), why.status), (Some("INVALID_EMAIL"), Some(400)));
        // With the address quoted: everything, then the record and the rest. Otherwise two halves per bisection.
        let (requests, calls) = if quotes_the_address { (3, 2) } else { (15, 8) };
        assert!(downstream.requests("api").len() <= requests, "{}", downstream.requests("api").len());
        assert!(downstream.calls() <= calls, "{}", downstream.calls());
    }
}

#[test]
fn when_every_record_is_bad_every_one_fails_and_the_search_ends() {
    let downstream = strict_hubspot(false);
    let batch: Vec<Event> = (0..100).map(|n| contact(&format!("ev-{n}"), &format!("bad{n}@example"))).collect();
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert!(outcomes.iter().all(|outcome| failure(outcome).class == FailureClass::SchemaMismatch));
    assert_eq!(downstream.requests("api").len(), 199);
}

#[test]
fn a_property_that_does_not_exist_fails_those_events_that_have_it_without_a_search() {
    let downstream = ScriptedEndpoints::new().endpoint("api", |request| {
        Ok(if inputs(request).iter().any(|input| input["properties"].get("shoe").is_some()) {
            let embedded = json!([{"isValid": false, "name": "shoe", "error": "PROPERTY_DOESNT_EXIST", "message": "Property \"shoe\" does not exist"}]);
            refused(&format!("Property values were not valid: {embedded}"), json!([]))
        } else {
            all_written(request)
        })
    });
    let batch: Vec<Event> = (0..50)
        .map(|n| {
            let mut fields = json!({"email": format!("c{n}@example.com")});
            if n % 2 == 0 {
                fields["shoe"] = json!("42");
            }
            contact_with(&format!("ev-{n}"), fields)
        })
        .collect();
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_delivered(), n % 2 == 1);
    }
    assert_eq!(failure(&outcomes[0]).field.as_deref(), Some("shoe"));
    assert_eq!(failure(&outcomes[0]).message, "Property \"shoe\" does not exist");
    assert_eq!(downstream.requests("api").len(), 2);
}

#[test]
fn a_refusal_that_names_the_record_needs_no_search() {
    let mut first = true;
    let downstream = ScriptedEndpoints::new().endpoint("api", move |request| {
        if !std::mem::take(&mut first) {
            return Ok(all_written(request));
        }
        let detail = json!({"message": "too long", "code": "TOO_LONG", "context": {"objectWriteTraceId": ["ev-1"], "propertyName": ["city"]}});
        Ok(refused("invalid", json!([detail])))
    });
    let batch = [
        contact("ev-0", "a@example.com"),
        contact_with("ev-1", json!({"email": "b@example.com", "city": "…"})),
        contact("ev-2", "c@example.com"),
    ];
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert_eq!(outcomes.iter().map(Outcome::is_delivered).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(failure(&outcomes[1]).field.as_deref(), Some("city"));
    assert_eq!(downstream.requests("api").len(), 2);
}

#[test]
fn a_status_for_the_whole_call_is_every_events_failure() {
    let table = [
        (401, FailureClass::AuthRevoked),
        (403, FailureClass::PermissionDenied),
        (404, FailureClass::Rejected),
        (413, FailureClass::TooLarge),
        (423, FailureClass::RateLimited),
        (429, FailureClass::RateLimited),
        (500, FailureClass::Unavailable),
        (503, FailureClass::Unavailable),
    ];
    for (status, class) in table {
        let body = json!({"status": "error", "category": "SOME_CATEGORY", "message": "in HubSpot's words"});
        let answer = json_response(status, body).with_header("retry-after", "10");
        let downstream = ScriptedEndpoints::new().answers("api", [Ok(answer)]);
        let outcomes =
            deliver(&downstream, NO_LIST, &[contact("ev-1", "a@example.com"), contact("ev-2", "b@example.com")]);
        for outcome in &outcomes {
            let failure = failure(outcome);
            assert_eq!((failure.class, failure.status), (class, Some(status)));
            assert_eq!(failure.code.as_deref(), Some("SOME_CATEGORY"));
            assert_eq!(failure.message, format!("HubSpot answered {status}: in HubSpot's words"));
            assert_eq!(failure.retry_after_ms, Some(10_000));
        }
    }
}

#[test]
fn no_answer_and_a_nonsensical_answer_are_told_apart() {
    let lost = Err(SendError::new(SendErrorKind::Reset, "connection reset"));
    let downstream = ScriptedEndpoints::new().answers("api", [lost]);
    let outcomes = deliver(&downstream, NO_LIST, &[contact("ev-1", "a@example.com")]);
    assert_eq!(failure(&outcomes[0]).class, FailureClass::Unavailable);

    let downstream = ScriptedEndpoints::new().answers("api", [Ok(Response::new(200).with_body("<html>"))]);
    let outcomes = deliver(&downstream, NO_LIST, &[contact("ev-1", "a@example.com")]);
    assert_eq!(failure(&outcomes[0]).class, FailureClass::ConnectorFault);
}

#[test]
fn an_event_that_is_no_contact_does_not_keep_the_others_back() {
    let downstream = strict_hubspot(true);
    let batch = [contact_with("ev-1", json!({"firstname": "Ada"})), contact("ev-2", "bob@example.com")];
    let outcomes = deliver(&downstream, NO_LIST, &batch);
    assert_eq!(failure(&outcomes[0]).field.as_deref(), Some("email"));
    assert_eq!(outcomes[1], Outcome::delivered_as("contact-of-ev-2"));
    assert_eq!(inputs(&downstream.requests("api")[0]).len(), 1);
}

fn with_list(list_answer: Response) -> ScriptedEndpoints {
    ScriptedEndpoints::new().endpoint("api", move |request| {
        Ok(if request.path == UPSERT { all_written(request) } else { list_answer.clone() })
    })
}

#[test]
fn delivered_contacts_are_added_to_the_list_once() {
    let downstream = with_list(json_response(200, json!({"recordsIdsAdded": ["contact-of-ev-1"]})));
    let batch = [contact("ev-1", "a@example.com"), contact_with("ev-2", json!({})), contact("ev-3", "b@example.com")];
    let outcomes = deliver(&downstream, r#"{"list":" 42 "}"#, &batch);
    assert_eq!(outcomes.iter().map(Outcome::is_delivered).collect::<Vec<_>>(), [true, false, true]);
    let request = &downstream.requests("api")[1];
    assert_eq!((request.method, request.path.as_ref()), (Method::Put, "/crm/v3/lists/42/memberships/add"));
    assert_eq!(json_body(request), json!(["contact-of-ev-1", "contact-of-ev-3"]));
}

#[test]
fn a_list_that_does_not_exist_is_a_setting_at_fault() {
    let downstream = with_list(json_response(404, json!({"category": "OBJECT_NOT_FOUND", "message": "no list"})));
    let outcomes = deliver(&downstream, r#"{"list":"42"}"#, &[contact("ev-1", "a@example.com")]);
    let why = failure(&outcomes[0]);
    assert_eq!((why.class, why.field.as_deref()), (FailureClass::SchemaMismatch, Some("list")));
    assert!(why.message.contains("list 42 does not exist"), "{}", why.message);
}

#[test]
fn a_list_that_cannot_be_reached_now_is_tried_again() {
    let downstream = with_list(Response::new(502));
    let outcomes = deliver(&downstream, r#"{"list":"42"}"#, &[contact("ev-1", "a@example.com")]);
    assert_eq!(failure(&outcomes[0]).class, FailureClass::Unavailable);
}

#[test]
fn a_contact_that_the_list_did_not_find_is_no_delivery() {
    let downstream = with_list(json_response(200, json!({"recordIdsMissing": ["contact-of-ev-2"]})));
    let batch = [contact("ev-1", "a@example.com"), contact("ev-2", "b@example.com")];
    let outcomes = deliver(&downstream, r#"{"list":"42"}"#, &batch);
    assert!(outcomes[0].is_delivered());
    assert_eq!(failure(&outcomes[1]).class, FailureClass::Rejected);
}

#[test]
fn a_list_id_cannot_lead_to_another_path() {
    let downstream = with_list(Response::new(204));
    deliver(&downstream, r#"{"list":"../../objects?x#y"}"#, &[contact("ev-1", "a@example.com")]);
    assert_eq!(downstream.requests("api")[1].path, "/crm/v3/lists/..%2F..%2Fobjects%3Fx%23y/memberships/add");
}
