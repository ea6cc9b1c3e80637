//! Routing, authentication and the smaller calls of the fake HubSpot.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{List, PORTAL_ID, Problem, State, properties, upsert};
use crate::fakes::server::Received;

type Answer = Result<(u16, Value), Problem>;

/// Answers one request.
pub(super) fn route(state: &mut State, request: &Received) -> Answer {
    authenticate(state, request)?;
    limit_rate(state)?;
    let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match (request.method.as_str(), path.as_slice()) {
        ("POST", ["crm", "v3", "objects", "contacts", "batch", "upsert"]) => {
            may_write(state)?;
            upsert::upsert(state, json_body(request)?)
        }
        ("GET", ["account-info", "v3", "details"]) => Ok((200, account(state))),
        ("GET", ["crm", "v3", "properties", "contacts"]) => Ok((200, properties::listing())),
        ("POST", ["crm", "v3", "lists", "search"]) => search_lists(state, json_body(request)?),
        ("GET", ["crm", "v3", "lists", id]) => {
            let (number, list) = find_list(state, id)?;
            Ok((200, json!({ "list": describe(number, list) })))
        }
        ("PUT", ["crm", "v3", "lists", id, "memberships", "add"]) => {
            may_write(state)?;
            add_members(state, id, json_body(request)?)
        }
        ("POST", ["crm", "v3", "objects", "contacts", "gdpr-delete"]) => {
            may_write(state)?;
            erase(state, json_body(request)?)
        }
        _ => Err(Problem::new(404, "OBJECT_NOT_FOUND", format!("No route for {} {}", request.method, request.path))),
    }
}

fn authenticate(state: &State, request: &Received) -> Result<(), Problem> {
    let refuse = |message: &str| Err(Problem::new(401, "INVALID_AUTHENTICATION", message.to_owned()));
    let Some(header) = request.header("authorization") else {
        return refuse(
            "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more \
             details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
        );
    };
    match header.strip_prefix("Bearer ") {
        Some(token) if state.tokens.contains(token) => Ok(()),
        Some(_) => refuse("The access token is expired or was revoked. Please use a valid access token."),
        None => refuse("The authorization header must have the form: Bearer ACCESS_TOKEN"),
    }
}

fn may_write(state: &State) -> Result<(), Problem> {
    if !state.lacks_scope {
        return Ok(());
    }
    let mut problem = Problem::new(
        403,
        "MISSING_SCOPES",
        "This app hasn't been granted all required scopes to make this call. Read more about required scopes here: \
         https://developers.hubspot.com/scopes."
            .to_owned(),
    );
    if let Some(body) = problem.body.as_object_mut() {
        body.insert(
            "errors".to_owned(),
            json!([{
                "message": "One or more of the following scopes are required.",
                "context": { "requiredGranularScopes": ["crm.objects.contacts.write"] },
            }]),
        );
    }
    Err(problem)
}

fn limit_rate(state: &mut State) -> Result<(), Problem> {
    let Some(rate) = state.rate else { return Ok(()) };
    let now = Instant::now();
    state.arrivals.retain(|at| now.duration_since(*at) < rate.per);
    if state.arrivals.len() < rate.requests {
        state.arrivals.push(now);
        return Ok(());
    }
    let body = json!({
        "status": "error",
        "message": "You have reached your ten_secondly_rolling limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": super::CORRELATION,
        "policyName": "TEN_SECONDLY_ROLLING",
        "groupName": format!("publicapi:private-apps-{PORTAL_ID}"),
    });
    Err(Problem { status: 429, body, retry_after: Some(rate.retry_after) })
}

fn json_body(request: &Received) -> Result<&[u8], Problem> {
    let kind = request.header("content-type").unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(&request.body);
    }
    Err(Problem::new(415, "VALIDATION_ERROR", format!("HTTP 415 Unsupported Media Type: {essence:?}")))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| {
        Problem::validation(format!("Invalid input JSON on line {}, column {}: {e}", e.line(), e.column()))
    })
}

fn account(state: &State) -> Value {
    json!({
        "portalId": PORTAL_ID,
        "accountType": if state.sandbox { "DEVELOPER_TEST" } else { "STANDARD" },
        "timeZone": "Europe/Berlin",
        "companyCurrency": "EUR",
        "additionalCurrencies": [],
        "utcOffset": "+01:00",
        "utcOffsetMilliseconds": 3_600_000,
        "uiDomain": "app-eu1.hubspot.com",
        "dataHostingLocation": "eu1",
    })
}

fn describe(id: u64, list: &List) -> Value {
    json!({
        "listId": id.to_string(),
        "listVersion": 1,
        "name": list.name,
        "objectTypeId": "0-1",
        "processingType": if list.dynamic { "DYNAMIC" } else { "MANUAL" },
        "processingStatus": "COMPLETE",
        "additionalProperties": { "hs_list_size": list.members.len().to_string() },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListSearch {
    #[serde(default)]
    query: String,
    #[serde(default)]
    count: Option<usize>,
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    processing_types: Vec<String>,
    #[serde(default)]
    list_ids: Vec<String>,
    #[serde(default)]
    additional_properties: Vec<String>,
    #[serde(default)]
    object_type_id: Option<String>,
    #[serde(default)]
    sort: Option<String>,
}

fn search_lists(state: &State, body: &[u8]) -> Answer {
    let search: ListSearch = parse(body)?;
    // Accepted as HubSpot accepts them; the fake's lists do not differ by them.
    let _ = (&search.additional_properties, &search.sort);
    let count = search.count.unwrap_or(20);
    if count > 500 {
        return Err(Problem::validation(format!("count {count} exceeds the maximum of 500")));
    }
    let query = search.query.to_lowercase();
    let found: Vec<Value> = state
        .lists
        .iter()
        .filter(|(id, list)| {
            let kind = if list.dynamic { "DYNAMIC" } else { "MANUAL" };
            list.name.to_lowercase().contains(&query)
                && (search.processing_types.is_empty() || search.processing_types.iter().any(|t| t == kind))
                && (search.list_ids.is_empty() || search.list_ids.contains(&id.to_string()))
                && search.object_type_id.as_deref().is_none_or(|t| t == "0-1")
        })
        .map(|(id, list)| describe(*id, list))
        .collect();
    let total = found.len();
    let page: Vec<Value> = found.into_iter().skip(search.offset).take(count).collect();
    let next = search.offset + page.len();
    Ok((200, json!({ "lists": page, "total": total, "offset": next, "hasMore": next < total })))
}

fn find_list<'a>(state: &'a State, id: &str) -> Result<(u64, &'a List), Problem> {
    let number = list_number(id)?;
    state.lists.get(&number).map(|list| (number, list)).ok_or_else(|| no_list(id))
}

fn list_number(id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| Problem::validation(format!("Invalid list id {id:?}: it must be a number")))
}

fn no_list(id: &str) -> Problem {
    Problem::new(404, "OBJECT_NOT_FOUND", format!("List does not exist with ID {id}."))
}

fn add_members(state: &mut State, id: &str, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum RecordId {
        Number(u64),
        Text(String),
    }
    let number = list_number(id)?;
    let list = state.lists.get_mut(&number).ok_or_else(|| no_list(id))?;
    if list.dynamic {
        return Err(Problem::validation(format!("List {id} is DYNAMIC; records cannot be added by hand.")));
    }
    let mut added = Vec::new();
    let mut missing = Vec::new();
    for record in parse::<Vec<RecordId>>(body)? {
        let record = match record {
            RecordId::Number(record) => record,
            RecordId::Text(text) => {
                text.parse().map_err(|_| Problem::validation(format!("Invalid record id {text:?}")))?
            }
        };
        if !state.contacts.contains_key(&record) {
            missing.push(record.to_string());
        } else if list.members.insert(record) {
            added.push(record.to_string());
        }
    }
    Ok((200, json!({ "recordsIdsAdded": added, "recordIdsRemoved": [], "recordIdsMissing": missing })))
}

fn erase(state: &mut State, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Erase {
        object_id: String,
        #[serde(default)]
        id_property: Option<String>,
    }
    let erase: Erase = parse(body)?;
    let id = match erase.id_property.as_deref() {
        Some("email") => state.by_email.get(&erase.object_id.to_lowercase()).copied(),
        None => erase.object_id.parse().ok(),
        Some(other) => return Err(Problem::validation(format!("idProperty {other:?} is not supported"))),
    };
    // HubSpot answers alike whether or not it knew the person: it blocks the address for the future.
    if let Some(contact) = id.and_then(|id| state.contacts.remove(&id)) {
        state.by_email.retain(|_, known| *known != contact.id);
        state.lists.values_mut().for_each(|list| {
            list.members.remove(&contact.id);
        });
    }
    state.erased.push(erase.object_id.to_lowercase());
    Ok((204, Value::Null))
}
