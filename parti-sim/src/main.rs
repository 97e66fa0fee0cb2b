//! The command: plays scenarios, and says whether what must hold did hold.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
