//! The first worker: start it several times, and 64 partitions are divided among the processes.
//!
//! ```sh
//! nats-server -js &
//! cargo run -p parti-nats --example first
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

mod common;

use parti_nats::{Builder, PartitionGuard};

#[tokio::main]
async fn main() -> Result<(), parti_nats::Error> {
    common::log();
    let url = common::server("One worker that says which of 64 partitions are its own: start it several times");
    let partitions = (0..64).map(|number| format!("orders-{number}"));
    let mut worker = Builder::new("orders").server(url).partition_ids(partitions).start()?;
    common::stop_when_told(&worker);
    worker.run(work).await
}

async fn work(guard: impl PartitionGuard) {
    println!("{} is mine, with token {}", guard.partition(), guard.token());
    while guard.may_work().await {
        // One unit of work; send guard.token() along with what it writes.
        guard.sleep(std::time::Duration::from_secs(1)).await;
    }
}
