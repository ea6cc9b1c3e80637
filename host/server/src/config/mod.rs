//! The configuration: one TOML file, overridden by `SGEN_SECTION__KEY` in the environment. Unknown keys are refused.
//!
//! Secrets are not part of it: the file names files that hold them, and the environment hands them over past the
//! configuration, so that no error about a value can show one.

mod environment;
mod explain;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;
use sgen_delivery::{EventRetention, JournalRetention};

pub(crate) use environment::{Environment, Handed, HandedKeys};
pub(crate) use explain::ConfigError;

/// The whole configuration. `sgen-host.example.toml` documents every key for the person who writes one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) deployment: String,
    #[serde(default)]
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) catalog: CatalogPlace,
    #[serde(default)]
    pub(crate) vault: Vault,
    #[serde(default)]
    pub(crate) access: Access,
    #[serde(default)]
    pub(crate) egress: Egress,
    #[serde(default)]
    pub(crate) engine: Engine,
    #[serde(default)]
    pub(crate) retention: Retention,
    #[serde(default)]
    pub(crate) log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: Option<String>,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) stop_grace_seconds: u64,
}

impl Server {
    /// How long a stop waits for what is in flight.
    pub(crate) fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_seconds)
    }

    /// Where vendors send browsers back to.
    pub(crate) fn oauth_redirect(&self) -> Option<String> {
        self.public_url.as_ref().map(|url| format!("{}/v1/oauth/callback", url.trim_end_matches('/')))
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            ready_file: None,
            stop_grace_seconds: 30,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogPlace {
    pub(crate) folder: PathBuf,
    pub(crate) trust_root: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Vault {
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) previous_key_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Access {
    pub(crate) platform_token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Egress {
    pub(crate) development_hosts: Vec<String>,
    pub(crate) base_overrides: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Engine {
    pub(crate) cache: Option<PathBuf>,
}

/// How long and how large logs may grow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retention {
    pub(crate) events_days: u64,
    pub(crate) events_mebibytes: u64,
    pub(crate) integration_log_days: u64,
    pub(crate) integration_log_entries: u64,
    pub(crate) integration_log_mebibytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events_days: 90,
            events_mebibytes: 16 * 1024,
            integration_log_days: 30,
            integration_log_entries: 100_000,
            integration_log_mebibytes: 64,
        }
    }
}

impl Retention {
    /// Of the event log of each site and environment.
    pub(crate) fn events(&self) -> EventRetention {
        EventRetention {
            age: days(self.events_days),
            bytes: self.events_mebibytes.saturating_mul(1 << 20),
            ..EventRetention::default()
        }
    }

    /// Of the integration log of each instance.
    pub(crate) fn integration_log(&self) -> JournalRetention {
        JournalRetention {
            age: days(self.integration_log_days),
            entries: self.integration_log_entries,
            bytes: self.integration_log_mebibytes.saturating_mul(1 << 20),
        }
    }

    fn zeros(&self) -> impl Iterator<Item = &'static str> {
        [
            ("events_days", self.events_days),
            ("events_mebibytes", self.events_mebibytes),
            ("integration_log_days", self.integration_log_days),
            ("integration_log_entries", self.integration_log_entries),
            ("integration_log_mebibytes", self.integration_log_mebibytes),
        ]
        .into_iter()
        .filter(|(_, value)| *value == 0)
        .map(|(name, _)| name)
    }
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(24 * 3600))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

impl Config {
    /// Reads the file under the environment's overrides and checks what can be checked without acting on it.
    ///
    /// # Errors
    /// [`ConfigError`] with every key at fault, where it stands and what is expected.
    pub(crate) fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        // The reader takes a missing file for an empty one.
        let text = std::fs::read_to_string(file)
            .map_err(|e| ConfigError::File { path: file.to_owned(), reason: e.to_string() })?;
        drop(text);
        environment.check_names()?;
        let config: Self = Figment::new()
            .merge(Toml::file_exact(file))
            .merge(environment)
            .extract()
            .map_err(|error| explain::keys(file, error))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut wrong = Vec::new();
        // The name becomes part of what every sealed record is bound to.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.deployment.is_empty() || self.deployment.len() > 64 || !self.deployment.chars().all(plain) {
            wrong.push("deployment: a name of 1 to 64 lower-case letters, digits and '-' is expected".to_owned());
        }
        if !self.server.listen.ip().is_loopback() {
            wrong.push(format!(
                "server.listen: {} is not a loopback address; the host speaks plain HTTP, so let it listen on 127.0.0.1 \
                 and put a proxy that ends TLS in front of it",
                self.server.listen
            ));
        }
        if let Some(url) = &self.server.public_url
            && !is_public_url(url)
        {
            wrong.push(format!(
                "server.public_url: {url:?} is not https://HOST with an optional path (plain http for 127.0.0.1 only)"
            ));
        }
        if self.server.stop_grace_seconds > 3_600 {
            wrong.push("server.stop_grace_seconds: at most 3600 seconds are expected".to_owned());
        }
        for name in self.retention.zeros() {
            wrong.push(format!(
                "retention.{name}: at least 1 is expected; nothing can be delivered from what is not kept"
            ));
        }
        for host in &self.egress.development_hosts {
            if !is_host_and_port(host) {
                wrong.push(format!("egress.development_hosts: {host:?} is not HOST:PORT, such as \"127.0.0.1:4010\""));
            }
        }
        for (endpoint, base) in &self.egress.base_overrides {
            if endpoint.split('/').filter(|part| !part.is_empty()).count() != 2 || endpoint.matches('/').count() != 1 {
                wrong.push(format!(
                    "egress.base_overrides: {endpoint:?} is not CONNECTOR/ENDPOINT, such as \"hubspot/api\""
                ));
            }
            if !base.starts_with("https://") && !base.starts_with("http://") {
                wrong.push(format!("egress.base_overrides.{endpoint}: {base:?} is not a URL"));
            }
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log.filter) {
            wrong.push(format!(
                "log.filter: {error}; a level (info) or a list such as \"info,sgen_delivery=debug\" is expected"
            ));
        }
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError::Keys(wrong)) }
    }
}

/// Vendors register what is made from it letter by letter.
fn is_public_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://");
    let local = text.strip_prefix("http://").filter(|rest| rest.starts_with("127.0.0.1:") || *rest == "127.0.0.1");
    rest.or(local)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"?#@".contains(&b)))
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests;
