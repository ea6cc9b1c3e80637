//! What an instance costs: making and dropping one, and loading a component from the compile cache.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use sgen_egress::{Gate, GateConfig, SystemResolver, TcpDialer, TlsTrust};
use sgen_engine::{Engine, EngineConfig, Invoker, Limits};
use sgen_model::{InstanceId, SystemClock};
use sgen_vault::Credentials;
use std::sync::Arc;

use crate::options::Options;
use crate::release;
use crate::report::{Figure, Reach, median};

/// Rounds, and instances in each.
const ROUNDS: u32 = 30;
const QUICK_ROUNDS: u32 = 5;
const INSTANCES: u32 = 2000;

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
    let entry = release::entry("webhook")?;
    let digest = *entry.digest.as_bytes();
    let cache = tempfile::tempdir()?;
    let engine = Engine::new(EngineConfig {
        cache: Some(cache.path().to_owned()),
        cache_key: [7; 32],
        limits: Limits::default(),
    })?;
    let began = Instant::now();
    let first = engine.load(digest, &entry.wasm)?;
    let compile = began.elapsed();
    if first.from_cache {
        bail!("an empty cache had the component");
    }
    let mut loads = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let loaded = engine.load(digest, &entry.wasm)?;
        loads.push(began.elapsed().as_secs_f64() * 1e3);
        if !loaded.from_cache {
            bail!("the component was compiled again");
        }
    }
    let config = GateConfig { tls: TlsTrust::Roots(Vec::new()), ..GateConfig::default() };
    let gate = Gate::new(config, Arc::new(SystemResolver::new()), Arc::new(TcpDialer), Arc::new(SystemClock))?;
    let grant = gate.grant(&InstanceId::parse("bench")?, Vec::new(), Credentials::none())?;
    let invoker = Invoker::new(first.component, grant);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut instances = Vec::new();
    runtime.block_on(async {
        for round in 0..=rounds {
            let began = Instant::now();
            for _ in 0..INSTANCES {
                invoker.instantiate().await.result.context("no instance")?;
            }
            // The first round touches the pool's memory.
            if round > 0 {
                instances.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(INSTANCES));
            }
        }
        anyhow::Ok(())
    })?;
    let detail = format!(
        "webhook, {} bytes of WebAssembly; compiling it takes {:.0} ms",
        entry.size,
        compile.as_secs_f64() * 1e3
    );
    println!("{detail}");
    Ok(vec![
        Figure::new(
            "instantiate",
            "instantiate-and-drop",
            median(instances),
            "µs",
            Reach::AtMost(10.0),
            detail.clone(),
        ),
        Figure::new("instantiate", "load-from-cache", median(loads), "ms", Reach::AtMost(1.0), detail),
    ])
}
