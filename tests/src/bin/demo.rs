//! The demo: captured events of a site on their way to a local HubSpot and a webhook receiver.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use sgen_tests::demo::{Plan, Running, run};
use sgen_tests::paths;
use sgen_tests::scene::{HUBSPOT, LIVE, SITE};

/// Captures events on a site with a contact form, delivers them through signed connectors to a local HubSpot and a
/// webhook receiver, and accounts for every one of them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// End after the summary, with status 0 only if every event is accounted for.
    #[arg(long)]
    exit: bool,
    /// How many events.
    #[arg(long, default_value_t = 1000)]
    events: u64,
    /// The seed of the events.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// The folder of the host's data; emptied first.
    #[arg(long, default_value_os_t = paths::target().join("demo"))]
    folder: PathBuf,
    /// The folder of the signed release.
    #[arg(long)]
    catalog: Option<PathBuf>,
    /// The port of the site's page; any free one when 0.
    #[arg(long, default_value_t = 0)]
    page_port: u16,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a demo is there to be read")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Leaving this function ends the host, whose process belongs to what is dropped here.
    let result = tokio::select! {
        result = show(&arguments) => result,
        _ = tokio::signal::ctrl_c() => {
            println!("interrupted");
            return ExitCode::from(130);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a demo is there to be read")]
async fn show(arguments: &Arguments) -> Result<bool> {
    let catalog = match &arguments.catalog {
        Some(folder) => folder.clone(),
        None => paths::development_catalog()?,
    };
    let plan = Plan {
        events: arguments.events,
        seed: arguments.seed,
        folder: arguments.folder.clone(),
        catalog,
        page_port: arguments.page_port,
    };
    let Running { mut scene, page, account } = run(&plan, &mut std::io::stdout()).await?;
    if !arguments.exit {
        println!("{account}\n");
        let url = scene.host()?.url()?.to_owned();
        println!("Everything stays up. Open:");
        println!("  {}  the contact form: submit it and follow the link to what became of it", page.url());
        println!("  {url}/openapi.json  the API's description");
        println!("or ask the API as the operator:");
        println!("  TOKEN={}", scene.operator_token);
        println!("  curl -H \"Authorization: Bearer $TOKEN\" '{url}/v1/instances/{HUBSPOT}'");
        println!("  curl -H \"Authorization: Bearer $TOKEN\" '{url}/v1/instances/{HUBSPOT}/dead-letters'");
        println!(
            "  curl -H \"Authorization: Bearer $TOKEN\" '{url}/v1/sites/{SITE}/environments/{LIVE}/captures?limit=5'"
        );
        println!("  curl -H \"Authorization: Bearer $TOKEN\" '{url}/v1/sites/{SITE}/audit?limit=5'");
        println!("Ctrl-C ends it.");
        std::io::stdout().flush()?;
        let host = scene.host.as_mut().map(|host| host.wait_for_end(std::time::Duration::MAX));
        if let Some(ended) = host {
            println!("the host ended with {}", ended.await?);
        }
        return Ok(false);
    }
    drop(page);
    let mut stopped = true;
    if let Some(host) = scene.host.take() {
        let status = host.stop().await?;
        if !status.success() {
            println!("the host did not stop cleanly: {status}");
            stopped = false;
        }
    }
    println!("{account}");
    Ok(account.is_complete() && stopped)
}
