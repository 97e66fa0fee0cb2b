//! What a handler of messages may use and say, whoever runs it: a worker of a service, or a simulated one in a test.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;

use crate::handler::unless;
use crate::ids::{Sequence, Token};
use crate::partition::PartitionId;
use crate::time::Duration;

/// One message of one partition, as a handler gets it: `parti_nats::Delivered` in a service, `parti_sim::kit::Message` in a
/// test. A handler that is written for any of them runs in both.
///
/// ```
/// use std::time::Duration;
/// use parti_core::delivery::PartitionMessage;
///
/// async fn handle(message: impl PartitionMessage) -> Result<(), String> {
///     let text = str::from_utf8(message.payload()).map_err(|error| error.to_string())?;
///     message.sleep(Duration::from_millis(5)).await; // the work; send message.token() along with what it writes
///     println!("{} of {}: {text}", message.sequence(), message.partition());
///     Ok(())
/// }
/// ```
pub trait PartitionMessage: Clone + fmt::Debug + Send + Sync + 'static {
    /// Which partition it is of.
    fn partition(&self) -> &PartitionId;

    /// The fencing token to send along with each write that the work makes.
    fn token(&self) -> Token;

    /// Its number in the stream.
    fn sequence(&self) -> Sequence;

    /// How often it was tried before, as far as is known.
    fn tries(&self) -> u32;

    /// What it says.
    fn payload(&self) -> &[u8];

    /// Waits for so long, by the clock of whoever runs the handler. Cancel-safe.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// The messages of one partition, in stream order: `parti_nats::Messages` in a service, `parti_sim::kit::Messages` in a
/// test.
///
/// ```
/// use parti_core::delivery::{Lost, PartitionMessage, PartitionMessages};
///
/// async fn count(mut messages: impl PartitionMessages) -> Result<(), Lost> {
///     let mut bytes = 0; // the state of this partition
///     while let Some(message) = messages.next().await {
///         bytes += message.payload().len();
///         messages.commit(&message)?;
///     }
///     println!("{}: {bytes} bytes", messages.partition());
///     messages.finish().await
/// }
/// ```
pub trait PartitionMessages: fmt::Debug + Send + Sized + 'static {
    /// What they are.
    type Message: PartitionMessage;

    /// Which partition.
    fn partition(&self) -> &PartitionId;

    /// The fencing token to send along with each write that the work makes.
    fn token(&self) -> Token;

    /// The next message; `None` when the work is to end. Waits out suspensions. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Self::Message>> + Send;

    /// The next messages, at least one and at most `most`; none when the work is to end, as with [`next`](Self::next).
    /// Cancel-safe.
    fn next_batch(&mut self, most: usize) -> impl Future<Output = Vec<Self::Message>> + Send;

    /// The message and all before it are finished. Returns at once: it is stored a little later, see
    /// [`stored`](Self::stored).
    ///
    /// # Errors
    ///
    /// [`Lost`] if it can never be stored: the partition is another's, or its position is.
    fn commit(&mut self, message: &Self::Message) -> Result<(), Lost>;

    /// Stores what is committed now, and waits until that is done. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Lost`] if it can never be stored.
    fn stored(&mut self, message: &Self::Message) -> impl Future<Output = Result<(), Lost>> + Send;

    /// The work on a message failed: it is tried again after a while, before all that follow, or goes to the dead letters.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the partition is another's by now.
    fn retry(&mut self, message: Self::Message, reason: String) -> impl Future<Output = Result<(), Lost>> + Send;

    /// The work on a message was interrupted: it comes again, before all that follow, and does not count as failed.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the partition is another's by now.
    fn put_back(&mut self, message: Self::Message) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Returns as soon as the work must stop at once. Cancel-safe.
    fn interrupted(&self) -> impl Future<Output = ()> + Send;

    /// Whether work is allowed at this very moment.
    fn is_valid(&self) -> bool;

    /// Ends the work: what is committed is stored, and then the partition may go.
    ///
    /// # Errors
    ///
    /// [`Lost`] if it was not stored. What was not stored comes again.
    fn finish(self) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Calls `handler` for each message, one after another, until the work is to end.
    ///
    /// A message is finished when the handler returns `Ok`. After an error it is tried again. When the work must stop at once
    /// the future is dropped, and the message comes again.
    fn for_each<H, F, E>(mut self, handler: H) -> impl Future<Output = ()> + Send
    where
        H: Fn(Self::Message) -> F + Send + Sync,
        F: Future<Output = Result<(), E>> + Send,
        E: fmt::Display + Send,
    {
        async move {
            while let Some(message) = self.next().await {
                let worked = unless(self.interrupted(), handler(message.clone())).await;
                let goes_on = match worked {
                    None => self.put_back(message).await,
                    Some(Ok(())) => self.commit(&message),
                    Some(Err(error)) => self.retry(message, error.to_string()).await,
                };
                if goes_on.is_err() {
                    break; // What ended it is said where it is noticed.
                }
            }
            // Who was to stop has nothing to say; and what is lost comes again.
            let _ = self.finish().await;
        }
    }
}

/// The partition is no longer this worker's to deliver, and why: what was not stored as finished comes again, where it is
/// owned then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing more is stored for {partition:?}: {reason}")]
pub struct Lost {
    /// Which partition.
    pub partition: PartitionId,
    /// Why, for people.
    pub reason: String,
}
