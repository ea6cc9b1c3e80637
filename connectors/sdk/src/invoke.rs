//! One invocation, the same in the sandbox and natively: settings are read, the connector is called.
//!
//! What differs between the two (how an endpoint is reached, where a log line goes) lies below [`crate::Endpoint`] and
//! [`crate::log`].

use crate::{Account, Choice, Connector, Erase, Event, Failure, Identify, Migrate, Outcome, Revoke, Verdict};

/// `deliver` of the contract. Settings that cannot be read fail every event.
pub fn deliver<C: Connector>(settings: &str, batch: &[Event]) -> Vec<Outcome> {
    match settings_of::<C>(settings) {
        Ok(settings) => C::deliver(&settings, batch),
        Err(failure) => batch.iter().map(|_| Outcome::Failed(failure.clone())).collect(),
    }
}

/// `check` of the contract. Settings that cannot be read are a target that does not exist.
pub fn check<C: Connector>(settings: &str) -> Verdict {
    match settings_of::<C>(settings) {
        Ok(settings) => C::check(&settings),
        Err(failure) => Verdict::from_failure(failure),
    }
}

/// `options` of the contract.
///
/// # Errors
/// The connector's, or `connector-fault` for settings that cannot be read.
pub fn options<C: Connector>(settings: &str, source: &str, search: Option<&str>) -> Result<Vec<Choice>, Failure> {
    C::options(&settings_of::<C>(settings)?, source, search)
}

/// `account-of-credential` of the contract.
///
/// # Errors
/// The connector's, or `connector-fault` for settings that cannot be read.
pub fn account_of_credential<C: Identify>(settings: &str) -> Result<Account, Failure> {
    C::account(&settings_of::<C>(settings)?)
}

/// `revoke` of the contract.
///
/// # Errors
/// The connector's, or `connector-fault` for settings that cannot be read.
pub fn revoke<C: Revoke>(settings: &str) -> Result<(), Failure> {
    C::revoke(&settings_of::<C>(settings)?)
}

/// `erase` of the contract.
///
/// # Errors
/// The connector's, or `connector-fault` for settings that cannot be read.
pub fn erase<C: Erase>(settings: &str, field: &str, value: &str) -> Result<(), Failure> {
    C::erase(&settings_of::<C>(settings)?, field, value)
}

/// `migrate` of the contract.
///
/// # Errors
/// The connector's, or a sentence that says where the settings are no JSON.
pub fn migrate<C: Migrate>(from_version: &str, settings: &str) -> Result<String, String> {
    let settings = serde_json::from_str(settings).map_err(|error| format!("the settings are no JSON: {error}"))?;
    C::migrate(from_version, settings).map(|settings| settings.to_string())
}

fn settings_of<C: Connector>(settings: &str) -> Result<C::Settings, Failure> {
    serde_json::from_str(settings)
        .map_err(|error| Failure::connector_fault(format!("the settings do not fit this connector version: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use serde_json::{Value, json};

    use super::*;
    use crate::testing::event;
    use crate::{FailureClass, Finding};

    #[derive(serde::Deserialize)]
    struct Settings {
        list: String,
    }

    struct Probe;

    impl Connector for Probe {
        type Settings = Settings;

        fn deliver(settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
            batch.iter().map(|_| Outcome::delivered_as(settings.list.clone())).collect()
        }

        fn check(_settings: &Settings) -> Verdict {
            Verdict::unverifiable("nothing to probe")
        }
    }

    impl Migrate for Probe {
        fn migrate(from_version: &str, mut settings: Value) -> Result<Value, String> {
            if from_version != "0.9.0" {
                return Err(format!("no way from {from_version}"));
            }
            let list = settings["list_id"].take();
            Ok(json!({ "list": list }))
        }
    }

    #[test]
    fn settings_reach_the_connector() {
        let outcomes = deliver::<Probe>(r#"{"list":"7"}"#, &[event("form:contact", json!({}))]);
        assert_eq!(outcomes, vec![Outcome::delivered_as("7")]);
    }

    #[test]
    fn settings_that_do_not_fit_fail_every_event_and_say_why() {
        let batch = [event("form:contact", json!({})), event("form:contact", json!({}))];
        let outcomes = deliver::<Probe>("{}", &batch);
        assert_eq!(outcomes.len(), 2);
        for outcome in &outcomes {
            let failure = outcome.failure().unwrap();
            assert_eq!(failure.class, FailureClass::ConnectorFault);
            assert!(failure.message.contains("missing field `list`"), "{}", failure.message);
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_an_unhealthy_verdict() {
        let verdict = check::<Probe>("[]");
        assert_eq!(verdict.target_exists, Finding::No);
        assert!(verdict.failure.is_some());
    }

    #[test]
    fn an_unknown_source_of_choices_is_named() {
        let failure = options::<Probe>(r#"{"list":"7"}"#, "colours", None).unwrap_err();
        assert!(failure.message.contains("colours"), "{}", failure.message);
    }

    #[test]
    fn settings_migrate_as_text() {
        assert_eq!(migrate::<Probe>("0.9.0", r#"{"list_id":"7"}"#).unwrap(), r#"{"list":"7"}"#);
        assert_eq!(migrate::<Probe>("0.1.0", "{}").unwrap_err(), "no way from 0.1.0");
        assert!(migrate::<Probe>("0.9.0", "{").unwrap_err().contains("no JSON"));
    }
}
