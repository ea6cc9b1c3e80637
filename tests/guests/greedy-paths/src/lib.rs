//! Tries other endpoints, absolute URLs, ways up and out of the path, forbidden methods and headers, and reports each
//! attempt in its log: `attempt` with `what` and `result`, which is `denied`, another send error's kind, or a status.
//! Delivers always.

use sgen_connector_sdk::{Connector, Endpoint, Event, Method, Outcome, Request, SendError, Verdict, export, log};

/// Settings are of no interest here.
#[derive(serde::Deserialize)]
pub struct Settings {}

/// The guest.
pub struct GreedyPaths;

impl Connector for GreedyPaths {
    type Settings = Settings;

    fn deliver(_settings: &Settings, batch: &[Event]) -> Vec<Outcome> {
        for name in ["admin", "", "API", "api ", "../api", "api\0", "https://example.com", "localhost"] {
            report("open", name, &Endpoint::open(name).map(|_| "opened".to_owned()));
        }
        let endpoint = match Endpoint::open("api") {
            Ok(endpoint) => endpoint,
            Err(error) => return batch.iter().map(|_| Outcome::Failed(error.clone().into())).collect(),
        };
        let send = |request: Request| endpoint.send(request).map(|response| response.status.to_string());
        for path in PATHS {
            report("path", path, &send(Request::get(path)));
        }
        for method in [Method::Put, Method::Patch, Method::Delete, Method::Head] {
            report("method", method.name(), &send(Request::new(method, "/echo")));
        }
        for (name, value) in HEADERS {
            report("header", name, &send(Request::get("/echo").header(name, value)));
        }
        report("granted", "/echo", &send(Request::get("/echo")));
        batch.iter().map(|_| Outcome::Delivered(None)).collect()
    }

    fn check(_settings: &Settings) -> Verdict {
        Verdict::unverifiable("A test guest has nothing to probe.")
    }
}

export!(GreedyPaths);

const PATHS: [&str; 24] = [
    "",
    "/",
    "/admin",
    "/echo/",
    "/echo/more",
    "/ECHO",
    "echo",
    "//evil.example/echo",
    "///evil.example/echo",
    "https://evil.example/echo",
    "http://169.254.169.254/latest/meta-data/",
    "@evil.example/echo",
    ":80@evil.example/echo",
    ".evil.example/echo",
    "/echo/../admin",
    "/echo/%2e%2e/admin",
    "/echo/%2E%2E%2Fadmin",
    "/echo/..%5cadmin",
    "\\\\evil.example\\echo",
    "/\\evil.example/echo",
    "/echo#fragment",
    "/echo HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /admin",
    "/echo\0",
    "/echo?x=\r\nX-Injected: 1",
];

const HEADERS: [(&str, &str); 26] = [
    ("Authorization", "Bearer stolen"),
    ("authorization", "Basic c3RvbGVuOg=="),
    ("AUTHORIZATION", "x"),
    ("Proxy-Authorization", "Basic c3RvbGVuOg=="),
    ("Cookie", "session=1"),
    ("Host", "evil.example"),
    (":authority", "evil.example"),
    (":path", "/admin"),
    ("Content-Length", "0"),
    ("Transfer-Encoding", "chunked"),
    ("Connection", "close"),
    ("Keep-Alive", "timeout=600"),
    ("Upgrade", "websocket"),
    ("TE", "trailers"),
    ("Trailer", "x-late"),
    ("Expect", "100-continue"),
    ("Proxy-Connection", "keep-alive"),
    ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ("webhook-signature", "v1,forged"),
    ("webhook-timestamp", "0"),
    ("x-two lines", "a"),
    ("x-bad\r\ninjected", "a"),
    ("x-value", "a\r\ninjected: 1"),
    ("x-value", "nul\0"),
    ("", "no name"),
    ("x-umlaut-\u{fc}", "a"),
];

fn report(what: &str, attempt: &str, result: &Result<String, SendError>) {
    let (result, message) = match result {
        Ok(answer) => (answer.clone(), ""),
        Err(error) => (format!("{:?}", error.kind).to_lowercase(), error.message.as_str()),
    };
    log::info("attempt", &[("what", &what), ("attempt", &attempt), ("result", &result), ("message", &message)]);
}
