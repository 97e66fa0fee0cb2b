//! Work that one process of many does: a clock that ticks once, however many run. The one partition is the office, and its
//! owner is elected, replaced and fenced as the owner of any other.
//!
//! ```sh
//! cargo run -p parti-example-services --bin leader_only
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use parti_nats::async_nats::jetstream::{self, kv};
use parti_nats::{Builder, Fence, FenceError, PartitionGuard};

const INTERVAL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    common::log();
    let url = common::server("One of several processes, of which one at a time does the work");
    let jetstream = jetstream::new(parti_nats::async_nats::connect(&url).await?);
    let ticks = jetstream.create_key_value(kv::Config { bucket: "ticks".into(), ..kv::Config::default() }).await?;
    let mut worker = Builder::new("clock").server(url).partition_ids(["office"]).start()?;
    common::stop_when_told(&worker);
    Ok(worker.run(move |guard| hold_office(guard, jetstream.clone(), ticks.clone())).await?)
}

/// Does the work while this process is in office. (Which worker leads the group of parti is another matter: that one
/// plans, and may be any.)
async fn hold_office(
    guard: impl PartitionGuard,
    jetstream: jetstream::Context,
    ticks: kv::Store,
) -> Result<(), FenceError> {
    if !guard.may_work().await {
        return Ok(());
    }
    let fence = Fence::new(jetstream, guard.token());
    let last = fence.claim(&ticks, "last").await?;
    let mut number: u64 = std::str::from_utf8(&last).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    println!("in office after tick {number}");
    while guard.may_work().await {
        match fence.put(&ticks, "last", (number + 1).to_string()).await {
            // Whoever was in office, froze and wakes up learns it here, whatever it believes.
            Err(FenceError::Fenced { .. }) => return Ok(()),
            other => other?,
        };
        number += 1;
        println!("tick {number}");
        guard.unless_interrupted(guard.sleep(INTERVAL)).await;
    }
    println!("out of office");
    Ok(())
}
