//! A service account: the key file as Google hands it out, and the assertion that its key signs (RFC 7523, RFC 7515).
//!
//! Of the file only the account and its key are taken. It names a token endpoint too, which is not asked: whoever gives a
//! credential would decide where the host sends what it signs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::{Deserialize, Serialize};
use sgen_model::Timestamp;
use zeroize::Zeroizing;

/// How long an assertion counts. It is used at once; Google takes at most an hour.
const LIFETIME_SECONDS: u64 = 600;

/// A service account with its key.
pub struct ServiceAccount {
    email: String,
    subject: Option<String>,
    key_id: Option<String>,
    key: RsaKeyPair,
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    /// Whom the account acts for, where the vendor has delegated that to it; no part of Google's file.
    subject: Option<String>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    iat: u64,
    exp: u64,
}

impl ServiceAccount {
    /// Reads a key file: JSON with `type`, `client_email`, `private_key` (PKCS #8 in PEM) and `private_key_id`. `subject` may
    /// be added to act for somebody (the claim `sub`).
    ///
    /// # Errors
    /// What is wrong, without repeating anything of it.
    pub fn parse(credential: &[u8]) -> Result<Self, &'static str> {
        let file: KeyFile = serde_json::from_slice(credential)
            .map_err(|_| "it must be a service account's key file in JSON, with client_email and private_key")?;
        let pem = Zeroizing::new(file.private_key);
        if file.kind != "service_account" {
            return Err("its \"type\" is not \"service_account\": download a key of the service account itself");
        }
        if file.client_email.is_empty() {
            return Err("its client_email is empty");
        }
        let der = private_key(&pem)?;
        let key = RsaKeyPair::from_pkcs8(&der)
            .map_err(|_| "its private_key is no RSA key of at least 2048 bits in PKCS #8")?;
        Ok(Self { email: file.client_email, subject: file.subject, key_id: file.private_key_id, key })
    }

    /// An assertion for this audience, signed with RS256.
    pub(crate) fn assertion(
        &self,
        audience: &str,
        scopes: &str,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, &'static str> {
        let iat = now.0 / 1000;
        let header = Header { alg: "RS256", typ: "JWT", kid: self.key_id.as_deref() };
        let claims = Claims {
            iss: &self.email,
            sub: self.subject.as_deref(),
            aud: audience,
            scope: Some(scopes).filter(|scopes| !scopes.is_empty()),
            iat,
            exp: iat.saturating_add(LIFETIME_SECONDS),
        };
        let encode = |json: serde_json::Result<Vec<u8>>| {
            json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| "its account cannot be written into an assertion")
        };
        let mut assertion = Zeroizing::new(encode(serde_json::to_vec(&header))?);
        assertion.push('.');
        assertion.push_str(&encode(serde_json::to_vec(&claims))?);
        let mut signature = vec![0; self.key.public().modulus_len()];
        // The randomness blinds the computation; the signature does not depend on it.
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), assertion.as_bytes(), &mut signature)
            .map_err(|_| "its key does not sign")?;
        assertion.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut assertion);
        Ok(assertion)
    }
}

/// The DER inside a PEM block of PKCS #8 (RFC 7468, 10).
fn private_key(pem: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    const FORM: &str = "its private_key is not one PEM block that begins with -----BEGIN PRIVATE KEY-----";
    let inner = pem.trim().strip_prefix("-----BEGIN PRIVATE KEY-----").ok_or(FORM)?;
    let inner = inner.strip_suffix("-----END PRIVATE KEY-----").ok_or(FORM)?;
    let base64: Zeroizing<String> = Zeroizing::new(inner.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    STANDARD.decode(base64.as_bytes()).map(Zeroizing::new).map_err(|_| FORM)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/source/rsa.rs"));

    pub(crate) fn file(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut file = serde_json::json!({
            "type": "service_account", "project_id": "p", "private_key_id": "k-1", "private_key": pem(),
            "client_email": "robot@p.iam.gserviceaccount.com", "token_uri": "https://evil.example/token"
        });
        change(&mut file);
        serde_json::to_vec(&file).unwrap()
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_assertion_says_who_asks_whom_for_what_and_is_signed() {
        let account = ServiceAccount::parse(&file(|_| ())).unwrap();
        let text =
            account.assertion("https://oauth2.googleapis.com/token", "a b", Timestamp(1_795_460_400_123)).unwrap();
        let parts: Vec<_> = text.split('.').collect();
        assert_eq!(decoded(parts[0]), serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": "k-1" }));
        assert_eq!(
            decoded(parts[1]),
            serde_json::json!({
                "iss": "robot@p.iam.gserviceaccount.com", "aud": "https://oauth2.googleapis.com/token", "scope": "a b",
                "iat": 1_795_460_400, "exp": 1_795_461_000
            })
        );
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.key.public_key());
        let signed = format!("{}.{}", parts[0], parts[1]);
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        assert!(key.verify(signed.as_bytes(), &signature).is_ok());
        assert!(key.verify(signed.replace('a', "b").as_bytes(), &signature).is_err());
    }

    #[test]
    fn an_account_may_act_for_somebody_and_may_ask_for_nothing_in_particular() {
        let account = ServiceAccount::parse(&file(|file| file["subject"] = "ada@example.com".into())).unwrap();
        let text = account.assertion("x", "", Timestamp(0)).unwrap();
        let claims = decoded(text.split('.').nth(1).unwrap());
        assert_eq!(claims["sub"], "ada@example.com");
        assert!(claims.get("scope").is_none());
    }

    #[test]
    fn what_is_no_key_file_is_refused_without_quoting_it() {
        let cut = pem().replace("MII", "SECRET");
        for (bytes, says) in [
            (b"pat-SECRET".to_vec(), "key file in JSON"),
            (file(|file| file["type"] = "authorized_user".into()), "\"type\""),
            (file(|file| file["client_email"] = "".into()), "client_email"),
            (file(|file| file["private_key"] = "SECRET".into()), "PEM block"),
            (file(|file| file["private_key"] = pem().replace("PRIVATE", "RSA PRIVATE").into()), "PEM block"),
            (file(|file| file["private_key"] = cut.into()), ""),
        ] {
            let said = ServiceAccount::parse(&bytes).err().expect(says);
            assert!(said.contains(says) && !said.contains("SECRET"), "{said}");
        }
    }
}
