//! Work in flight at a shutdown: several units at once for each partition, and every one that was begun is finished before the
//! partition goes to another worker, at Ctrl-C and SIGTERM too.
//!
//! ```sh
//! cargo run -p parti-example-services --bin graceful
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use parti_nats::{Builder, Config, Guard};
use tokio::task::JoinSet;

/// How many units of one partition are worked on at once.
const AT_ONCE: usize = 4;
/// How long a unit takes at most.
const UNIT: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), parti_nats::Error> {
    common::log();
    let url = common::server("One worker that finishes what it has begun before it lets go");
    // A partition that is to move waits this long for its work, and is then taken away. It has to exceed a unit, and with
    // what a stop takes besides it has to fit into what the platform grants before it kills: 30 s on Kubernetes.
    let config = Config { release_timeout: UNIT * 4, ..Config::default() };
    let partitions = (0..4).map(|number| format!("mailbox-{number}"));
    let mut worker = Builder::new("mailboxes").server(url).config(config).partition_ids(partitions).start()?;
    common::stop_when_told(&worker);
    worker.run(work).await?;
    println!("left with nothing in flight");
    Ok(())
}

/// Works on one partition, several units at once. The partition moves when this returns, and not before.
async fn work(guard: Guard) {
    let guard = Arc::new(guard);
    let mut in_flight = JoinSet::new();
    let mut begun = 0;
    while guard.may_work().await {
        begun += 1;
        in_flight.spawn(unit(Arc::clone(&guard), begun));
        if in_flight.len() == AT_ONCE {
            in_flight.join_next().await;
        }
    }
    while in_flight.join_next().await.is_some() {}
    println!("{}: all of {begun} have ended", guard.partition());
}

/// One unit. Who must stop at once, because the lease is over, drops it: then the next owner does it again.
async fn unit(guard: Arc<Guard>, number: u32) {
    tokio::select! {
        biased;
        () = guard.interrupted() => println!("{}: {number} interrupted", guard.partition()),
        () = tokio::time::sleep(UNIT) => println!("{}: {number} finished", guard.partition()),
    }
}
