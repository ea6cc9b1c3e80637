//! The fakes in a process of their own: prints one JSON line with the addresses, serves until standard input closes.

use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use sgen_tests::fakes::control::Downstream;
use sgen_tests::fakes::webhook::Secret;
use sgen_tests::fakes::{HubspotFake, WebhookFake};
use tokio::io::AsyncReadExt as _;

/// Runs a fake HubSpot and a webhook receiver until standard input closes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The token that the fake HubSpot accepts.
    #[arg(long)]
    hubspot_token: String,
    /// The secret that the webhook receiver believes (`whsec_…`).
    #[arg(long)]
    webhook_secret: String,
    /// Port of the fake HubSpot; any free one when 0.
    #[arg(long, default_value_t = 0)]
    hubspot_port: u16,
    /// Port of the webhook receiver; any free one when 0.
    #[arg(long, default_value_t = 0)]
    webhook_port: u16,
    /// Keep payloads and the most recent requests.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the addresses are this program's output")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let secret = Secret::parse(&arguments.webhook_secret).map_err(anyhow::Error::msg)?;
    let hubspot = HubspotFake::start(&arguments.hubspot_token, arguments.hubspot_port).await?;
    let webhook = WebhookFake::start(&secret, arguments.webhook_port).await?;
    webhook.set_keep(arguments.keep);
    let addresses = Arc::new(Downstream { hubspot, webhook }).serve_control().await?;
    println!("{}", serde_json::to_string(&addresses)?);
    // A closed input says that whoever started this is gone.
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    Ok(())
}
