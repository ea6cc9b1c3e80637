//! AWS Signature Version 4 in the `Authorization` header, over exactly what is sent. Pure.
//!
//! After "Create a signed AWS API request" of the IAM User Guide. Every header that is sent is signed, but for those that
//! proxies may change. The path is escaped once more than it is on the wire, except for S3, as AWS verifies it.

use std::fmt::Write as _;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use ring::{digest, hmac};
use sgen_model::Timestamp;
use zeroize::Zeroizing;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// RFC 3986's unreserved characters stay.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same within a path.
const STRICT_PATH: &AsciiSet = &STRICT.remove(b'/');

/// The access key of an AWS principal: `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, and for temporary ones `:SESSION_TOKEN`.
struct AccessKey<'a> {
    id: &'a str,
    secret: &'a str,
    session: Option<&'a str>,
}

impl<'a> AccessKey<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, &'static str> {
        const FORM: &str =
            "it must read ACCESS_KEY_ID:SECRET_ACCESS_KEY, or ACCESS_KEY_ID:SECRET_ACCESS_KEY:SESSION_TOKEN";
        let text = std::str::from_utf8(text).map_err(|_| FORM)?;
        // None of the three has a colon: an id is letters and digits, the others are base64.
        let mut parts = text.split(':');
        let (Some(id), Some(secret), session, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(FORM);
        };
        let base64 = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        let sound = (16..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric())
            && secret.len() >= 16
            && base64(secret)
            && session.is_none_or(|session| !session.is_empty() && base64(session));
        if sound { Ok(Self { id, secret, session }) } else { Err(FORM) }
    }
}

/// The parts of such a credential that are secret: the key, and the session token.
pub(crate) fn secrets(credential: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let Ok(AccessKey { secret, session, .. }) = AccessKey::parse(credential) else { return Vec::new() };
    [Some(secret), session].into_iter().flatten().map(|text| Zeroizing::new(text.as_bytes().to_vec())).collect()
}

/// Whether a text can be a region or a service: it is part of what is signed, so it must be read in one way only.
pub(crate) fn scope_is_sound(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Signs requests to one service in one region.
pub(crate) struct Signer {
    id: String,
    /// `AWS4` and the secret, as the first key of the derivation.
    secret: Zeroizing<Vec<u8>>,
    session: Option<HeaderValue>,
    region: String,
    service: String,
}

impl Signer {
    pub(crate) fn new(credential: &[u8], region: &str, service: &str) -> Result<Self, &'static str> {
        let key = AccessKey::parse(credential)?;
        let session = key.session.map(HeaderValue::from_str).transpose();
        let mut session = session.map_err(|_| "its session token does not fit into a header")?;
        if let Some(session) = &mut session {
            session.set_sensitive(true);
        }
        Ok(Self {
            id: key.id.to_owned(),
            secret: Zeroizing::new([b"AWS4", key.secret.as_bytes()].concat()),
            session,
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }

    /// Whether a header is the signer's, and so not the guest's.
    pub(crate) fn owns(name: &str) -> bool {
        [DATE, CONTENT, TOKEN].iter().any(|own| own.as_str() == name)
    }

    /// Adds the date, the body's hash, the session's token and the signature to a request that is complete otherwise.
    pub(crate) fn sign(&self, head: &mut http::Request<()>, body: &[u8], now: Timestamp) -> Result<(), String> {
        let unsignable = |what: &str| format!("{what} cannot be signed");
        let stamp = stamp(now);
        let hash = hex::encode(digest::digest(&digest::SHA256, body));
        let uri = head.uri().clone();
        let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let query = uri.query().unwrap_or_default();
        if query.contains('+') {
            return Err("a '+' in the query of a signed request is read in two ways: write %20 or %2B".to_owned());
        }
        if self.is_s3() && !is_canonical(uri.path()) {
            return Err("the path of a request to S3 is signed as it is sent, so everything but letters, digits and -._~/ must \
                        be escaped, in upper case"
                .to_owned());
        }
        let headers = head.headers_mut();
        headers.insert(DATE, HeaderValue::try_from(stamp.as_str()).map_err(|_| unsignable("the time"))?);
        headers.insert(CONTENT, HeaderValue::try_from(hash.as_str()).map_err(|_| unsignable("the body"))?);
        if let Some(session) = &self.session {
            headers.insert(TOKEN, session.clone());
        }
        let mut signed = canonical_headers(headers).ok_or_else(|| unsignable("a header"))?;
        // Sent by the client, from the same authority.
        signed.push(("host".to_owned(), host.to_owned()));
        signed.sort();
        let mut value = HeaderValue::try_from(self.authorization(
            head.method().as_str(),
            uri.path(),
            query,
            &signed,
            &hash,
            &stamp,
        ))
        .map_err(|_| unsignable("the request"))?;
        value.set_sensitive(true);
        head.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }

    fn authorization(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(String, String)],
        hash: &str,
        stamp: &str,
    ) -> String {
        let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let lines = headers.iter().fold(String::new(), |mut lines, (name, value)| {
            let _ = writeln!(lines, "{name}:{value}");
            lines
        });
        let (path, query) = (self.canonical_path(path), canonical_query(query));
        let request = Zeroizing::new(format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{hash}"));
        let request = hex::encode(digest::digest(&digest::SHA256, request.as_bytes()));
        let day = stamp.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        for part in [day, &self.region, &self.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        let signature = hmac::sign(&key, format!("{ALGORITHM}\n{stamp}\n{scope}\n{request}").as_bytes());
        let signature = hex::encode(signature);
        format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.id)
    }

    fn canonical_path(&self, path: &str) -> String {
        if self.is_s3() { path.to_owned() } else { percent_encode(path.as_bytes(), STRICT_PATH).to_string() }
    }

    fn is_s3(&self) -> bool {
        self.service == "s3"
    }
}

/// Whether a path is escaped in the one way in which S3 would escape it.
fn is_canonical(path: &str) -> bool {
    percent_encode(&percent_decode_str(path).collect::<Vec<u8>>(), STRICT_PATH).to_string() == path
}

/// ISO 8601 in its basic form, in seconds: `20150830T123600Z`.
fn stamp(now: Timestamp) -> String {
    let mut stamp: String = now.to_string().chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    stamp.push('Z');
    stamp
}

/// Names with their values, those of one name joined, spaces folded.
fn canonical_headers(headers: &HeaderMap) -> Option<Vec<(String, String)>> {
    let mut all = Vec::with_capacity(headers.keys_len().saturating_add(1));
    for name in headers.keys().filter(|name| **name != USER_AGENT && **name != ACCEPT_ENCODING) {
        let values: Option<Vec<_>> =
            headers.get_all(name).iter().map(|value| value.to_str().ok().map(folded)).collect();
        all.push((name.as_str().to_owned(), values?.join(",")));
    }
    Some(all)
}

fn folded(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn canonical_query(query: &str) -> String {
    let escaped = |text: &str| percent_encode(&percent_decode_str(text).collect::<Vec<u8>>(), STRICT).to_string();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<_> = pairs.map(|(name, value)| (escaped(name), escaped(value))).collect();
    pairs.sort();
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const ID: &str = "AKIDEXAMPLEAKIDX";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const STAMP: &str = "20150830T123600Z";
    const HOST: (&str, &str) = ("host", "example.amazonaws.com");
    const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    fn signer(service: &str) -> Signer {
        Signer::new(format!("{ID}:{SECRET}").as_bytes(), "us-east-1", service).unwrap()
    }

    fn hash(body: &str) -> String {
        hex::encode(digest::digest(&digest::SHA256, body.as_bytes()))
    }

    /// Method, path, query, headers, body, signature.
    type Row<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

    /// The signatures of AWS's published test suite, as far as its requests can reach a signer here: others have dot
    /// segments, empty segments or unescaped characters, which the gate refuses before.
    #[test]
    fn the_published_signatures_come_out() {
        let form = "application/x-www-form-urlencoded";
        let utf8 = "application/x-www-form-urlencoded; charset=utf-8";
        let body = hash("Param1=value1");
        let all = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let (all_path, all_query) = (format!("/{all}"), format!("{all}={all}"));
        let table: [Row<'_>; 18] = [
            ("GET", "/", "", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("GET", "/", "Param1=value1", &[], "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
            (
                "GET",
                "/",
                "Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
                &[],
                "",
                "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            ),
            (
                "GET",
                "/",
                "Param2=value2&Param1=value1",
                &[],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            ("GET", "/", "%E1%88%B4=bar", &[], "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
            ("GET", "/", &all_query, &[], "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
            ("GET", &all_path, "", &[], "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
            (
                "GET",
                "/",
                "",
                &[("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")],
                "",
                "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            ),
            (
                "GET",
                "/",
                "",
                &[
                    ("My-Header1", "value4"),
                    ("My-Header1", "value1"),
                    ("My-Header1", "value3"),
                    ("My-Header1", "value2"),
                ],
                "",
                "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
            ),
            (
                "GET",
                "/",
                "",
                &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
                "",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            ("POST", "/", "", &[], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "POST",
                "/",
                "",
                &[("My-Header1", "value1")],
                "",
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            (
                "POST",
                "/",
                "",
                &[("My-Header1", "VALUE1")],
                "",
                "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
            ),
            ("POST", "/", "Param1=value1", &[], "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
            (
                "POST",
                "/",
                "",
                &[("x-amz-security-token", SESSION)],
                "",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            (
                "POST",
                "/",
                "",
                &[("Content-Type", form), ("Content-Length", "13"), ("x-amz-content-sha256", &body)],
                "Param1=value1",
                "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
            (
                "POST",
                "/",
                "",
                &[("Content-Type", utf8), ("Content-Length", "13"), ("x-amz-content-sha256", &body)],
                "Param1=value1",
                "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
            ),
            ("GET", "/", "Param1=value1&", &[], "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ];
        for (method, path, query, given, body, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in [HOST, ("x-amz-date", STAMP)].iter().chain(given) {
                let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            let mut signed = canonical_headers(&headers).unwrap();
            signed.sort();
            let value = signer("service").authorization(method, path, query, &signed, &hash(body), STAMP);
            assert!(value.ends_with(&format!(", Signature={expected}")), "{method} {path}?{query} {given:?}: {value}");
        }
    }

    #[test]
    fn a_path_is_escaped_once_more_than_on_the_wire_except_for_s3() {
        for (service, wire, canonical) in [
            ("execute-api", "/test/@connections/JBDvjfGEIAMCERw%3D", "/test/%40connections/JBDvjfGEIAMCERw%253D"),
            ("lambda", "/functions/arn%3Aaws%3Alambda/invocations", "/functions/arn%253Aaws%253Alambda/invocations"),
            ("s3", "/bucket/a%20b%3Dc%281%29", "/bucket/a%20b%3Dc%281%29"),
        ] {
            assert_eq!(signer(service).canonical_path(wire), canonical);
        }
    }

    #[test]
    fn what_is_added_is_what_is_signed() {
        let signer = Signer::new(format!("{ID}:{SECRET}:{SESSION}").as_bytes(), "eu-central-1", "kinesis").unwrap();
        let mut head = http::Request::post("https://kinesis.eu-central-1.amazonaws.com/?a=b").body(()).unwrap();
        head.headers_mut().insert("x-amz-target", HeaderValue::from_static("Kinesis_20131202.PutRecords"));
        head.headers_mut().insert(USER_AGENT, HeaderValue::from_static("x"));
        signer.sign(&mut head, b"{}", Timestamp(1_440_938_160_000)).unwrap();
        let headers = head.headers();
        assert_eq!(headers[DATE], STAMP);
        assert_eq!(headers[TOKEN], SESSION);
        assert_eq!(headers[CONTENT], hash("{}").as_str());
        let value = headers[AUTHORIZATION].to_str().unwrap();
        let start = format!(
            "{ALGORITHM} Credential={ID}/20150830/eu-central-1/kinesis/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token;x-amz-target, Signature="
        );
        assert!(value.starts_with(&start), "{value}");
        assert!(headers[AUTHORIZATION].is_sensitive() && headers[TOKEN].is_sensitive());
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_signed() {
        let refused = |service: &str, rest: &str| {
            let mut head = http::Request::get(format!("https://x.amazonaws.com{rest}")).body(()).unwrap();
            signer(service).sign(&mut head, b"", Timestamp(0)).err()
        };
        assert!(refused("kinesis", "/?a=b+c").unwrap().contains("%20"));
        for path in ["/bucket/it's", "/bucket/a(1)", "/bucket/%c3%a4", "/bucket/%41"] {
            assert!(refused("s3", path).unwrap().contains("escaped"), "{path}");
            assert_eq!(refused("execute-api", path), None);
        }
        assert_eq!(refused("s3", "/bucket/a%20b/%C3%A4~?list-type=2"), None);
    }

    #[test]
    fn a_credential_is_an_access_key_with_its_secret_and_nothing_else() {
        let refused = |text: &str| Signer::new(text.as_bytes(), "us-east-1", "s3").err().expect(text);
        for bad in
            ["", ID, &format!("{ID}:"), &format!("{ID}:short"), &format!("{ID}:{SECRET}:"), &format!("{ID} :{SECRET}")]
        {
            assert!(refused(bad).contains("ACCESS_KEY_ID:SECRET_ACCESS_KEY"));
        }
        assert!(refused(&format!("{ID}:{SECRET}:{SESSION}:x")).contains("SESSION_TOKEN"));
        let parts = secrets(format!("{ID}:{SECRET}:{SESSION}").as_bytes());
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].as_slice(), SECRET.as_bytes());
    }
}
