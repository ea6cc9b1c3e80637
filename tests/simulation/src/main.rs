//! `cargo xtask prove simulation`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sgen_simulation::main()
}
