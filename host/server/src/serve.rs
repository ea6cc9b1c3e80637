//! `serve`: makes the rooms in their order, serves, and takes them down in the opposite order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sgen_api::{ApiParts, Limits, ReleaseSource as _};
use sgen_audit::{Actor, AuditLog};
use sgen_delivery::{DeliveryConfig, Parts, Runtime};
use sgen_egress::{Gate, GateConfig, SystemResolver, TcpDialer};
use sgen_engine::{Engine, EngineConfig};
use sgen_model::{Clock, Entropy, SystemClock, SystemEntropy};
use sgen_store::{EmbeddedStore, Options, Store};
use sgen_vault::Vault;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Environment, Handed};
use crate::releases::ReleaseFolder;
use crate::{listen, logging, secrets};

/// How long the threads may take to end after everything was stopped.
const THREADS_GRACE: Duration = Duration::from_secs(5);
/// After the store has failed nothing can be finished: answers that are ready still go out.
const FAILED_GRACE: Duration = Duration::from_secs(1);

/// Runs the host until it is told to stop.
pub(crate) fn run(file: &Path) -> anyhow::Result<()> {
    let (environment, handed) = Environment::read(std::env::vars_os());
    let config = Config::load(file, &environment)?;
    logging::start(&config.log)?;
    forget_ready(&config)?;
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&config.store.path, &Options::default())?);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sgen-host")
        .build()
        .context("the threads of the host cannot be started")?;
    let result = threads.block_on(host(config, handed, Arc::clone(&store)));
    // Ends what still runs, and with it every other holder of the store, which closes its files when it is dropped.
    threads.shutdown_timeout(THREADS_GRACE);
    if store.failure().borrow().is_some() {
        // One that has failed may have a thread that never comes back from its write; there is nothing to close in order.
        std::mem::forget(store);
    } else {
        drop(store);
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

async fn host(config: Config, handed: Handed, store: Arc<dyn Store>) -> anyhow::Result<()> {
    let stopping = Stopping::install()?;
    let failure = store.failure();
    let (runtime, router) = tokio::select! {
        opened = open(&config, handed, store) => opened?,
        // What is opened waits for its commits, and gets no answer from a store that hangs.
        reason = failing(failure.clone()) => return Err(failed(&reason)),
    };
    let listener = TcpListener::bind(config.server.listen).await.with_context(|| {
        format!("{} cannot be listened on; is another host running? See server.listen", config.server.listen)
    })?;
    let address = listener.local_addr().context("the listener has no address")?;
    let stop = CancellationToken::new();
    let mut serving = tokio::spawn(listen::serve(listener, router, stop.clone()));
    tracing::info!(%address, deployment = config.deployment, "serving");
    tell_ready(&config, address)?;

    let mut end = stopping.wait(failure.clone()).await;
    forget_ready(&config)?;
    let grace = if end.is_ok() { config.server.stop_grace() } else { FAILED_GRACE };
    stop.cancel();
    if tokio::time::timeout(grace, &mut serving).await.is_err() {
        tracing::warn!("some requests did not end in time and are cut off");
        serving.abort();
    }
    match &end {
        Ok(()) => runtime.stop(grace).await,
        Err(_) => drop(tokio::time::timeout(FAILED_GRACE, runtime.stop(FAILED_GRACE)).await),
    }
    // The store may have failed while the host was stopping: then it has not stopped in order.
    if let (Ok(()), Some(reason)) = (&end, failure.borrow().as_deref()) {
        end = Err(failed(reason));
    }
    end
}

/// The reason, once the store has failed.
async fn failing(mut failure: watch::Receiver<Option<String>>) -> String {
    match failure.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => std::future::pending().await,
    }
}

fn failed(reason: &str) -> anyhow::Error {
    tracing::error!(reason, "the store has failed");
    anyhow::anyhow!(
        "the store has failed and takes nothing more: {reason}; free space or mend the disk, then start the host again. \
         Nothing acknowledged is lost"
    )
}

/// Makes every room, from the store upwards.
async fn open(config: &Config, handed: Handed, store: Arc<dyn Store>) -> anyhow::Result<(Arc<Runtime>, axum::Router)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
    let platform_token_digest =
        secrets::platform_token_digest(handed.platform_token, config.access.platform_token_file.as_deref())?;
    let keys = secrets::vault_keys(&config.vault, handed.keys)?;
    let vault = Vault::open(Arc::clone(&store), keys, &config.deployment, Arc::clone(&entropy)).await?;
    let audit = AuditLog::new(Arc::clone(&store), Arc::clone(&clock))?;
    if !config.egress.development_hosts.is_empty() {
        tracing::warn!(hosts = ?config.egress.development_hosts, "development hosts are reached without TLS");
    }
    let gate = Gate::new(
        GateConfig { development_hosts: config.egress.development_hosts.clone(), ..GateConfig::default() },
        Arc::new(SystemResolver::default()),
        Arc::new(TcpDialer),
        Arc::clone(&clock),
    )?;
    let engine = Engine::new(EngineConfig {
        cache: config.engine.cache.clone(),
        cache_key: *vault.derive_key("compile-cache")?,
        limits: sgen_engine::Limits::default(),
    })?;
    let runtime = Runtime::start(Parts {
        store: Arc::clone(&store),
        vault: Arc::clone(&vault),
        audit: Arc::clone(&audit),
        engine,
        gate,
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        config: DeliveryConfig {
            base_overrides: config.egress.base_overrides.clone(),
            development_hosts: config.egress.development_hosts.clone(),
            oauth_redirect: config.server.oauth_redirect(),
            events: config.retention.events(),
            journal: config.retention.integration_log(),
            ..DeliveryConfig::default()
        },
    })
    .await?;
    let release = Arc::new(ReleaseFolder {
        folder: config.catalog.folder.clone(),
        trust_root: config.catalog.trust_root.clone(),
        clock: Arc::clone(&clock),
    });
    let catalog = release.open(runtime.floor()?).await.context("the host does not start")?;
    runtime.activate(&Actor::Platform, catalog).await.context("the release cannot be activated")?;
    let router = sgen_api::router(ApiParts {
        runtime: Arc::clone(&runtime),
        audit,
        vault,
        store,
        clock,
        entropy,
        platform_token_digest,
        release,
        limits: Limits::default(),
    })?;
    Ok((runtime, router))
}

/// What ends the host.
struct Stopping {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stopping {
    /// From now on the signals no longer end the process by themselves.
    fn install() -> anyhow::Result<Self> {
        let caught = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self { terminate: caught(SignalKind::terminate())?, interrupt: caught(SignalKind::interrupt())? })
    }

    /// # Errors
    /// When the store has failed: the host can do nothing more.
    async fn wait(mut self, failure: watch::Receiver<Option<String>>) -> anyhow::Result<()> {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
            reason = failing(failure) => return Err(failed(&reason)),
        }
        Ok(())
    }
}

/// Writes the address where whoever started the host waits for it. Complete or not there at all.
fn tell_ready(config: &Config, address: SocketAddr) -> anyhow::Result<()> {
    let Some(path) = &config.server.ready_file else { return Ok(()) };
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(".new");
    std::fs::write(&unfinished, format!("{address}\n"))
        .and_then(|()| std::fs::rename(&unfinished, path))
        .with_context(|| format!("server.ready_file {} cannot be written", path.display()))
}

/// Removes what an earlier run wrote there.
fn forget_ready(config: &Config) -> anyhow::Result<()> {
    let Some(path) = &config.server.ready_file else { return Ok(()) };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("server.ready_file {} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[tokio::test]
    async fn a_store_that_fails_ends_the_host_with_the_reason_and_what_to_do() {
        let failure = watch::Sender::new(None);
        let waiting = Stopping::install().unwrap().wait(failure.subscribe());
        failure.send_replace(Some("no space left".to_owned()));
        let error = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap_err().to_string();
        assert!(error.contains("no space left") && error.contains("start the host"), "{error}");
    }

    #[tokio::test]
    async fn the_address_is_told_whole_and_forgotten_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (file, ready) = (folder.path().join("host.toml"), folder.path().join("ready"));
        let toml = format!(
            "deployment = \"d\"\n[server]\nready_file = {ready:?}\n[store]\npath = \"s\"\n\
             [catalog]\nfolder = \"c\"\ntrust_root = \"r\""
        );
        std::fs::write(&file, toml).unwrap();
        let config = Config::load(&file, &Environment::default()).unwrap();
        forget_ready(&config).unwrap();
        tell_ready(&config, SocketAddr::from(([127, 0, 0, 1], 4711))).unwrap();
        assert_eq!(std::fs::read_to_string(&ready).unwrap(), "127.0.0.1:4711\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        forget_ready(&config).unwrap();
        assert!(!ready.exists());
    }
}
