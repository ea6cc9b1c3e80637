//! Credentials: put in where the manifest says, by the host alone, and sent to their own endpoint only.

use std::net::SocketAddr;

use http::Method;
use sgen_egress::{Auth, Request};

use crate::exchange;
use crate::kit::{Downstream, bearer, credentials, get, instance, open_spec, opened, post, slot};
use crate::lab::{Lab, Watch, Zone};
use crate::tally::{Outcome, Tally};

const HOSTS: &str = "is set by the host, never by a connector";
const OPERATOR: &str = "the operator must give it";

/// A query by which a guest would choose the parameter `api_key` itself.
const QUERIES_REFUSED: [&str; 11] = [
    "/?api_key=mine",
    "/?api_key",
    "/?api_key=",
    "/?a=b&api_key=mine",
    "/?a=b;api_key=mine",
    "/?%61pi_key=mine",
    "/?api%5Fkey=mine",
    "/?api%5fkey=mine",
    "/?%61%70%69%5f%6b%65%79=mine",
    "/?a=b&&api_key=mine",
    "/?api_key=mine&api_key=mine",
];

const QUERIES_ALLOWED: [&str; 6] =
    ["/?api_keys=x", "/?xapi_key=x", "/?a=api_key", "/?api-key=x", "/?api=key", "/?a=b%26api_key=mine"];

/// Secrets that cannot be what their scheme needs, by the scheme.
const UNUSABLE: [(Scheme, &str); 13] = [
    (Scheme::Bearer, "line\r\nHost: evil.example"),
    (Scheme::Bearer, "a-final-newline\n"),
    (Scheme::Bearer, " a-space-before"),
    (Scheme::Bearer, "an-ünicode-letter"),
    (Scheme::Bearer, "a-nul\0inside"),
    (Scheme::Header, "line\r\nHost: evil.example"),
    (Scheme::Header, "an-ünicode-letter"),
    (Scheme::Basic, "no-colon-in-it"),
    (Scheme::Basic, "user:pass\r\nword"),
    (Scheme::Query, "a-line\nbreak"),
    (Scheme::Query, "a-nul\0inside"),
    (Scheme::Hmac, "not base64 at all, not at all"),
    (Scheme::Hmac, "whsec_c2hvcnQ="),
];

/// The same schemes with a secret that differs in that respect, and how it arrives.
const USABLE: [(Scheme, &str, &str); 5] = [
    (Scheme::Bearer, "a-plain-token", "authorization: Bearer a-plain-token"),
    (Scheme::Header, "a-plain-key", "x-key: a-plain-key"),
    (Scheme::Basic, "user:password", "authorization: Basic dXNlcjpwYXNzd29yZA=="),
    (Scheme::Query, "a key", "uri: /?api_key=a%20key"),
    (Scheme::Hmac, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "webhook-id: evt_1"),
];

#[derive(Debug, Clone, Copy)]
enum Scheme {
    Bearer,
    Basic,
    Header,
    Query,
    Hmac,
}

impl Scheme {
    fn auth(self) -> Auth {
        let slot = slot("token");
        match self {
            Self::Bearer => Auth::Bearer { slot },
            Self::Basic => Auth::Basic { slot },
            Self::Header => Auth::Header { slot, name: "X-Key".to_owned(), format: "{secret}".to_owned() },
            Self::Query => Auth::Query { slot, name: "api_key".to_owned() },
            Self::Hmac => Auth::Hmac { slot },
        }
    }
}

/// Names that no endpoint of the grant has; it has `api` and `other`.
const UNKNOWN: [&str; 14] = [
    "",
    "API",
    "Api",
    "api ",
    " api",
    "api\0",
    "api\n",
    "apı",
    "../api",
    "api/other",
    "admin",
    "*",
    "https://downstream.example",
    "127.0.0.1",
];

/// Ids under which nothing is signed: they would be part of what is signed.
const IDS_REFUSED: [Option<&str>; 6] = [None, Some(""), Some("a b"), Some("a,b"), Some("a\"b"), Some("a/b")];
const IDS_ALLOWED: [&str; 3] = ["evt_1", "evt.1:2-3", "0"];

const SIGNING: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for path in QUERIES_REFUSED {
        let outcome = sent(lab, Scheme::Query, Some("a-key-of-the-host"), get(path)).await.1;
        tally.refused(format_args!("the guest's query {path:?}"), HOSTS, &outcome);
    }
    for path in QUERIES_ALLOWED {
        let (seen, outcome) = sent(lab, Scheme::Query, Some("a-key-of-the-host"), get(path)).await;
        let outcome = Outcome { said: outcome.said.map(|_| seen), ..outcome };
        tally.allowed(
            format_args!("the guest's query {path:?}"),
            &format!("{path}&api_key=a-key-of-the-host"),
            &outcome,
        );
    }
    for (scheme, secret) in UNUSABLE {
        let request = post("/", &[("webhook-id", "evt_1")], "{}");
        let outcome = sent(lab, scheme, Some(secret), request).await.1;
        tally.refused(format_args!("{scheme:?} with {secret:?}"), OPERATOR, &told_nothing(outcome, secret));
    }
    for scheme in [Scheme::Bearer, Scheme::Basic, Scheme::Header, Scheme::Query, Scheme::Hmac] {
        let outcome = sent(lab, scheme, None, post("/", &[("webhook-id", "evt_1")], "{}")).await.1;
        tally.refused(
            format_args!("{scheme:?} without a credential"),
            "is missing: the operator must give it",
            &outcome,
        );
    }
    for (scheme, secret, arrives) in USABLE {
        let downstream = Downstream::ok().await;
        let request =
            Request { method: Method::POST, headers: vec![("webhook-id".into(), "evt_1".into())], ..get("/") };
        let change = |spec: &mut sgen_egress::EndpointSpec| spec.auth = Some(scheme.auth());
        let exchange = exchange::send(lab, downstream.address, change, Some(secret), request).await;
        let (name, _) = arrives.split_once(": ").unwrap();
        let outcome = exchange.seen_by(&downstream, |seen| match name {
            "uri" => format!("uri: {}", seen.uri),
            name => format!("{name}: {}", seen.header(name).unwrap_or_default()),
        });
        tally.allowed(format_args!("{scheme:?} with {secret:?}"), arrives, &outcome);
    }
    ids(lab, tally).await;
    endpoints(lab, tally).await;
}

/// Sends a request with a credential; answers what the downstream saw as its URI, and the outcome.
async fn sent(lab: &Lab, scheme: Scheme, secret: Option<&str>, request: Request) -> (String, Outcome) {
    let downstream = Downstream::ok().await;
    let change = |spec: &mut sgen_egress::EndpointSpec| spec.auth = Some(scheme.auth());
    let exchange = exchange::send(lab, downstream.address, change, secret, request).await;
    let seen = downstream.seen().first().map(|seen| seen.uri.clone()).unwrap_or_default();
    (seen, exchange.before_the_wire(&downstream))
}

/// The outcome, unless its reason tells the secret.
fn told_nothing(outcome: Outcome, secret: &str) -> Outcome {
    match &outcome.said {
        Err(reason) if reason.contains(secret) => Outcome { said: Ok("the secret was told".to_owned()), ..outcome },
        _ => outcome,
    }
}

async fn ids(lab: &Lab, tally: &mut Tally) {
    for id in IDS_REFUSED {
        let headers: Vec<(&str, &str)> = id.map(|id| ("webhook-id", id)).into_iter().collect();
        let outcome = sent(lab, Scheme::Hmac, Some(SIGNING), post("/", &headers, "{}")).await.1;
        tally.refused(format_args!("a signature with the id {id:?}"), "needs the header webhook-id", &outcome);
    }
    for id in IDS_ALLOWED {
        let outcome = sent(lab, Scheme::Hmac, Some(SIGNING), post("/", &[("webhook-id", id)], "{}")).await.1;
        tally.allowed(format_args!("a signature with the id {id:?}"), "200", &outcome);
    }
}

/// A grant of two endpoints: one with a credential, one without.
async fn endpoints(lab: &Lab, tally: &mut Tally) {
    let (first, second) = (Downstream::ok().await, Downstream::ok().await);
    let watch = Watch::new(lab.world);
    let development: Vec<String> =
        [first.address, second.address].map(|address: SocketAddr| address.to_string()).into();
    let gate = lab.gate(&development, Zone::of(&[]), watch.clone());
    let mut other = open_spec(&format!("http://{}", second.address), None);
    other.name = "other".to_owned();
    let specs = vec![open_spec(&format!("http://{}", first.address), bearer()), other];
    let grant = gate.grant(&instance("vector"), specs, credentials(&[("token", "a-token-of-the-host")])).unwrap();
    for name in UNKNOWN {
        let said = grant.open(name).map(|_| "it opened".to_owned()).map_err(|error| error.message);
        let outcome = Outcome { forbidden: watch.dialled().len(), ..Outcome::clean(said) };
        tally.refused(format_args!("the endpoint {name:?}"), "the manifest grants no endpoint", &outcome);
    }
    let answer = opened(&grant).send(get("/")).await;
    let seen = first.seen().first().and_then(|seen| seen.header("authorization").map(str::to_owned));
    let said = answer.map(|_| format!("{seen:?}")).map_err(|error| error.message);
    let outcome = Outcome { forbidden: watch.beyond(&[first.address]), ..Outcome::clean(said) };
    tally.allowed("a credential at its own endpoint", "Some(\"Bearer a-token-of-the-host\")", &outcome);

    let other = grant.open("other").unwrap_or_else(|error| panic!("{error}"));
    let answer = other.send(get("/")).await;
    let seen = second.seen();
    let carried = seen.iter().any(|seen| format!("{:?} {}", seen.headers, seen.uri).contains("a-token-of-the-host"));
    let said = answer.map(|_| format!("carried {carried}")).map_err(|error| error.message);
    let outcome = Outcome { forbidden: watch.beyond(&[first.address, second.address]), ..Outcome::clean(said) };
    tally.allowed("another endpoint of the same grant", "carried false", &outcome);
    let stolen = other.send(post("/", &[("authorization", "Bearer guessed")], "")).await;
    let said = stolen.map(|response| response.status.to_string()).map_err(|error| error.message);
    tally.refused("a guessed credential at another endpoint", HOSTS, &Outcome::clean(said));
}
