//! A counterpart as a process: started on a free port, known by the first line that it prints, ended with its handle.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// How long a counterpart may take to serve.
const START: Duration = Duration::from_secs(60);

/// A counterpart that runs.
pub struct Counterpart {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// `127.0.0.1:PORT`.
    pub address: String,
    _child: Child,
    _output: Option<BufReader<ChildStdout>>,
}

/// The build folder: `target` in the workspace, or what `CARGO_TARGET_DIR` says; what the proofs need is installed in it.
fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn installed(path: PathBuf) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path);
    }
    bail!("{} does not exist; `cargo xtask prove oauth|sigv4|service-account` installs it", path.display())
}

impl Counterpart {
    /// Runs a script of this crate with Node, which finds the packages that were installed for the proofs. The script prints
    /// `ready PORT`.
    ///
    /// # Errors
    /// When the packages are missing, or it does not serve in time.
    pub async fn node(script: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let modules = installed(target().join("node/node_modules/oidc-provider"))?;
        let packages = modules.parent().context("packages have a folder")?.to_owned();
        // Node looks for packages from the script's own folder upwards.
        let place = packages.parent().context("packages have a folder")?.join("counterpart.mjs");
        std::fs::write(&place, script)?;
        let mut command = Command::new("node");
        command.arg(place).envs(environment.iter().copied());
        Self::announced(command).await
    }

    /// Runs a script of this crate with the Python environment of the tests. The script prints `ready PORT`.
    ///
    /// # Errors
    /// When the environment is missing, or it does not serve in time.
    pub async fn python(script: &str) -> Result<Self> {
        let mut command = Command::new(installed(target().join("venv/bin/python"))?);
        command.args(["-u", "-c", script]);
        Self::announced(command).await
    }

    /// Runs a program of the Python environment, which takes its port as an argument.
    ///
    /// # Errors
    /// When it is missing, or does not serve in time.
    pub async fn program<S: AsRef<OsStr>>(name: &str, arguments: &[S], environment: &[(&str, &str)]) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(installed(target().join("venv/bin").join(name))?);
        command.args(arguments).arg("-p").arg(port.to_string()).envs(environment.iter().copied());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let counterpart = Self::at(port, child, None);
        let serving = async {
            while TcpStream::connect(&counterpart.address).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(START, serving).await.with_context(|| format!("{name} does not serve"))?;
        Ok(counterpart)
    }

    async fn announced(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("the counterpart does not start")?;
        let output = child.stdout.take().context("its output is read")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        timeout(START, output.read_line(&mut line)).await.context("the counterpart does not serve")??;
        let port = line.trim().strip_prefix("ready ").and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("the counterpart says {line:?} instead of its port"))?;
        Ok(Self::at(port, child, Some(output)))
    }

    fn at(port: u16, child: Child, output: Option<BufReader<ChildStdout>>) -> Self {
        let address = format!("127.0.0.1:{port}");
        Self { url: format!("http://{address}"), address, _child: child, _output: output }
    }

    /// What it answers to a GET, as JSON.
    ///
    /// # Errors
    /// When it does not answer 200 with JSON.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<serde_json::Value> {
        let url = url::Url::parse_with_params(&format!("{}{path}", self.url), query)?;
        let answer = reqwest::get(url).await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{path} answers {status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}
