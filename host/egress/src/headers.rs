//! Headers: which a guest may set, which it may see. Pure.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

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
/// be told another method, path, host or origin than the gate judged. Given in lower case.
pub(crate) fn reserved(name: &str) -> bool {
    let name = as_servers_read(name);
    matches!(
        name.as_ref(),
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
            | "x-original-uri"
            | "x-rewrite-url"
            | "x-original-host"
            | "x-host"
            | "x-real-ip"
            | "x-client-ip"
            | "true-client-ip"
            | "x-forwarded"
    ) || ["proxy-", "sec-", "x-forwarded-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Servers that hand headers on as variables (RFC 3875, 4.1.18) cannot tell `_` from `-`: a name with either is the same.
pub(crate) fn as_servers_read(name: &str) -> Cow<'_, str> {
    if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) }
}

/// Adds a guest's headers to a request. `own` says of a name, as servers read it, whether it is the credential's.
pub(crate) fn admit(
    given: Vec<(String, String)>,
    own: impl Fn(&str) -> bool,
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
        if reserved(header.as_str()) || own(&as_servers_read(header.as_str())) {
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

/// Judges the framing of a response. RFC 9112, 6.3 says how to read a length that is given twice; whoever stands between may
/// read it otherwise, and then a body's rest is taken for the next response.
pub(crate) fn one_length(response: &HeaderMap) -> Result<(), &'static str> {
    let lengths =
        response.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|b| *b == b',')).count();
    let mut codings = response.get_all(TRANSFER_ENCODING).iter();
    match (lengths, codings.next(), codings.next()) {
        (0 | 1, None, _) => Ok(()),
        (0, Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (0, ..) => Err("its transfer is coded in another way than chunked"),
        _ => Err("its length is given in two ways"),
    }
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
            "X_Api_Key",
            "Content_Length",
            "Transfer_Encoding",
            "X_Forwarded-For",
            "x_http_method_override",
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
    fn a_response_has_one_length() {
        let judged = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            one_length(&map)
        };
        for good in [
            &[][..],
            &[("content-length", "2")],
            &[("transfer-encoding", "chunked")],
            &[("transfer-encoding", "Chunked")],
        ] {
            assert!(judged(good).is_ok(), "{good:?}");
        }
        for bad in [
            &[("content-length", "2"), ("content-length", "2")][..],
            &[("content-length", "2, 2")],
            &[("content-length", "2"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert!(judged(bad).is_err(), "{bad:?}");
        }
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
