//! Asking before something is changed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::arguments::Force;
use crate::failure::Failure;

/// Asks whether to go on, unless that was said already. Where nobody can be asked, it has to have been said.
pub(crate) fn confirm(force: Force, what: &str) -> Result<(), Failure> {
    if force.force {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!(
            "to {what} has to be confirmed, and there is no terminal to ask on: add --force"
        )));
    }
    let failed = |error| Failure::cannot_tell(format!("tried to ask on the terminal: {error}: add --force"));
    write!(io::stderr(), "Really {what}? [y/N] ").map_err(failed)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    if !answer.ends_with('\n') {
        // The input has ended in the middle of the line.
        writeln!(io::stderr()).map_err(failed)?;
    }
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::usage(format!("nothing was done: to {what} was not confirmed"))),
    }
}
