//! `sgen-host`: runs the host, and looks at releases, audit logs and stores.
//!
//! Wiring only: it reads the configuration and the environment, makes the parts and hands them to each other. Exit status
//! 0 for success, 1 for a failure, 2 for a command line or a configuration that has to be corrected.

mod backup_client;
mod cli;
mod commands;
mod config;
mod host_client;
mod key_commands;
mod listen;
mod logging;
mod process;
mod progress;
mod releases;
mod secrets;
mod serve;
mod store_commands;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{AuditCommand, CatalogCommand, Cli, Command, KeysCommand, StoreCommand, TokenCommand};
use config::ConfigError;

/// Of what an event costs, allocations are a fifth with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Clap ends the process itself with status 2 when the command line is not understood.
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(status(&error))
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // Before anything secret is in memory.
    process::forbid_core_dumps()?;
    match command {
        Command::Serve(config) => serve::run(&config.config),
        Command::Catalog(CatalogCommand::Verify { folder, trust_root }) => {
            commands::verify_catalog(&folder, &trust_root)
        }
        Command::Audit(AuditCommand::Export { config, site, out }) => {
            commands::export_audit(&config.config, &site, out.as_deref())
        }
        Command::Store(command) => match command {
            StoreCommand::Check(config) => commands::check_store(&config.config),
            StoreCommand::Backup { config, out } => store_commands::back_up(&config.config, &out),
            StoreCommand::Restore { config, from } => store_commands::restore(&config.config, &from),
            StoreCommand::Export { config, out } => store_commands::export(&config.config, out.as_deref()),
        },
        Command::Keys(command) => match command {
            KeysCommand::Generate(file) => commands::generate_key(&file.out),
            KeysCommand::Status(config) => key_commands::status(&config.config),
            KeysCommand::Rotate { config, site } => key_commands::rotate(&config.config, site.as_ref()),
            KeysCommand::Rewrap(config) => key_commands::rewrap(&config.config),
        },
        Command::Token(TokenCommand::Generate(file)) => commands::generate_platform_token(&file.out),
    }
}

fn status(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() { 2 } else { 1 }
}

#[expect(clippy::print_stderr, reason = "the last word of a process that fails goes to whoever started it")]
fn report(error: &anyhow::Error) {
    eprintln!("sgen-host: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_to_correct_and_a_failure_have_their_own_status() {
        assert_eq!(status(&ConfigError::NoPlatformToken.into()), 2);
        assert_eq!(status(&anyhow::Error::from(ConfigError::NoPlatformToken).context("serve")), 2);
        assert_eq!(status(&anyhow::anyhow!("disk")), 1);
    }
}
