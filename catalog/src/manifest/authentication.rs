//! What makes the authentication of endpoints and their credential slots valid.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Problems, TITLE, token};
use super::raw::{RawAuth, RawCredential, Scheme};
use super::types::{Auth, CredentialKind, CredentialSlot, OAuth, Region, Setting, SettingKind, TokenGrant};
use crate::pattern::base_url;

/// Headers that belong to the host or to the connection (RFC 9110, section 7.6.1), so that no credential is put there.
const HOST_HEADERS: [&str; 13] = [
    "host",
    "cookie",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "expect",
    "accept-encoding",
];

/// Parameters that the host sets itself (RFC 6749, RFC 7636, RFC 7523).
const OWN_PARAMETERS: [&str; 14] = [
    "response_type",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "grant_type",
    "code",
    "code_verifier",
    "refresh_token",
    "assertion",
    "token",
];

pub(super) fn auth(
    p: &mut Problems,
    at: &str,
    raw: RawAuth,
    credentials: &BTreeMap<String, CredentialSlot>,
    settings: &BTreeMap<String, Setting>,
) -> Auth {
    let RawAuth { scheme, slot, name, format, region, region_setting, service } = raw;
    let named = matches!(scheme, Scheme::Header | Scheme::Query);
    if named != name.is_some() {
        p.add(
            format!("{at}.name"),
            if named { "schemes header and query need a name" } else { "only schemes header and query take a name" },
        );
    }
    if format.is_some() && scheme != Scheme::Header {
        p.add(format!("{at}.format"), "only the scheme header takes a format");
    }
    if scheme != Scheme::AwsSigv4 && (region.is_some() || region_setting.is_some() || service.is_some()) {
        p.add(at, "only the scheme aws-sigv4 takes a region and a service");
    }
    let auth = match scheme {
        Scheme::Bearer => Auth::Bearer { slot },
        Scheme::Basic => Auth::Basic { slot },
        Scheme::Header => {
            let name = place(p, at, name.unwrap_or_default(), true);
            Auth::Header { slot, name, format: secret_format(p, at, format) }
        }
        Scheme::Query => Auth::Query { slot, name: place(p, at, name.unwrap_or_default(), false) },
        Scheme::Hmac => Auth::Hmac { slot },
        Scheme::AwsSigv4 => {
            let region = region_of(p, at, region, region_setting, settings);
            let service = service.unwrap_or_default();
            check_scope(p, &format!("{at}.service"), &service);
            Auth::AwsSigv4 { slot, region, service }
        }
        Scheme::AuthorizationCode => Auth::Token { slot, grant: TokenGrant::AuthorizationCode },
        Scheme::ClientCredentials => Auth::Token { slot, grant: TokenGrant::ClientCredentials },
        Scheme::ServiceAccount => Auth::Token { slot, grant: TokenGrant::ServiceAccount },
    };
    match credentials.get(auth.slot()) {
        Some(slot) if !slot.accepts.contains(&auth.needs()) => p.add(
            format!("{at}.slot"),
            format!("[credentials.{}] must accept {:?} for this scheme", auth.slot(), auth.needs().as_str()),
        ),
        Some(slot) if matches!(auth, Auth::Token { .. }) && slot.oauth.is_none() => {
            p.add(format!("{at}.slot"), format!("[credentials.{}] must say oauth.token for this scheme", auth.slot()));
        }
        Some(_) => {}
        None => p.add(format!("{at}.slot"), format!("there is no [credentials.{}]", auth.slot())),
    }
    auth
}

/// The header or query parameter that carries a credential.
fn place(p: &mut Problems, at: &str, name: String, header: bool) -> String {
    if !token(&name) || (header && HOST_HEADERS.contains(&name.to_ascii_lowercase().as_str())) {
        p.add(
            format!("{at}.name"),
            format!(
                "{name:?} cannot carry a credential; write the name of a header or query parameter of the vendor's own"
            ),
        );
    }
    name
}

fn secret_format(p: &mut Problems, at: &str, format: Option<String>) -> String {
    let format = format.unwrap_or_else(|| "{secret}".to_owned());
    let clean = format.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && format.trim() == format;
    if !clean || format.matches("{secret}").count() != 1 || format.replace("{secret}", "").contains(['{', '}']) {
        p.add(format!("{at}.format"), "must be visible ASCII with {secret} exactly once and no other braces");
    }
    format
}

fn region_of(
    p: &mut Problems,
    at: &str,
    region: Option<String>,
    setting: Option<String>,
    settings: &BTreeMap<String, Setting>,
) -> Region {
    match (region, setting) {
        (Some(region), None) => {
            check_scope(p, &format!("{at}.region"), &region);
            Region::Fixed(region)
        }
        (None, Some(name)) => {
            let text = |setting: &Setting| matches!(setting.kind, SettingKind::String | SettingKind::Enum);
            match settings.get(&name) {
                Some(setting) if text(setting) && setting.required => {}
                Some(_) => p.add(
                    format!("{at}.region_setting"),
                    format!("[settings.{name}] must have type \"string\" or \"enum\" and be required"),
                ),
                None => p.add(format!("{at}.region_setting"), format!("there is no [settings.{name}]")),
            }
            Region::Setting(name)
        }
        _ => {
            p.add(at, "the scheme aws-sigv4 needs either region or region_setting");
            Region::Fixed(String::new())
        }
    }
}

/// A region or a service, as AWS writes them in a credential scope.
fn check_scope(p: &mut Problems, at: &str, text: &str) {
    let good = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !good {
        p.add(at, format!("{text:?} is no name of AWS: 1 to 64 of a-z, 0-9 and '-'"));
    }
}

pub(super) fn credential(p: &mut Problems, name: &str, raw: RawCredential) -> CredentialSlot {
    let at = format!("credentials.{name}");
    p.name(&at, name);
    p.text(&format!("{at}.title"), &raw.title, TITLE);
    p.help(&at, raw.help.as_ref());
    if raw.accepts.is_empty() || raw.accepts.iter().collect::<BTreeSet<_>>().len() != raw.accepts.len() {
        p.add(format!("{at}.accepts"), "name at least one kind of credential, each once");
    }
    let is = |kind| raw.accepts.contains(&kind);
    if is(CredentialKind::OAuthGrant) && raw.accepts.len() > 1 {
        p.add(format!("{at}.accepts"), "a grant is obtained and not entered: it is the only kind of its slot");
    }
    let obtains = [CredentialKind::OAuthGrant, CredentialKind::OAuthClient, CredentialKind::ServiceAccount];
    match &raw.oauth {
        Some(_) if !obtains.into_iter().any(is) => {
            p.add(format!("{at}.oauth"), "no kind of credential that this slot accepts obtains tokens");
        }
        Some(oauth) => check_oauth(p, &format!("{at}.oauth"), oauth, is(CredentialKind::OAuthGrant), &raw.accepts),
        None if is(CredentialKind::OAuthGrant) => {
            p.add(format!("{at}.oauth"), "a grant needs authorize, token and client")
        }
        None => {}
    }
    CredentialSlot { title: raw.title, help: raw.help, accepts: raw.accepts, oauth: raw.oauth }
}

fn check_oauth(p: &mut Problems, at: &str, oauth: &OAuth, grant: bool, accepts: &[CredentialKind]) {
    let urls =
        [("token", Some(&oauth.token)), ("authorize", oauth.authorize.as_ref()), ("revoke", oauth.revoke.as_ref())];
    for (name, url) in urls {
        match url.map(|url| base_url(url)) {
            Some(Ok(url)) if url.query().is_some() => {
                p.add(
                    format!("{at}.{name}"),
                    "must have no query; there are authorize_parameters and token_parameters",
                );
            }
            Some(Err(error)) => p.add(format!("{at}.{name}"), error.to_string()),
            Some(Ok(_)) | None => {}
        }
    }
    for (name, given) in [("authorize", oauth.authorize.is_some()), ("client", oauth.client.is_some())] {
        if given != grant {
            let what = if grant { "is needed for a grant" } else { "is for a slot that accepts oauth2-grant" };
            p.add(format!("{at}.{name}"), what);
        }
    }
    if !grant && (oauth.revoke.is_some() || !oauth.authorize_parameters.is_empty()) {
        p.add(at, "revoke and authorize_parameters are for a slot that accepts oauth2-grant");
    }
    if oauth.audience.is_some() && !accepts.contains(&CredentialKind::ServiceAccount) {
        p.add(format!("{at}.audience"), "is for a slot that accepts service-account");
    }
    // RFC 6749, 3.3.
    let sound = |scope: &String| {
        (1..=256).contains(&scope.len()) && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    if oauth.scopes.len() > 64 || !oauth.scopes.iter().all(sound) {
        p.add(format!("{at}.scopes"), "at most 64 scopes of visible ASCII without '\"' and '\\', one text each");
    }
    for (table, parameters) in
        [("authorize_parameters", &oauth.authorize_parameters), ("token_parameters", &oauth.token_parameters)]
    {
        for (name, value) in parameters {
            if !token(name) || OWN_PARAMETERS.contains(&name.as_str()) || value.len() > 1024 {
                p.add(format!("{at}.{table}"), format!("{name:?} is set by the host, or cannot be a parameter"));
            }
        }
    }
}

/// The client of a grant is a slot of its own, whatever it is called.
pub(super) fn check_clients(p: &mut Problems, credentials: &BTreeMap<String, CredentialSlot>) {
    for (name, slot) in credentials {
        let Some(client) = slot.oauth.as_ref().and_then(|oauth| oauth.client.as_ref()) else { continue };
        let accepted = credentials.get(client).is_some_and(|slot| slot.accepts == [CredentialKind::OAuthClient]);
        if !accepted {
            let said = format!("[credentials.{client}] must be there and accept \"oauth2-client\" and nothing else");
            p.add(format!("credentials.{name}.oauth.client"), said);
        }
    }
}
