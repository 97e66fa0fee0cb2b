//! Each verb, run as a user does, against a real server with a fleet.

mod changes;
mod dashboard;
mod explains;
mod fleet;
mod forecast;
mod hostile;
mod messages;
mod rights;
mod shows;
#[path = "../../../tests/support/mod.rs"]
mod support;
