//! What people and metrics see of delivery.

use crate::ids::{Sequence, Timestamp, Token};
use crate::partition::PartitionId;

/// What is known of one partition.
#[derive(Clone, Copy, Debug)]
pub struct LaneStatus<'a> {
    /// Which partition.
    pub partition: &'a PartitionId,
    /// The token of the hold.
    pub token: Token,
    /// The last message that the application has finished; 0 if none.
    pub finished: Sequence,
    /// The last message that is stored as finished; 0 if none.
    pub stored: Sequence,
    /// How many messages are held ready.
    pub ready: usize,
    /// How many messages the application has and has not finished.
    pub unfinished: usize,
    /// How many messages are known to be in the stream that are neither held ready nor with the application.
    pub pending: u64,
    /// When the stream stored the first message that is held ready or with the application and not finished.
    pub oldest: Option<Timestamp>,
    /// Whether the partition is at the stream's end, as far as is known, and shown what is stored as it is stored.
    pub is_on_tail: bool,
    /// The last number that the stream gave, as it was told last.
    pub stream_last: Option<Sequence>,
}
