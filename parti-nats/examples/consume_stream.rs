//! One worker that is handed the messages of its partitions, with a state for each partition: how many messages it has
//! seen. The state is a variable of the task that works on the partition. `produce` publishes some messages.
//!
//! ```sh
//! cargo run -p parti-nats --example consume_stream
//! ```
#![allow(clippy::print_stdout)] // it is made to be looked at

mod common;

use std::error::Error;

use parti_nats::{Builder, Delivery, Lost, Messages};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = common::server("One worker that counts the messages of each of its partitions");
    common::log();
    let worker = Builder::new("orders").server(&url).partition_ids((0..12).map(|n| format!("p{n:05}"))).start()?;
    common::stop_when_told(&worker);
    let client = async_nats::connect(&url).await?;
    let mut consumer = Delivery::new("ORDERS", "orders.{partition}").start(worker, client).await?;
    while let Some(messages) = consumer.next_partition().await {
        tokio::spawn(async move {
            if let Err(lost) = count(messages).await {
                tracing::warn!(%lost, "another worker goes on");
            }
        });
    }
    Ok(consumer.finished().await?)
}

/// Works on one partition until it moves.
async fn count(mut messages: Messages) -> Result<(), Lost> {
    let mut seen = 0;
    while let Some(message) = messages.next().await {
        seen += 1;
        println!("{}: {seen} since it came here, now {}", messages.partition(), message.sequence());
        messages.commit(&message)?;
    }
    messages.finish().await // what is committed is stored, and then the partition may go
}
