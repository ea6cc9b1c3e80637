//! From a signed manifest, an instance's settings and its credentials to a grant.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::Method;
use serde_json::Value;
use sgen_catalog::manifest::{self, Base, BaseError, Endpoint, Manifest};
use sgen_egress::{AllowRule, Auth, EndpointSpec, Gate, Grant, Rate, Timeouts};
use sgen_model::{ConnectorInstance, SecretBytes, SlotName};
use sgen_vault::Vault;
use url::Url;

use crate::error::{DeliveryError, Problem};

/// What of the deployment bears on base URLs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bases {
    /// `connector/endpoint` → the base URL to use instead of the manifest's, for development.
    pub(crate) overrides: BTreeMap<String, String>,
    /// `host:port` that an operator-given URL may name although the manifest's pattern does not match it.
    pub(crate) development_hosts: Vec<String>,
}

/// Grants an instance the endpoints of its connector.
///
/// # Errors
/// [`DeliveryError::Invalid`] names the setting at fault; the vault's errors.
pub(crate) fn grant(
    gate: &Arc<Gate>,
    vault: &Vault,
    bases: &Bases,
    manifest: &Manifest,
    instance: &ConnectorInstance,
) -> Result<Arc<Grant>, DeliveryError> {
    let specs = specs(bases, manifest, &Value::Object(instance.settings.clone())).map_err(DeliveryError::Invalid)?;
    let credentials = vault.credentials(&instance.place, &instance.id, &instance.credentials)?;
    gate.grant(&instance.id, specs, credentials)
        .map_err(|e| DeliveryError::Invalid(vec![Problem::new("settings", e.to_string())]))
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
    let base = Url::parse(&base).map_err(|e| Problem::new(field, format!("{base:?} is no URL: {e}")))?;
    let mut spec = EndpointSpec::new(name, base);
    spec.allow = endpoint.allow.iter().map(rule).collect();
    spec.auth = endpoint
        .auth
        .as_ref()
        .map(auth)
        .transpose()
        .map_err(|e| Problem::new(format!("endpoints.{name}.auth"), e.to_string()))?;
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
    for declared in manifest.endpoints.values().filter_map(|endpoint| endpoint.auth.as_ref()) {
        if declared.slot() != slot.as_str() {
            continue;
        }
        let refused = |said: String| Problem::new(format!("credentials.{slot}"), said);
        let scheme = auth(declared).map_err(|e| refused(e.to_string()))?;
        scheme.check(secret).map_err(|said| refused(said.to_owned()))?;
    }
    Ok(())
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

fn auth(auth: &manifest::Auth) -> Result<Auth, sgen_model::IdError> {
    use manifest::Auth as Declared;
    Ok(match auth {
        Declared::Bearer { slot } => Auth::Bearer { slot: SlotName::parse(slot)? },
        Declared::Basic { slot } => Auth::Basic { slot: SlotName::parse(slot)? },
        Declared::Header { slot, name, format } => {
            Auth::Header { slot: SlotName::parse(slot)?, name: name.clone(), format: format.clone() }
        }
        Declared::Query { slot, name } => Auth::Query { slot: SlotName::parse(slot)?, name: name.clone() },
        Declared::Hmac { slot } => Auth::Hmac { slot: SlotName::parse(slot)? },
    })
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
}
