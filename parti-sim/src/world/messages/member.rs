//! The delivery of one process, and what surrounds it.

use std::collections::{BTreeMap, VecDeque};

use parti_core::Token;
use parti_core::delivery::{CallId, Delivery, Message, Order, Timestamp};

use super::tails::Tail;
use crate::kit::TaskId;
use crate::told::fact::PartitionIndex;
use crate::world::clock::Moment;

/// The delivery of one process.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) delivery: Delivery<u64>,
    /// The moment at which its timer fires.
    pub(super) armed: Moment,
    /// The requests whose answers it waits for.
    pub(super) waits: BTreeMap<CallId, Waits>,
    /// No request arrives before this: those of one connection keep their order.
    pub(super) front: Moment,
    /// Nothing that was pulled comes before this, for the same reason.
    pub(super) back: Moment,
    /// Counts its connections: what was pulled by an earlier one does not come any more.
    pub(super) connection: u64,
    /// Pulls that its client sends when it is connected again.
    pub(super) unsent: Vec<Order<u64>>,
    pub(super) tails: Vec<Tail>,
    pub(super) hands: BTreeMap<PartitionIndex, Hand>,
}

/// What a process learns that waits no longer for an answer.
#[derive(Clone, Debug)]
pub(super) enum Waits {
    /// Nothing came.
    Read,
    /// Nobody knows what became of the write.
    Write,
    /// The message comes back.
    DeadLetter(Message<u64>),
    /// The server has not said that its time is over.
    Pull,
    /// It has listened no more since it was to end.
    Ending,
}

/// The handler of one partition.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    pub(super) token: Token,
    /// When the stream was made that its messages are of.
    pub(super) created: Timestamp,
    /// What it was handed and has not finished, in order.
    pub(super) queue: VecDeque<Message<u64>>,
    /// Counts what it begins and drops, so that what was planned for an earlier try is recognised.
    pub(super) attempt: u64,
    /// It leaves when it has finished what it has.
    pub(super) leaving: bool,
    /// It has said that it leaves.
    pub(super) left: bool,
    /// The user's handler that has it, if there is one.
    pub(super) post: Option<TaskId>,
    /// The worker keeps the partition when it is let go.
    pub(super) stays: bool,
}

impl Member {
    pub(super) fn new(delivery: Delivery<u64>) -> Self {
        Self {
            delivery,
            armed: Moment::NEVER,
            waits: BTreeMap::new(),
            front: Moment::START,
            back: Moment::START,
            connection: 0,
            unsent: Vec::new(),
            tails: Vec::new(),
            hands: BTreeMap::new(),
        }
    }
}

impl Hand {
    pub(super) fn new(token: Token, post: Option<TaskId>) -> Self {
        let (created, queue) = (Timestamp::default(), VecDeque::new());
        Self { token, created, queue, attempt: 0, leaving: false, left: false, post, stays: false }
    }

    /// Drops what it has. Returns whether that is anything.
    pub(super) fn drop_all(&mut self) -> bool {
        self.attempt += 1;
        !std::mem::take(&mut self.queue).is_empty()
    }
}
