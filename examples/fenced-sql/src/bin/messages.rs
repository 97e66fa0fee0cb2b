//! One worker that enters the messages of its partitions in a database, each exactly once: start it several times, kill some,
//! and look at the table. `produce` publishes some.
//!
//! ```sh
//! nats-server -js &
//! cargo run -p parti-nats --example produce -- --count 1000
//! cargo run -p parti-example-fenced-sql --bin parti-example-fenced-sql-messages -- --database ledger.db
//! ```

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use parti_example_fenced_sql::{Ledger, TotalsError};
use parti_nats::{Builder, Config, Delivered, Delivery, HumanDuration};

/// One worker that enters the messages of its partitions in a database, each exactly once.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// The database, which all workers share; made if it is not there.
    #[arg(long, default_value = "ledger.db")]
    database: PathBuf,
    /// The stream.
    #[arg(long, default_value = "ORDERS")]
    stream: String,
    /// The subject of each partition.
    #[arg(long, default_value = "orders.{partition}")]
    subject: String,
    /// How many partitions: p00000, p00001, …
    #[arg(long, default_value_t = 12)]
    partitions: usize,
    /// How long a handler goes on after it has entered a message, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    work: u64,
    /// How long this worker may act after its last renewal, such as 10s.
    #[arg(long, default_value = "10s")]
    lease: HumanDuration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::log();
    let arguments = Arguments::parse();
    let ledger = Arc::new(Ledger::open(&arguments.database)?);
    let config = Config { lease: arguments.lease.0, ..Config::default() };
    let ids = (0..arguments.partitions).map(|number| format!("p{number:05}"));
    let worker = Builder::new("ledger").server(&arguments.server.url).config(config).partition_ids(ids).start()?;
    common::stop_when_told(&worker);
    let client = parti_nats::async_nats::connect(&arguments.server.url).await?;
    let delivery = Delivery::new(&arguments.stream, &arguments.subject).positions(Arc::clone(&ledger));
    let consumer = delivery.start(worker, client).await?;
    let work = Duration::from_millis(arguments.work);
    Ok(consumer.run(move |message| enter(message, Arc::clone(&ledger), work)).await?)
}

/// Enters one message. If it fails, such as for a former owner, the message is not finished.
async fn enter(message: Delivered, ledger: Arc<Ledger>, work: Duration) -> Result<(), TotalsError> {
    ledger.enter(&message)?;
    tokio::time::sleep(work).await;
    Ok(())
}
