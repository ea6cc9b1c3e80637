//! The schemes by which a credential goes out, one row each: how a manifest declares it, what secrets it takes, and how the
//! downstream knows that one arrived.

use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;

use crate::fakes::server::Received;
use crate::fakes::webhook::Secret;

/// One scheme.
pub(super) struct Scheme {
    pub(super) name: &'static str,
    /// The manifest's `auth`.
    pub(super) auth: &'static str,
    /// What the manifest's slot accepts.
    pub(super) accepts: &'static str,
    /// Makes a secret as an operator enters it.
    pub(super) make: fn(&mut Rng) -> String,
    /// What of a secret nobody may see: it, and its parts.
    pub(super) parts: fn(&str) -> Vec<Vec<u8>>,
    /// Whether a request carries this secret.
    pub(super) carried: fn(&Received, &str) -> bool,
}

/// All that there are.
pub(super) const SCHEMES: [Scheme; 5] = [
    Scheme {
        name: "bearer",
        auth: r#"{ scheme = "bearer", slot = "token" }"#,
        accepts: "api-key",
        make: token,
        parts: whole,
        carried: |request, secret| request.header("authorization") == Some(&format!("Bearer {secret}")),
    },
    Scheme {
        name: "basic",
        auth: r#"{ scheme = "basic", slot = "token" }"#,
        accepts: "basic",
        make: |rng| format!("{}:{}", token(rng), token(rng)),
        parts: |secret| {
            let password = secret.split_once(':').map(|(_, password)| password.as_bytes().to_vec());
            [Some(secret.as_bytes().to_vec()), password].into_iter().flatten().collect()
        },
        carried: |request, secret| {
            request.header("authorization") == Some(&format!("Basic {}", STANDARD.encode(secret)))
        },
    },
    Scheme {
        name: "header",
        auth: r#"{ scheme = "header", slot = "token", name = "X-Api-Key", format = "key {secret}" }"#,
        accepts: "api-key",
        make: token,
        parts: whole,
        carried: |request, secret| request.header("x-api-key") == Some(&format!("key {secret}")),
    },
    Scheme {
        name: "query",
        auth: r#"{ scheme = "query", slot = "token", name = "api_key" }"#,
        accepts: "api-key",
        make: token,
        parts: whole,
        carried: |request, secret| {
            let url = reqwest::Url::from_str(&format!("http://x/?{}", request.query));
            url.is_ok_and(|url| url.query_pairs().any(|(name, value)| name == "api_key" && value == secret))
        },
    },
    Scheme {
        name: "hmac",
        auth: r#"{ scheme = "hmac", slot = "token" }"#,
        accepts: "hmac-secret",
        make: |rng| format!("whsec_{}", STANDARD.encode(std::array::from_fn::<u8, 32, _>(|_| rng.u8(..)))),
        parts: |secret| {
            let bare = secret.strip_prefix("whsec_").unwrap_or(secret);
            let mut parts = vec![bare.as_bytes().to_vec()];
            parts.extend(STANDARD.decode(bare).ok());
            parts
        },
        carried: |request, secret| {
            let signed = request.header("webhook-signature").zip(request.header("webhook-id"));
            let time = request.header("webhook-timestamp").and_then(|text| text.parse().ok());
            match (signed, time, Secret::parse(secret)) {
                (Some((signatures, id)), Some(time), Ok(secret)) => {
                    let own = secret.sign(id, time, &request.body);
                    signatures.split(' ').any(|signature| signature == own)
                }
                _ => false,
            }
        },
    },
];

fn whole(secret: &str) -> Vec<Vec<u8>> {
    vec![secret.as_bytes().to_vec()]
}

/// Letters and digits, and among them every character that an encoding changes. No colon: it parts user and password.
pub(super) fn token(rng: &mut Rng) -> String {
    let mut characters: Vec<char> = (0..24).map(|_| rng.alphanumeric()).collect();
    for special in "/+=&<>\"'\\?%".chars() {
        // Not at either end, where a header's value and a text lose what looks like space around them.
        characters.insert(rng.usize(1..characters.len()), special);
    }
    characters.into_iter().collect()
}
