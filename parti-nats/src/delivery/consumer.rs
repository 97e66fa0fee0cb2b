//! What a service holds while messages are delivered to it.

use std::fmt;
use std::sync::Arc;

use parti_core::delivery::{DeliveryConfig, PartitionMessages};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::delivery::engine::Engine;
use crate::delivery::message::Delivered;
use crate::delivery::messages::Messages;
use crate::delivery::store::Store;
use crate::error::Error;
use crate::handle::{AssignmentReader, Handle, Stopper, ended};
use crate::health::HealthCheck;
use crate::panics::caught;

/// The messages of a stream, delivered to whoever owns their partition.
///
/// ```no_run
/// use parti_nats::{Builder, Delivered, Delivery};
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let worker = Builder::new("orders").partition_ids(["eu", "us"]).start()?;
///     let client = parti_nats::async_nats::connect("nats://localhost:4222").await?;
///     let consumer = Delivery::new("ORDERS", "orders.{partition}").start(worker, client).await?;
///     consumer.run(handle).await?;
///     Ok(())
/// }
///
/// async fn handle(message: Delivered) -> Result<(), std::io::Error> {
///     println!("{}: {:?} under {}", message.partition(), message.payload(), message.token());
///     Ok(())
/// }
/// ```
///
/// [`run`](Self::run) calls a function for each message. Where a partition has a state of its own, or several messages are
/// worked on at once, take its messages one after another from [`next_partition`](Self::next_partition).
#[derive(Debug)]
pub struct Consumer {
    partitions: mpsc::UnboundedReceiver<Messages>,
    stopper: Stopper,
    health: HealthCheck,
    assignment: AssignmentReader,
    end: watch::Receiver<Option<Result<(), Error>>>,
}

impl Consumer {
    pub(crate) fn start(worker: Handle, store: Store, config: DeliveryConfig) -> Self {
        let (sender, partitions) = mpsc::unbounded_channel();
        let (stopper, health, assignment) = (worker.stopper(), worker.health_check(), worker.assignment_reader());
        let end = worker.end.clone();
        tokio::spawn(Engine::new(worker, store, config, sender).run());
        Self { partitions, stopper, health, assignment, end }
    }

    /// The messages of the next partition that has come; `None` once the worker has stopped. Take them promptly, and
    /// work on each in a task of its own. Cancel-safe.
    ///
    /// ```no_run
    /// # async fn serve(mut consumer: parti_nats::Consumer) {
    /// while let Some(mut messages) = consumer.next_partition().await {
    ///     tokio::spawn(async move {
    ///         let mut count = 0; // the state of this partition
    ///         while let Some(message) = messages.next().await {
    ///             count += message.payload().len();
    ///             messages.commit(&message)?;
    ///         }
    ///         println!("{}: {count} bytes", messages.partition());
    ///         messages.finish().await // the last write, then the partition may go
    ///     });
    /// }
    /// # }
    /// ```
    pub async fn next_partition(&mut self) -> Option<Messages> {
        self.partitions.recv().await
    }

    /// Calls `handler` for each message, one at a time of each partition, until the worker has stopped.
    ///
    /// The message is finished when the handler returns `Ok`. After an error or a panic it is tried again after a while,
    /// before all that follow in its partition, or goes to the [dead letters](crate::Delivery::dead_letters). When work must stop
    /// at once the future is dropped, and the message comes again.
    ///
    /// # Errors
    ///
    /// What made the worker stop, if nobody asked it to.
    pub async fn run<H, F, E>(mut self, handler: H) -> Result<(), Error>
    where
        H: Fn(Delivered) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let handler = Arc::new(handler);
        let mut partitions = JoinSet::new();
        loop {
            tokio::select! {
                messages = self.partitions.recv() => match messages {
                    Some(messages) => _ = partitions.spawn(handle(messages, Arc::clone(&handler))),
                    None => break,
                },
                Some(_) = partitions.join_next() => {}
            }
        }
        while partitions.join_next().await.is_some() {}
        self.finished().await
    }

    /// Lets the worker hand everything over and leave, as [`Handle::stop`] does.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Lets the worker stop and keeps its partitions for its successor, as [`Handle::restart`] does.
    pub fn restart(&self) {
        self.stopper.restart();
    }

    /// What is needed to stop the worker from anywhere else.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What is needed to ask for the worker's health anywhere else.
    pub fn health_check(&self) -> HealthCheck {
        self.health.clone()
    }

    /// What is needed to read the worker's assignment anywhere else.
    pub fn assignment_reader(&self) -> AssignmentReader {
        self.assignment.clone()
    }

    /// Waits until the worker has stopped. Cancel-safe.
    ///
    /// # Errors
    ///
    /// What made it stop, if nobody asked it to.
    pub async fn finished(&self) -> Result<(), Error> {
        ended(&self.end).await
    }
}

/// Works on the messages of one partition, one after another. A panic is an error.
async fn handle<H, F, E>(messages: Messages, handler: Arc<H>)
where
    H: Fn(Delivered) -> F + Send + Sync,
    F: Future<Output = Result<(), E>> + Send,
    E: fmt::Display + Send,
{
    let work = |message| {
        let handler = &handler;
        async move {
            match caught(async { handler(message).await }).await {
                Ok(worked) => worked.map_err(|error| error.to_string()),
                Err(panic) => Err(format!("the handler has panicked: {panic}")),
            }
        }
    };
    messages.for_each(work).await;
}
