//! Each verb, run as a user does, against a real server with a fleet.

mod book;
#[path = "../../../../parti-sim/tests/support/browser.rs"]
mod browser;
mod changes;
mod checks;
mod dashboard;
mod explains;
mod fleet;
mod forecast;
mod hostile;
mod messages;
mod replays;
mod rights;
mod rolls;
mod shows;
#[path = "../../../tests/support/mod.rs"]
mod support;
#[cfg(unix)]
mod terminal;
