//! What a source of tokens is made from: the manifest's words, the operator's credential, and what audit records name.

use std::collections::BTreeMap;

use sgen_model::{ConnectorId, InstanceId, Place, SlotName};
use url::Url;

use crate::client::Client;
use crate::service_account::ServiceAccount;

/// Whose tokens they are, for the vault and for audit records.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The site and environment.
    pub place: Place,
    /// The connector instance.
    pub instance: InstanceId,
    /// Its credential slot.
    pub slot: SlotName,
    /// Its connector.
    pub connector: ConnectorId,
    /// The catalog version in force.
    pub catalog_version: String,
    /// The component in force, as the hex SHA-256 of its code.
    pub component_digest: String,
}

/// What tokens are obtained with.
pub enum Means {
    /// The client's own credential (RFC 6749, 4.4).
    ClientCredentials(Client),
    /// A service account's signature (RFC 7523).
    ServiceAccount {
        /// The account.
        account: Box<ServiceAccount>,
        /// Whom its assertions are for.
        audience: String,
    },
    /// What somebody consented to (RFC 6749, 4.1), kept in the vault.
    Grant(Client),
    /// Nothing: why, and what the operator must do.
    Unusable(String),
}

/// How an OAuth client authenticates at the token endpoint (RFC 6749, 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// By HTTP Basic.
    Basic,
    /// In the form.
    Form,
}

/// A source of tokens, as configuration and manifest have it.
pub struct Setup {
    /// Whose.
    pub facts: Facts,
    /// With what.
    pub means: Means,
    /// How a client authenticates.
    pub client_auth: ClientAuth,
    /// The token endpoint, from the manifest.
    pub token: Url,
    /// The revocation endpoint, from the manifest.
    pub revoke: Option<Url>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Further parameters of token requests.
    pub parameters: BTreeMap<String, String>,
    /// The version of the credential that tokens are obtained with; of another one, none is kept.
    pub version: u32,
}

/// What the authorization URL is made from.
pub struct Application<'a> {
    /// The authorization endpoint.
    pub authorize: &'a str,
    /// The client's id.
    pub client_id: &'a str,
    /// Where the vendor sends the browser back to: exactly this text, here and when the code is exchanged.
    pub redirect: &'a str,
    /// What is asked for.
    pub scopes: &'a [String],
    /// Further parameters.
    pub parameters: &'a BTreeMap<String, String>,
}
