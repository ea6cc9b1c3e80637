//! Requests to a vendor's token and revocation endpoints, through an internal grant of the gate: the same address policy, TLS
//! and caps as a connector's requests, on connections of their own, and not to be opened by any connector.

use std::sync::Arc;
use std::time::Duration;

use sgen_egress::{AllowRule, Auth, Endpoint, EndpointSpec, Gate, Method, Request, Timeouts};
use sgen_model::{SecretBytes, SlotName};
use sgen_vault::{Credential, Credentials};
use url::Url;
use zeroize::Zeroizing;

use crate::answer::{self, Obtained, Refusal};
use crate::client::Client;
use crate::forms::{self, Form};
use crate::setup::{ClientAuth, Means, Setup};

/// Answers are a few tokens.
const LARGEST: u64 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// A setup with the way to its endpoints.
pub(crate) struct Exchange {
    pub(crate) setup: Setup,
    endpoints: Result<Endpoints, String>,
}

struct Endpoints {
    token: Arc<Endpoint>,
    revoke: Option<Arc<Endpoint>>,
}

impl Exchange {
    pub(crate) fn new(gate: &Arc<Gate>, setup: Setup) -> Self {
        let endpoints = open(gate, &setup);
        Self { setup, endpoints }
    }

    /// The client that asks, when one does.
    pub(crate) fn client(&self) -> Option<&Client> {
        match &self.setup.means {
            Means::ClientCredentials(client) | Means::Grant(client) => Some(client),
            Means::ServiceAccount { .. } | Means::Unusable(_) => None,
        }
    }

    /// The scopes as one text.
    pub(crate) fn scopes(&self) -> String {
        self.setup.scopes.join(" ")
    }

    /// Asks for tokens.
    pub(crate) async fn ask(&self, scopes: &str, pairs: &[(&str, &str)]) -> Result<Obtained, Refusal> {
        let endpoints = self.endpoints.as_ref().map_err(|reason| Refusal::Misconfigured(reason.clone()))?;
        let form = Form::new(pairs).asking(scopes, &self.setup.parameters);
        let answer = endpoints.token.send(request(&self.named(form))).await;
        let answer = answer.map_err(|error| answer::unanswered(&error))?;
        let body = Zeroizing::new(answer.body);
        let retry_after = answer.headers.iter().find(|(name, _)| name == "retry-after");
        answer::read(answer.status, retry_after.map(|(_, value)| value.as_str()), &body)
    }

    /// Gives a token back (RFC 7009). Nothing when the vendor has no endpoint for that.
    pub(crate) async fn revoke(&self, token: &str, hint: &str) -> Option<Result<(), String>> {
        let endpoint = match &self.endpoints {
            Ok(endpoints) => endpoints.revoke.as_ref()?,
            Err(reason) => return Some(Err(reason.clone())),
        };
        let form = self.named(Form::new(&[("token", token), ("token_type_hint", hint)]));
        Some(match endpoint.send(request(&form)).await {
            // 2.2: also of a token that counts no longer.
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("the vendor answered {}", answer.status)),
            Err(error) => Err(error.message),
        })
    }

    fn named(&self, form: Form) -> Form {
        match self.client() {
            Some(client) => form.by(client, self.setup.client_auth),
            None => form,
        }
    }
}

fn request(form: &Form) -> Request {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Request {
        method: Method::POST,
        path: String::new(),
        headers: vec![
            header("content-type", "application/x-www-form-urlencoded"),
            header("accept", "application/json"),
        ],
        body: Some(form.text().as_bytes().to_vec()),
    }
}

fn open(gate: &Arc<Gate>, setup: &Setup) -> Result<Endpoints, String> {
    let slot = SlotName::parse("client").map_err(|error| error.to_string())?;
    let client = match &setup.means {
        Means::ClientCredentials(client) | Means::Grant(client) if setup.client_auth == ClientAuth::Basic => {
            forms::basic(client)
        }
        _ => None,
    };
    let auth = client.as_ref().map(|_| Auth::Basic { slot: slot.clone() });
    let credentials: Credentials =
        client.map(|pair| (slot, Credential::new(1, SecretBytes::new(pair.as_bytes().to_vec())))).into_iter().collect();
    let spec = |name: &str, url: &Url| {
        let mut spec = EndpointSpec::new(name, url.clone());
        spec.allow = vec![AllowRule { methods: vec![Method::POST], paths: vec![String::new()] }];
        spec.auth.clone_from(&auth);
        spec.timeouts = Timeouts::of(PATIENCE);
        spec.max_response = LARGEST;
        spec
    };
    let mut specs = vec![spec("token", &setup.token)];
    specs.extend(setup.revoke.as_ref().map(|url| spec("revoke", url)));
    let grant = gate.grant(&setup.facts.instance, specs, credentials).map_err(|error| error.to_string())?;
    let token = grant.open("token").map_err(|error| error.message)?;
    let revoke = setup.revoke.as_ref().map(|_| grant.open("revoke")).transpose().map_err(|error| error.message)?;
    Ok(Endpoints { token, revoke })
}
