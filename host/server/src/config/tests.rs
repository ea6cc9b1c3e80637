//! Tables of good and bad configurations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ffi::OsString;

use super::*;

const LEAST: &str = r#"
deployment = "development"
[store]
path = "data/store"
[catalog]
folder = "target/catalog"
trust_root = "root.json"
"#;

fn read(toml: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.toml");
    std::fs::write(&file, toml).unwrap();
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let (environment, _) = Environment::read(variables);
    Config::load(&file, &environment).map_err(|e| e.to_string())
}

#[test]
fn the_least_configuration_has_defaults_for_the_rest() {
    let config = read(LEAST, &[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.server.stop_grace(), Duration::from_secs(30));
    assert!(config.engine.cache.is_none() && config.egress.development_hosts.is_empty());
}

#[test]
fn the_documented_example_is_valid() {
    let config = read(include_str!("../../sgen-host.example.toml"), &[]).unwrap();
    assert_eq!(config.deployment, "development");
    assert_eq!(config.egress.base_overrides["hubspot/api"], "http://127.0.0.1:4010");
}

#[test]
fn the_environment_overrides_the_file() {
    let config = read(
        LEAST,
        &[
            ("SGEN_SERVER__LISTEN", "127.0.0.1:0"),
            ("SGEN_STORE__PATH", "123"),
            ("SGEN_LOG__FORMAT", "json"),
            ("SGEN_DEPLOYMENT", "2026"),
            ("SGEN_SERVER__STOP_GRACE_SECONDS", "5"),
            ("SGEN_EGRESS__DEVELOPMENT_HOSTS", r#"["127.0.0.1:1", "localhost:2"]"#),
            ("SGEN_EGRESS__BASE_OVERRIDES", r#"{"hubspot/api"="http://127.0.0.1:1"}"#),
            ("SGEN_UNRELATED", "ignored"),
            ("PATH", "ignored"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen.port(), 0);
    assert_eq!(config.store.path, Path::new("123"));
    assert_eq!(config.deployment, "2026");
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.server.stop_grace_seconds, 5);
    assert_eq!(config.egress.development_hosts, ["127.0.0.1:1", "localhost:2"]);
    assert_eq!(config.egress.base_overrides["hubspot/api"], "http://127.0.0.1:1");
}

/// A file, variables, and what the error must contain.
type Mistake = (String, &'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn each_mistake_names_its_place_and_what_is_expected() {
    let with = |text: &str| format!("{LEAST}{text}");
    let cases: Vec<Mistake> = vec![
        (String::new(), &[], &["deployment", "is missing"]),
        ("deployment = \"d\"".to_owned(), &[], &["store", "is missing"]),
        ("x = [".to_owned(), &[], &["host.toml"]),
        (with("[server]\nlisen = \"127.0.0.1:1\""), &[], &["host.toml: server.lisen", "is not a key", "listen"]),
        (with("[servers]"), &[], &["servers", "is not a key", "server"]),
        (with("[server]\nlisten = 8080"), &[], &["server.listen", "expected"]),
        (with("[server]\nlisten = \"0.0.0.0:80\""), &[], &["server.listen", "loopback", "TLS"]),
        (with("[server]\nstop_grace_seconds = 4000"), &[], &["stop_grace_seconds"]),
        (with("[log]\nformat = \"xml\""), &[], &["log.format", "text, json"]),
        (with("[log]\nfilter = \"=[\""), &[], &["log.filter"]),
        (with("[egress]\ndevelopment_hosts = [\"127.0.0.1\"]"), &[], &["egress.development_hosts", "HOST:PORT"]),
        (with("[egress]\nbase_overrides = { hubspot = \"http://x\" }"), &[], &["CONNECTOR/ENDPOINT"]),
        (with("[egress]\nbase_overrides = { \"a/b\" = \"x\" }"), &[], &["egress.base_overrides.a/b", "URL"]),
        (with("[vault]\nkey = \"00\""), &[], &["vault.key", "is not a key", "key_file"]),
        (LEAST.replace("development", "Live 1"), &[], &["deployment"]),
        (LEAST.to_owned(), &[("SGEN_SERVER__LISEN", "x")], &["SGEN_SERVER__LISEN", "is not a key"]),
        (LEAST.to_owned(), &[("SGEN_SERVER__LISTEN", "x")], &["SGEN_SERVER__LISTEN"]),
        (LEAST.to_owned(), &[("SGEN_STORE_PATH", "x")], &["SGEN_STORE__PATH", "two underscores"]),
    ];
    for (toml, variables, parts) in cases {
        let error = read(&toml, variables).expect_err(&toml);
        for part in parts {
            assert!(error.contains(part), "{toml:?} {variables:?}: {error:?} lacks {part:?}");
        }
    }
}

#[test]
fn a_missing_file_says_how_to_give_one() {
    let error = Config::load(Path::new("/nonexistent/host.toml"), &Environment::default()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/host.toml") && error.contains("--config"), "{error}");
}

#[test]
fn secrets_are_handed_over_beside_the_configuration_and_are_in_no_error() {
    let variables = [
        ("SGEN_VAULT__KEY", "98765432100"),
        ("SGEN_VAULT__PREVIOUS_KEY", "01234567899"),
        ("SGEN_ACCESS__PLATFORM_TOKEN", "98765432100"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/x"),
    ];
    let (environment, handed) =
        Environment::read(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    assert_eq!(handed.keys.vault_key.unwrap().expose(), b"98765432100");
    assert_eq!(handed.keys.previous_vault_key.unwrap().expose(), b"01234567899");
    assert_eq!(handed.platform_token.unwrap().expose(), b"98765432100");
    assert_eq!(handed.keys.credentials_directory.unwrap(), Path::new("/run/credentials/x"));
    for secret in ["98765432100", "01234567899"] {
        assert!(!format!("{environment:?}").contains(secret));
    }
    let error = read("[vault]\nkey_file = 98765432100", &[]).unwrap_err();
    assert!(!error.contains("98765432100"), "{error}");
}

#[test]
fn the_public_url_is_what_oauth_clients_are_registered_with() {
    let with = |url: &str| read(&LEAST.replace("[store]", &format!("[server]\npublic_url = {url:?}\n[store]")), &[]);
    assert_eq!(read(LEAST, &[]).unwrap().server.oauth_redirect(), None);
    for (url, redirect) in [
        ("https://host.example", "https://host.example/v1/oauth/callback"),
        ("https://host.example/connectors/", "https://host.example/connectors/v1/oauth/callback"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/oauth/callback"),
    ] {
        assert_eq!(with(url).unwrap().server.oauth_redirect().as_deref(), Some(redirect));
    }
    for url in [
        "http://host.example",
        "host.example",
        "https://",
        "https://host.example/?x",
        "https://u@host.example",
        "https://a b",
    ] {
        assert!(with(url).unwrap_err().contains("server.public_url"), "{url}");
    }
}
