//! `sgen-vendors`: runs one proof and ends with its closing line.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use sgen_vendors::{oauth, service_account, sigv4};

/// Proves one claim about credentials against a real counterpart.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    proof: Proof,
}

#[derive(Subcommand)]
enum Proof {
    /// A rotating grant is never lost: many deliveries at a time over many expiries and restarts, against oidc-provider.
    Oauth {
        /// Deliveries at a time.
        #[arg(long, default_value_t = 50)]
        concurrent: usize,
        /// How many access tokens expire.
        #[arg(long, default_value_t = 20)]
        expiries: u64,
        /// How many seconds an access token counts.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// AWS's own rules accept what is signed and refuse what was tampered with, against moto with authentication on.
    Sigv4,
    /// A service account's assertions are accepted and forged ones refused, against PyJWT and google-auth.
    ServiceAccount {
        /// How many assertions.
        #[arg(long, default_value_t = 100)]
        assertions: u64,
    },
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a proof is there to be read")]
async fn main() -> ExitCode {
    match prove(Arguments::parse().proof).await {
        Ok((line, holds)) => {
            println!("{line}");
            if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the proof failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn prove(proof: Proof) -> Result<(String, bool)> {
    Ok(match proof {
        Proof::Oauth { concurrent, expiries, seconds } => {
            let plan = oauth::Plan { concurrent, expiries, lifetime: Duration::from_secs(seconds) };
            let figures = oauth::run(&plan).await?;
            (figures.to_string(), figures.holds())
        }
        Proof::Sigv4 => {
            let figures = sigv4::run().await?;
            (figures.to_string(), figures.holds())
        }
        Proof::ServiceAccount { assertions } => {
            let figures = service_account::run(assertions).await?;
            (figures.to_string(), figures.holds())
        }
    })
}
