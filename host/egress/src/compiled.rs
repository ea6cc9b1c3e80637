//! An endpoint, judged once and ready to answer for every request: URL composition and the allow rules. Pure.

use std::time::Duration;

use http::header::HeaderName;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::connect::Target;
use crate::error::GateError;
use crate::headers;
use crate::host::{self, DevelopmentHosts};
use crate::path::{LONGEST, PathPattern, RelativePath};
use crate::spec::{AllowRule, EndpointSpec, Timeouts};

/// No request may take longer, whatever a manifest says.
const LONGEST_EXCHANGE: Duration = Duration::from_hours(1);

/// A judged endpoint.
pub(crate) struct Compiled {
    pub(crate) name: String,
    pub(crate) base: Base,
    pub(crate) target: Target,
    rules: Vec<Rule>,
    /// Response headers beside the standard ones.
    shown: Vec<HeaderName>,
    pub(crate) timeouts: Timeouts,
    pub(crate) max_response: usize,
}

struct Rule {
    methods: Vec<Method>,
    paths: Vec<PathPattern>,
}

impl Compiled {
    pub(crate) fn new(spec: &EndpointSpec, development_hosts: &DevelopmentHosts) -> Result<Self, GateError> {
        let refuse = |base: bool| move |reason: String| GateError::Endpoint { name: spec.name.clone(), reason, base };
        let (base, target) = compile_base(&spec.base, development_hosts).map_err(refuse(true))?;
        let rules = spec.allow.iter().map(compile_rule).collect::<Result<Vec<_>, _>>().map_err(refuse(false))?;
        let shown = spec.response_headers.iter().map(|name| show(name)).collect::<Result<Vec<_>, _>>();
        let shown = shown.map_err(refuse(false))?;
        if let Some(auth) = &spec.auth {
            crate::auth::judge(auth).map_err(refuse(false))?;
        }
        let sane = |limit: Duration| !limit.is_zero() && limit <= LONGEST_EXCHANGE;
        if !sane(spec.timeouts.total) || !sane(spec.timeouts.first_byte) {
            return Err(refuse(false)(format!(
                "its time limits must be more than nothing and at most {LONGEST_EXCHANGE:?}"
            )));
        }
        let max_response = usize::try_from(spec.max_response).unwrap_or(usize::MAX);
        if max_response == 0 {
            return Err(refuse(false)("its largest response must be larger than nothing".to_owned()));
        }
        if spec.rate.is_some_and(|rate| rate.per.is_zero()) {
            return Err(refuse(false)("its rate must be per some time".to_owned()));
        }
        Ok(Self { name: spec.name.clone(), base, target, rules, shown, timeouts: spec.timeouts, max_response })
    }

    /// Whether the manifest admits it. `path` is normalised and without query.
    pub(crate) fn admits(&self, method: &Method, path: &str) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.methods.contains(method) && rule.paths.iter().any(|pattern| pattern.matches(path)))
    }

    /// Whether the guest may see a response header.
    pub(crate) fn shows(&self, name: &HeaderName) -> bool {
        headers::visible(name.as_str()) || self.shown.contains(name)
    }
}

fn compile_rule(rule: &AllowRule) -> Result<Rule, String> {
    const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if let Some(method) = rule.methods.iter().find(|method| !METHODS.contains(method)) {
        return Err(format!("the method {method} cannot be allowed"));
    }
    let paths = rule.paths.iter().map(|path| PathPattern::parse(path)).collect::<Result<_, _>>()?;
    Ok(Rule { methods: rule.methods.clone(), paths })
}

fn show(name: &str) -> Result<HeaderName, String> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(header) if headers::may_be_shown(header.as_str()) => Ok(header),
        Ok(_) => Err(format!("the response header {name} may carry credentials and is never shown to a connector")),
        Err(_) => Err(format!("{name:?} is not a header name")),
    }
}

/// The fixed part of every URL of an endpoint.
pub(crate) struct Base {
    scheme: Scheme,
    authority: Authority,
    /// The base's own path, for the empty relative path.
    exact: String,
    /// The base's path without a final slash, before a relative path.
    prefix: String,
    query: Option<String>,
}

fn compile_base(url: &Url, development_hosts: &DevelopmentHosts) -> Result<(Base, Target), String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the base URL must not carry user or password; use a credential slot".to_owned());
    }
    if url.fragment().is_some() {
        return Err("the base URL must not have a fragment".to_owned());
    }
    let judged = host::judge(url, development_hosts)?;
    let scheme = match url.scheme() {
        "https" => Scheme::HTTPS,
        "http" if judged.development => Scheme::HTTP,
        "http" => {
            return Err("plain http is refused: use https (a deployment may name development hosts)".to_owned());
        }
        other => return Err(format!("the scheme {other} is refused: use https")),
    };
    let host = match &judged.destination {
        host::Destination::Name(name) => name.clone(),
        host::Destination::Address(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        host::Destination::Address(address) => address.to_string(),
    };
    // As the URL writes it: a default port stays out of the Host header.
    let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let authority: Authority = authority.parse().map_err(|_| format!("{host:?} is not a usable host"))?;
    let target = Target::new(judged, scheme == Scheme::HTTPS)?;
    let base = Base {
        scheme,
        authority,
        exact: url.path().to_owned(),
        prefix: url.path().trim_end_matches('/').to_owned(),
        query: url.query().filter(|query| !query.is_empty()).map(str::to_owned),
    };
    if base.exact.len() > LONGEST || base.compose(RelativePath { path: "", query: None }, None).is_none() {
        return Err("the base URL's path cannot be used in a request".to_owned());
    }
    Ok((base, target))
}

impl Base {
    /// `host` or `host:port`: what may be named in messages. The path may hold a secret.
    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// `scheme://authority`: what a pool and the connector know a target by.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// The whole URL: scheme and authority are always the base's own.
    pub(crate) fn compose(&self, relative: RelativePath<'_>, secret_pair: Option<&str>) -> Option<Uri> {
        let (head, tail) =
            if relative.path.is_empty() { (self.exact.as_str(), "") } else { (self.prefix.as_str(), relative.path) };
        let queries = [self.query.as_deref(), relative.query, secret_pair];
        let length = queries.iter().flatten().map(|query| query.len().saturating_add(1)).sum::<usize>();
        let mut text = String::with_capacity(head.len().saturating_add(tail.len()).saturating_add(length));
        text.push_str(head);
        text.push_str(tail);
        let mut separator = '?';
        for query in queries.into_iter().flatten() {
            text.push(separator);
            text.push_str(query);
            separator = '&';
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)).ok()?);
        Uri::from_parts(parts).ok()
    }
}

/// Whether a query has a parameter of this name, however it is escaped.
pub(crate) fn query_names(query: &str, name: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let given = pair.split_once('=').map_or(pair, |(given, _)| given).replace('+', " ");
        percent_decode_str(&given).eq(name.bytes())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn compiled(base: &str) -> Result<Compiled, String> {
        let url = Url::parse(base).map_err(|e| e.to_string())?;
        let hosts = DevelopmentHosts::parse(&["127.0.0.1:4010".to_owned()]).unwrap();
        let mut spec = EndpointSpec::new("api", url);
        spec.allow = vec![AllowRule { methods: vec![Method::GET], paths: vec!["/v1/**".to_owned()] }];
        Compiled::new(&spec, &hosts).map_err(|e| e.to_string())
    }

    fn composed(base: &str, relative: &str, pair: Option<&str>) -> String {
        let relative = RelativePath::parse(relative).unwrap();
        compiled(base).unwrap().base.compose(relative, pair).unwrap().to_string()
    }

    #[test]
    fn a_relative_path_is_appended_to_the_base() {
        for (base, relative, whole) in [
            ("https://api.example.com", "", "https://api.example.com/"),
            ("https://api.example.com", "/v1/x?a=b", "https://api.example.com/v1/x?a=b"),
            ("https://api.example.com/root/", "/v1", "https://api.example.com/root/v1"),
            ("https://api.example.com/root", "", "https://api.example.com/root"),
            ("https://api.example.com/root/", "", "https://api.example.com/root/"),
            ("https://API.example.com:443/", "/v1", "https://api.example.com/v1"),
            ("https://api.example.com.:8443/", "/v1", "https://api.example.com:8443/v1"),
            ("https://hooks.example.com/x?t=1", "", "https://hooks.example.com/x?t=1"),
            ("https://hooks.example.com/x?t=1", "/y?u=2", "https://hooks.example.com/x/y?t=1&u=2"),
            ("http://127.0.0.1:4010", "/v1", "http://127.0.0.1:4010/v1"),
            ("https://[2606:4700:4700::1111]:8443/a", "/b", "https://[2606:4700:4700::1111]:8443/a/b"),
        ] {
            assert_eq!(composed(base, relative, None), whole);
        }
        assert_eq!(composed("https://a.example/x", "/y?b=c", Some("k=s")), "https://a.example/x/y?b=c&k=s");
        assert_eq!(composed("https://a.example/x", "", Some("k=s")), "https://a.example/x?k=s");
    }

    #[test]
    fn a_base_that_is_not_plainly_a_public_https_url_is_refused() {
        for bad in [
            "http://api.example.com/",
            "ftp://api.example.com/",
            "https://user@api.example.com/",
            "https://u:p@a.example/",
            "https://api.example.com/#x",
            "https://127.0.0.1/",
            "https://127.0.0.1:4010@evil.example/",
            "http://127.0.0.1:4011/",
            "https://localhost/",
            "data:text/plain,x",
            "file:///etc/passwd",
            "https://api.example.com:0/",
        ] {
            assert!(compiled(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_credential_parameter_is_recognised_however_it_is_escaped() {
        for query in ["api_key=x", "a=b&api_key=x", "a=b;api_key", "%61pi_key=x", "api%5Fkey=x", "api_key"] {
            assert!(query_names(query, "api_key"), "{query}");
        }
        for query in ["", "a=api_key", "api_keys=x", "xapi_key=1"] {
            assert!(!query_names(query, "api_key"), "{query}");
        }
        assert!(query_names("api+key=1", "api key"));
    }

    #[test]
    fn what_the_manifest_says_of_an_endpoint_is_judged() {
        let good = EndpointSpec::new("api", Url::parse("https://a.example").unwrap());
        let hosts = DevelopmentHosts::default();
        assert!(Compiled::new(&good, &hosts).is_ok());
        let rule = |method: Method, path: &str| vec![AllowRule { methods: vec![method], paths: vec![path.to_owned()] }];
        for bad in [
            EndpointSpec { allow: rule(Method::CONNECT, "/"), ..good.clone() },
            EndpointSpec { allow: rule(Method::TRACE, "/"), ..good.clone() },
            EndpointSpec { allow: rule(Method::GET, "a*"), ..good.clone() },
            EndpointSpec { response_headers: vec!["Set-Cookie".to_owned()], ..good.clone() },
            EndpointSpec { response_headers: vec!["a b".to_owned()], ..good.clone() },
            EndpointSpec { timeouts: Timeouts::of(std::time::Duration::ZERO), ..good.clone() },
            EndpointSpec { max_response: 0, ..good.clone() },
        ] {
            assert!(matches!(Compiled::new(&bad, &hosts), Err(GateError::Endpoint { base: false, .. })), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_relative_path_changes_scheme_or_authority(
            relative in "\\PC{0,30}|[/@:.?%a-z0-9\\\\]{0,30}|//[a-z.]{1,10}|/[!-~]{0,30}",
            base in prop_oneof![Just("https://api.example.com"), Just("https://api.example.com:8443/r/"), Just("https://api.example.com/x?y=z")],
        ) {
            let compiled = compiled(base).unwrap();
            if let Ok(relative) = RelativePath::parse(&relative) {
                let uri = compiled.base.compose(relative, Some("k=s")).unwrap();
                let url = Url::parse(base).unwrap();
                prop_assert_eq!(uri.scheme_str(), Some("https"));
                prop_assert_eq!(uri.host(), url.host_str());
                prop_assert_eq!(uri.port_u16(), url.port());
                // Read again as another parser would: still the same host, and nothing was normalised away.
                let again = Url::parse(&uri.to_string()).unwrap();
                prop_assert_eq!(again.host_str(), url.host_str());
                prop_assert_eq!(again.path().trim_end_matches('/'), uri.path().trim_end_matches('/'));
            }
        }
    }
}
