//! Token ranges, as Cassandra and others divide their rows by: each partition is a range of the hash ring, which is scanned
//! page by page. How far a range has come is kept in a bucket, under the token, so that a crash repeats one page at most
//! and a former owner moves nothing back.
//!
//! ```sh
//! cargo run -p parti-example-services --bin token_ranges
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use parti_nats::async_nats::jetstream::{self, kv};
use parti_nats::{Builder, Fence, FenceError, PartitionGuard, PartitionId};

/// Into how many ranges the ring is cut: several for each worker that there will ever be.
const RANGES: u16 = 64;
/// How much of the ring is read at once.
const PAGE: i64 = 1 << 54;

/// The tokens of a range: the first and the last one.
fn tokens(range: &PartitionId) -> (i64, i64) {
    let number: u64 = range.as_str().trim_start_matches("range-").parse().unwrap_or_default();
    let width = (1_u128 << 64) / u128::from(RANGES);
    let first = i128::from(i64::MIN) + (u128::from(number) * width).cast_signed();
    let last = first + width.cast_signed() - 1;
    let token = |token| i64::try_from(token).unwrap_or(i64::MAX);
    (token(first), token(last))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    common::log();
    let url = common::server("One worker that scans its ranges of a hash ring: start it several times");
    let jetstream = jetstream::new(parti_nats::async_nats::connect(&url).await?);
    let cursors =
        jetstream.create_key_value(kv::Config { bucket: "scan_cursors".into(), ..kv::Config::default() }).await?;
    let ranges = (0..RANGES).map(|number| format!("range-{number}"));
    let mut worker = Builder::new("scan").server(url).partition_ids(ranges).start()?;
    common::stop_when_told(&worker);
    Ok(worker.run(move |guard| scan(guard, jetstream.clone(), cursors.clone())).await?)
}

/// Scans one range as long as it is this worker's.
async fn scan(guard: impl PartitionGuard, jetstream: jetstream::Context, cursors: kv::Store) -> Result<(), FenceError> {
    if !guard.may_work().await {
        return Ok(());
    }
    let (first, last) = tokens(guard.partition());
    let fence = Fence::new(jetstream, guard.token());
    // Writes what it reads back, under the new token: from here on a former owner's page is refused.
    let cursor = fence.claim(&cursors, guard.partition().as_str()).await?;
    let mut next = std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok()).unwrap_or(first);
    while next < last && guard.may_work().await {
        let end = next.saturating_add(PAGE).min(last);
        // SELECT … WHERE token(key) >= next AND token(key) <= end. Unfinished, the page is read again.
        if guard.unless_interrupted(guard.sleep(Duration::from_millis(5))).await.is_none() {
            continue;
        }
        match fence.put(&cursors, guard.partition().as_str(), end.to_string()).await {
            Err(FenceError::Fenced { .. }) => return Ok(()), // it is somebody else's by now
            other => other?,
        };
        next = end;
    }
    if next >= last {
        println!("{} is done: tokens {first} to {last}", guard.partition());
        guard.released().await; // nothing more to do: keep it, so that nobody does it again
    }
    Ok(())
}
