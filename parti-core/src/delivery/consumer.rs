//! What is told of the durable consumer of one partition.

use alloc::string::String;

use super::message::Message;
use crate::ids::{Place, Sequence};
use crate::time::Duration;

/// A partition's durable consumer, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerState {
    /// The place of its last delivery.
    pub delivered: Place,
    /// The greatest number that it has delivered. A stream that has lost its newest messages may end before it: what then
    /// gets these numbers again is not delivered until the consumer is brought back to its floor.
    pub through: Sequence,
    /// Every message of the partition up to here is acknowledged, or gone.
    pub floor: Sequence,
    /// How many messages were delivered and are not acknowledged.
    pub unacknowledged: u64,
    /// How many messages were never delivered. What was stored a moment ago may not be counted yet.
    pub pending: u64,
    /// After which time the server delivers again what is not acknowledged.
    pub ack_wait: Duration,
}

/// A message that a pull shows.
#[derive(Clone, Debug)]
pub struct Pulled<M> {
    /// The message.
    pub message: Message<M>,
    /// The place of this delivery.
    pub place: Place,
    /// How many messages follow that were never delivered.
    pub pending: u64,
}

/// How a pull has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEnd {
    /// All messages have come, its time is over, or it was to end.
    Done,
    /// The next message has more bytes than the pull may show.
    TooLarge,
    /// Nobody knows whether it has shown everything that was sent for it.
    Lost {
        /// Why, for people.
        reason: String,
    },
}
