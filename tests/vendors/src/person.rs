//! A person with a browser, as far as it takes to sign in and consent at the OAuth server's own pages.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use url::Url;

/// Pages and redirects before it is given up.
const STEPS: usize = 20;

/// Follows an authorization URL, signs in, consents, and answers where the browser is sent back to.
///
/// # Errors
/// When the server does not come to that.
pub async fn consent(authorize: &str, redirect: &str) -> Result<Url> {
    let client = Client::builder().redirect(Policy::none()).no_proxy().build()?;
    let mut cookies = BTreeMap::new();
    let mut at = Url::parse(authorize)?;
    let mut form: Option<Vec<(&str, &str)>> = None;
    for _ in 0..STEPS {
        if at.as_str().starts_with(redirect) {
            return Ok(at);
        }
        let shown = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let request = match form.take() {
            Some(fields) => {
                let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                client.post(at.clone()).header("content-type", "application/x-www-form-urlencoded").body(body)
            }
            None => client.get(at.clone()),
        };
        let answer = request.header(COOKIE, shown).send().await?;
        keep(&answer, &mut cookies);
        if let Some(location) = answer.headers().get(LOCATION) {
            at = at.join(location.to_str()?)?;
            continue;
        }
        let status = answer.status();
        let page = answer.text().await?;
        let action = between(&page, "action=\"", "\"").with_context(|| format!("{at} answers {status}: {page}"))?;
        at = at.join(&action.replace("&amp;", "&"))?;
        form = Some(match between(&page, "name=\"prompt\" value=\"", "\"") {
            Some("login") => vec![("prompt", "login"), ("login", "ada"), ("password", "of-no-consequence")],
            Some("consent") => vec![("prompt", "consent")],
            other => bail!("an unknown page {other:?}: {page}"),
        });
    }
    bail!("the server does not come to an end; it is at {at}")
}

fn keep(answer: &Response, cookies: &mut BTreeMap<String, String>) {
    for cookie in answer.headers().get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
        let pair = cookie.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            if value.is_empty() {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

fn between<'a>(page: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}
