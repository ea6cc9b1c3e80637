//! The engine itself: compiling, loading from the cache, linking.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::Connector;
use crate::cache::Cache;
use crate::component::Component;
use crate::config::{EngineConfig, Limits, build};
use crate::error::EngineError;
use crate::host::State;
use crate::{precompiled, ticker};

/// Runs components. One per process.
pub struct Engine {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) limits: Limits,
    /// An exhausted pool is an error in wasmtime; here it is a wait.
    pub(crate) slots: Semaphore,
    pub(crate) deadlines: ticker::Deadlines,
    linker: Linker<State>,
    cache: Option<Cache>,
}

/// A component that is ready to run.
pub struct Loaded {
    /// The component.
    pub component: Component,
    /// Whether its machine code came from the cache.
    pub from_cache: bool,
}

impl Engine {
    /// Sets the engine up.
    ///
    /// # Errors
    /// [`EngineError::Setup`] when this machine cannot run it.
    pub fn new(config: EngineConfig) -> Result<Arc<Self>, EngineError> {
        let engine = build(&config.limits)?;
        let deadlines = ticker::start(&engine)?;
        Self::with_deadlines(config, engine, deadlines)
    }

    /// Sets an engine up that knows no time: nothing ends an invocation that takes long, and none yields to others in
    /// between. What happens then depends on nothing but what goes in, which is what a simulation on paused time needs.
    /// Never for a host: a runaway guest would hold its thread for ever.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn timeless(config: EngineConfig) -> Result<Arc<Self>, EngineError> {
        let engine = build(&config.limits)?;
        Self::with_deadlines(config, engine, ticker::Deadlines::never())
    }

    fn with_deadlines(
        config: EngineConfig,
        engine: wasmtime::Engine,
        deadlines: ticker::Deadlines,
    ) -> Result<Arc<Self>, EngineError> {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let configuration = hasher.finish();
        let cache = config.cache.map(|folder| Cache::new(folder, config.cache_key, configuration));
        let linker = link(&engine).map_err(|e| EngineError::Setup(format!("{e:#}")))?;
        let slots = Semaphore::new(usize::try_from(config.limits.instances).unwrap_or(usize::MAX));
        Ok(Arc::new(Self { engine, limits: config.limits, slots, deadlines, linker, cache }))
    }

    /// Makes a component ready to run: from the cache, or by compiling `wasm`. `digest` is the SHA-256 that the signed
    /// catalog gives for exactly these bytes, and that the caller has verified.
    ///
    /// Compiling takes from tenths of a second to tens of seconds on the calling thread.
    ///
    /// # Errors
    /// [`EngineError`] when the component is too large, does not compile or does not fit the world.
    pub fn load(self: &Arc<Self>, digest: [u8; 32], wasm: &[u8]) -> Result<Loaded, EngineError> {
        if wasm.len() > self.limits.component_bytes {
            return Err(EngineError::TooLarge { size: wasm.len(), limit: self.limits.component_bytes });
        }
        if let Some(cache) = &self.cache
            && let Some(sealed) = cache.read(&digest)
        {
            match precompiled::load(&self.engine, sealed.code()) {
                Ok(component) => return Ok(Loaded { component: self.prepare(component)?, from_cache: true }),
                Err(error) => {
                    tracing::warn!(error = %format!("{error:#}"), "cached machine code does not load: compiling again")
                }
            }
        }
        let code = self.engine.precompile_component(wasm).map_err(|e| EngineError::Compile(format!("{e:#}")))?;
        if let Some(cache) = &self.cache {
            cache.write(&digest, &code);
        }
        let component = precompiled::load(&self.engine, &code).map_err(|e| EngineError::Compile(format!("{e:#}")))?;
        Ok(Loaded { component: self.prepare(component)?, from_cache: false })
    }

    fn prepare(self: &Arc<Self>, component: wasmtime::component::Component) -> Result<Component, EngineError> {
        let linked = self.linker.instantiate_pre(&component).map_err(|e| EngineError::World(format!("{e:#}")))?;
        Component::new(self.clone(), linked)
    }
}

/// Links the connector world and, for toolchains whose standard library imports it, a WASI without sockets whose file
/// system, environment and output are empty.
fn link(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    use wasmtime_wasi::WasiView as _;
    use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
    use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
    use wasmtime_wasi::random::WasiRandom;

    let mut linker = Linker::new(engine);
    Connector::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    let l = &mut linker;
    // Input and output streams, clocks, secure randomness, standard input and output.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(l)?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    Ok(linker)
}

/// FNV-1a, 64 bits: the same in every build of the host, as the standard library's hasher need not be.
struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
