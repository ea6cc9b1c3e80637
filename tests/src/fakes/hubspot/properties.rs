//! The contact properties of the fake account and what HubSpot accepts as their values.
//!
//! Names, types and error codes are those of HubSpot's contact schema and of its `VALIDATION_ERROR` answers.

use serde_json::{Value, json};

/// What a property holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text up to 65,536 characters.
    Text,
    /// An e-mail address.
    Email,
    /// A number.
    Number,
    /// One of these values.
    Enumeration(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// Milliseconds since the epoch, or RFC 3339.
    DateTime,
}

/// One contact property.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// Its internal name.
    pub name: &'static str,
    /// Its label.
    pub label: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether HubSpot alone writes it.
    pub read_only: bool,
}

const fn property(name: &'static str, label: &'static str, kind: Kind) -> Property {
    Property { name, label, kind, read_only: false }
}

/// The schema: an excerpt of HubSpot's default contact properties.
pub const CONTACT: &[Property] = &[
    property("email", "Email", Kind::Email),
    property("firstname", "First Name", Kind::Text),
    property("lastname", "Last Name", Kind::Text),
    property("phone", "Phone Number", Kind::Text),
    property("mobilephone", "Mobile Phone Number", Kind::Text),
    property("company", "Company Name", Kind::Text),
    property("jobtitle", "Job Title", Kind::Text),
    property("website", "Website URL", Kind::Text),
    property("address", "Street Address", Kind::Text),
    property("city", "City", Kind::Text),
    property("zip", "Postal Code", Kind::Text),
    property("country", "Country/Region", Kind::Text),
    property("message", "Message", Kind::Text),
    property("annualrevenue", "Annual Revenue", Kind::Number),
    property(
        "numemployees",
        "Number of Employees",
        Kind::Enumeration(&["1-5", "5-25", "25-50", "50-100", "100-500", "500-1000", "1000+"]),
    ),
    property(
        "lifecyclestage",
        "Lifecycle Stage",
        Kind::Enumeration(&[
            "subscriber",
            "lead",
            "marketingqualifiedlead",
            "salesqualifiedlead",
            "opportunity",
            "customer",
            "evangelist",
            "other",
        ]),
    ),
    property(
        "hs_lead_status",
        "Lead Status",
        Kind::Enumeration(&["NEW", "OPEN", "IN_PROGRESS", "OPEN_DEAL", "UNQUALIFIED", "CONNECTED"]),
    ),
    property("hs_email_optout", "Unsubscribed from all email", Kind::Boolean),
    property("closedate", "Close Date", Kind::DateTime),
    Property { name: "createdate", label: "Create Date", kind: Kind::DateTime, read_only: true },
    Property { name: "hs_object_id", label: "Record ID", kind: Kind::Number, read_only: true },
];

/// A value that HubSpot refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The property.
    pub name: String,
    /// HubSpot's code.
    pub error: &'static str,
    /// HubSpot's sentence.
    pub message: String,
}

impl Refused {
    /// As it stands inside a `VALIDATION_ERROR` message.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "isValid": false,
            "message": self.message,
            "error": self.error,
            "name": self.name,
            "localizedErrorMessage": self.message,
            "portalId": super::PORTAL_ID,
        })
    }
}

/// Checks one value; `None` when HubSpot takes it.
#[must_use]
pub fn check(name: &str, value: &str) -> Option<Refused> {
    let refused = |error, message: String| Some(Refused { name: name.to_owned(), error, message });
    let Some(property) = CONTACT.iter().find(|p| p.name == name) else {
        return refused("PROPERTY_DOESNT_EXIST", format!("Property \"{name}\" does not exist"));
    };
    if property.read_only {
        return refused("READ_ONLY_VALUE", format!("\"{name}\" is a read only property; its value cannot be set."));
    }
    if value.is_empty() {
        // An empty text clears a property; a contact that is found by its e-mail cannot lose it.
        return (property.kind == Kind::Email)
            .then(|| refused("INVALID_EMAIL", "Email address  is invalid".to_owned()))
            .flatten();
    }
    match property.kind {
        Kind::Text if value.chars().count() > 65_536 => {
            refused("INVALID_STRING", format!("{name} is too long: at most 65536 characters are allowed"))
        }
        Kind::Email if !is_email(value) => refused("INVALID_EMAIL", format!("Email address {value} is invalid")),
        Kind::Number if value.parse::<f64>().map_or(true, |n| !n.is_finite()) => {
            refused("INVALID_INTEGER", format!("{value} was not a valid number."))
        }
        Kind::Enumeration(options) if !options.contains(&value) => {
            refused("INVALID_OPTION", format!("{value} was not one of the allowed options: {options:?}"))
        }
        Kind::Boolean if !matches!(value, "true" | "false") => {
            refused("INVALID_BOOLEAN", format!("{value} was not a valid boolean."))
        }
        Kind::DateTime if value.parse::<u64>().is_err() && value.parse::<jiff::Timestamp>().is_err() => {
            refused("INVALID_DATE", format!("{value} was not a valid date."))
        }
        _ => None,
    }
}

/// HubSpot's idea of an e-mail address: ASCII, one `@`, no empty label, a top-level domain of at least two letters.
#[must_use]
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let local_ok = !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b));
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let top_ok = |top: &str| top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic());
    let domain_ok = domain.len() <= 253
        && domain.split('.').all(label_ok)
        && domain.rsplit_once('.').is_some_and(|(_, top)| top_ok(top) || top.starts_with("xn--"));
    local_ok && domain_ok
}

/// The schema as `GET /crm/v3/properties/contacts` lists it.
#[must_use]
pub fn listing() -> Value {
    let results: Vec<Value> = CONTACT
        .iter()
        .enumerate()
        .map(|(order, property)| {
            let (kind, field) = match property.kind {
                Kind::Text | Kind::Email => ("string", "text"),
                Kind::Number => ("number", "number"),
                Kind::Enumeration(_) => ("enumeration", "select"),
                Kind::Boolean => ("bool", "booleancheckbox"),
                Kind::DateTime => ("datetime", "date"),
            };
            let options: Vec<Value> = match property.kind {
                Kind::Enumeration(values) => values
                    .iter()
                    .enumerate()
                    .map(|(i, v)| json!({ "label": v, "value": v, "displayOrder": i, "hidden": false }))
                    .collect(),
                _ => Vec::new(),
            };
            json!({
                "name": property.name,
                "label": property.label,
                "type": kind,
                "fieldType": field,
                "description": "",
                "groupName": "contactinformation",
                "options": options,
                "displayOrder": order,
                "calculated": false,
                "externalOptions": false,
                "archived": false,
                "hasUniqueValue": property.name == "email",
                "hidden": false,
                "formField": !property.read_only,
                "hubspotDefined": true,
                "modificationMetadata": {
                    "archivable": false, "readOnlyDefinition": true, "readOnlyValue": property.read_only
                },
            })
        })
        .collect();
    json!({ "results": results })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn e_mail_addresses_are_judged_as_hubspot_judges_them() {
        for good in ["ada@example.org", "a.b+c@mail.example.co.uk", "O'Neil@example.com", "x@xn--bcher-kva.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "ada",
            "ada@",
            "@example.org",
            "ada@example",
            "ada..b@example.org",
            ".ada@example.org",
            "a b@example.org",
            "ada@exa_mple.org",
            "ada@-example.org",
            "ada@example.o",
            "ada@example..org",
            "ada@@example.org",
            "äda@example.org",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn each_kind_of_value_has_its_own_refusal() {
        for (name, value, error) in [
            ("shoe_size", "44", "PROPERTY_DOESNT_EXIST"),
            ("hs_object_id", "1", "READ_ONLY_VALUE"),
            ("email", "nobody", "INVALID_EMAIL"),
            ("email", "", "INVALID_EMAIL"),
            ("annualrevenue", "much", "INVALID_INTEGER"),
            ("lifecyclestage", "friend", "INVALID_OPTION"),
            ("hs_email_optout", "yes", "INVALID_BOOLEAN"),
            ("closedate", "soon", "INVALID_DATE"),
        ] {
            assert_eq!(check(name, value).unwrap().error, error, "{name}={value}");
        }
        for (name, value) in
            [("firstname", "Zoë"), ("firstname", ""), ("annualrevenue", "1.5"), ("closedate", "2026-11-23T10:00:00Z")]
        {
            assert_eq!(check(name, value), None, "{name}={value}");
        }
    }
}
