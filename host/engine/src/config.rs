//! One configuration for compiling and for running, and the caps of an invocation.

use std::path::PathBuf;
use std::time::Duration;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::error::EngineError;

/// How the engine is set up.
pub struct EngineConfig {
    /// Where compiled code is kept; `None` compiles at every start.
    pub cache: Option<PathBuf>,
    /// The key that authenticates compiled code.
    pub cache_key: [u8; 32],
    /// The caps.
    pub limits: Limits,
}

/// What one invocation may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Linear memory, in bytes.
    pub memory: usize,
    /// Elements over all tables.
    pub table_elements: usize,
    /// Time on the processor; time spent waiting for a response does not count.
    pub cpu: Duration,
    /// Time from start to end, responses included.
    pub wall: Duration,
    /// From the start, the time within which its requests get their turns under the vendor's rate, or are refused. It leaves
    /// time for the responses, and it bounds how long an instance is kept for nothing but waiting.
    pub turns: Duration,
    /// Stack for guest code, in bytes.
    pub stack: usize,
    /// Resource handles held at a time.
    pub handles: usize,
    /// Bytes of lists and strings that one call may hand to the host.
    pub call_bytes: usize,
    /// Requests sent.
    pub requests: u32,
    /// Requests under way at a time.
    pub concurrent_requests: usize,
    /// Bytes of responses handed to the guest.
    pub response_bytes: usize,
    /// Lines of log kept.
    pub log_lines: usize,
    /// Bytes of log kept.
    pub log_bytes: usize,
    /// Bytes of text in one outcome, verdict or list of choices.
    pub answer_bytes: usize,
    /// Choices in one answer.
    pub choices: usize,
    /// Instances alive at a time, in the whole process.
    pub instances: u32,
    /// The largest component, in bytes. Components from Python have 18 MB.
    pub component_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            table_elements: 10_000,
            cpu: Duration::from_secs(2),
            wall: Duration::from_secs(120),
            turns: Duration::from_secs(30),
            stack: 512 << 10,
            handles: 256,
            call_bytes: 16 << 20,
            requests: 1_000,
            concurrent_requests: 32,
            response_bytes: 32 << 20,
            log_lines: 100,
            log_bytes: 16 << 10,
            answer_bytes: 4 << 20,
            choices: 10_000,
            instances: 128,
            component_bytes: 32 << 20,
        }
    }
}

/// How often the epoch advances: the grain of the CPU budget.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The most core instances, memories and tables in one component. A component from Python has 14 core modules.
const PARTS: u32 = 64;

/// How instances are allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// From a pool, with dirty pages found by the kernel.
    PoolWithPagemap,
    /// From a pool.
    Pool,
    /// One by one, where the address space is too small for a pool.
    OnDemand,
}

/// The one configuration: code compiled under it is run under it.
pub(crate) fn configure(limits: &Limits, allocation: Allocation) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack)
        // Guest stack plus room for the host calls on top of it.
        .async_stack_size(limits.stack.saturating_add(512 << 10))
        .async_stack_zeroing(true)
        .memory_init_cow(true)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8))
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_stack_switching(false);
    match allocation {
        Allocation::OnDemand => config.allocation_strategy(InstanceAllocationStrategy::OnDemand),
        Allocation::Pool | Allocation::PoolWithPagemap => {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_component_instances(limits.instances)
                // A component from Rust has 1 memory and 3 core instances; one from Python 14.
                .total_core_instances(limits.instances.saturating_mul(16))
                .total_memories(limits.instances.saturating_mul(2))
                .total_tables(limits.instances.saturating_mul(16))
                .total_stacks(limits.instances)
                .max_core_instances_per_component(PARTS)
                .max_memories_per_component(PARTS)
                .max_tables_per_component(PARTS)
                .max_component_instance_size(4 << 20)
                .max_core_instance_size(4 << 20)
                .max_memory_size(limits.memory)
                .table_elements(limits.table_elements)
                .linear_memory_keep_resident(4 << 20)
                .table_keep_resident(16 << 10)
                // What a usual invocation touches of its stack: cleared in place instead of given back and faulted in.
                .async_stack_keep_resident(32 << 10)
                .decommit_batch_size(64)
                .pagemap_scan(if allocation == Allocation::PoolWithPagemap { Enabled::Yes } else { Enabled::No });
            config.allocation_strategy(pool)
        }
    };
    config
}

/// Makes wasmtime's engine with the best allocation that this machine supports.
pub(crate) fn build(limits: &Limits) -> Result<wasmtime::Engine, EngineError> {
    let mut reason = String::new();
    for allocation in [Allocation::PoolWithPagemap, Allocation::Pool, Allocation::OnDemand] {
        match wasmtime::Engine::new(&configure(limits, allocation)) {
            Ok(engine) => {
                if !reason.is_empty() {
                    tracing::warn!(?allocation, %reason, "the faster allocation of instances is not available here");
                }
                return Ok(engine);
            }
            Err(error) => reason = format!("{error:#}"),
        }
    }
    Err(EngineError::Setup(reason))
}
