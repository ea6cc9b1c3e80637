//! A guest's headers: those of the host in every spelling, pseudo-headers, line breaks, floods. Beside them headers that
//! differ in one respect, which arrive as they were given.

use sgen_egress::{Auth, Request};

use crate::exchange;
use crate::kit::{Downstream, get, slot};
use crate::lab::Lab;
use crate::tally::Tally;

const HOSTS: &str = "is set by the host, never by a connector";
const NAME: &str = "is not a header name";
const VALUE: &str = "contains a character other than visible ASCII, space and tab";

/// Refused whatever their value.
const RESERVED: [&str; 62] = [
    "authorization",
    "Authorization",
    "AUTHORIZATION",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "Proxy-Status",
    "cookie",
    "Cookie",
    "cookie2",
    "host",
    "Host",
    "connection",
    "Connection",
    "keep-alive",
    "te",
    "TE",
    "trailer",
    "transfer-encoding",
    "Transfer-Encoding",
    "TRANSFER-ENCODING",
    "upgrade",
    "content-length",
    "Content-Length",
    "expect",
    "accept-encoding",
    "user-agent",
    "forwarded",
    "via",
    "http2-settings",
    "webhook-timestamp",
    "webhook-signature",
    "x-http-method",
    "X-HTTP-Method-Override",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-real-ip",
    "true-client-ip",
    "x-client-ip",
    "x-forwarded-for",
    "X-Forwarded-Host",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-forwarded",
    "sec-fetch-mode",
    "sec-websocket-key",
    // Servers that hand headers on as variables read a low line as a hyphen.
    "transfer_encoding",
    "Transfer_Encoding",
    "content_length",
    "proxy_authorization",
    "X_Forwarded_For",
    "x_forwarded-host",
    "x-http_method_override",
    "x_original_url",
    "webhook_signature",
    "webhook_timestamp",
    "user_agent",
    // The header of the endpoint's own credential.
    "x-api-key",
];

const MORE_RESERVED: [&str; 4] = ["X-API-KEY", "x_api_key", "X-Api_Key", "X_API_KEY"];

/// A name and a value, with words of the reason.
const REFUSED: [(&str, &str, &str); 26] = [
    ("", "x", NAME),
    (":authority", "evil.example", NAME),
    (":path", "/admin", NAME),
    (":method", "DELETE", NAME),
    (":scheme", "http", NAME),
    ("host ", "evil.example", NAME),
    (" host", "evil.example", NAME),
    ("host\t", "evil.example", NAME),
    ("host:", "evil.example", NAME),
    ("a b", "x", NAME),
    ("a\r\nhost", "evil.example", NAME),
    ("a\nb", "x", NAME),
    ("a\0", "x", NAME),
    ("ä", "x", NAME),
    ("ｈｏｓｔ", "evil.example", NAME),
    ("a(b", "x", NAME),
    ("a,b", "x", NAME),
    ("a/b", "x", NAME),
    ("x-a", "a\r\nhost: evil.example", VALUE),
    ("x-a", "a\r\n\r\nGET /admin HTTP/1.1", VALUE),
    ("x-a", "a\nb", VALUE),
    ("x-a", "a\rb", VALUE),
    ("x-a", "a\0b", VALUE),
    ("x-a", "ü", VALUE),
    ("x-a", "a\u{7f}", VALUE),
    ("x-a", "\u{560d}\u{560a}host: evil.example", VALUE),
];

const ALLOWED: [(&str, &str); 20] = [
    ("content-type", "application/json"),
    ("Content-Type", "text/plain; charset=utf-8"),
    ("accept", "application/json"),
    ("content-language", "de"),
    ("if-match", "\"1\""),
    ("idempotency-key", "evt_1"),
    ("webhook-id", "evt_1"),
    ("x-authorization", "x"),
    ("authorization-x", "x"),
    ("x-cookie", "x"),
    ("hostname", "x"),
    ("x-transfer-encoding", "chunked"),
    ("x-content-length", "0"),
    ("x-upgrade", "h2c"),
    ("secure", "x"),
    ("proxied", "x"),
    ("x-forward", "x"),
    ("x-api-key-2", "mine"),
    ("x-a", "tab\tand space"),
    ("x_a", "a low line"),
];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for name in RESERVED.into_iter().chain(MORE_RESERVED) {
        refuse(lab, tally, &[(name, "x")], HOSTS).await;
    }
    for (name, value, words) in REFUSED {
        refuse(lab, tally, &[(name, value)], words).await;
    }
    refuse(lab, tally, &[("content-length", "0"), ("content-length", "9")], HOSTS).await;
    refuse(lab, tally, &[("x-a", "1"), ("Transfer-Encoding", "chunked"), ("content-length", "0")], HOSTS).await;
    refuse(lab, tally, &[("connection", "upgrade"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")], HOSTS).await;
    refuse(lab, tally, &[("webhook-id", "1"), ("Webhook-Id", "2")], "webhook-id appears more than once").await;
    refuse(lab, tally, &[("x-a", "1"); 65], "more than 64 headers").await;
    let long = "x".repeat(16 * 1024);
    refuse(lab, tally, &[("x-a", &long)], "more than 16384 bytes").await;
    allow(lab, tally, ("x-a", long.get(..16 * 1024 - 3).unwrap())).await;
    for header in ALLOWED {
        allow(lab, tally, header).await;
    }
}

fn auth() -> Option<Auth> {
    Some(Auth::Header { slot: slot("token"), name: "X-Api-Key".to_owned(), format: "{secret}".to_owned() })
}

async fn send(lab: &Lab, downstream: &Downstream, headers: &[(&str, &str)]) -> exchange::Exchange {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let request = Request { headers, ..get("/") };
    exchange::send(lab, downstream.address, |spec| spec.auth = auth(), Some("the-hosts-own-key"), request).await
}

async fn refuse(lab: &Lab, tally: &mut Tally, headers: &[(&str, &str)], words: &str) {
    let downstream = Downstream::ok().await;
    let exchange = send(lab, &downstream, headers).await;
    let first: Vec<_> = headers.iter().take(3).map(|(name, value)| (name, shown(value))).collect();
    tally.refused(format_args!("the headers {first:?}"), words, &exchange.before_the_wire(&downstream));
}

async fn allow(lab: &Lab, tally: &mut Tally, header: (&str, &str)) {
    let downstream = Downstream::ok().await;
    let exchange = send(lab, &downstream, &[header]).await;
    // The host's own are beside it, unchanged.
    let outcome = exchange.seen_by(&downstream, |seen| {
        let mut given = seen.headers.get_all(header.0).iter().map(|value| value.to_str().unwrap());
        format!("{:?} {:?} {:?}", given.next(), given.next(), seen.header("x-api-key"))
    });
    let seen = format!("{:?} {:?} {:?}", Some(header.1), None::<&str>, Some("the-hosts-own-key"));
    tally.allowed(format_args!("the header {:?}", (header.0, shown(header.1))), &seen, &outcome);
}

fn shown(value: &str) -> &str {
    value.get(..60).unwrap_or(value)
}
