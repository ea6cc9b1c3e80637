//! Relative paths: absolute URLs, ways up, encoded separators, line breaks; and what a manifest does not grant. Beside
//! them paths that look alike and mean one thing only, which arrive as they were given.

use http::Method;
use sgen_egress::Request;

use crate::exchange;
use crate::kit::{Downstream, get};
use crate::lab::Lab;
use crate::tally::Tally;

const RELATIVE: &str = "it must start with '/'";
const EMPTY: &str = "an empty segment";
const DOTS: &str = "a '.' or '..' segment";
const ENCODED: &str = "an encoded slash, backslash or control character";
const CHARACTER: &str = "a character that must be percent-encoded";
const ESCAPE: &str = "a broken percent-escape";

const REFUSED: [(&str, &str); 70] = [
    ("https://evil.example/", RELATIVE),
    ("http://169.254.169.254/latest/meta-data/", RELATIVE),
    ("HTTPS://evil.example/", RELATIVE),
    ("https:/evil.example", RELATIVE),
    ("file:///etc/passwd", RELATIVE),
    ("evil.example/x", RELATIVE),
    ("@evil.example/", RELATIVE),
    (":80@evil.example/", RELATIVE),
    (":8080/", RELATIVE),
    (".evil.example/", RELATIVE),
    ("?a=b", RELATIVE),
    ("#a", RELATIVE),
    ("*", RELATIVE),
    ("\\\\evil.example\\x", RELATIVE),
    ("\\/evil.example", RELATIVE),
    (" /x", RELATIVE),
    ("\t/x", RELATIVE),
    ("\r\n/x", RELATIVE),
    ("..", RELATIVE),
    ("../x", RELATIVE),
    ("%2F%2Fevil.example", RELATIVE),
    ("//evil.example/x", EMPTY),
    ("///evil.example/x", EMPTY),
    ("//", EMPTY),
    ("/a//b", EMPTY),
    ("/a///", EMPTY),
    ("/\\evil.example/x", CHARACTER),
    ("/a\\..\\b", CHARACTER),
    ("/..", DOTS),
    ("/.", DOTS),
    ("/../x", DOTS),
    ("/./x", DOTS),
    ("/a/..", DOTS),
    ("/a/../../x", DOTS),
    ("/a/..;/b", DOTS),
    ("/a/..;x=1/b", DOTS),
    ("/a/.;x/b", DOTS),
    ("/a/%2e%2e/b", DOTS),
    ("/a/%2E%2E/b", DOTS),
    ("/a/.%2e/b", DOTS),
    ("/a/%2e./b", DOTS),
    ("/a/%2e/b", DOTS),
    ("/a/%252e%252e/b", DOTS),
    ("/a/%25252e%25252e/b", DOTS),
    ("/a/%2e%2e;x/b", DOTS),
    ("/a/..%3bx/b", DOTS),
    ("/a/%2525252525252e", ESCAPE),
    ("/a%2fb", ENCODED),
    ("/a%2Fb", ENCODED),
    ("/a/..%2fb", ENCODED),
    ("/a/..%5cb", ENCODED),
    ("/a%5Cb", ENCODED),
    ("/a%252fb", ENCODED),
    ("/a%255cb", ENCODED),
    ("/a%00", ENCODED),
    ("/a%2500", ENCODED),
    ("/a%0d%0aHost:%20evil.example", ENCODED),
    ("/a%0a", ENCODED),
    ("/a%09b", ENCODED),
    ("/a%7f", ENCODED),
    ("/a HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /b", CHARACTER),
    ("/a\r\nX-Injected: 1", CHARACTER),
    ("/a\nb", CHARACTER),
    ("/a\0b", CHARACTER),
    ("/a b", CHARACTER),
    ("/a#fragment", CHARACTER),
    ("/a?b=\r\nX-Injected: 1", CHARACTER),
    ("/a?b#c", CHARACTER),
    ("/ä", CHARACTER),
    ("/a\u{ff0f}b", CHARACTER),
];

const MORE_REFUSED: [(&str, &str); 9] = [
    ("/a\u{2025}b", CHARACTER),
    ("/a|b", CHARACTER),
    ("/<a>", CHARACTER),
    ("/a?b=\u{0}", CHARACTER),
    ("/a?b c", CHARACTER),
    ("/a%", ESCAPE),
    ("/a%2", ESCAPE),
    ("/a%zz", ESCAPE),
    ("/a?b=%g0", ESCAPE),
];

const ALLOWED: [&str; 27] = [
    "/",
    "/x",
    "/x/",
    "/https:evil.example",
    "/@evil.example/x",
    "/:8080/x",
    "/.evil.example/x",
    "/evil.example/x",
    "/a/...",
    "/a..b/c",
    "/..a/b",
    "/a../b",
    "/a/.hidden",
    "/a;v=1/b",
    "/a;..",
    "/a/x%2e%2e/b",
    "/x%25y",
    "/100%25",
    "/v1/people/x%40example.com",
    "/users/me@x/~y/(1)",
    "/a?b=c",
    "/a?b=%2F..%2F",
    "/a?b=/../c",
    "/a?next=https://evil.example/",
    "/a?b=//evil.example",
    "/profiles?fields[profile]=email&filter=equals(email,%22a%22)",
    "/a?q=a?b",
];

/// A method and a path, of which the manifest grants `POST /v1/*/items/**` alone.
const NOT_GRANTED: [(Method, &str); 12] = [
    (Method::GET, "/v1/a/items"),
    (Method::PUT, "/v1/a/items"),
    (Method::DELETE, "/v1/a/items/1"),
    (Method::CONNECT, "/v1/a/items"),
    (Method::TRACE, "/v1/a/items"),
    (Method::OPTIONS, "/v1/a/items"),
    (Method::POST, ""),
    (Method::POST, "/"),
    (Method::POST, "/v1/items"),
    (Method::POST, "/v1/a/b/items"),
    (Method::POST, "/V1/a/items"),
    (Method::POST, "/v2/a/items"),
];

const GRANTED: [&str; 5] = ["/v1/a/items", "/v1/a/items/", "/v1/a/items/1/2", "/v1/%61/items", "/v1/a/%69tems?x=/v2/a"];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for (path, words) in REFUSED.into_iter().chain(MORE_REFUSED) {
        refuse(lab, tally, path, words).await;
    }
    let long = format!("/{}", "a".repeat(8 * 1024));
    refuse(lab, tally, &long, "it is longer than 8192 bytes").await;
    allow(lab, tally, long.get(..8 * 1024).unwrap()).await;
    for path in ALLOWED {
        allow(lab, tally, path).await;
    }
    for (method, path) in NOT_GRANTED {
        let downstream = Downstream::ok().await;
        let vector = format!("{method} {path:?} where POST /v1/*/items/** is granted");
        let outcome = granted(lab, &downstream, method, path).await.before_the_wire(&downstream);
        tally.refused(vector, "the manifest does not grant", &outcome);
    }
    for path in GRANTED {
        let downstream = Downstream::ok().await;
        let exchange = granted(lab, &downstream, Method::POST, path).await;
        let outcome = exchange.seen_by(&downstream, |seen| seen.uri.clone());
        tally.allowed(format_args!("POST {path:?} where POST /v1/*/items/** is granted"), path, &outcome);
    }
}

async fn refuse(lab: &Lab, tally: &mut Tally, path: &str, words: &str) {
    let downstream = Downstream::ok().await;
    let exchange = exchange::send(lab, downstream.address, |_| {}, None, get(path)).await;
    tally.refused(format_args!("the path {path:?}"), words, &exchange.before_the_wire(&downstream));
}

async fn allow(lab: &Lab, tally: &mut Tally, path: &str) {
    let downstream = Downstream::ok().await;
    let exchange = exchange::send(lab, downstream.address, |_| {}, None, get(path)).await;
    let outcome = exchange.seen_by(&downstream, |seen| seen.uri.clone());
    tally.allowed(format_args!("the path {path:?}"), path, &outcome);
}

async fn granted(lab: &Lab, downstream: &Downstream, method: Method, path: &str) -> exchange::Exchange {
    let change = |spec: &mut sgen_egress::EndpointSpec| {
        for rule in &mut spec.allow {
            rule.methods = vec![Method::POST];
            rule.paths = vec!["/v1/*/items/**".to_owned()];
        }
    };
    exchange::send(lab, downstream.address, change, None, Request { method, ..get(path) }).await
}
