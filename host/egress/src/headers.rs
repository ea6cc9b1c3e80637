//! Headers: which a guest may set, which it may see. Pure.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Why a guest's headers are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderRefusal {
    #[error("{0:?} is not a header name")]
    Name(String),
    #[error("the header {0} is set by the host, never by a connector")]
    Reserved(String),
    #[error("the value of the header {0} contains a character other than visible ASCII, space and tab")]
    Value(String),
    #[error("it has more than {0} headers")]
    Count(usize),
    #[error("its headers have more than {0} bytes")]
    Size(usize),
    #[error("the header webhook-id appears more than once")]
    Repeated,
}

/// Whether a header belongs to the host: credentials, framing, hop-by-hop, routing, and everything by which a server could
/// be told another method, path, host or origin than the gate judged.
pub(crate) fn reserved(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cookie"
            | "cookie2"
            | "host"
            | "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "expect"
            | "accept-encoding"
            | "user-agent"
            | "forwarded"
            | "via"
            | "http2-settings"
            | "webhook-timestamp"
            | "webhook-signature"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-original-host"
            | "x-host"
            | "x-real-ip"
    ) || ["proxy-", "sec-", "x-forwarded-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Adds a guest's headers to a request.
pub(crate) fn admit(
    given: Vec<(String, String)>,
    own: impl Fn(&HeaderName) -> bool,
    most: usize,
    most_bytes: usize,
    into: &mut HeaderMap,
) -> Result<(), HeaderRefusal> {
    if given.len() > most {
        return Err(HeaderRefusal::Count(most));
    }
    let mut size = 0_usize;
    for (name, value) in given {
        size = size.saturating_add(name.len()).saturating_add(value.len());
        if size > most_bytes {
            return Err(HeaderRefusal::Size(most_bytes));
        }
        // Lower-cases, and refuses pseudo-headers and whatever else is no token.
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else { return Err(HeaderRefusal::Name(name)) };
        if reserved(header.as_str()) || own(&header) {
            return Err(HeaderRefusal::Reserved(name));
        }
        if !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            return Err(HeaderRefusal::Value(name));
        }
        let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) else {
            return Err(HeaderRefusal::Value(name));
        };
        let repeated = into.append(&header, value);
        if repeated && header == "webhook-id" {
            return Err(HeaderRefusal::Repeated);
        }
    }
    Ok(())
}

/// Whether a guest may see a response header, beside those that its endpoint's manifest entry names.
pub(crate) fn visible(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "content-language"
            | "date"
            | "etag"
            | "last-modified"
            | "location"
            | "retry-after"
            | "x-request-id"
            | "request-id"
            | "ratelimit"
            | "x-rate-limit-limit"
            | "x-rate-limit-remaining"
            | "x-rate-limit-reset"
    ) || name.starts_with("x-ratelimit-")
        || name.starts_with("ratelimit-")
}

/// The header by which the gate marks a response of its own (RFC 9209, 2.1). A downstream's is never shown.
pub(crate) const PROXY_STATUS: &str = "proxy-status";

/// Whether a manifest may add a response header to the visible ones. Cookies and challenges carry credentials.
pub(crate) fn may_be_shown(name: &str) -> bool {
    !matches!(
        name,
        "set-cookie" | "set-cookie2" | "www-authenticate" | "proxy-authenticate" | "authentication-info" | PROXY_STATUS
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn admitted(headers: &[(&str, &str)]) -> Result<HeaderMap, HeaderRefusal> {
        let mut map = HeaderMap::new();
        let given = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        admit(given, |name| name == "x-api-key", 4, 100, &mut map).map(|()| map)
    }

    #[test]
    fn headers_of_the_host_are_refused_in_any_case() {
        for name in [
            "Authorization",
            "AUTHORIZATION",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Cookie",
            "Host",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "Content-Length",
            "Expect",
            "Accept-Encoding",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "Webhook-Timestamp",
            "webhook-signature",
            "Sec-Fetch-Mode",
            "User-Agent",
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "X-Api-Key",
        ] {
            assert_eq!(admitted(&[(name, "x")]), Err(HeaderRefusal::Reserved(name.to_owned())), "{name}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for name in ["", ":authority", ":path", "a b", "a:b", "a\r\nb", "ä", "a\0"] {
            assert_eq!(admitted(&[(name, "x")]), Err(HeaderRefusal::Name(name.to_owned())), "{name:?}");
        }
        for value in ["a\r\nHost: evil", "a\nb", "a\0", "ü", "\u{7f}"] {
            assert_eq!(admitted(&[("x-a", value)]), Err(HeaderRefusal::Value("x-a".to_owned())), "{value:?}");
        }
    }

    #[test]
    fn count_and_size_are_capped() {
        assert!(admitted(&[("a", "1"); 4]).is_ok());
        assert_eq!(admitted(&[("a", "1"); 5]), Err(HeaderRefusal::Count(4)));
        assert_eq!(admitted(&[("a", &"x".repeat(100))]), Err(HeaderRefusal::Size(100)));
        assert_eq!(admitted(&[("webhook-id", "1"), ("Webhook-Id", "2")]), Err(HeaderRefusal::Repeated));
    }

    #[test]
    fn only_listed_response_headers_are_seen() {
        for name in ["content-type", "retry-after", "x-ratelimit-remaining", "ratelimit-reset", "location"] {
            assert!(visible(name), "{name}");
        }
        for name in ["set-cookie", "www-authenticate", "server", "x-echo-authorization", "connection"] {
            assert!(!visible(name), "{name}");
        }
        assert!(!may_be_shown("set-cookie"));
    }
}
