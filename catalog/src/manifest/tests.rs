//! What a manifest may say and what is refused, as tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use serde_json::json;

use super::*;

const FULL: &str = r#"
id = "hubspot"
version = "1.2.3"
type = "crm"
title = "HubSpot"
summary = "Contacts."
world = "sgen:connector@1.0.0"

[endpoints.api]
base = "https://api.hubapi.com"
allow = [{ methods = ["GET", "POST"], paths = ["/crm/v3/**"] }, { methods = ["DELETE"], paths = ["/crm/v3/objects/contacts/*"] }]
auth = { scheme = "bearer", slot = "token" }
response_headers = ["x-hubspot-request-id"]
timeout = "10s"
max_response = "512KiB"
rate = { requests = 100, per = "10s" }

[endpoints.hook]
base_setting = "url"
base_pattern = "https://**"
allow = [{ methods = ["POST"], paths = [""] }]
auth = { scheme = "header", slot = "key", name = "Authorization", format = "Klaviyo-API-Key {secret}" }

[credentials.token]
title = "Token"
help = "In the settings."
accepts = ["api-key"]

[credentials.key]
title = "Key"
accepts = ["api-key", "basic"]

[settings.url]
type = "url"
title = "URL"
required = true

[settings.list]
type = "string"
title = "List"
options = "lists"

[mapping.email]
type = "email"
title = "E-mail"
required = true
preset = ["fields.email", "fields.e-mail"]

[mapping."*"]
type = "text"
options = "properties"

[scope]
default = ["form:*"]

[batch]
events = 25
bytes = "64KiB"
linger = "1s"
"#;

#[test]
fn a_full_manifest_is_read_as_written() {
    let m = Manifest::parse(FULL).unwrap();
    assert_eq!((m.id.as_str(), m.version.to_string().as_str(), m.kind), ("hubspot", "1.2.3", ConnectorType::Crm));
    let api = &m.endpoints["api"];
    assert_eq!(api.base, Base::Fixed("https://api.hubapi.com".into()));
    assert_eq!(api.auth, Some(Auth::Bearer { slot: "token".into() }));
    assert_eq!((api.timeout, api.max_response), (Duration::from_secs(10), 512 << 10));
    assert_eq!(api.rate, Some(Rate { requests: 100, per: Duration::from_secs(10) }));
    assert!(api.allows(Method::Get, "/crm/v3/lists") && api.allows(Method::Delete, "/crm/v3/objects/contacts/7"));
    assert!(!api.allows(Method::Delete, "/crm/v3/lists") && !api.allows(Method::Put, "/crm/v3/lists"));
    let hook = &m.endpoints["hook"];
    assert_eq!((hook.timeout, hook.max_response, hook.rate), (Duration::from_secs(30), 1 << 20, None));
    assert_eq!(m.target("email").unwrap().kind, TargetKind::Email);
    assert_eq!(m.target("shoe_size").unwrap().options.as_deref(), Some("properties"));
    assert_eq!(m.batch, Batch { events: 25, bytes: 64 << 10, linger: Duration::from_secs(1) });
    assert_eq!(m.scope.default, ["form:*"]);
}

#[test]
fn the_json_form_of_a_release_is_the_same_manifest_and_is_checked_again() {
    let m = Manifest::parse(FULL).unwrap();
    let mut json = serde_json::to_value(&m).unwrap();
    assert_eq!(json["endpoints"]["api"]["timeout"], "10s");
    assert_eq!(serde_json::from_value::<Manifest>(json.clone()).unwrap(), m);
    json["endpoints"]["api"]["auth"]["slot"] = json!("other");
    let error = serde_json::from_value::<Manifest>(json).unwrap_err().to_string();
    assert!(error.contains("there is no [credentials.other]"), "{error}");
}

#[test]
fn a_minimal_manifest_has_the_usual_batch_and_no_endpoints() {
    let text = "id='x'\nversion='0.1.0'\ntype='custom'\ntitle='X'\nsummary='Y'\nworld='sgen:connector@1.0.0'";
    let m = Manifest::parse(text).unwrap();
    assert_eq!(m.batch, Batch::default());
    assert!(m.endpoints.is_empty() && m.scope.default.is_empty() && m.target("x").is_none());
}

/// One replacement in the full manifest, and what the error must say.
#[test]
fn every_mistake_is_refused_with_its_place() {
    for (from, to, says) in [
        ("id = \"hubspot\"", "id = \"Hub Spot\"", "id: "),
        ("id = \"hubspot\"", "id = \"../x\"", "id: "),
        ("version = \"1.2.3\"", "version = \"1.2\"", "cannot be read"),
        ("type = \"crm\"", "type = \"erp\"", "erp"),
        ("title = \"HubSpot\"", "title = \" \"", "title: "),
        ("summary = \"Contacts.\"", "colour = \"red\"\nsummary = \"x\"", "unknown field `colour`"),
        ("connector@1.0.0", "connector@2.0.0", "world: "),
        ("base = \"https://api.hubapi.com\"", "base = \"http://api.hubapi.com\"", "endpoints.api.base: "),
        ("base = \"https://api.hubapi.com\"", "base = \"https://api.hubapi.com/\"", "endpoints.api.base: "),
        ("base = \"https://api.hubapi.com\"", "base = \"https://api.hubapi.com?x=1\"", "endpoints.api.base: "),
        ("base = \"https://api.hubapi.com\"", "base = \"https://u:p@api.hubapi.com\"", "credential"),
        ("base = \"https://api.hubapi.com\"", "", "either base"),
        ("base = \"https://api.hubapi.com\"", "base = \"https://a.test\"\nbase_setting = \"url\"", "either base"),
        ("base_setting = \"url\"", "base_setting = \"list\"", "must have type"),
        ("base_setting = \"url\"", "base_setting = \"none\"", "there is no [settings.none]"),
        ("base_pattern = \"https://**\"", "base_pattern = \"**\"", "endpoints.hook.base_pattern: "),
        ("\"GET\", \"POST\"", "\"get\"", "get"),
        ("\"GET\", \"POST\"", "", "at least one method"),
        ("\"/crm/v3/**\"", "\"crm/v3\"", "endpoints.api.allow[0].paths: "),
        ("\"/crm/v3/**\"", "\"/crm/../x\"", "endpoints.api.allow[0].paths: "),
        ("scheme = \"bearer\", slot", "scheme = \"oauth\", slot", "oauth"),
        ("scheme = \"bearer\", slot", "scheme = \"bearer\", name = \"x\", slot", "take a name"),
        ("scheme = \"bearer\", slot", "scheme = \"bearer\", format = \"{secret}\", slot", "takes a format"),
        ("scheme = \"bearer\", slot", "scheme = \"query\", slot", "need a name"),
        ("scheme = \"bearer\", slot", "scheme = \"hmac\", slot", "must accept \"hmac-secret\""),
        ("slot = \"token\"", "slot = \"none\"", "there is no [credentials.none]"),
        ("slot = \"token\"", "slot = \"key\"", "no endpoint uses"),
        ("name = \"Authorization\"", "name = \"Host\"", "endpoints.hook.auth.name: "),
        ("name = \"Authorization\"", "name = \"X Key\"", "endpoints.hook.auth.name: "),
        ("Klaviyo-API-Key {secret}", "Klaviyo-API-Key", "endpoints.hook.auth.format: "),
        ("Klaviyo-API-Key {secret}", "{secret} {secret}", "endpoints.hook.auth.format: "),
        ("Klaviyo-API-Key {secret}", "{secret}\\r\\nX: y", "endpoints.hook.auth.format: "),
        ("[\"x-hubspot-request-id\"]", "[\"Set-Cookie\"]", "response_headers"),
        ("[\"x-hubspot-request-id\"]", "[\"set-cookie\"]", "response_headers"),
        ("timeout = \"10s\"", "timeout = \"10\"", "no span of time"),
        ("timeout = \"10s\"", "timeout = \"1h\"", "endpoints.api.timeout: 1h is outside 100ms to 5m"),
        (
            "max_response = \"512KiB\"",
            "max_response = \"1GiB\"",
            "endpoints.api.max_response: 1GiB is outside 1KiB to 16MiB",
        ),
        ("requests = 100", "requests = 0", "endpoints.api.rate.requests: "),
        ("per = \"10s\"", "per = \"0s\"", "endpoints.api.rate.per: "),
        ("accepts = [\"api-key\"]", "accepts = []", "credentials.token.accepts: "),
        ("accepts = [\"api-key\"]", "accepts = [\"password\"]", "password"),
        ("options = \"lists\"", "options = \"\"", "settings.list.options: "),
        ("options = \"lists\"", "min = 1", "settings.list: min and max"),
        ("options = \"lists\"", "values = [\"a\"]", "settings.list.values: "),
        ("options = \"lists\"", "default = 3", "settings.list.default: "),
        ("options = \"lists\"", "max_length = 0", "settings.list.max_length: "),
        ("type = \"string\"", "type = \"enum\"", "settings.list.values: "),
        ("preset = [\"fields.email\", ", "preset = [\"fields..email\", ", "mapping.email.preset: "),
        ("preset = [\"fields.email\", ", "preset = [\"\", ", "mapping.email.preset: "),
        ("preset = [\"fields.email\", ", "preset = [\"email\", ", "mapping.email.preset: "),
        ("preset = [\"fields.email\", ", "preset = [\"id.x\", ", "mapping.email.preset: "),
        ("\"form:*\"", "\"*:contact\"", "scope.default: "),
        ("type = \"email\"", "type = \"mail\"", "mail"),
        ("[mapping.\"*\"]\ntype = \"text\"", "[mapping.\"*\"]\ntype = \"text\"\nrequired = true", "mapping.*: "),
        ("[mapping.\"*\"]", "[mapping.\"a b\"]", "mapping.a b: "),
        ("\"form:*\"", "\"form\"", "scope.default: "),
        ("\"form:*\"", "\"fax:*\"", "scope.default: "),
        ("events = 25", "events = 0", "batch.events: 0 is outside 1 to 10000"),
        ("bytes = \"64KiB\"", "bytes = \"1B\"", "batch.bytes: "),
        ("linger = \"1s\"", "linger = \"2m\"", "batch.linger: 2m is outside 0ms to 1m"),
    ] {
        assert!(FULL.contains(from), "the table is out of date: {from}");
        let error = Manifest::parse(&FULL.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = FULL.replacen("events = 25", "events = 0", 1).replacen("id = \"hubspot\"", "id = \"A\"", 1);
    let error = Manifest::parse(&text).unwrap_err();
    assert_eq!(error.reasons().len(), 2, "{error}");
}

#[test]
fn an_operator_given_base_must_be_a_url_inside_the_signed_pattern() {
    let base = Base::Setting { setting: "url".into(), pattern: "https://*.example.com/**".into() };
    let ok = base.resolve(&json!({ "url": "https://A.example.com/x" }));
    assert_eq!(ok.as_deref(), Ok("https://a.example.com/x"));
    for (settings, says) in [
        (json!({}), "must hold the URL"),
        (json!({ "url": "" }), "must hold the URL"),
        (json!({ "url": 3 }), "must hold the URL"),
        (json!({ "url": "nonsense" }), "not a valid URL"),
        (json!({ "url": "https://u@a.example.com/" }), "user name"),
        (json!({ "url": "https://a.example.com/#x" }), "fragment"),
        (json!({ "url": "https://evil.test/x" }), "outside"),
    ] {
        let error = base.resolve(&settings).unwrap_err().to_string();
        assert!(error.contains(says), "{settings}: {error}");
    }
    assert_eq!(Base::Fixed("https://x.test".into()).resolve(&json!({})).as_deref(), Ok("https://x.test"));
}

const TOKENS: &str = r#"
id = "x"
version = "0.1.0"
type = "crm"
title = "X"
summary = "Y"
world = "sgen:connector@1.0.0"

[endpoints.api]
base = "https://api.example.com"
allow = [{ methods = ["POST"], paths = ["/v1"] }]
auth = { scheme = "oauth2-authorization-code", slot = "grant" }

[endpoints.reports]
base = "https://reports.example.com"
allow = [{ methods = ["POST"], paths = ["/v1"] }]
auth = { scheme = "service-account", slot = "robot" }

[endpoints.stream]
base = "https://kinesis.eu-central-1.amazonaws.com"
allow = [{ methods = ["POST"], paths = ["/"] }]
auth = { scheme = "aws-sigv4", slot = "aws", region_setting = "region", service = "kinesis" }

[endpoints.plain]
base = "https://plain.example.com"
allow = [{ methods = ["POST"], paths = ["/"] }]
auth = { scheme = "oauth2-client-credentials", slot = "machine" }

[credentials.grant]
title = "Consent"
accepts = ["oauth2-grant"]
[credentials.grant.oauth]
authorize = "https://login.example.com/authorize"
token = "https://login.example.com/token"
revoke = "https://login.example.com/revoke"
scopes = ["contacts.write", "offline_access"]
client = "app"
client_auth = "form"
authorize_parameters = { access_type = "offline" }

[credentials.app]
title = "Client"
accepts = ["oauth2-client"]

[credentials.machine]
title = "Machine"
accepts = ["oauth2-client"]
oauth = { token = "https://login.example.com/token", token_parameters = { audience = "api" } }

[credentials.robot]
title = "Robot"
accepts = ["service-account"]
oauth = { token = "https://oauth2.googleapis.com/token", scopes = ["https://www.googleapis.com/auth/bigquery.insertdata"] }

[credentials.aws]
title = "Access key"
accepts = ["aws-access-key"]

[settings.region]
type = "string"
title = "Region"
required = true
"#;

#[test]
fn schemes_that_sign_or_obtain_tokens_are_read_as_written() {
    let m = Manifest::parse(TOKENS).unwrap();
    let auth = |name: &str| m.endpoints[name].auth.clone().unwrap();
    assert_eq!(auth("api"), Auth::Token { slot: "grant".into(), grant: TokenGrant::AuthorizationCode });
    assert_eq!(auth("plain"), Auth::Token { slot: "machine".into(), grant: TokenGrant::ClientCredentials });
    assert_eq!(auth("reports"), Auth::Token { slot: "robot".into(), grant: TokenGrant::ServiceAccount });
    let region = Region::Setting("region".into());
    assert_eq!(auth("stream"), Auth::AwsSigv4 { slot: "aws".into(), region, service: "kinesis".into() });
    let grant = m.credentials["grant"].oauth.as_ref().unwrap();
    assert_eq!(grant.client_auth, ClientAuth::Form);
    assert_eq!(m.credentials["machine"].oauth.as_ref().unwrap().client_auth, ClientAuth::Basic);
    assert!(!m.credentials["grant"].is_entered() && m.credentials["app"].is_entered());
    let json = serde_json::to_value(&m).unwrap();
    assert_eq!(json["endpoints"]["plain"]["auth"]["scheme"], "oauth2-client-credentials");
    assert_eq!(serde_json::from_value::<Manifest>(json).unwrap(), m);
}

#[test]
fn every_mistake_about_tokens_and_signatures_is_refused_with_its_place() {
    for (from, to, says) in [
        ("region_setting = \"region\"", "region_setting = \"none\"", "there is no [settings.none]"),
        ("region_setting = \"region\", ", "", "either region or region_setting"),
        ("region_setting = \"region\"", "region = \"EU\"", "endpoints.stream.auth.region: "),
        ("required = true", "required = false", "be required"),
        ("service = \"kinesis\"", "service = \"\"", "endpoints.stream.auth.service: "),
        ("slot = \"machine\"", "slot = \"machine\", service = \"x\"", "takes a region and a service"),
        ("slot = \"grant\"", "slot = \"app\"", "must accept \"oauth2-grant\""),
        (
            "oauth = { token = \"https://login.example.com/token\", token_parameters = { audience = \"api\" } }",
            "",
            "oauth.token",
        ),
        (
            "token = \"https://login.example.com/token\"\n",
            "token = \"http://login.example.com/token\"\n",
            "credentials.grant.oauth.token: ",
        ),
        (
            "authorize = \"https://login.example.com/authorize\"",
            "authorize = \"https://login.example.com/authorize?x=1\"",
            "no query",
        ),
        ("authorize = \"https://login.example.com/authorize\"", "", "is needed for a grant"),
        ("client = \"app\"\n", "", "is needed for a grant"),
        ("client = \"app\"\n", "client = \"robot\"\n", "credentials.grant.oauth.client: "),
        ("client = \"app\"\n", "client = \"none\"\n", "credentials.grant.oauth.client: "),
        ("[\"oauth2-grant\"]", "[\"oauth2-grant\", \"api-key\"]", "only kind of its slot"),
        (
            "accepts = [\"aws-access-key\"]",
            "accepts = [\"aws-access-key\"]\noauth = { token = \"https://x.example/t\" }",
            "obtains tokens",
        ),
        ("\"contacts.write\"", "\"contacts write\"", "credentials.grant.oauth.scopes: "),
        ("access_type = \"offline\"", "state = \"x\"", "\"state\" is set by the host"),
        ("{ audience = \"api\" }", "{ client_secret = \"x\" }", "\"client_secret\" is set by the host"),
        (
            "token = \"https://oauth2.googleapis.com/token\",",
            "token = \"https://oauth2.googleapis.com/token\", revoke = \"https://x.example/r\",",
            "accepts oauth2-grant",
        ),
    ] {
        assert!(TOKENS.contains(from), "the table is out of date: {from}");
        let error = Manifest::parse(&TOKENS.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
}
