//! The HubSpot connector apart from delivery: health, choices, the account, and erasure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::json;
use sgen_connector_hubspot::HubSpot;
use sgen_connector_sdk::testing::{ScriptedEndpoints, json_body, json_response};
use sgen_connector_sdk::{
    Account, Choice, FailureClass, Finding, Method, Response, SendError, SendErrorKind, Verdict, invoke,
};

const NO_LIST: &str = "{}";
const LIST: &str = r#"{"list":"42"}"#;

fn details() -> Response {
    json_response(
        200,
        json!({"portalId": 1234567, "accountType": "STANDARD", "timeZone": "Europe/Berlin", "dataHostingLocation": "eu1"}),
    )
}

fn check(settings: &str, answers: Vec<Result<Response, SendError>>) -> Verdict {
    ScriptedEndpoints::new().answers("api", answers).run(|| invoke::check::<HubSpot>(settings))
}

fn findings(verdict: &Verdict) -> [Finding; 4] {
    [verdict.reachable, verdict.authorised, verdict.permitted, verdict.target_exists]
}

#[test]
fn an_accepted_token_is_healthy_and_what_cannot_be_probed_is_not_claimed() {
    use Finding::{Unverifiable, Yes};
    let verdict = check(NO_LIST, vec![Ok(details())]);
    assert_eq!(findings(&verdict), [Yes, Yes, Unverifiable, Unverifiable]);
    assert_eq!(verdict.summary, "HubSpot account 1234567 (STANDARD, eu1) accepts the token.");
    assert_eq!(verdict.failure, None);

    let verdict = check(LIST, vec![Ok(details()), Ok(json_response(200, json!({"list": {"listId": "42"}})))]);
    assert_eq!(findings(&verdict), [Yes, Yes, Unverifiable, Yes]);
}

#[test]
fn a_probe_that_fails_tells_which_question_is_answered_with_no() {
    use Finding::{No, Unverifiable, Yes};
    let table = [
        (vec![Ok(Response::new(401))], [Yes, No, Unverifiable, Unverifiable], Some(FailureClass::AuthRevoked)),
        (vec![Ok(Response::new(403))], [Yes, Yes, No, Unverifiable], Some(FailureClass::PermissionDenied)),
        (vec![Ok(Response::new(503))], [No, Unverifiable, Unverifiable, Unverifiable], Some(FailureClass::Unavailable)),
        (vec![Ok(Response::new(429))], [Yes, Unverifiable, Unverifiable, Unverifiable], None),
        (
            vec![Err(SendError::new(SendErrorKind::Connect, "refused"))],
            [No, Unverifiable, Unverifiable, Unverifiable],
            Some(FailureClass::Unavailable),
        ),
        (vec![Ok(details()), Ok(Response::new(404))], [Yes, Yes, Unverifiable, No], Some(FailureClass::SchemaMismatch)),
        (
            vec![Ok(details()), Ok(Response::new(403))],
            [Yes, Yes, No, Unverifiable],
            Some(FailureClass::PermissionDenied),
        ),
        (vec![Ok(details()), Ok(Response::new(500))], [Yes, Yes, Unverifiable, Unverifiable], None),
    ];
    for (answers, expected, class) in table {
        let verdict = check(LIST, answers.clone());
        assert_eq!(findings(&verdict), expected, "{answers:?}");
        assert_eq!(verdict.failure.map(|failure| failure.class), class, "{answers:?}");
    }
}

#[test]
fn lists_are_read_page_by_page_and_only_those_of_contacts() {
    let downstream = ScriptedEndpoints::new().answers(
        "api",
        [
            Ok(json_response(
                200,
                json!({"hasMore": true, "lists": [
                    {"listId": "1", "name": "News", "objectTypeId": "0-1", "processingType": "MANUAL"},
                    {"listId": "2", "name": "Companies", "objectTypeId": "0-2", "processingType": "MANUAL"},
                ]}),
            )),
            Ok(json_response(200, json!({"hasMore": false, "lists": [{"listId": "3", "name": "Newer"}]}))),
        ],
    );
    let choices = downstream.run(|| invoke::options::<HubSpot>(NO_LIST, "lists", Some("new"))).unwrap();
    assert_eq!(choices, [Choice::new("1", "News"), Choice::new("3", "Newer")]);
    let requests = downstream.requests("api");
    assert_eq!((requests[0].method, requests[0].path.as_ref()), (Method::Post, "/crm/v3/lists/search"));
    assert_eq!(
        json_body(&requests[1]),
        json!({"query": "new", "processingTypes": ["MANUAL", "SNAPSHOT"], "count": 100, "offset": 100})
    );
}

#[test]
fn only_properties_that_can_be_written_are_choices() {
    let downstream = ScriptedEndpoints::new().answers(
        "api",
        vec![
            Ok(json_response(
                200,
                json!({"results": [
                    {"name": "city", "label": "City", "modificationMetadata": {"readOnlyValue": false}},
                    {"name": "createdate", "label": "Create date", "modificationMetadata": {"readOnlyValue": true}},
                    {"name": "hs_secret", "label": "Secret", "hidden": true},
                    {"name": "score", "label": "Score", "calculated": true},
                    {"name": "shoe", "label": "", "modificationMetadata": null},
                ]}),
            ));
            2
        ],
    );
    let choices =
        |search| downstream.run(|| invoke::options::<HubSpot>(NO_LIST, "contact-properties", search)).unwrap();
    assert_eq!(choices(None), [Choice::new("city", "City"), Choice::new("shoe", "shoe")]);
    assert_eq!(choices(Some("CIT")), [Choice::new("city", "City")]);
}

#[test]
fn choices_that_cannot_be_listed_say_why() {
    let downstream = ScriptedEndpoints::new().answers("api", [Ok(Response::new(401))]);
    let failure = downstream.run(|| invoke::options::<HubSpot>(NO_LIST, "lists", None)).unwrap_err();
    assert_eq!(failure.class, FailureClass::AuthRevoked);
    let failure = downstream.run(|| invoke::options::<HubSpot>(NO_LIST, "colours", None)).unwrap_err();
    assert_eq!(failure.class, FailureClass::ConnectorFault);
}

#[test]
fn the_credentials_account_is_told_and_whether_it_is_a_sandbox() {
    let account = |account_type: &str| {
        let answer = json_response(200, json!({"portalId": 7, "accountType": account_type}));
        let downstream = ScriptedEndpoints::new().answers("api", [Ok(answer)]);
        downstream.run(|| invoke::account_of_credential::<HubSpot>(NO_LIST)).unwrap()
    };
    let expected = Account { id: "7".into(), label: "HubSpot account 7 (STANDARD)".into(), sandbox: false };
    assert_eq!(account("STANDARD"), expected);
    assert!(account("SANDBOX").sandbox);
    assert!(account("DEVELOPER_TEST").sandbox);
    assert_eq!(account("").label, "HubSpot account 7");
}

#[test]
fn a_person_is_erased_by_address_and_only_by_address() {
    let downstream = ScriptedEndpoints::new()
        .answers("api", [Ok(Response::new(204)), Ok(Response::new(404)), Ok(Response::new(403))]);
    downstream.run(|| {
        assert_eq!(invoke::erase::<HubSpot>(NO_LIST, "email", " Ada@Example.com"), Ok(()));
        assert_eq!(invoke::erase::<HubSpot>(NO_LIST, "email", "gone@example.com"), Ok(()), "nothing is left to erase");
        let failure = invoke::erase::<HubSpot>(NO_LIST, "email", "x@example.com").unwrap_err();
        assert_eq!(failure.class, FailureClass::PermissionDenied);
        let failure = invoke::erase::<HubSpot>(NO_LIST, "phone", "1").unwrap_err();
        assert_eq!((failure.class, failure.field.as_deref()), (FailureClass::SchemaMismatch, Some("phone")));
    });
    let requests = downstream.requests("api");
    assert_eq!(requests.len(), 3);
    assert_eq!((requests[0].method, requests[0].path.as_ref()), (Method::Post, "/crm/v3/objects/contacts/gdpr-delete"));
    assert_eq!(json_body(&requests[0]), json!({"objectId": "ada@example.com", "idProperty": "email"}));
}
