//! Putting credentials in: prepared once per grant, applied last to each request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sgen_model::SecretBytes;
use sgen_vault::{Credentials, Previous};
use zeroize::Zeroizing;

use crate::headers;
use crate::sigv4;
use crate::spec::Auth;
use crate::token::Tokens;
use crate::webhook::{self, Signer};

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// No server takes a longer header or query; a longer credential is for another scheme.
const SECRET_MOST: usize = 8 * 1024;

const PLACEHOLDER: &str = "{secret}";

/// A credential, ready for its place in a request.
pub(crate) enum Injection {
    /// The endpoint needs none.
    None,
    Header(HeaderName, HeaderValue),
    Query {
        name: String,
        pair: Zeroizing<String>,
    },
    Signature(Box<Signer>),
    Aws(Box<sigv4::Signer>),
    Token(Tokens),
    /// It cannot be used; the operator is told why with every request.
    Unusable(String),
}

/// Judges what does not depend on a credential. The text says what to change.
pub(crate) fn judge(auth: &Auth) -> Result<(), String> {
    match auth {
        Auth::Header { name, format, .. } => {
            let header =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header name"))?;
            if headers::reserved(header.as_str()) && header != AUTHORIZATION {
                return Err(format!("the header {name} cannot carry a credential"));
            }
            let clean = format.bytes().all(|b| (b' '..=b'~').contains(&b)) && format.trim() == format;
            if !clean || format.matches(PLACEHOLDER).count() != 1 {
                return Err(format!("the format {format:?} must be visible ASCII with {PLACEHOLDER} exactly once"));
            }
        }
        Auth::Query { name, .. } if name.is_empty() || name.chars().any(char::is_control) => {
            return Err(format!("{name:?} is not the name of a query parameter"));
        }
        Auth::AwsSigv4 { region, service, .. } => {
            for (what, text) in [("region", region), ("service", service)] {
                if !sigv4::scope_is_sound(text) {
                    return Err(format!("{text:?} is not the name of a {what} of AWS"));
                }
            }
        }
        _ => {}
    }
    Ok(())
}

impl Injection {
    pub(crate) fn prepare(auth: Option<&Auth>, credentials: &Credentials) -> Self {
        let Some(auth) = auth else { return Self::None };
        if let Auth::Token { tokens, .. } = auth {
            return Self::Token(tokens.clone());
        }
        let slot = auth.slot();
        let Some(credential) = credentials.get(slot) else {
            return Self::Unusable(format!("the credential {slot} is missing: the operator must give it"));
        };
        Self::from_secret(auth, credential.current(), credential.previous()).unwrap_or_else(|reason| {
            Self::Unusable(format!("the credential {slot} cannot be used: {reason}; the operator must give it again"))
        })
    }

    pub(crate) fn from_secret(
        auth: &Auth,
        secret: &SecretBytes,
        previous: Option<&Previous>,
    ) -> Result<Self, &'static str> {
        let secret = secret.expose();
        if secret.len() > SECRET_MOST {
            return Err("it is longer than 8 KiB");
        }
        Ok(match auth {
            Auth::Bearer { .. } => Self::Header(AUTHORIZATION, bearer(secret)?),
            Auth::Basic { .. } => {
                let pair = std::str::from_utf8(secret).map_err(|_| "it is not text")?;
                // RFC 7617, 2: a colon parts user and password, and neither has control characters.
                if !pair.contains(':') || pair.chars().any(char::is_control) {
                    return Err("it must read USER:PASSWORD, without line breaks");
                }
                let encoded = Zeroizing::new(STANDARD.encode(secret));
                Self::Header(AUTHORIZATION, value(&[b"Basic ", encoded.as_bytes()])?)
            }
            Auth::Header { name, format, .. } => {
                let name =
                    HeaderName::from_bytes(name.as_bytes()).map_err(|_| "its header's name is no header name")?;
                let (before, after) = format.split_once(PLACEHOLDER).unwrap_or((format, ""));
                Self::Header(name, value(&[before.as_bytes(), visible(secret)?.as_bytes(), after.as_bytes()])?)
            }
            Auth::Query { name, .. } => {
                let text = std::str::from_utf8(secret).map_err(|_| "it is not text")?;
                if text.chars().any(char::is_control) {
                    return Err("it contains a line break or another control character");
                }
                let mut pair =
                    Zeroizing::new(String::with_capacity(name.len().saturating_add(secret.len()).saturating_mul(3)));
                pair.extend(utf8_percent_encode(name, COMPONENT));
                pair.push('=');
                pair.extend(utf8_percent_encode(text, COMPONENT));
                Self::Query { name: name.clone(), pair }
            }
            Auth::Hmac { .. } => {
                let mut signer = Signer::new(&webhook::decode_secret(secret)?);
                // A previous secret that was unusable is no reason not to sign with the current one.
                if let Some(previous) = previous
                    && let Ok(secret) = webhook::decode_secret(previous.secret.expose())
                {
                    signer = signer.with_previous(&secret, previous.until);
                }
                Self::Signature(Box::new(signer))
            }
            Auth::AwsSigv4 { region, service, .. } => Self::Aws(Box::new(sigv4::Signer::new(secret, region, service)?)),
            Auth::Token { tokens, .. } => Self::Token(tokens.clone()),
        })
    }

    /// Whether a header belongs to the credential, and so not to the guest.
    pub(crate) fn owns(&self, header: &str) -> bool {
        match self {
            Self::Header(name, _) => headers::as_servers_read(name.as_str()) == header,
            Self::Aws(_) => sigv4::Signer::owns(header),
            _ => false,
        }
    }
}

/// The header of RFC 6750.
pub(crate) fn bearer(secret: &[u8]) -> Result<HeaderValue, &'static str> {
    value(&[b"Bearer ", visible(secret)?.as_bytes()])
}

fn visible(secret: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(secret).map_err(|_| "it is not text")?;
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text {
        Ok(text)
    } else {
        Err("it contains a line break, a surrounding space or a character other than visible ASCII")
    }
}

/// A header value in wiped memory, marked so that nothing prints it.
fn value(parts: &[&[u8]]) -> Result<HeaderValue, &'static str> {
    let bytes = Bytes::from_owner(Zeroizing::new(parts.concat()));
    let mut value = HeaderValue::from_maybe_shared(bytes).map_err(|_| "it does not fit into a header")?;
    value.set_sensitive(true);
    Ok(value)
}

/// What to look for in answers: every secret, and the parts of it that a server may show.
pub(crate) fn secrets<'a>(auths: impl Iterator<Item = &'a Auth>, credentials: &Credentials) -> Vec<Zeroizing<Vec<u8>>> {
    let mut all = Vec::new();
    for auth in auths {
        // A source of tokens has a scrubber of its own: what it knows changes.
        if matches!(auth, Auth::Token { .. }) {
            continue;
        }
        let Some(credential) = credentials.get(auth.slot()) else { continue };
        let both = [Some(credential.current()), credential.previous().map(|previous| &previous.secret)];
        for secret in both.into_iter().flatten().map(|s| s.expose()).filter(|s| s.len() <= SECRET_MOST) {
            all.push(Zeroizing::new(secret.to_vec()));
            match auth {
                Auth::Basic { .. } => {
                    let password =
                        secret.iter().position(|b| *b == b':').and_then(|at| secret.get(at.saturating_add(1)..));
                    all.extend(password.map(|password| Zeroizing::new(password.to_vec())));
                }
                Auth::Hmac { .. } => {
                    all.extend(secret.strip_prefix(b"whsec_").map(|bare| Zeroizing::new(bare.to_vec())));
                    all.extend(webhook::decode_secret(secret).ok());
                }
                Auth::AwsSigv4 { .. } => all.extend(sigv4::secrets(secret)),
                Auth::Bearer { .. } | Auth::Header { .. } | Auth::Query { .. } | Auth::Token { .. } => {}
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use sgen_model::{SecretBytes, SlotName};
    use sgen_vault::Credential;

    fn slot() -> SlotName {
        SlotName::parse("token").unwrap()
    }

    fn prepared(auth: &Auth, secret: &str) -> Injection {
        let credential = Credential::new(1, SecretBytes::from(secret.to_owned()));
        Injection::prepare(Some(auth), &[(slot(), credential)].into_iter().collect())
    }

    fn header(name: &str, format: &str) -> Auth {
        Auth::Header { slot: slot(), name: name.to_owned(), format: format.to_owned() }
    }

    #[test]
    fn each_scheme_puts_the_secret_where_it_belongs() {
        for (auth, secret, name, expected) in [
            (Auth::Bearer { slot: slot() }, "pat-na1-secret", "authorization", "Bearer pat-na1-secret"),
            (
                Auth::Basic { slot: slot() },
                "Aladdin:open sesame",
                "authorization",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
            (header("X-Api-Key", "{secret}"), "key-secret", "x-api-key", "key-secret"),
            (
                header("Authorization", "Klaviyo-API-Key {secret}"),
                "pk_secret",
                "authorization",
                "Klaviyo-API-Key pk_secret",
            ),
        ] {
            let Injection::Header(header, value) = prepared(&auth, secret) else { panic!("{auth:?}") };
            assert_eq!((header.as_str(), value.to_str().unwrap()), (name, expected));
            assert_eq!(format!("{value:?}"), "Sensitive");
        }
        let Injection::Query { pair, .. } =
            prepared(&Auth::Query { slot: slot(), name: "api key".into() }, "a&b=c d/ü")
        else {
            panic!("no query");
        };
        assert_eq!(pair.as_str(), "api%20key=a%26b%3Dc%20d%2F%C3%BC");
    }

    #[test]
    fn a_credential_that_cannot_be_used_says_so_without_quoting_it() {
        for (auth, secret) in [
            (Auth::Bearer { slot: slot() }, "secret-with\r\nHost: evil"),
            (Auth::Bearer { slot: slot() }, "secret-with-newline\n"),
            (Auth::Basic { slot: slot() }, "secret-without-colon"),
            (header("X-Api-Key", "{secret}"), "secret-ünicode"),
            (Auth::Query { slot: slot(), name: "k".into() }, "secret\0nul"),
            (Auth::Hmac { slot: slot() }, "secret-not-base64"),
        ] {
            let Injection::Unusable(reason) = prepared(&auth, secret) else { panic!("{auth:?}") };
            assert!(reason.contains("operator") && !reason.contains("secret-"), "{reason}");
        }
        assert!(matches!(
            Injection::prepare(Some(&Auth::Bearer { slot: slot() }), &Credentials::none()),
            Injection::Unusable(_)
        ));
    }

    #[test]
    fn a_manifest_cannot_put_a_credential_into_a_framing_header() {
        for (name, format) in [
            ("Host", "{secret}"),
            ("content-length", "{secret}"),
            ("a b", "{secret}"),
            ("X", ""),
            ("X", "{secret}{secret}"),
            ("X", "{secret}\r\n"),
        ] {
            assert!(judge(&header(name, format)).is_err(), "{name} {format}");
        }
        assert!(judge(&header("authorization", "Token {secret}")).is_ok());
        assert!(judge(&Auth::Query { slot: slot(), name: String::new() }).is_err());
    }
}
