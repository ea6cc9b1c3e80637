//! From a manifest and an instance's credentials to the sources of its access tokens.

use std::collections::BTreeMap;

use sgen_catalog::manifest::{self, Manifest, OAuth, TokenGrant};
use sgen_model::{ConnectorId, ConnectorInstance, SecretBytes, SlotName};
use sgen_tokens::{Client, ClientAuth, Facts, Means, ServiceAccount, Setup};
use sgen_vault::Credentials;
use url::Url;

use crate::error::{DeliveryError, Problem};
use crate::grants::Bases;

/// What of the release in force audit records name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InForce<'a> {
    pub(crate) catalog_version: &'a str,
    pub(crate) component_digest: &'a str,
}

/// The slots whose tokens are obtained, and how.
pub(crate) fn slots(manifest: &Manifest) -> BTreeMap<&str, TokenGrant> {
    let auths = manifest.endpoints.values().filter_map(|endpoint| endpoint.auth.as_ref());
    let obtained = auths.filter_map(|auth| match auth {
        manifest::Auth::Token { slot, grant } => Some((slot.as_str(), *grant)),
        _ => None,
    });
    obtained.collect()
}

/// How the tokens of a slot are obtained. A credential that is missing or unusable is a source that says so.
///
/// # Errors
/// [`DeliveryError::Invalid`] when a URL cannot be read; [`DeliveryError::Record`] for names that are none.
pub(crate) fn setup(
    bases: &Bases,
    manifest: &Manifest,
    instance: &ConnectorInstance,
    slot: &SlotName,
    grant: TokenGrant,
    credentials: &Credentials,
    in_force: InForce<'_>,
) -> Result<Setup, DeliveryError> {
    let oauth = oauth(manifest, slot)?;
    let token = url(bases, &manifest.id, slot, "token", &oauth.token)?;
    let revoke = oauth.revoke.as_ref().map(|text| url(bases, &manifest.id, slot, "revoke", text)).transpose()?;
    // Assertions name the vendor's own endpoint, also where a deployment overrides it for development.
    let audience = oauth.audience.clone().unwrap_or_else(|| oauth.token.clone());
    let holder = match (&oauth.client, grant) {
        (Some(client), TokenGrant::AuthorizationCode) => parsed(client)?,
        _ => slot.clone(),
    };
    let credential = credentials.get(&holder);
    let means = match credential {
        None => Err(format!("the credential {holder} is missing: the operator must give it")),
        Some(credential) => means(grant, audience, credential.current()).map_err(|reason| {
            format!("the credential {holder} cannot be used: {reason}; the operator must give it again")
        }),
    };
    Ok(Setup {
        facts: Facts {
            place: instance.place.clone(),
            instance: instance.id.clone(),
            slot: slot.clone(),
            connector: instance.connector.clone(),
            catalog_version: in_force.catalog_version.to_owned(),
            component_digest: in_force.component_digest.to_owned(),
        },
        means: means.unwrap_or_else(Means::Unusable),
        client_auth: match oauth.client_auth {
            manifest::ClientAuth::Basic => ClientAuth::Basic,
            manifest::ClientAuth::Form => ClientAuth::Form,
        },
        token,
        revoke,
        scopes: oauth.scopes.clone(),
        parameters: oauth.token_parameters.clone(),
        version: credential.map_or(0, sgen_vault::Credential::version),
    })
}

fn means(grant: TokenGrant, audience: String, secret: &SecretBytes) -> Result<Means, &'static str> {
    let secret = secret.expose();
    Ok(match grant {
        TokenGrant::AuthorizationCode => Means::Grant(Client::parse(secret)?),
        TokenGrant::ClientCredentials => Means::ClientCredentials(Client::parse(secret)?),
        TokenGrant::ServiceAccount => {
            Means::ServiceAccount { account: Box::new(ServiceAccount::parse(secret)?), audience }
        }
    })
}

/// Checks a credential that tokens are obtained with. Nothing to say about any other.
///
/// # Errors
/// What is wrong, without repeating anything of it.
pub(crate) fn check(manifest: &Manifest, slot: &SlotName, secret: &SecretBytes) -> Result<(), &'static str> {
    let asks = manifest.credentials.values().filter_map(|declared| declared.oauth.as_ref()?.client.as_deref());
    if asks.into_iter().any(|client| client == slot.as_str()) {
        Client::parse(secret.expose())?;
    }
    match slots(manifest).get(slot.as_str()) {
        Some(TokenGrant::AuthorizationCode) => Err("it is granted in a browser and not entered: authorise it"),
        Some(grant) => means(*grant, String::new(), secret).map(drop),
        None => Ok(()),
    }
}

/// What the manifest says of a slot's tokens.
///
/// # Errors
/// [`DeliveryError::UnknownSlot`].
pub(crate) fn oauth<'a>(manifest: &'a Manifest, slot: &SlotName) -> Result<&'a OAuth, DeliveryError> {
    let found = manifest.credentials.get(slot.as_str()).and_then(|declared| declared.oauth.as_ref());
    match found {
        Some(oauth) => Ok(oauth),
        None => Err(DeliveryError::UnknownSlot {
            connector: ConnectorId::parse(&manifest.id).map_err(|e| DeliveryError::record("connector id", e))?,
            slot: slot.clone(),
        }),
    }
}

/// A URL of the manifest, or the one that the deployment uses instead of it: `CONNECTOR/SLOT:token`, `…:authorize`,
/// `…:revoke`.
///
/// # Errors
/// [`DeliveryError::Invalid`] when it is none.
pub(crate) fn url(
    bases: &Bases,
    connector: &str,
    slot: &SlotName,
    which: &str,
    text: &str,
) -> Result<Url, DeliveryError> {
    let key = format!("{connector}/{slot}:{which}");
    let text = bases.overrides.get(&key).map_or(text, String::as_str);
    Url::parse(text).map_err(|error| {
        DeliveryError::Invalid(vec![Problem::new(format!("credentials.{slot}.oauth.{which}"), error.to_string())])
    })
}

pub(crate) fn parsed(slot: &str) -> Result<SlotName, DeliveryError> {
    SlotName::parse(slot).map_err(|e| DeliveryError::record("slot", e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    const MANIFEST: &str = r#"
        id = "x"
        version = "1.0.0"
        type = "crm"
        title = "X"
        summary = "Y"
        world = "sgen:connector@1.0.0"
        [endpoints.api]
        base = "https://api.example.com"
        allow = [{ methods = ["POST"], paths = ["/**"] }]
        auth = { scheme = "oauth2-authorization-code", slot = "grant" }
        [endpoints.reports]
        base = "https://reports.example.com"
        allow = [{ methods = ["POST"], paths = ["/**"] }]
        auth = { scheme = "service-account", slot = "robot" }
        [credentials.grant]
        title = "Consent"
        accepts = ["oauth2-grant"]
        [credentials.grant.oauth]
        authorize = "https://login.example.com/authorize"
        token = "https://login.example.com/token"
        client = "app"
        [credentials.app]
        title = "Client"
        accepts = ["oauth2-client"]
        [credentials.robot]
        title = "Robot"
        accepts = ["service-account"]
        oauth = { token = "https://login.example.com/token" }
    "#;

    #[test]
    fn a_credential_is_checked_for_what_its_tokens_are_obtained_with() {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        for (slot, secret, says) in [
            ("app", "app-1:the-secret-1", None),
            ("app", "without-a-colon", Some("CLIENT_ID:CLIENT_SECRET")),
            ("grant", "the-refresh-token", Some("authorise")),
            ("robot", "{}", Some("key file")),
        ] {
            let checked = check(&manifest, &parsed(slot).unwrap(), &SecretBytes::from(secret.to_owned()));
            match says {
                None => assert_eq!(checked, Ok(())),
                Some(says) => assert!(checked.unwrap_err().contains(says), "{slot}"),
            }
        }
        assert_eq!(slots(&manifest).len(), 2);
        assert!(oauth(&manifest, &parsed("app").unwrap()).is_err());
    }

    #[test]
    fn a_vendors_endpoint_is_the_manifests_unless_the_deployment_names_another() {
        let key = "x/grant:token".to_owned();
        let bases = Bases { overrides: BTreeMap::from([(key, "http://127.0.0.1:1/t".to_owned())]), ..Bases::default() };
        let slot = parsed("grant").unwrap();
        let of = |which: &str| url(&bases, "x", &slot, which, "https://login.example.com/y").unwrap().to_string();
        assert_eq!(of("token"), "http://127.0.0.1:1/t");
        assert_eq!(of("revoke"), "https://login.example.com/y");
    }
}
