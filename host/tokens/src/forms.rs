//! What is sent to a token endpoint: forms (RFC 6749, appendix B). Pure.

use std::collections::BTreeMap;

use url::form_urlencoded::{self, Serializer};
use zeroize::Zeroizing;

use crate::client::Client;
use crate::setup::ClientAuth;

/// The grant type of RFC 7523, 2.1.
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Room for any token, so that the text is not moved, and left behind, while it grows.
const ROOM: usize = 32 * 1024;

/// A form.
pub(crate) struct Form(Zeroizing<String>);

impl Form {
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        let mut form = Self(Zeroizing::new(String::with_capacity(ROOM)));
        for (name, value) in pairs {
            form.add(name, value);
        }
        form
    }

    /// Adds what is always sent: the scope, when it is asked for, and the manifest's own parameters.
    pub(crate) fn asking(mut self, scopes: &str, parameters: &BTreeMap<String, String>) -> Self {
        if !scopes.is_empty() {
            self.add("scope", scopes);
        }
        for (name, value) in parameters {
            self.add(name, value);
        }
        self
    }

    /// Adds what names the client, unless HTTP Basic does.
    pub(crate) fn by(mut self, client: &Client, auth: ClientAuth) -> Self {
        match (client.secret(), auth) {
            (Some(_), ClientAuth::Basic) => {}
            (Some(secret), ClientAuth::Form) => {
                self.add("client_id", client.id());
                self.add("client_secret", secret);
            }
            (None, _) => self.add("client_id", client.id()),
        }
        self
    }

    fn add(&mut self, name: &str, value: &str) {
        let start = self.0.len();
        let text = std::mem::take(&mut *self.0);
        *self.0 = Serializer::for_suffix(text, start).append_pair(name, value).finish();
        if start > 0 {
            self.0.insert(start, '&');
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// The user and password of HTTP Basic: both are encoded as in a form before they are joined (RFC 6749, 2.3.1).
pub(crate) fn basic(client: &Client) -> Option<Zeroizing<String>> {
    let secret = client.secret()?;
    let mut pair = Zeroizing::new(String::with_capacity(ROOM));
    pair.extend(form_urlencoded::byte_serialize(client.id().as_bytes()));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(secret.as_bytes()));
    Some(pair)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(text: &str) -> Client {
        Client::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_form_escapes_what_it_holds() {
        let parameters = BTreeMap::from([("audience".to_owned(), "https://api".to_owned())]);
        let form =
            Form::new(&[("grant_type", "refresh_token"), ("refresh_token", "a&b=c d")]).asking("x y", &parameters);
        assert_eq!(
            form.text(),
            "grant_type=refresh_token&refresh_token=a%26b%3Dc+d&scope=x+y&audience=https%3A%2F%2Fapi"
        );
        assert_eq!(Form::new(&[("a", "b")]).asking("", &BTreeMap::new()).text(), "a=b");
    }

    #[test]
    fn a_client_names_itself_in_exactly_one_place() {
        for (text, auth, expected, header) in [
            ("id+1:s3cret/1x", ClientAuth::Basic, "a=b", Some("id%2B1:s3cret%2F1x")),
            ("id+1:s3cret/1x", ClientAuth::Form, "a=b&client_id=id%2B1&client_secret=s3cret%2F1x", None),
            ("{\"client_id\":\"public\"}", ClientAuth::Basic, "a=b&client_id=public", None),
        ] {
            let client = client(text);
            assert_eq!(Form::new(&[("a", "b")]).by(&client, auth).text(), expected);
            if auth == ClientAuth::Basic {
                assert_eq!(basic(&client).as_ref().map(|pair| pair.as_str()), header);
            }
        }
    }
}
