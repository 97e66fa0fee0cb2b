//! A consumer group as Kafka's users know it: partitions come and go, each is read in batches from where it was committed,
//! and the position is committed after the batch.
//!
//! ```sh
//! cargo run -p parti-nats --example produce -- --partitions 12 --count 1000
//! cargo run -p parti-example-services --bin consumer_group
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::error::Error;

use parti_nats::{Builder, Delivery, Lost, Messages, StartAt};

/// As `max.poll.records`.
const BATCH: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    common::log();
    let url = common::server("One consumer of a group that reads 12 partitions of a stream");
    // `group.id` is the group; the topic is the stream.
    let partitions = (0..12).map(|number| format!("p{number:05}"));
    let worker = Builder::new("readers").server(&url).partition_ids(partitions).start()?;
    common::stop_when_told(&worker);
    let client = parti_nats::async_nats::connect(&url).await?;
    // `auto.offset.reset=earliest` for a partition that nobody has read yet.
    let delivery = Delivery::new("ORDERS", "orders.{partition}").start_at(StartAt::Earliest);
    let mut consumer = delivery.start(worker, client).await?;
    while let Some(messages) = consumer.next_partition().await {
        tokio::spawn(async move {
            let partition = messages.partition().clone();
            println!("{partition} assigned");
            // As `onPartitionsRevoked`: nobody else has the partition before this task is done with it.
            match read(messages).await {
                Ok(()) => println!("{partition} revoked"),
                Err(lost) => println!("{partition} lost: {lost}"),
            }
        });
    }
    Ok(consumer.finished().await?)
}

/// Reads one partition until it moves.
async fn read(mut messages: Messages) -> Result<(), Lost> {
    loop {
        let batch = messages.next_batch(BATCH).await;
        let Some(last) = batch.last() else { break };
        println!("{}: {} up to {}", messages.partition(), batch.len(), last.sequence());
        messages.commit(last)?; // as `commitAsync`; `stored` waits for it, as `commitSync`
    }
    messages.finish().await
}
