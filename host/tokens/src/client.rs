//! The credential of an OAuth client (RFC 6749, 2.3.1).

use serde::Deserialize;
use zeroize::Zeroizing;

/// A client's id, and its secret if it has one.
pub struct Client {
    id: String,
    secret: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    client_id: String,
    client_secret: Option<String>,
}

impl Client {
    /// Reads `CLIENT_ID:CLIENT_SECRET`, or `{"client_id": …, "client_secret": …}` for ids with a colon and for clients without
    /// a secret.
    ///
    /// # Errors
    /// What is wrong, without repeating anything of it.
    pub fn parse(credential: &[u8]) -> Result<Self, &'static str> {
        const FORM: &str =
            "it must read CLIENT_ID:CLIENT_SECRET, or {\"client_id\": \"…\", \"client_secret\": \"…\"} in JSON";
        let text = std::str::from_utf8(credential).map_err(|_| FORM)?;
        let (id, secret) = if text.trim_start().starts_with('{') {
            let Form { client_id, client_secret } = serde_json::from_str(text).map_err(|_| FORM)?;
            (client_id, client_secret.map(Zeroizing::new))
        } else {
            let (id, secret) = text.split_once(':').ok_or(FORM)?;
            (id.to_owned(), Some(Zeroizing::new(secret.to_owned())))
        };
        // RFC 6749, appendices A.1 and A.2.
        let visible =
            |text: &str| !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text;
        // A shorter secret could not be told from ordinary text when answers are scrubbed.
        let sound = visible(&id) && secret.as_ref().is_none_or(|secret| visible(secret) && secret.len() >= 8);
        if sound { Ok(Self { id, secret }) } else { Err(FORM) }
    }

    /// The id, which is public.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_client_is_read_from_either_form() {
        for (text, id, secret) in [
            ("app-1:s3cr:et-1", "app-1", Some("s3cr:et-1")),
            ("{\"client_id\": \"a:b\", \"client_secret\": \"secret-1\"}", "a:b", Some("secret-1")),
            ("{\"client_id\": \"public\"}", "public", None),
        ] {
            let client = Client::parse(text.as_bytes()).unwrap();
            assert_eq!((client.id(), client.secret()), (id, secret));
        }
    }

    #[test]
    fn what_is_no_client_is_refused_without_quoting_it() {
        for text in
            ["", "secret-alone", "id:", ":secret-1", "id:short", "id:secret-1\n", "{\"id\": \"secret-1\"}", "{secret-1"]
        {
            let said = Client::parse(text.as_bytes()).err().unwrap();
            assert!(said.contains("CLIENT_ID") && !said.contains("secret-1"), "{text}");
        }
        assert!(Client::parse(&[0xff; 12]).is_err());
    }
}
