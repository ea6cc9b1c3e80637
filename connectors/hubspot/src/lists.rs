//! HubSpot's lists: which there are, whether one exists, and adding contacts to one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sgen_connector_sdk::{Choice, Endpoint, Failure, FailureClass, Outcome, Request, Response, encode_component};

use crate::answers::failure_of;
use crate::upsert::Outcomes;

/// The setting that names a list.
pub(crate) const LIST: &str = "list";
/// HubSpot's type id of contacts.
const CONTACTS: &str = "0-1";
const PAGE: usize = 100;
/// Enough to choose from; beyond, the search text narrows the list down.
const PAGES: usize = 5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Search<'a> {
    query: &'a str,
    /// Active (dynamic) lists choose their contacts themselves.
    processing_types: [&'static str; 2],
    count: usize,
    offset: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(default)]
    lists: Vec<FoundList>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundList {
    list_id: String,
    name: String,
    #[serde(default)]
    object_type_id: Option<String>,
}

/// The static lists of contacts whose name matches.
pub(crate) fn choices(endpoint: &Endpoint, search: Option<&str>) -> Result<Vec<Choice>, Failure> {
    let mut choices = Vec::new();
    for page in 0..PAGES {
        let search = Search {
            query: search.unwrap_or_default(),
            processing_types: ["MANUAL", "SNAPSHOT"],
            count: PAGE,
            offset: page * PAGE,
        };
        let response = endpoint.send(Request::post("/crm/v3/lists/search").json(&search)?)?;
        if let Some(failure) = failure_of(&response) {
            return Err(failure);
        }
        let found: Found = response.json()?;
        let of_contacts = |list: &FoundList| list.object_type_id.as_deref().is_none_or(|id| id == CONTACTS);
        choices.extend(found.lists.into_iter().filter(of_contacts).map(|list| Choice::new(list.list_id, list.name)));
        if !found.has_more {
            break;
        }
    }
    Ok(choices)
}

/// Whether the list is there.
pub(crate) fn probe(endpoint: &Endpoint, list: &str) -> Result<(), Failure> {
    let response = endpoint.send(Request::get(format!("/crm/v3/lists/{}", encode_component(list))))?;
    match list_failure(&response, list) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Adds the delivered contacts to a list. An event whose contact is not on it has not been delivered as asked; writing the
/// contact again later does no harm.
pub(crate) fn add(endpoint: &Endpoint, list: &str, outcomes: &mut Outcomes) {
    let contacts: BTreeSet<&str> = outcomes.iter().filter_map(contact).collect();
    if contacts.is_empty() {
        return;
    }
    let missing = match add_contacts(endpoint, list, &contacts) {
        Ok(missing) => missing,
        Err(failure) => {
            for outcome in outcomes.iter_mut().filter(|outcome| contact(outcome).is_some()) {
                *outcome = Some(Outcome::Failed(failure.clone()));
            }
            return;
        }
    };
    for outcome in outcomes.iter_mut() {
        if contact(outcome).is_some_and(|id| missing.contains(id)) {
            let message = format!("the contact was written, but HubSpot did not find it to add it to list {list}");
            *outcome = Some(Outcome::Failed(Failure::new(FailureClass::Rejected, message)));
        }
    }
}

/// Answers the ids that HubSpot does not know.
fn add_contacts(endpoint: &Endpoint, list: &str, contacts: &BTreeSet<&str>) -> Result<BTreeSet<String>, Failure> {
    #[derive(Deserialize)]
    struct Added {
        #[serde(default, rename = "recordIdsMissing")]
        missing: BTreeSet<String>,
    }
    let path = format!("/crm/v3/lists/{}/memberships/add", encode_component(list));
    let response = endpoint.send(Request::put(path).json(contacts)?)?;
    if let Some(failure) = list_failure(&response, list) {
        return Err(failure);
    }
    // What is on the list is decided by the status; a body that cannot be read only leaves the exceptions unknown.
    Ok(response.json::<Added>().map(|added| added.missing).unwrap_or_default())
}

/// A list that does not exist, or does not take contacts, is a setting at fault.
fn list_failure(response: &Response, list: &str) -> Option<Failure> {
    let failure = failure_of(response)?;
    Some(match response.status {
        404 => {
            let message = format!("list {list} does not exist in this HubSpot account: choose another one");
            failure.with_message(message).on_field(LIST)
        }
        400 | 422 => failure.on_field(LIST),
        _ => failure,
    })
}

fn contact(outcome: &Option<Outcome>) -> Option<&str> {
    match outcome {
        Some(Outcome::Delivered(id)) => id.as_deref(),
        _ => None,
    }
}
