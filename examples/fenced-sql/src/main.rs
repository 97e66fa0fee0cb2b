//! One worker that counts in a database: start it several times, kill some, and look at the sums.
//!
//! ```sh
//! nats-server -js &
//! cargo run -p parti-example-fenced-sql -- --database totals.db
//! ```

#[path = "../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use parti_example_fenced_sql::{Totals, work};
use parti_nats::Builder;

/// One worker that counts in a database, each unit of work exactly once.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// The database, which all workers share; made if it is not there.
    #[arg(long, default_value = "totals.db")]
    database: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::log();
    let Arguments { server, database } = Arguments::parse();
    let totals = Arc::new(Totals::open(&database)?);
    let partitions = (0..8).map(|number| format!("account-{number}"));
    let mut worker = Builder::new("totals").server(server.url).partition_ids(partitions).start()?;
    common::stop_when_told(&worker);
    Ok(worker.run(move |guard| work(guard, Arc::clone(&totals))).await?)
}
