//! `deploy/` does what it says: manifests keep the promises that the book makes for them, every metric that an alert or the
//! dashboard names is there, and the example runs as the manifests run it, on a server that is configured as theirs.

mod containers;
mod kubernetes;
mod queries;
mod run;
#[path = "../../../../parti-nats/tests/support/mod.rs"]
mod support;
mod yaml;
