//! HubSpot: captured form submissions become contacts.
//!
//! A batch is written with as few calls as HubSpot allows, and every event gets the outcome of its own record. The calls
//! are made in `upsert` and `lists`; `record` and `answers` translate.

mod answers;
mod lists;
mod record;
mod upsert;

use serde::Deserialize;
use sgen_connector_sdk::{
    Account, Choice, Connector, Endpoint, Erase, Event, Failure, FailureClass, Finding, Identify, Outcome, Request,
    Verdict, export, export_erasure, export_identity,
};

use crate::answers::failure_of;
use crate::record::{EMAIL, Record};
use crate::upsert::Outcomes;

/// The settings of `connector.toml`.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The id of a static list to which every delivered contact is added.
    #[serde(default)]
    pub list: Option<String>,
}

impl Settings {
    fn list(&self) -> Option<&str> {
        self.list.as_deref().map(str::trim).filter(|list| !list.is_empty())
    }
}

/// The connector.
pub struct HubSpot;

impl Connector for HubSpot {
    type Settings = Settings;

    fn deliver(settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        let mut outcomes: Outcomes = batch.iter().map(|_| None).collect();
        let mut records = Vec::with_capacity(batch.len());
        for ((position, event), place) in batch.iter().enumerate().zip(&mut outcomes) {
            match Record::from_event(position, event) {
                Ok(record) => records.push(record),
                Err(failure) => *place = Some(Outcome::Failed(failure)),
            }
        }
        let unsettled = match Endpoint::open("api") {
            Ok(api) => {
                upsert::upsert(&api, &records, &mut outcomes);
                if let Some(list) = settings.list() {
                    lists::add(&api, list, &mut outcomes);
                }
                Failure::connector_fault("HubSpot's answers did not settle this event")
            }
            Err(error) => error.into(),
        };
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Outcome::Failed(unsettled.clone()))).collect()
    }

    fn check(settings: &Settings) -> Verdict {
        let details = match account_details() {
            Ok(details) => details,
            Err(failure) => return Verdict::from_failure(failure),
        };
        // Whether the token may write contacts cannot be asked without writing one.
        let mut verdict = Verdict {
            reachable: Finding::Yes,
            authorised: Finding::Yes,
            permitted: Finding::Unverifiable,
            target_exists: Finding::Unverifiable,
            summary: format!("{} accepts the token.", details.label()),
            failure: None,
        };
        if let Some(list) = settings.list() {
            match Endpoint::open("api").map_err(Failure::from).and_then(|api| lists::probe(&api, list)) {
                Ok(()) => verdict.target_exists = Finding::Yes,
                Err(failure) => {
                    verdict.summary.clone_from(&failure.message);
                    match failure.class {
                        FailureClass::SchemaMismatch => verdict.target_exists = Finding::No,
                        FailureClass::PermissionDenied => verdict.permitted = Finding::No,
                        // The account answered a moment ago: this is no finding about the list.
                        _ => return verdict,
                    }
                    verdict.failure = Some(failure);
                }
            }
        }
        verdict
    }

    fn options(_settings: &Settings, source: &str, search: Option<&str>) -> Result<Vec<Choice>, Failure> {
        let api = Endpoint::open("api")?;
        match source {
            "lists" => lists::choices(&api, search),
            "contact-properties" => contact_properties(&api, search),
            _ => Err(Failure::connector_fault(format!("this connector lists no choices called \"{source}\""))),
        }
    }
}

impl Identify for HubSpot {
    fn account(_settings: &Settings) -> Result<Account, Failure> {
        let details = account_details()?;
        Ok(Account { id: details.portal_id.to_string(), label: details.label(), sandbox: details.is_sandbox() })
    }
}

impl Erase for HubSpot {
    /// HubSpot's permanent deletion, which also keeps the address from being created again.
    fn erase(_settings: &Settings, field: &str, value: &str) -> Result<(), Failure> {
        if field != EMAIL {
            let message = format!("HubSpot erases contacts by \"{EMAIL}\", not by \"{field}\"");
            return Err(Failure::schema_mismatch(field, message));
        }
        let person = serde_json::json!({ "objectId": value.trim().to_lowercase(), "idProperty": EMAIL });
        let response =
            Endpoint::open("api")?.send(Request::post("/crm/v3/objects/contacts/gdpr-delete").json(&person)?)?;
        match failure_of(&response) {
            // Not there: nothing is left to erase.
            Some(_) if response.status == 404 => Ok(()),
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

export!(HubSpot);
export_identity!(HubSpot);
export_erasure!(HubSpot);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountDetails {
    portal_id: u64,
    #[serde(default)]
    account_type: String,
    #[serde(default)]
    data_hosting_location: Option<String>,
}

impl AccountDetails {
    fn label(&self) -> String {
        let mut label = format!("HubSpot account {}", self.portal_id);
        let details: Vec<&str> =
            [self.account_type.as_str(), self.data_hosting_location.as_deref().unwrap_or_default()]
                .into_iter()
                .filter(|detail| !detail.is_empty())
                .collect();
        if !details.is_empty() {
            label.push_str(&format!(" ({})", details.join(", ")));
        }
        label
    }

    fn is_sandbox(&self) -> bool {
        self.account_type.contains("SANDBOX") || self.account_type.contains("DEVELOPER_TEST")
    }
}

fn account_details() -> Result<AccountDetails, Failure> {
    let response = Endpoint::open("api")?.send(Request::get("/account-info/v3/details"))?;
    match failure_of(&response) {
        Some(failure) => Err(failure),
        None => response.json(),
    }
}

/// The contact properties that can be written and are shown in HubSpot.
fn contact_properties(api: &Endpoint, search: Option<&str>) -> Result<Vec<Choice>, Failure> {
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Property>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Property {
        name: String,
        #[serde(default)]
        label: String,
        #[serde(default)]
        hidden: bool,
        #[serde(default)]
        calculated: bool,
        modification_metadata: Option<Modification>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Modification {
        read_only_value: bool,
    }
    let response = api.send(Request::get("/crm/v3/properties/contacts"))?;
    if let Some(failure) = failure_of(&response) {
        return Err(failure);
    }
    let page: Page = response.json()?;
    let is_writable = |property: &Property| {
        let is_read_only = property.modification_metadata.as_ref().is_some_and(|metadata| metadata.read_only_value);
        !property.hidden && !property.calculated && !is_read_only
    };
    Ok(page
        .results
        .into_iter()
        .filter(is_writable)
        .map(|property| {
            let label = if property.label.is_empty() { property.name.clone() } else { property.label };
            Choice::new(property.name, label)
        })
        .filter(|choice| choice.matches(search))
        .collect())
}
