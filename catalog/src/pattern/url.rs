//! URL patterns: which base URLs an operator may give for an endpoint, such as `https://**` or
//! `https://*.example.com/hooks/**`.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use super::{LONGEST, PatternError};

/// A pattern over a whole URL, anchored at both ends.
///
/// In the host part `*` is one label and `**` any number of characters of the host; in the path `*` is one or more
/// characters of one segment and `**` anything. A `**` that ends a pattern without a path covers port, path and query
/// too. A wildcard in the host part never reaches into the path: `https://**.example.com/**` admits
/// `https://a.b.example.com/x` and not `https://evil.test/x.example.com/`.
///
/// An `https` pattern that admits a loopback host admits it by plain `http` too: reaching one at all is the deployment's
/// decision, made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UrlPattern {
    text: String,
    scheme: &'static str,
    authority: Vec<Token>,
    rest: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Token {
    Byte(u8),
    /// One or more bytes within a label or segment.
    One,
    /// Any number of bytes.
    Any,
}

/// Parses a base URL and refuses what must not be one: a scheme other than `https` (plain `http` only to this
/// machine's loopback), user information or a fragment.
///
/// # Errors
/// [`PatternError`] says what is wrong.
pub fn base_url(text: &str) -> Result<Url, PatternError> {
    let fail = |problem| Err(PatternError::new(text, problem));
    if text.len() > LONGEST {
        return fail("a URL has at most 4096 bytes");
    }
    // The URL standard strips tabs and line ends and surrounding spaces silently; nobody means them.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return fail("a URL has no spaces, control characters or backslashes");
    }
    let Ok(url) = Url::parse(text) else {
        return fail("not a valid URL; expected https://HOST/PATH");
    };
    // Without the two slashes `https:host` would be read as `https://host`; a reader would not.
    if !text.get(url.scheme().len()..).is_some_and(|rest| rest.starts_with("://")) {
        return fail("not a valid URL; expected https://HOST/PATH");
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return fail("a URL names a host"),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return fail("the scheme must be https (http is allowed to a loopback host only)"),
    }
    if !url.username().is_empty() || url.password().is_some() || text.contains('@') && authority_of(text).contains('@')
    {
        return fail("a URL must not contain a user name or password; give them as a credential");
    }
    if url.fragment().is_some() {
        return fail("a base URL must not contain a fragment (#)");
    }
    Ok(url)
}

fn authority_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or("")
}

impl UrlPattern {
    /// The pattern as the manifest writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern admits a URL. One that is no valid base URL ([`base_url`]) is never admitted.
    #[must_use]
    pub fn matches(&self, url: &str) -> bool {
        base_url(url).is_ok_and(|url| self.admits(&url))
    }

    fn admits(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        // Plain http got here to a loopback host only ([`base_url`]). The host's gate refuses loopback unless the deployment
        // names it for development, so a pattern need not say it a second time.
        if url.scheme() != self.scheme && url.scheme() != "http" {
            return false;
        }
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut rest = url.path().to_owned();
        if let Some(query) = url.query() {
            rest.push('?');
            rest.push_str(query);
        }
        // `https://host` and `https://host/` are one URL.
        let rest = if rest == "/" && self.rest.is_empty() { "" } else { rest.as_str() };
        glob(&self.authority, authority.as_bytes(), b"./:@") && glob(&self.rest, rest.as_bytes(), b"/?")
    }
}

/// Matches by following all positions of the pattern at once: linear in the text for any number of wildcards.
fn glob(pattern: &[Token], text: &[u8], ends_one: &[u8]) -> bool {
    let close = |states: &mut Vec<bool>| {
        for (at, token) in pattern.iter().enumerate() {
            if *token == Token::Any
                && states.get(at) == Some(&true)
                && let Some(next) = states.get_mut(at + 1)
            {
                *next = true;
            }
        }
    };
    // A state at `at` means: everything before token `at` is matched.
    let mut states = vec![false; pattern.len() + 1];
    if let Some(first) = states.first_mut() {
        *first = true;
    }
    close(&mut states);
    for byte in text {
        let mut next = vec![false; pattern.len() + 1];
        for (at, token) in pattern.iter().enumerate() {
            if states.get(at) != Some(&true) {
                continue;
            }
            let (stay, go) = match token {
                Token::Byte(expected) => (false, expected == byte),
                Token::One => (!ends_one.contains(byte), !ends_one.contains(byte)),
                Token::Any => (true, false),
            };
            if stay && let Some(slot) = next.get_mut(at) {
                *slot = true;
            }
            if go && let Some(slot) = next.get_mut(at + 1) {
                *slot = true;
            }
        }
        close(&mut next);
        states = next;
    }
    states.last() == Some(&true)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let wildcard_before = matches!(out.last(), Some(Token::One | Token::Any));
        if byte != b'*' {
            out.push(Token::Byte(byte));
        } else if wildcard_before {
            return None;
        } else if bytes.next_if_eq(&b'*').is_some() {
            out.push(Token::Any);
        } else {
            out.push(Token::One);
        }
    }
    Some(out)
}

impl FromStr for UrlPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fail = |problem| PatternError::new(text, problem);
        if text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return Err(fail("a URL pattern has at most 4096 bytes of visible ASCII without backslash"));
        }
        let (scheme, after) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(after), _) => ("https", after),
            (None, Some(after)) => ("http", after),
            (None, None) => return Err(fail("a URL pattern starts with https://")),
        };
        let (host, path) = after.find('/').map_or((after, None), |at| (after.get(..at).unwrap_or(""), after.get(at..)));
        if host.is_empty() || host.bytes().any(|b| b.is_ascii_uppercase() || matches!(b, b'@' | b'?' | b'#')) {
            return Err(fail("a URL pattern names a host in lower case, without user information"));
        }
        // `find` on the colon after the last bracket, so that an IPv6 literal keeps its colons.
        let name = if host.starts_with('[') {
            host.split_inclusive(']').next().unwrap_or(host)
        } else {
            host.split(':').next().unwrap_or(host)
        };
        if scheme == "http" && !["localhost", "127.0.0.1", "[::1]"].contains(&name) {
            return Err(fail("http:// is allowed to a loopback host only; use https://"));
        }
        if path.is_some_and(|path| path.contains('#')) {
            return Err(fail("a URL pattern has no fragment"));
        }
        let doubled = || fail("write '*' or '**', not wildcards side by side");
        let authority = tokens(host).ok_or_else(doubled)?;
        let rest = match path {
            Some(path) => tokens(path).ok_or_else(doubled)?,
            None if authority.last() == Some(&Token::Any) => vec![Token::Any],
            None => Vec::new(),
        };
        Ok(Self { text: text.to_owned(), scheme, authority, rest })
    }
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_admits_whole_urls_only() {
        for (text, yes, no) in [
            (
                "https://**",
                vec![
                    "https://a.test",
                    "https://a.test/",
                    "https://a.test:8443/x/y?z=1",
                    "https://127.0.0.1/x",
                    "https://[::1]:1/x",
                    "http://127.0.0.1:4010/x",
                ],
                vec!["http://a.test/", "ftp://a.test/", "https://", "a.test", ""],
            ),
            (
                "https://*.example.com/hooks/**",
                vec!["https://a.example.com/hooks/", "https://A.Example.COM/hooks/x/y?z"],
                vec![
                    "https://example.com/hooks/x",
                    "https://a.b.example.com/hooks/x",
                    "https://a.example.com/hook",
                    "https://a.example.com:444/hooks/x",
                    "https://evil.test/a.example.com/hooks/x",
                    "https://a.example.com.evil.test/hooks/x",
                    "https://a.example.com/hooks/../admin",
                ],
            ),
            (
                "https://**.example.com/**",
                vec!["https://a.b.example.com/x"],
                vec![
                    "https://evil.test/.example.com/x",
                    "https://evil.test?.example.com/x",
                    "https://evilexample.com/x",
                ],
            ),
            (
                "https://api.example.com",
                vec!["https://api.example.com", "https://api.example.com/", "https://api.example.com:443"],
                vec!["https://api.example.com/x", "https://api.example.com/?x", "https://api.example.com:444"],
            ),
            (
                "https://h.test/a/*/c",
                vec!["https://h.test/a/b.json/c"],
                vec!["https://h.test/a//c", "https://h.test/a/b/b/c", "https://h.test/a/b/c/d"],
            ),
            (
                "https://h.test/hook-*",
                vec!["https://h.test/hook-1"],
                vec!["https://h.test/hook-", "https://h.test/hook-1/x", "https://h.test/hook-1?x=1"],
            ),
            (
                "http://127.0.0.1:*/**",
                vec!["http://127.0.0.1:8080/x"],
                vec!["https://127.0.0.1:8080/x", "http://localhost:8080/x"],
            ),
        ] {
            let pattern: UrlPattern = text.parse().unwrap();
            for url in yes {
                assert!(pattern.matches(url), "{text} must admit {url}");
            }
            for url in no {
                assert!(!pattern.matches(url), "{text} must not admit {url}");
            }
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_with_its_reason() {
        for (url, reason) in [
            ("https://user@a.test/", "user name"),
            ("https://user:pass@a.test/", "user name"),
            ("https://@a.test/", "user name"),
            ("https://:@a.test/", "user name"),
            ("https://a.test/#x", "fragment"),
            ("https://a.test/#", "fragment"),
            ("http://a.test/", "https"),
            ("javascript:alert(1)", "expected"),
            ("https:a.test", "expected"),
            ("https://a.test/a b", "spaces"),
            ("https://a.\ttest/", "spaces"),
            (" https://a.test/", "spaces"),
            ("https:\\\\a.test", "backslash"),
            ("https://a.test:99999/", "valid"),
            ("file:///etc/passwd", "host"),
            ("", "valid"),
        ] {
            let error = base_url(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url:?}: {error}");
        }
        assert!(base_url("http://localhost:8080/x").is_ok());
        assert!(base_url("https://a.test/people/x@y").is_ok());
    }

    #[test]
    fn an_unclear_pattern_is_refused() {
        for bad in [
            "",
            "**",
            "a.test",
            "ftp://a.test",
            "http://**",
            "http://a.test/**",
            "https://",
            "https:///x",
            "https://A.test",
            "https://u@a.test",
            "https://a.test/#x",
            "https://***",
            "http://localhost.evil.test/",
        ] {
            assert!(bad.parse::<UrlPattern>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_host_wildcard_never_admits_another_domain(host in "[a-z.]{1,12}\\.(test|example)", path in "(/[a-z.:]{0,8}){0,3}(\\?[a-z./=]{0,8})?") {
            let pattern: UrlPattern = "https://**.good.test/**".parse().unwrap();
            let url = format!("https://{host}{path}");
            if pattern.matches(&url) {
                prop_assert!(host.ends_with(".good.test"), "{}", url);
            }
        }

        #[test]
        fn every_valid_url_is_admitted_by_itself_as_pattern(host in "[a-z]{1,8}\\.test", path in "(/[a-z0-9]{1,8}){0,4}") {
            let url = format!("https://{host}{path}");
            prop_assert!(url.parse::<UrlPattern>().unwrap().matches(&url));
        }
    }
}
