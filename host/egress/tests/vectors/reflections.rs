//! Reflections: a downstream sends the credential back, in a body, in headers and in what becomes an error, in every
//! spelling. The guest sees none of it. The same text without the secret arrives unchanged.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Response as HttpResponse};
use http_body_util::Full;
use sgen_egress::{Auth, EndpointSpec};

use crate::exchange;
use crate::kit::{Downstream, bearer, get, post, raw_answer, slot};
use crate::lab::Lab;
use crate::tally::{Outcome, Tally};

/// With characters that every spelling changes.
const SECRET: &str = "tok/en+with?\"every\\kind~of=char%acter&7731";
/// As long, of the same characters.
const HARMLESS: &str = "not/an+with?\"every\\kind~of=char%acter&7731";

const REDACTED: &str = "[redacted]";

type Spelling = (&'static str, fn(&str) -> String);

const SPELLINGS: [Spelling; 16] = [
    ("raw", str::to_owned),
    ("base64", |text| STANDARD.encode(text)),
    ("base64 without padding", |text| STANDARD_NO_PAD.encode(text)),
    ("base64url", |text| URL_SAFE.encode(text)),
    ("base64url without padding", |text| URL_SAFE_NO_PAD.encode(text)),
    ("base64 one byte in", |text| STANDARD.encode(format!("u{text}"))),
    ("base64 two bytes in", |text| STANDARD.encode(format!("u:{text}"))),
    ("hex", |text| hex::encode(text)),
    ("upper hex", |text| hex::encode_upper(text)),
    ("percent", |text| percent(text, false, true)),
    ("lower percent", |text| percent(text, false, false)),
    ("percent of every byte", |text| percent(text, true, true)),
    ("JSON", |text| text.replace('\\', "\\\\").replace('"', "\\\"")),
    ("JSON with slashes", |text| text.replace('\\', "\\\\").replace('"', "\\\"").replace('/', "\\/")),
    ("JSON as code points", |text| {
        text.chars().fold(String::new(), |out, c| out + &format!("\\u{:04x}", u32::from(c)))
    }),
    ("HTML", |text| text.replace('&', "&amp;").replace('"', "&quot;")),
];

/// Headers that a guest sees, and may therefore hold a reflection.
const SHOWN: [&str; 3] = ["location", "x-request-id", "etag"];
/// Headers that no guest sees.
const HIDDEN: [&str; 5] = ["set-cookie", "www-authenticate", "authorization", "x-echo-authorization", "server"];

fn percent(text: &str, all: bool, upper: bool) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let _ = match (plain && !all, upper) {
            (true, _) => write!(out, "{}", char::from(byte)),
            (false, true) => write!(out, "%{byte:02X}"),
            (false, false) => write!(out, "%{byte:02x}"),
        };
        out
    })
}

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for (name, spell) in SPELLINGS {
        in_the_body(lab, tally, name, spell).await;
        in_a_header(lab, tally, name, spell).await;
    }
    for header in HIDDEN {
        let outcome = header_of(lab, header, SECRET.to_owned()).await;
        let said = match outcome.said {
            Ok(seen) if seen == "None" => Err("no guest sees it".to_owned()),
            said => said,
        };
        tally.refused(format_args!("the header {header}"), "no guest sees it", &Outcome { said, ..outcome });
    }
    in_an_error(lab, tally).await;
}

fn auth(spec: &mut EndpointSpec) {
    spec.auth = bearer();
}

/// What is refused is a text with the secret in it; what stands in its place says so.
fn redacted(outcome: Outcome, spelled: &str) -> Outcome {
    let said = match outcome.said {
        Ok(seen) if seen.contains(REDACTED) && !seen.contains(spelled) && !seen.contains("every") => Err(seen),
        said => said,
    };
    Outcome { said, ..outcome }
}

async fn in_the_body(lab: &Lab, tally: &mut Tally, name: &str, spell: fn(&str) -> String) {
    for (text, secret) in [(SECRET, true), (HARMLESS, false)] {
        let spelled = spell(text);
        let body = format!("{{\"error\":\"the token {spelled} is unknown\"}}");
        let answer = Bytes::from(body.clone());
        let downstream = Downstream::answering(move |_| HttpResponse::new(Full::new(answer.clone()))).await;
        let exchange = exchange::send(lab, downstream.address, auth, Some(SECRET), get("/")).await;
        let outcome = exchange.after_the_wire(|response| String::from_utf8_lossy(&response.body).into_owned());
        let vector = format!("{name} in a body, secret {secret}");
        match secret {
            true => tally.refused(vector, REDACTED, &redacted(outcome, &spelled)),
            false => tally.allowed(vector, &body, &outcome),
        }
    }
}

async fn in_a_header(lab: &Lab, tally: &mut Tally, name: &str, spell: fn(&str) -> String) {
    for header in SHOWN {
        let spelled = spell(SECRET);
        let outcome = header_of(lab, header, spelled.clone()).await;
        tally.refused(format_args!("{name} in {header}"), REDACTED, &redacted(outcome, &spelled));
    }
    let spelled = spell(HARMLESS);
    let outcome = header_of(lab, "x-request-id", spelled.clone()).await;
    tally.allowed(format_args!("{name} of something else in a header"), &format!("{:?}", Some(spelled)), &outcome);
}

/// What a guest sees of a response header.
async fn header_of(lab: &Lab, name: &'static str, value: String) -> Outcome {
    let downstream = Downstream::answering(move |_| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let mut response = HttpResponse::new(Full::default());
        *response.headers_mut() = headers;
        response
    })
    .await;
    let exchange = exchange::send(lab, downstream.address, auth, Some(SECRET), get("/")).await;
    exchange.after_the_wire(|response| {
        let seen = response.headers.into_iter().find(|(given, _)| given == name);
        format!("{:?}", seen.map(|(_, value)| value))
    })
}

/// Errors say what was wrong, and are read by guests and operators.
async fn in_an_error(lab: &Lab, tally: &mut Tally) {
    const PLAIN: &str = "pat-na1-secret-of-errors";
    let address = raw_answer(format!("HTTP/1.1 200 OK\r\nbad header {PLAIN}\r\n\r\n")).await;
    for (title, request, words) in [
        ("a response that is no HTTP", get("/"), "it is not valid HTTP"),
        ("a path", get(&format!("/{PLAIN}%")), REDACTED),
        ("a path that is no path", get(&format!("{PLAIN}/")), REDACTED),
        ("a header's name", post("/", &[(&format!("{PLAIN}:"), "x")], ""), REDACTED),
    ] {
        let outcome =
            exchange::send(lab, address, auth, Some(PLAIN), request).await.after_the_wire(|r| r.status.to_string());
        tally.refused(format_args!("{title} with the secret"), words, &without(outcome, PLAIN));
    }
    let query = |spec: &mut EndpointSpec| spec.auth = Some(Auth::Query { slot: slot("token"), name: "key".into() });
    let outcome =
        exchange::send(lab, address, query, Some(PLAIN), get("/a?b=c")).await.after_the_wire(|r| r.status.to_string());
    tally.refused(
        "a response that is no HTTP, with the secret in the query",
        "it is not valid HTTP",
        &without(outcome, PLAIN),
    );
    let downstream = Downstream::answering(|seen| HttpResponse::new(Full::from(seen.uri.clone()))).await;
    let exchange = exchange::send(lab, downstream.address, query, Some(PLAIN), get("/a?b=c")).await;
    let outcome = exchange.after_the_wire(|response| String::from_utf8_lossy(&response.body).into_owned());
    tally.refused("the query sent back", "/a?b=c&key=[redacted]", &redacted(outcome, PLAIN));
    let untouched = Downstream::ok().await;
    let exchange = exchange::send(lab, untouched.address, auth, Some(PLAIN), get("/another-text%")).await;
    let outcome = exchange.before_the_wire(&untouched);
    tally.refused("a path without the secret", "/another-text", &outcome);
}

/// The outcome, unless its reason tells the secret.
fn without(outcome: Outcome, secret: &str) -> Outcome {
    match &outcome.said {
        Err(reason) if reason.contains(secret) => Outcome { said: Ok("the secret was told".to_owned()), ..outcome },
        _ => outcome,
    }
}
