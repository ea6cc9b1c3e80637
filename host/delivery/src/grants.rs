//! From a signed manifest, an instance's settings and its credentials to a grant.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::Method;
use serde_json::Value;
use sgen_catalog::manifest::{self, Base, BaseError, Endpoint, Manifest, Region};
use sgen_egress::{AllowRule, Auth, EndpointSpec, Gate, Grant, Rate, Timeouts, Tokens};
use sgen_model::{ConnectorInstance, SecretBytes, SlotName};
use sgen_tokens::Sources;
use sgen_vault::{Credentials, Vault, VaultError};
use url::Url;

use crate::error::{DeliveryError, Problem};
use crate::obtaining::{self, InForce};

/// What of the deployment bears on base URLs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bases {
    /// `connector/endpoint` → the base URL to use instead of the manifest's, for development.
    pub(crate) overrides: BTreeMap<String, String>,
    /// `host:port` that an operator-given URL may name although the manifest's pattern does not match it.
    pub(crate) development_hosts: Vec<String>,
}

/// What a grant is made by.
pub(crate) struct Rooms<'a> {
    pub(crate) gate: &'a Arc<Gate>,
    pub(crate) vault: &'a Vault,
    pub(crate) sources: &'a Sources,
}

/// Grants an instance the endpoints of its connector.
///
/// # Errors
/// [`DeliveryError::Invalid`] names the setting at fault; the vault's errors.
pub(crate) fn grant(
    rooms: &Rooms<'_>,
    bases: &Bases,
    manifest: &Manifest,
    instance: &ConnectorInstance,
    in_force: InForce<'_>,
) -> Result<Arc<Grant>, DeliveryError> {
    let mut specs =
        specs(bases, manifest, &Value::Object(instance.settings.clone())).map_err(DeliveryError::Invalid)?;
    let credentials = entered(rooms.vault, manifest, instance)?;
    for (name, grant) in obtaining::slots(manifest) {
        let slot = obtaining::parsed(name)?;
        let setup = obtaining::setup(bases, manifest, instance, &slot, grant, &credentials, in_force)?;
        let tokens = Tokens(rooms.sources.source(setup));
        for spec in &mut specs {
            let declared = manifest.endpoints.get(&spec.name).and_then(|endpoint| endpoint.auth.as_ref());
            if matches!(declared, Some(manifest::Auth::Token { slot, .. }) if slot == name) {
                spec.auth = Some(Auth::Token { slot: slot.clone(), tokens: tokens.clone() });
            }
        }
    }
    rooms
        .gate
        .grant(&instance.id, specs, credentials)
        .map_err(|e| DeliveryError::Invalid(vec![Problem::new("settings", e.to_string())]))
}

/// What the operator entered. What was granted in a browser is for its source of tokens alone.
///
/// # Errors
/// The vault's.
pub(crate) fn entered(
    vault: &Vault,
    manifest: &Manifest,
    instance: &ConnectorInstance,
) -> Result<Credentials, VaultError> {
    let is_entered =
        |slot: &SlotName| manifest.credentials.get(slot.as_str()).is_some_and(manifest::CredentialSlot::is_entered);
    let given = instance.credentials.iter().filter(|(slot, _)| is_entered(slot));
    let given: BTreeMap<_, _> = given.map(|(slot, reference)| (slot.clone(), reference.clone())).collect();
    vault.credentials(&instance.place, &instance.id, &given)
}

/// The endpoints of a manifest under an instance's settings.
///
/// # Errors
/// One problem per endpoint without a base URL, naming the setting.
pub(crate) fn specs(bases: &Bases, manifest: &Manifest, settings: &Value) -> Result<Vec<EndpointSpec>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut specs = Vec::new();
    for (name, endpoint) in &manifest.endpoints {
        match spec(bases, &manifest.id, name, endpoint, settings) {
            Ok(spec) => specs.push(spec),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(specs) } else { Err(problems) }
}

fn spec(
    bases: &Bases,
    connector: &str,
    name: &str,
    endpoint: &Endpoint,
    settings: &Value,
) -> Result<EndpointSpec, Problem> {
    let field = match &endpoint.base {
        Base::Fixed(_) => "settings".to_owned(),
        Base::Setting { setting, .. } => format!("settings.{setting}"),
    };
    let base = match bases.overrides.get(&format!("{connector}/{name}")) {
        Some(base) => base.clone(),
        None => match endpoint.base.resolve(settings) {
            Ok(base) => base,
            Err(BaseError::Outside { setting, .. }) if bases.admits(settings.get(&setting)) => {
                settings.get(&setting).and_then(Value::as_str).unwrap_or_default().to_owned()
            }
            Err(error) => return Err(Problem::new(field, error.to_string())),
        },
    };
    // Without the value: it may be a credential that was pasted into the wrong field.
    let base = Url::parse(&base).map_err(|e| Problem::new(field, format!("it is no URL: {e}")))?;
    let mut spec = EndpointSpec::new(name, base);
    spec.allow = endpoint.allow.iter().map(rule).collect();
    if let Some(declared) = &endpoint.auth {
        let said = |e: sgen_model::IdError| Problem::new(format!("endpoints.{name}.auth"), e.to_string());
        spec.auth = auth(declared, settings).map_err(said)?;
    }
    spec.response_headers.clone_from(&endpoint.response_headers);
    spec.timeouts = Timeouts::of(endpoint.timeout);
    spec.max_response = endpoint.max_response;
    spec.rate = endpoint.rate.map(|rate| Rate {
        // A manifest with none is not valid.
        requests: NonZeroU32::new(rate.requests).unwrap_or(NonZeroU32::MIN),
        per: rate.per,
    });
    Ok(spec)
}

impl Bases {
    /// Whether a setting's URL names a development host.
    fn admits(&self, setting: Option<&Value>) -> bool {
        let url = setting.and_then(Value::as_str).and_then(|text| Url::parse(text).ok());
        let authority = url.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
        authority.is_some_and(|authority| self.development_hosts.contains(&authority))
    }
}

/// Checks that a credential has the form that its endpoints need.
///
/// # Errors
/// A problem that names the slot and never repeats the secret.
pub(crate) fn check_credential(manifest: &Manifest, slot: &SlotName, secret: &SecretBytes) -> Result<(), Problem> {
    let refused = |said: String| Problem::new(format!("credentials.{slot}"), said);
    for declared in manifest.endpoints.values().filter_map(|endpoint| endpoint.auth.as_ref()) {
        if declared.slot() != slot.as_str() {
            continue;
        }
        if let Some(scheme) = auth(declared, &Value::Null).map_err(|e| refused(e.to_string()))? {
            scheme.check(secret).map_err(|said| refused(said.to_owned()))?;
        }
    }
    obtaining::check(manifest, slot, secret).map_err(|said| refused(said.to_owned()))
}

fn rule(allow: &manifest::Allow) -> AllowRule {
    let methods = allow.methods.iter().map(|method| match method {
        manifest::Method::Get => Method::GET,
        manifest::Method::Head => Method::HEAD,
        manifest::Method::Post => Method::POST,
        manifest::Method::Put => Method::PUT,
        manifest::Method::Patch => Method::PATCH,
        manifest::Method::Delete => Method::DELETE,
    });
    AllowRule { methods: methods.collect(), paths: allow.paths.iter().map(ToString::to_string).collect() }
}

/// Nothing for tokens that are obtained: their source is made with the grant.
fn auth(auth: &manifest::Auth, settings: &Value) -> Result<Option<Auth>, sgen_model::IdError> {
    use manifest::Auth as Declared;
    Ok(Some(match auth {
        Declared::Bearer { slot } => Auth::Bearer { slot: SlotName::parse(slot)? },
        Declared::Basic { slot } => Auth::Basic { slot: SlotName::parse(slot)? },
        Declared::Header { slot, name, format } => {
            Auth::Header { slot: SlotName::parse(slot)?, name: name.clone(), format: format.clone() }
        }
        Declared::Query { slot, name } => Auth::Query { slot: SlotName::parse(slot)?, name: name.clone() },
        Declared::Hmac { slot } => Auth::Hmac { slot: SlotName::parse(slot)? },
        Declared::AwsSigv4 { slot, region, service } => {
            let region = match region {
                Region::Fixed(region) => region.as_str(),
                // The gate judges what the operator chose.
                Region::Setting(setting) => settings.get(setting).and_then(Value::as_str).unwrap_or_default(),
            };
            Auth::AwsSigv4 { slot: SlotName::parse(slot)?, region: region.to_owned(), service: service.clone() }
        }
        Declared::Token { .. } => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn the_gate_is_told_the_rate_of_the_manifest() {
        let manifest = Manifest::parse(include_str!("../../../connectors/hubspot/connector.toml")).unwrap();
        let specs = specs(&Bases::default(), &manifest, &serde_json::json!({})).unwrap();
        let rate = Rate { requests: NonZeroU32::new(100).unwrap(), per: Duration::from_secs(10) };
        assert_eq!(specs[0].rate, Some(rate));
    }

    #[test]
    fn the_region_of_a_signature_is_the_manifests_or_a_settings() {
        let manifest = |region: &str| {
            let text = format!(
                r#"
                id = "x"
                version = "1.0.0"
                type = "warehouse"
                title = "X"
                summary = "Y"
                world = "sgen:connector@1.0.0"
                [endpoints.api]
                base = "https://kinesis.example.com"
                allow = [{{ methods = ["POST"], paths = ["/"] }}]
                auth = {{ scheme = "aws-sigv4", slot = "aws", service = "kinesis", {region} }}
                [credentials.aws]
                title = "Access key"
                accepts = ["aws-access-key"]
                [settings.region]
                type = "string"
                title = "Region"
                required = true
                "#
            );
            Manifest::parse(&text).unwrap()
        };
        let settings = serde_json::json!({ "region": "eu-central-1" });
        for (region, expected) in
            [("region = \"us-east-1\"", "us-east-1"), ("region_setting = \"region\"", "eu-central-1")]
        {
            let manifest = manifest(region);
            let auth = specs(&Bases::default(), &manifest, &settings).unwrap().remove(0).auth;
            assert!(matches!(auth, Some(Auth::AwsSigv4 { region, .. }) if region == expected));
            let slot = SlotName::parse("aws").unwrap();
            let refused = check_credential(&manifest, &slot, &SecretBytes::from("no-access-key".to_owned()));
            assert!(refused.unwrap_err().message.contains("ACCESS_KEY_ID:SECRET_ACCESS_KEY"));
        }
    }
}
