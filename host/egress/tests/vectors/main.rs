//! `cargo xtask prove egress`: what the gate must refuse, each vector with its reason and without a connection, and beside
//! it what must pass. The vectors are data, a file per family.
//!
//! Connections are observed, not assumed: the dialler records every dial, a listener on loopback counts who reaches it,
//! and what is allowed is a whole exchange with a server. The proof fails when one vector comes to something else, when a
//! forbidden connection was opened, when there are fewer vectors than claimed, and when its own instruments do not show a
//! connection that was made on purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![expect(clippy::print_stdout, reason = "a proof is there to be read")]

mod bases;
mod credentials;
mod exchange;
mod headers;
#[allow(dead_code, reason = "the gate's other tests use the rest")]
#[path = "../gate/kit.rs"]
mod kit;
mod lab;
mod names;
mod paths;
mod ranges;
mod reflections;
mod resolution;
mod responses;
mod spellings;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::lab::{Lab, Watch, Zone};
use crate::tally::Tally;

/// What is claimed for all families together.
const LEAST: usize = 300;

/// What the gate must refuse is refused with its reason and no connection, and what differs in one respect passes.
#[derive(Parser)]
#[command(name = "cargo xtask prove egress", bin_name = "cargo xtask prove egress", version)]
struct Arguments {
    /// Only this family; all when absent.
    #[arg(long)]
    family: Option<Family>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Family {
    /// Ranges of addresses, from end to end.
    Ranges,
    /// Spellings of addresses in a URL.
    Spellings,
    /// Host names.
    Names,
    /// Base URLs.
    Bases,
    /// What a name resolves to.
    Resolution,
    /// Relative paths.
    Paths,
    /// A guest's headers.
    Headers,
    /// Credentials and endpoints.
    Credentials,
    /// Responses.
    Responses,
    /// Credentials that a downstream sends back.
    Reflections,
}

impl Family {
    async fn run(self, lab: &Lab, tally: &mut Tally) {
        match self {
            Self::Ranges => ranges::run(lab, tally).await,
            Self::Spellings => spellings::run(lab, tally).await,
            Self::Names => names::run(lab, tally).await,
            Self::Bases => bases::run(lab, tally).await,
            Self::Resolution => resolution::run(lab, tally).await,
            Self::Paths => paths::run(lab, tally).await,
            Self::Headers => headers::run(lab, tally).await,
            Self::Credentials => credentials::run(lab, tally).await,
            Self::Responses => responses::run(lab, tally).await,
            Self::Reflections => reflections::run(lab, tally).await,
        }
    }
}

fn main() -> ExitCode {
    let only = Arguments::parse().family;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if runtime.block_on(prove(only)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn prove(only: Option<Family>) -> bool {
    let instruments = instruments_work().await;
    if !instruments {
        println!("a connection made on purpose was not seen: nothing that follows would mean anything");
    }
    let mut tally = Tally::default();
    let mut sound = instruments;
    for family in Family::value_variants().iter().filter(|family| only.is_none_or(|only| only == **family)) {
        let lab = Lab::open().await;
        family.run(&lab, &mut tally).await;
        tally.trapped(lab.trap.caught());
        let (counts, complaints) = tally.end_family();
        println!("{}: {counts}", format!("{family:?}").to_lowercase());
        for complaint in &complaints {
            println!("    {complaint}");
        }
        sound &= complaints.is_empty() && counts.refused > 0 && counts.allowed > 0;
    }
    let total = tally.total();
    if only.is_none() && total.vectors() < LEAST {
        println!("{} vectors are fewer than the {LEAST} that are claimed", total.vectors());
        sound = false;
    }
    println!("{total}");
    sound && total.wrong == 0 && total.forbidden == 0
}

/// The positive control: the dialler records and the trap counts a connection that a deployment has allowed.
async fn instruments_work() -> bool {
    let lab = Lab::open().await;
    let exempt = format!("127.0.0.1:{}", lab.trap.port);
    let watch = Watch::new(lab.world);
    let gate = lab.gate(std::slice::from_ref(&exempt), Zone::of(&[]), watch.clone());
    let mut spec = kit::open_spec(&format!("http://{exempt}"), None);
    // The trap closes what it has caught at once.
    spec.timeouts = sgen_egress::Timeouts::of(Duration::from_secs(20));
    let grant = gate.grant(&kit::instance("control"), vec![spec], kit::credentials(&[])).unwrap();
    let refused = kit::opened(&grant).send(kit::get("/")).await.is_err();
    let seen = watch.dialled() == [exempt.parse().unwrap()] && watch.beyond(&[]) == 1;
    refused && seen && lab.trap.caught() == 1
}
