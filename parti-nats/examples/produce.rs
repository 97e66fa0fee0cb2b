//! Publishes numbered messages to the partitions of a stream, which it creates where it is not there.
//!
//! ```sh
//! cargo run -p parti-nats --example produce -- --partitions 12 --count 1000
//! ```

mod common;

use std::error::Error;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use clap::Parser;
use parti_nats::{Delivery, PartitionId};

#[derive(Debug, Parser)]
#[command(about = "Publishes numbered messages to the partitions of a stream")]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// The stream.
    #[arg(long, default_value = "ORDERS")]
    stream: String,
    /// The subject of each partition.
    #[arg(long, default_value = "orders.{partition}")]
    subject: String,
    /// How many partitions: p00000, p00001, …
    #[arg(long, default_value_t = 12)]
    partitions: usize,
    /// How many messages; 0 is without end.
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// How many messages a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    common::log();
    let mut stop = common::StopSignal::new();
    tokio::select! {
        published = publish(arguments) => published,
        () = stop.received() => Ok(()),
    }
}

async fn publish(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let delivery = Delivery::new(&arguments.stream, &arguments.subject);
    let partitions = (0..arguments.partitions).map(|number| PartitionId::new(format!("p{number:05}")));
    let subjects = partitions.map(|id| Ok(delivery.subject_of(&id?)?)).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    tracing::info!(url = arguments.server.url, "connecting");
    let jetstream = jetstream::new(async_nats::connect(&arguments.server.url).await?);
    let wanted = stream::Config {
        name: arguments.stream,
        subjects: vec![arguments.subject.replace("{partition}", "*")],
        allow_direct: true, // a worker reads what it has to catch up with directly
        ..stream::Config::default()
    };
    jetstream.get_or_create_stream(wanted).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / arguments.rate.max(1));
    for (number, subject) in (1_u64..).zip(subjects.iter().cycle()) {
        ticks.tick().await;
        jetstream.publish(subject.clone(), number.to_string().into()).await?.await?;
        if number == arguments.count {
            break;
        }
    }
    Ok(())
}
