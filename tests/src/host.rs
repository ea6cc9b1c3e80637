//! The host as a process: started with a generated configuration in a folder of its own, watched, killed, started again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::paths;
use crate::wait::eventually;

/// How long a start may take: compiling a release for the first time included.
const START_BOUND: Duration = Duration::from_secs(60);

/// Where a host lives and how it is configured. Starting it any number of times uses the same folder.
#[derive(Debug, Clone)]
pub struct HostFolder {
    folder: PathBuf,
    catalog: PathBuf,
    trust_root: PathBuf,
    platform_token: String,
    development_hosts: Vec<String>,
    base_overrides: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    log_filter: String,
    launcher: Vec<OsString>,
}

impl HostFolder {
    /// Prepares a folder: a new vault key and a new platform token, made by the host's own commands. The catalog is the
    /// release that was built for the tests.
    ///
    /// # Errors
    /// When the host or the release is not built (the error names the command), or a command fails.
    pub async fn create(folder: &Path) -> Result<Self> {
        Self::create_on(folder, &paths::catalog()?).await
    }

    /// The same on this release folder and the trust root in it.
    ///
    /// # Errors
    /// When the host is not built (the error names the command), or a command fails.
    pub async fn create_on(folder: &Path, catalog: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = fs::canonicalize(folder)?;
        let key = folder.join("vault.key");
        let token = folder.join("platform.token");
        for (noun, file) in [("keys", &key), ("token", &token)] {
            let output = run(&[noun, "generate", "--out", &file.to_string_lossy()]).await?;
            output.expect_success()?;
        }
        Ok(Self {
            trust_root: catalog.join("root.dsse.json"),
            catalog: catalog.to_path_buf(),
            platform_token: fs::read_to_string(&token)?.trim().to_owned(),
            development_hosts: Vec::new(),
            base_overrides: BTreeMap::new(),
            environment: BTreeMap::new(),
            log_filter: "info".to_owned(),
            launcher: Vec::new(),
            folder,
        })
    }

    /// A folder with the same keys, token, configuration and compile cache, but an empty store.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn with_empty_store(&self, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = fs::canonicalize(folder)?;
        for name in ["vault.key", "platform.token"] {
            fs::copy(self.folder.join(name), folder.join(name))?;
        }
        let cache = self.folder.join("cache");
        let sibling = Self { folder, ..self.clone() };
        Ok(sibling.with_environment("SGEN_ENGINE__CACHE", &cache.to_string_lossy()))
    }

    /// Runs on this release folder and the trust root in it.
    #[must_use]
    pub fn with_catalog(mut self, folder: &Path) -> Self {
        self.catalog = folder.to_path_buf();
        self.trust_root = folder.join("root.dsse.json");
        self
    }

    /// Trusts another root than the one that lies in the release folder.
    #[must_use]
    pub fn with_trust_root(mut self, file: &Path) -> Self {
        self.trust_root = file.to_path_buf();
        self
    }

    /// Admits a loopback `host:port` downstream.
    #[must_use]
    pub fn with_development_host(mut self, address: impl ToString) -> Self {
        self.development_hosts.push(address.to_string());
        self
    }

    /// Admits no loopback downstream any more: what this host would deliver ends as dead letters.
    #[must_use]
    pub fn without_development_hosts(mut self) -> Self {
        self.development_hosts.clear();
        self
    }

    /// Sends an endpoint (`hubspot/api`) to another base URL.
    #[must_use]
    pub fn with_base(mut self, endpoint: &str, url: &str) -> Self {
        self.base_overrides.insert(endpoint.to_owned(), url.to_owned());
        self
    }

    /// Sets an environment variable of the host (`SGEN_SECTION__KEY`).
    #[must_use]
    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The log filter, such as `info` or `debug`.
    #[must_use]
    pub fn with_log_filter(mut self, filter: &str) -> Self {
        filter.clone_into(&mut self.log_filter);
        self
    }

    /// Starts the host through another program, which must become it or leave its process id to it: this program with
    /// these arguments is put before the host's own command line.
    #[must_use]
    pub fn with_launcher(mut self, command: impl IntoIterator<Item = OsString>) -> Self {
        self.launcher = command.into_iter().collect();
        self
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The store's folder.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// The file with the vault's key.
    #[must_use]
    pub fn vault_key(&self) -> PathBuf {
        self.folder.join("vault.key")
    }

    /// The platform token of this host.
    #[must_use]
    pub fn platform_token(&self) -> &str {
        &self.platform_token
    }

    /// Everything that the host has logged so far, over all its lives.
    ///
    /// # Errors
    /// When there is a log that cannot be read.
    pub fn log(&self) -> Result<String> {
        let file = self.folder.join("host.log");
        if !file.exists() {
            return Ok(String::new());
        }
        Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
    }

    /// Writes the configuration and answers its file.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_configuration(&self) -> Result<PathBuf> {
        let file = self.folder.join("host.toml");
        fs::write(&file, self.configuration()?)?;
        Ok(file)
    }

    fn configuration(&self) -> Result<String> {
        let path = |path: &Path| quoted(&path.to_string_lossy());
        let within = |name: &str| path(&self.folder.join(name));
        let mut text = String::from("deployment = \"development\"\n");
        writeln!(text, "[server]\nlisten = \"127.0.0.1:0\"\nready_file = {}", within("ready"))?;
        writeln!(text, "[store]\npath = {}", within("store"))?;
        writeln!(text, "[catalog]\nfolder = {}\ntrust_root = {}", path(&self.catalog), path(&self.trust_root))?;
        writeln!(text, "[vault]\nkey_file = {}", within("vault.key"))?;
        writeln!(text, "[access]\nplatform_token_file = {}", within("platform.token"))?;
        let hosts: Vec<String> = self.development_hosts.iter().map(|host| quoted(host)).collect();
        let bases: Vec<String> =
            self.base_overrides.iter().map(|(name, url)| format!("{} = {}", quoted(name), quoted(url))).collect();
        writeln!(text, "[egress]\ndevelopment_hosts = [{}]", hosts.join(", "))?;
        writeln!(text, "base_overrides = {{ {} }}", bases.join(", "))?;
        writeln!(text, "[engine]\ncache = {}", within("cache"))?;
        writeln!(text, "[log]\nformat = \"text\"\nfilter = {}", quoted(&self.log_filter))?;
        Ok(text)
    }

    /// Starts the host and waits until it serves.
    ///
    /// # Errors
    /// When it ends or does not serve in time; the error holds the last lines of its log.
    pub async fn start(&self) -> Result<Host> {
        let mut host = self.spawn()?;
        host.wait_until_serving().await?;
        Ok(host)
    }

    /// Starts the host without waiting for it.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(&self) -> Result<Host> {
        let configuration = self.write_configuration()?;
        let ready_file = self.folder.join("ready");
        if ready_file.exists() {
            fs::remove_file(&ready_file)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("host.log"))?;
        let log_start = log.metadata()?.len();
        let binary = paths::host_binary()?;
        let mut words = self.launcher.iter().map(OsString::as_os_str).chain([binary.as_os_str()]);
        let mut command = Command::new(words.next().context("there is no program to start")?);
        command.args(words).arg("serve").arg("--config").arg(&configuration);
        self.apply_environment(&mut command);
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("sgen-host does not start")?;
        Ok(Host { child, folder: self.clone(), log_start, started, base: None })
    }

    fn apply_environment(&self, command: &mut Command) {
        // Nothing of the caller's configuration may leak into this host.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SGEN_") {
                command.env_remove(name);
            }
        }
        command.env_remove("CREDENTIALS_DIRECTORY").envs(&self.environment);
    }

    /// Starts the host, expecting it to end by itself within the bound. Answers its exit status and what it logged.
    ///
    /// # Errors
    /// When it goes on running.
    pub async fn start_refused(&self) -> Result<(ExitStatus, String)> {
        let mut host = self.spawn()?;
        let status = tokio::time::timeout(START_BOUND, host.child.wait())
            .await
            .context("the host was expected to refuse to start, and is running")??;
        Ok((status, host.log()?))
    }

    /// Runs another command of the host on this configuration, such as `["store", "check"]`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(paths::host_binary()?);
        command.args(arguments).arg("--config").arg(self.write_configuration()?);
        self.apply_environment(&mut command);
        finish(&mut command).await
    }
}

fn quoted(text: &str) -> String {
    // TOML's basic strings take JSON's escapes.
    serde_json::Value::from(text).to_string()
}

/// What a command of the host said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: String,
    /// Its complaints.
    pub stderr: String,
}

impl Output {
    /// The output of a command that succeeded.
    ///
    /// # Errors
    /// When it did not, with what it said.
    pub fn expect_success(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!("sgen-host ended with {}: {}{}", self.status, self.stdout, self.stderr)
    }
}

/// Runs a command of the host.
///
/// # Errors
/// When it is not built or cannot be started.
pub async fn run(arguments: &[&str]) -> Result<Output> {
    finish(Command::new(paths::host_binary()?).args(arguments)).await
}

async fn finish(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("sgen-host does not start")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// A running host. It is killed when this is dropped.
#[derive(Debug)]
pub struct Host {
    child: Child,
    folder: HostFolder,
    log_start: u64,
    started: Instant,
    base: Option<String>,
}

impl Host {
    /// Waits until it serves, and answers how long its start took.
    ///
    /// # Errors
    /// When it ends or does not serve in time; the error holds the last lines of its log.
    pub async fn wait_until_serving(&mut self) -> Result<Duration> {
        let ready_file = self.folder.folder.join("ready");
        let started = self.started;
        let child = &mut self.child;
        let waited = eventually("the host's start", START_BOUND, || {
            let state = look(child, &ready_file);
            std::future::ready(state)
        })
        .await;
        match waited {
            Ok(address) => {
                self.base = Some(format!("http://{address}"));
                Ok(started.elapsed())
            }
            Err(error) => {
                let log = self.log()?;
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("{error}; its log ends with:\n{}", tail.join("\n"))
            }
        }
    }

    /// Its process id; `None` when it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `http://ADDRESS` of its API.
    ///
    /// # Errors
    /// When it does not serve yet.
    pub fn url(&self) -> Result<&str> {
        self.base.as_deref().context("the host does not serve yet")
    }

    /// What it has logged in this life.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = File::open(self.folder.folder.join("host.log"))?;
        file.seek(SeekFrom::Start(self.log_start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("the host cannot be killed")
    }

    /// Asks it to stop (SIGTERM), without waiting.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn ask_to_stop(&self) -> Result<()> {
        let pid = self.child.id().context("the host has ended already")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("no process has the id 0")?;
        kill_process(pid, Signal::TERM).context("the host cannot be asked to stop")
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it has not within the bound.
    pub async fn wait_for_end(&mut self, bound: Duration) -> Result<ExitStatus> {
        let waited = tokio::time::timeout(bound, self.child.wait()).await;
        Ok(waited.with_context(|| format!("the host did not end within {} s", bound.as_secs()))??)
    }

    /// Asks it to stop and waits until it has ended.
    ///
    /// # Errors
    /// When it has not within 60 s.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.ask_to_stop()?;
        self.wait_for_end(Duration::from_secs(60)).await
    }
}

/// The address once the host serves; an error once it has ended.
fn look(child: &mut Child, ready_file: &Path) -> Result<Option<String>> {
    if let Some(status) = child.try_wait()? {
        bail!("the host ended with {status} before it served");
    }
    match fs::read_to_string(ready_file) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("the ready file cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_configuration_survives_odd_paths() {
        let folder = HostFolder {
            folder: PathBuf::from("/tmp/a \"b\"\\c"),
            catalog: PathBuf::from("/catalog"),
            trust_root: PathBuf::from("/catalog/root.dsse.json"),
            platform_token: String::new(),
            development_hosts: vec!["127.0.0.1:1".to_owned()],
            base_overrides: BTreeMap::from([("hubspot/api".to_owned(), "http://127.0.0.1:1".to_owned())]),
            environment: BTreeMap::new(),
            log_filter: "info".to_owned(),
            launcher: Vec::new(),
        };
        let text = folder.configuration().unwrap();
        assert!(text.contains(r#"path = "/tmp/a \"b\"\\c/store""#), "{text}");
        assert!(text.contains(r#"base_overrides = { "hubspot/api" = "http://127.0.0.1:1" }"#), "{text}");
    }
}
