//! The command line. Only what may be said; what it does is in `commands` and `serve`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sgen_model::SiteId;

/// Hosts signed connectors in sandboxes and delivers captured events through them.
#[derive(Debug, Parser)]
#[command(name = "sgen-host", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the host until SIGTERM or SIGINT; what is in flight is finished first.
    Serve(ConfigFile),
    /// Looks at releases of connectors.
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Reads the audit log of a host that is stopped.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Looks at the store, backs it up and restores it.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Makes vault keys, shows which keys are in use, and rotates them.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Makes the platform's token.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration; `sgen-host.example.toml` documents every key. `SGEN_SECTION__KEY` overrides a key.
    #[arg(long, value_name = "FILE", env = "SGEN_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Verifies a release as the host does, and shows what it holds.
    Verify {
        /// The folder of the release.
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
        /// The root document that says whose signatures count.
        #[arg(long, value_name = "FILE")]
        trust_root: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verifies a site's audit log and writes it as JSON lines, with its head at the end.
    Export {
        #[command(flatten)]
        config: ConfigFile,
        /// The site; `platform` for the platform's own records.
        #[arg(long, value_name = "SITE")]
        site: SiteId,
        /// Where to write; standard output when absent. An existing file is refused.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Reads every record, verifies its checksum, and verifies every audit log. The host has to be stopped.
    Check(ConfigFile),
    /// Writes all that the store holds at one moment into a file. The host may run: it is then asked for it.
    ///
    /// The file is verified before it gets its name. What is sealed stays sealed in it; the vault key is not in it and has
    /// to be kept apart.
    Backup {
        #[command(flatten)]
        config: ConfigFile,
        /// The file to make, readable by this user only. An existing file is refused.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Makes the store from a backup file, whose digest is verified first.
    ///
    /// The folder of the store has to be absent or empty. The store appears in it complete or not at all.
    Restore {
        #[command(flatten)]
        config: ConfigFile,
        /// The backup file.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Writes every entry as one JSON object a line. The host has to be stopped; `backup` is for one that runs.
    Export {
        #[command(flatten)]
        config: ConfigFile,
        /// Where to write; standard output when absent. An existing file is refused.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Makes a vault key. An existing file is refused: sealed data needs the key it was sealed with.
    Generate(OutFile),
    /// Shows by site which vault key and data keys are in use, and how many records are under each. The host may run.
    Status(ConfigFile),
    /// Begins new data keys, and seals what is under earlier ones anew. The host may run, and goes on meanwhile.
    Rotate {
        #[command(flatten)]
        config: ConfigFile,
        /// One site; every site and account when absent.
        #[arg(long, value_name = "SITE")]
        site: Option<SiteId>,
    },
    /// Wraps data keys under the present vault key, so that the one before it is not needed any more. The host may run.
    ///
    /// First generate a key, make it vault.key_file and the one before it vault.previous_key_file, and start the host.
    Rewrap(ConfigFile),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a platform token. An existing file is refused.
    Generate(OutFile),
}

#[derive(Debug, Args)]
pub(crate) struct OutFile {
    /// The file to make, readable by this user only.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_read() {
        for line in [
            "serve --config f",
            "catalog verify --folder d --trust-root f",
            "audit export --config f --site acme",
            "audit export --config f --site platform --out o",
            "store check --config f",
            "store backup --config f --out o",
            "store restore --config f --from b",
            "store export --config f",
            "store export --config f --out o",
            "keys generate --out f",
            "keys status --config f",
            "keys rotate --config f",
            "keys rotate --config f --site acme",
            "keys rewrap --config f",
            "token generate --out f",
        ] {
            let words = std::iter::once("sgen-host").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["sgen-host", "audit", "export", "--config", "f", "--site", "../x"]).is_err());
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
