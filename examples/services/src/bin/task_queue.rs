//! A task queue: tasks of one customer in order, customers beside each other, and what is done is gone.
//!
//! The stream has the retention of a work queue. Customers share lanes, so that there are few consumers however many
//! customers there are; a lane is a partition.
//!
//! ```sh
//! cargo run -p parti-example-services --bin task_queue -- --publish 100
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use parti_nats::async_nats::jetstream::{self, stream};
use parti_nats::{Builder, Delivered, Delivery};

const LANES: u32 = 16;

#[derive(Debug, Parser)]
#[command(about = "One worker of a task queue: start it several times")]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// How many tasks to publish first, for 50 customers.
    #[arg(long, default_value_t = 0)]
    publish: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { server, publish } = Arguments::parse();
    common::log();
    let client = parti_nats::async_nats::connect(&server.url).await?;
    let jetstream = jetstream::new(client.clone());
    // The server puts each customer's tasks into the lane of its hash: `task.customer-7` is stored as `lane.11.customer-7`.
    let wanted = stream::Config {
        name: "TASKS".into(),
        subjects: vec!["task.*".into()],
        retention: stream::RetentionPolicy::WorkQueue,
        subject_transform: Some(stream::SubjectTransform {
            source: "task.*".into(),
            destination: format!("lane.{{{{partition({LANES},1)}}}}.{{{{wildcard(1)}}}}"),
        }),
        ..stream::Config::default()
    };
    jetstream.get_or_create_stream(wanted).await?;
    for number in 0..publish {
        let subject = format!("task.customer-{}", number % 50);
        jetstream.publish(subject, format!("task {number}").into()).await?.await?;
    }

    let lanes = (0..LANES).map(|lane| lane.to_string());
    let worker = Builder::new("tasks").server(&server.url).partition_ids(lanes).start()?;
    common::stop_when_told(&worker);
    // What fails is tried again after a while, and after five times goes where somebody can look at it.
    let delivery = Delivery::new("TASKS", "lane.{partition}.*").dead_letters("failed.{partition}", 5);
    let consumer = delivery.start(worker, client).await?;
    Ok(consumer.run(work).await?)
}

/// Does one task. It is finished when this returns `Ok`, and comes again when the process ends before.
async fn work(task: Delivered) -> Result<(), String> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    println!("{}: {}", task.subject(), String::from_utf8_lossy(task.payload()));
    Ok(())
}
