//! Signatures for AWS, judged by moto, which computes them again with AWS's own library for Python.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use sgen_egress::{Auth, Endpoint, Method, Request, Response};
use sgen_model::SlotName;

use crate::counterpart::Counterpart;
use crate::rooms::House;

/// moto lets the first calls in without authentication, to make a user, a policy and a key.
const FREE: &str = "3";
/// A key for those, which nobody verifies.
const NOBODY: &str = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const REGION: &str = "eu-central-1";

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// Object names that are escaped in every way.
const KEYS: [&str; 6] = [
    "/captures/plain",
    "/captures/a%20b",
    "/captures/a%2Bb%3Dc%26d",
    "/captures/%E1%88%B4",
    "/captures/it%27s%281%29%21",
    "/captures/2026/11/25/events.json",
];

/// What came of it.
#[derive(Default)]
pub struct Figures {
    requests: u64,
    accepted: u64,
    tampered: u64,
    refused: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, accepted, tampered, refused } = self;
        write!(f, "requests {requests}, accepted {accepted}, tampered {tampered}, refused {refused}")
    }
}

impl Figures {
    /// Whether the claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.requests > 0 && self.accepted == self.requests && self.tampered > 0 && self.refused == self.tampered
    }

    fn accepts(&mut self, what: &str, response: &Response) -> Result<()> {
        self.requests = self.requests.saturating_add(1);
        if !(200..300).contains(&response.status) {
            bail!("{what} is answered with {}: {}", response.status, String::from_utf8_lossy(&response.body));
        }
        self.accepted = self.accepted.saturating_add(1);
        Ok(())
    }

    fn refuses(&mut self, what: &str, response: &Response) -> Result<()> {
        self.tampered = self.tampered.saturating_add(1);
        let body = String::from_utf8_lossy(&response.body);
        let mismatch = body.contains("SignatureDoesNotMatch") || body.contains("InvalidSignatureException");
        if response.status != 403 && response.status != 400 || !mismatch {
            bail!("{what} is answered with {}: {body}", response.status);
        }
        self.refused = self.refused.saturating_add(1);
        Ok(())
    }
}

struct Account<'a> {
    house: &'a House,
    moto: &'a Counterpart,
    key: String,
}

impl Account<'_> {
    fn endpoint(&self, service: &str) -> Result<Arc<Endpoint>> {
        let slot = SlotName::parse("aws")?;
        let auth = Auth::AwsSigv4 { slot, region: REGION.to_owned(), service: service.to_owned() };
        Ok(self.house.endpoint(&self.moto.url, auth, Some(&self.key))?.1)
    }

    async fn send(&self, service: &str, request: Request) -> Result<Response> {
        Ok(self.endpoint(service)?.send(request).await?)
    }
}

/// Runs it.
///
/// # Errors
/// When moto cannot be started, refuses what it should accept, or accepts what it should refuse.
pub async fn run() -> Result<Figures> {
    let moto =
        Counterpart::program("moto_server", &["-H", "127.0.0.1"], &[("INITIAL_NO_AUTH_ACTION_COUNT", FREE)]).await?;
    let folder = tempfile::tempdir()?;
    let house = House::open(folder.path(), &moto.address).await?;
    let nobody = Account { house: &house, moto: &moto, key: NOBODY.to_owned() };
    let key = first_key(&nobody).await?;
    let (id, secret) = key.split_once(':').context("a key has two parts")?;
    let turned: String = secret.chars().rev().collect();
    let mut figures = Figures::default();
    let account = Account { house: &house, moto: &moto, key: key.clone() };
    for (what, service, request) in requests() {
        figures.accepts(what, &account.send(service, request).await?)?;
    }
    let thief = Account { house: &house, moto: &moto, key: format!("{id}:{turned}") };
    for (what, service, request) in requests() {
        figures.refuses(what, &thief.send(service, request).await?)?;
    }
    Ok(figures)
}

/// A user with every permission, and its access key.
async fn first_key(nobody: &Account<'_>) -> Result<String> {
    let policy = url::form_urlencoded::byte_serialize(POLICY.as_bytes()).collect::<String>();
    let mut answer = String::new();
    for action in [
        "Action=CreateUser&UserName=sgen".to_owned(),
        format!("Action=PutUserPolicy&UserName=sgen&PolicyName=all&PolicyDocument={policy}"),
        "Action=CreateAccessKey&UserName=sgen".to_owned(),
    ] {
        let response = nobody.send("iam", query(&format!("{action}&Version=2010-05-08"))).await?;
        answer = String::from_utf8_lossy(&response.body).into_owned();
        if response.status != 200 {
            bail!("{action} is answered with {}: {answer}", response.status);
        }
    }
    let within = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text.to_owned())
    };
    let (id, secret) = (within("AccessKeyId"), within("SecretAccessKey"));
    Ok(format!("{}:{}", id.context("there is a key id")?, secret.context("there is a secret")?))
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { method, path: path.to_owned(), headers, body: Some(body.as_bytes().to_vec()) }
}

fn query(body: &str) -> Request {
    request(Method::POST, "/", &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")], body)
}

fn json(target: &str, version: &str, body: &str) -> Request {
    let content_type = format!("application/x-amz-json-{version}");
    request(Method::POST, "/", &[("content-type", &content_type), ("x-amz-target", target)], body)
}

/// Each kind of request that AWS has: a query, JSON with a target, and REST with paths and queries that are escaped.
fn requests() -> Vec<(&'static str, &'static str, Request)> {
    let bucket = r#"<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>"#;
    let mut all = vec![
        ("a query", "iam", query("Action=GetUser&UserName=sgen&Version=2010-05-08")),
        ("a stream", "kinesis", json("Kinesis_20131202.ListStreams", "1.1", "{\"Limit\":10}")),
        ("a table", "dynamodb", json("DynamoDB_20120810.ListTables", "1.0", "{}")),
        ("a bucket", "s3", request(Method::PUT, "/captures", &[("content-type", "application/xml")], bucket)),
    ];
    for key in KEYS {
        let headers = [("content-type", "text/plain"), ("x-amz-meta-note", "  two   spaces ")];
        all.push((key, "s3", request(Method::PUT, key, &headers, "an object")));
        all.push((key, "s3", request(Method::GET, key, &[], "")));
    }
    for path in [
        "/captures?list-type=2&prefix=a%20b",
        "/captures?prefix=%E1%88%B4&list-type=2&max-keys=3",
        "/captures?list-type=2&prefix=",
    ] {
        all.push((path, "s3", request(Method::GET, path, &[], "")));
    }
    all
}
