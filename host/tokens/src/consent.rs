//! Consents under way: from the authorization URL to the callback (RFC 6749, 4.1; PKCE of RFC 7636).
//!
//! They are kept in memory for ten minutes, each good for one callback: a host that is restarted meanwhile asks the operator
//! to begin again. They are found by a digest of their state, so that looking one up tells nothing of it by its time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use sgen_audit::Actor;
use sgen_model::{Entropy, InstanceId, SlotName, Timestamp};
use url::Url;
use zeroize::Zeroizing;

use crate::error::TokenError;
use crate::setup::Application;

/// How long a person may take (RFC 6749, 4.1.2 gives the code itself ten minutes).
const PATIENCE: Duration = Duration::from_secs(600);
/// The most consents under way; the oldest goes.
const MOST: usize = 10_000;

/// A consent that somebody was sent to give.
pub struct Pending {
    /// The connector instance.
    pub instance: InstanceId,
    /// Its slot.
    pub slot: SlotName,
    /// Who began it.
    pub actor: Actor,
    pub(crate) redirect: String,
    pub(crate) verifier: Zeroizing<String>,
    began: Timestamp,
}

/// Where to send the browser.
pub struct Started {
    /// The vendor's authorization page, with everything that it must be asked. Whoever has it can answer for its operator.
    pub url: String,
    /// Until when the callback is taken.
    pub until: Timestamp,
}

/// The consents under way.
#[derive(Default)]
pub struct Consents(Mutex<HashMap<[u8; 32], Pending>>);

impl Consents {
    /// Begins a consent. One that was under way for the same slot counts no longer.
    ///
    /// # Errors
    /// [`TokenError::Refused`] when the manifest's URL cannot be used, or randomness failing.
    pub fn begin(
        &self,
        entropy: &dyn Entropy,
        now: Timestamp,
        instance: InstanceId,
        slot: SlotName,
        actor: Actor,
        application: &Application<'_>,
    ) -> Result<Started, TokenError> {
        // 256 bits each: RFC 7636, 7.1 asks for as much of the verifier.
        let state = random(entropy)?;
        let verifier = random(entropy)?;
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let mut url = Url::parse(application.authorize)
            .map_err(|_| TokenError::Refused("the manifest's authorization URL is no URL".to_owned()))?;
        {
            let mut query = url.query_pairs_mut();
            for (name, value) in [
                ("response_type", "code"),
                ("client_id", application.client_id),
                ("redirect_uri", application.redirect),
                ("state", state.as_str()),
                ("code_challenge", challenge.as_str()),
                ("code_challenge_method", "S256"),
            ] {
                query.append_pair(name, value);
            }
            if !application.scopes.is_empty() {
                query.append_pair("scope", &application.scopes.join(" "));
            }
            query.extend_pairs(application.parameters);
        }
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|_, it| now.since(it.began) < PATIENCE && (it.instance != instance || it.slot != slot));
        if pending.len() >= MOST {
            let oldest = pending.iter().min_by_key(|(_, it)| it.began).map(|(key, _)| *key);
            oldest.map(|key| pending.remove(&key));
        }
        let redirect = application.redirect.to_owned();
        pending.insert(key(&state), Pending { instance, slot, actor, redirect, verifier, began: now });
        Ok(Started { url: url.into(), until: now.after(PATIENCE) })
    }

    /// Takes the consent that a callback's state belongs to. It counts once.
    #[must_use]
    pub fn take(&self, state: &str, now: Timestamp) -> Option<Pending> {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(state))?;
        (now.since(pending.began) < PATIENCE).then_some(pending)
    }
}

fn random(entropy: &dyn Entropy) -> Result<Zeroizing<String>, TokenError> {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(bytes.as_mut())?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
}

fn key(state: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, state.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use sgen_model::SystemEntropy;
    use std::collections::{BTreeMap, HashMap};

    fn begin(consents: &Consents, slot: &str, now: Timestamp) -> (String, HashMap<String, String>) {
        let parameters = BTreeMap::from([("access_type".to_owned(), "offline".to_owned())]);
        let application = Application {
            authorize: "https://login.example/authorize",
            client_id: "app 1",
            redirect: "https://host.example/v1/oauth/callback",
            scopes: &["a".to_owned(), "b".to_owned()],
            parameters: &parameters,
        };
        let (instance, slot) = (InstanceId::parse("crm-1").unwrap(), SlotName::parse(slot).unwrap());
        let started =
            consents.begin(&SystemEntropy::default(), now, instance, slot, Actor::Platform, &application).unwrap();
        assert_eq!(started.until, now.after(PATIENCE));
        let url = Url::parse(&started.url).unwrap();
        (started.url.split('?').next().unwrap().to_owned(), url.query_pairs().into_owned().collect())
    }

    #[test]
    fn the_url_asks_for_everything_and_proves_possession_by_s256() {
        let consents = Consents::default();
        let (page, query) = begin(&consents, "grant", Timestamp(0));
        assert_eq!(page, "https://login.example/authorize");
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "app 1"),
            ("redirect_uri", "https://host.example/v1/oauth/callback"),
            ("code_challenge_method", "S256"),
            ("scope", "a b"),
            ("access_type", "offline"),
        ] {
            assert_eq!(query[name], value, "{name}");
        }
        let pending = consents.take(&query["state"], Timestamp(1)).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(digest(&SHA256, pending.verifier.as_bytes())), query["code_challenge"]);
        // RFC 7636, 4.1: 43 to 128 unreserved characters.
        assert_eq!(pending.verifier.len(), 43);
        assert_ne!(query["state"], query["code_challenge"]);
    }

    #[test]
    fn a_state_counts_once_and_for_ten_minutes_and_only_the_last_of_its_slot() {
        let consents = Consents::default();
        let state = |slot: &str, at| begin(&consents, slot, at).1["state"].clone();
        let first = state("grant", Timestamp(0));
        let other = state("other", Timestamp(0));
        let second = state("grant", Timestamp(1));
        assert!(consents.take(&first, Timestamp(2)).is_none(), "a later one took its place");
        assert!(consents.take("", Timestamp(2)).is_none());
        assert!(consents.take(&second, Timestamp(2)).is_some());
        assert!(consents.take(&second, Timestamp(2)).is_none(), "it counts once");
        assert!(consents.take(&other, Timestamp(0).after(PATIENCE)).is_none(), "too late");
    }
}
