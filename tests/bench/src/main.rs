//! `cargo xtask bench [NAME...]`: measures the host, beside what the same machine does natively in the same run.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]

mod backlog;
mod deliver;
mod density;
mod disk;
mod downstream;
mod fairness;
mod fanout;
mod ingest;
mod instantiate;
mod latency;
mod lean;
mod native;
mod options;
mod release;
mod report;
mod samples;
mod sandbox;
mod stage;
mod usage;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use options::Options;
use report::Figure;

/// Measures the host and compares it with what it must reach. Ends with a table of all figures; its status says whether
/// every one of them was reached.
///
/// `sandbox` and `instantiate` run the host's rooms in this process. The others run the release build of the host as a
/// process with its own store on disk, over HTTP, beside a load and downstreams that cost little; everything shares the
/// machine's cores.
#[derive(Parser)]
#[command(version, name = "cargo xtask bench")]
struct Arguments {
    /// What to measure; everything when none is named.
    #[arg(value_enum, value_name = "NAME")]
    benches: Vec<Bench>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    sandbox: sandbox::Sandbox,
    /// Writes this run's figures to a file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// CPU per event through a component, in batches of 1 and 25, against the same connector code run natively through
    /// the same gate.
    Sandbox,
    /// Time to make and drop an instance, and to load a component from the compile cache.
    Instantiate,
    /// Durable events a second accepted, in requests of one event and of 100, with the time to the answer.
    Ingest,
    /// Events a second from capture to durable settlement, to a downstream of single requests and to one of batches.
    Deliver,
    /// From capture to the downstream at a tenth of capacity.
    Latency,
    /// Log writes when ten instances take every event.
    Fanout,
    /// Memory and CPU of 10,000 idle instances on 1,000 sites.
    Density,
    /// What two sites notice of a third that floods and a fourth whose downstream hangs.
    Fairness,
    /// A million waiting events: memory, disk, and how fast they drain.
    Backlog,
}

/// As the host has it: the baselines are to differ in nothing else.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let benches = if arguments.benches.is_empty() { Bench::value_variants() } else { &arguments.benches };
    let mut figures: Vec<Figure> = Vec::new();
    for bench in benches {
        let of_bench = bench.run(&arguments, &figures)?;
        report::keep(&of_bench)?;
        for figure in &of_bench {
            println!("{figure}");
        }
        figures.extend(of_bench);
    }
    if let Some(file) = &arguments.json {
        report::write(&figures, file)?;
    }
    println!("\n{}", report::table(&figures));
    Ok(if figures.iter().all(Figure::reached) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Bench {
    /// Runs one bench; earlier figures of this run say what the host can do.
    fn run(self, arguments: &Arguments, earlier: &[Figure]) -> Result<Vec<Figure>> {
        let options = &arguments.options;
        let capacity =
            |way: &deliver::Way| earlier.iter().find(|figure| figure.is("deliver", way.what)).map(|f| f.value);
        let name = self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let figures = match self {
            Self::Sandbox => arguments.sandbox.run(options),
            Self::Instantiate => instantiate::run(options),
            Self::Ingest => with_host(ingest::run(options)),
            Self::Deliver => with_host(deliver::run(options)),
            Self::Latency => with_host(latency::run(options, capacity(&deliver::SINGLE))),
            Self::Fanout => with_host(fanout::run(options)),
            Self::Density => with_host(density::run(options)),
            Self::Fairness => with_host(fairness::run(options)),
            Self::Backlog => with_host(backlog::run(options, capacity(&deliver::BATCHING))),
        };
        figures.with_context(|| format!("the bench {name} failed"))
    }
}

/// Runs a bench that has the host as a process. An interrupt ends both: the host belongs to what is dropped here.
fn with_host(bench: impl Future<Output = Result<Vec<Figure>>>) -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            figures = bench => figures,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                bail!("interrupted")
            }
        }
    })
}
