//! Everything that message delivery asks for, and the queue of it.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::message::{Handed, Message};
use super::position::PositionRecord;
#[cfg(doc)]
use crate::ids::Place;
use crate::ids::{CallId, Revision, Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::stored::record::RecordError;
use crate::time::Duration;

/// Everything that can be asked for, taken from [`Delivery::poll_order`](super::Delivery::poll_order).
#[derive(Clone, Debug)]
pub enum Order<M> {
    /// Read the partition's position from the leader of the bucket that holds positions, and when the stream stored the
    /// message at its [`seq`](PositionRecord::seq).
    ReadPosition {
        /// To be answered with it.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
    },
    /// Write the partition's position on this condition.
    ///
    /// Where the [application stores it too](super::DeliveryConfig::own_positions), what it stores gives a new revision, and it
    /// may do so only where its own token is stored, with the same [`created`](PositionRecord::created) and a lower
    /// [`seq`](PositionRecord::seq). A write that does not claim, and finds its own token and the same `created` in a
    /// position that is open, then depends on nothing else, and leaves `seq` and `at` as they are where that `seq` is greater.
    WritePosition {
        /// To be answered with it.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// The revision that must be the last one of the key; none if the key must not be there.
        expected: Option<Revision>,
        /// What to write.
        record: PositionRecord,
        /// Whether no write of this hold is known to be committed.
        claims: bool,
    },
    /// Ask the leader of the stream for its state.
    Inspect {
        /// To be answered with it.
        call: CallId,
    },
    /// Ask one replica of the stream for the last message of each of these partitions, and up to where it knows the
    /// stream, as of one moment.
    Ask {
        /// To be answered with it.
        call: CallId,
        /// Which partitions.
        partitions: Vec<PartitionId>,
    },
    /// Read messages of one partition in order, from this number on. Any replica may answer.
    Fetch {
        /// To be answered with it.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// The first number.
        from: Sequence,
        /// How many messages at most.
        most: u32,
        /// After how many bytes to stop; the first message is read whatever its size.
        bytes: usize,
    },
    /// Open a tail: show every message of these partitions from this number on, in order, as it is stored. It must say
    /// something more often than each [`silence`](super::DeliveryConfig::silence).
    OpenTail {
        /// To be answered with it, and the name of the tail.
        call: CallId,
        /// The first number.
        from: Sequence,
        /// Every partition that this tail serves. What else it shows is passed over.
        partitions: Vec<PartitionId>,
    },
    /// Close a tail. What it still shows has no effect.
    CloseTail {
        /// Which tail.
        tail: CallId,
    },
    /// Ask the leader of the partition's consumer for its state. Nothing is created.
    FindConsumer {
        /// To be answered with it.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// When the stream was made: the name of the consumer says so, here and below. What is on its way to one of an earlier
        /// stream finds nobody.
        created: Timestamp,
    },
    /// Create the partition's durable consumer: it filters by the partition's one subject, delivers all that the stream has
    /// of it, and wants each message acknowledged. To find one like it there is a success.
    CreateConsumer {
        /// To be answered with its state.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// When the stream was made.
        created: Timestamp,
        /// Whether the partition may have had consumers of other names. They are deleted: before the new one is created where
        /// the stream takes only one, afterwards where it keeps what a consumer waits for.
        replaces: bool,
    },
    /// Bring the partition's consumer back to its floor: it then delivers everything again that is not acknowledged, the lowest
    /// first, under [places](Place) from the beginning.
    RestoreConsumer {
        /// To be answered with its state.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// When the stream was made.
        created: Timestamp,
    },
    /// Ask the partition's consumer for messages. Each is an [event](super::Event::Pulled).
    Pull {
        /// To be answered when it shows nothing more: all have come, or the time is over.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// When the stream was made.
        created: Timestamp,
        /// How many messages at most.
        most: u32,
        /// After how many bytes to stop; none for one message of any size.
        bytes: Option<usize>,
        /// How long the server keeps the request.
        time: Duration,
    },
    /// End a pull, so that the server sends nothing more for it: the [answer](super::Answer::PullOver) comes when it knows.
    EndPull {
        /// Which pull.
        pull: CallId,
    },
    /// Acknowledge messages by their last delivery, each as a request whose answer is waited for.
    Acknowledge {
        /// To be answered when all answers are there.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// When the stream was made of whose consumer these are deliveries: another one is not to hear of them.
        created: Timestamp,
        /// Which messages.
        messages: Vec<Sequence>,
    },
    /// Tell the partition's consumer that work on these messages goes on, by their last delivery. Nobody waits for an answer.
    Extend {
        /// Which partition.
        partition: PartitionId,
        /// When the stream was made of whose consumer these are deliveries.
        created: Timestamp,
        /// Which messages.
        messages: Vec<Sequence>,
    },
    /// Hand messages to the application, which asked for them.
    Hand {
        /// Which partition.
        partition: PartitionId,
        /// The token of the hold, to be sent along with each write of the work.
        token: Token,
        /// The messages, in order; at least one.
        messages: Vec<Handed<M>>,
    },
    /// Store a message where dead letters go, with the reason: it is given up.
    DeadLetter {
        /// To be answered with it.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// The message.
        message: Message<M>,
        /// How often it was tried.
        tries: u32,
        /// Why it failed the last time, if that is known.
        reason: Option<String>,
    },
    /// The partition may be released: everything finished is stored, and the application is not at work on it.
    LetGo {
        /// Which partition.
        partition: PartitionId,
        /// The token of the hold.
        token: Token,
    },
    /// Nothing more is delivered of the partition, and nothing more of it is stored.
    Stop {
        /// Which partition.
        partition: PartitionId,
        /// The token of the hold.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// Tell people.
    Notice(Notice),
}

/// Why nothing more is delivered of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A hold with a greater token has written the position: the partition is another's.
    Fenced {
        /// The greater token.
        by: Token,
    },
    /// Something other than a hold of the partition has written the position, or another hold under the same token, which
    /// takes a loss of the group's own records.
    Edited,
    /// The position does not fit the stream.
    Misfit(Misfit),
    /// The stream is not what it was: the position is to be looked at anew, by another hold.
    StreamChanged,
    /// The partition's consumer is of no use, or cannot be created.
    Unfit {
        /// What is wrong and how to mend it, for people.
        reason: String,
    },
    /// The stored position cannot be read.
    Unreadable {
        /// What is wrong with it.
        error: RecordError,
    },
}

/// How a position does not fit the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misfit {
    /// The stream is another one than the position was stored for.
    MadeAnew,
    /// The stream ends before the position, or has another message there: it has lost its newest messages.
    LostSuffix,
    /// The stream's limits have removed what was not finished.
    Gap {
        /// How many messages at most: how many numbers are gone, whichever partitions their messages were of.
        at_most: u64,
    },
}

/// What people should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A position did not fit the stream, and the partition goes on elsewhere, as the policy says.
    WentOn {
        /// Which partition.
        partition: PartitionId,
        /// How it did not fit.
        misfit: Misfit,
        /// With which number the partition goes on.
        next: Sequence,
    },
    /// The application was handed much and has finished nothing: nothing more is handed out.
    TooManyUnfinished {
        /// Which partition.
        partition: PartitionId,
        /// How many messages.
        count: u32,
    },
    /// A message has failed.
    Failed {
        /// Which partition.
        partition: PartitionId,
        /// Which message.
        sequence: Sequence,
        /// How often by now.
        times: u32,
        /// Why.
        reason: String,
    },
    /// A tail passed over messages that it should have shown, and is made anew. They were read otherwise.
    TailSkipped {
        /// The partition that shows it.
        partition: PartitionId,
        /// The first one.
        sequence: Sequence,
    },
    /// A partition's consumer has delivered to somebody else, or was changed, and is brought back to its floor.
    Restored {
        /// Which partition.
        partition: PartitionId,
    },
    /// A tail was silent or has ended, and is made anew.
    TailLost {
        /// Why.
        reason: String,
    },
    /// There is no such stream.
    NoStream,
    /// A request got no answer, and is sent again.
    Retrying {
        /// What was asked.
        what: &'static str,
        /// Why it failed.
        reason: String,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MadeAnew => f.write_str("the stream is another one than the position was stored for"),
            Self::LostSuffix => f.write_str("the stream has lost the message at the position, and what followed"),
            Self::Gap { at_most } => write!(f, "the stream's limits have removed up to {at_most} unfinished messages"),
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { by } => write!(f, "another owner has the partition, under the greater token {by}"),
            Self::Edited => f.write_str("the position was changed by something else than this hold of the partition"),
            Self::StreamChanged => f.write_str("the stream is not what it was: the position is looked at anew"),
            Self::Misfit(misfit) => {
                write!(f, "{misfit}: choose a policy other than \"stop\", or set the position")
            }
            Self::Unfit { reason } => write!(f, "the partition's consumer cannot be used: {reason}"),
            Self::Unreadable { error } => write!(f, "the stored position cannot be read: {error}: delete or mend it"),
        }
    }
}

/// The queue between the parts, which decide, and the caller, who acts.
#[derive(Clone, Debug)]
pub(super) struct Orders<M> {
    queue: VecDeque<Order<M>>,
    last_call: CallId,
    /// For which partition something was asked, until the answer comes.
    callers: BTreeMap<CallId, PartitionId>,
}

impl<M> Orders<M> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), last_call: CallId::default(), callers: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, order: Order<M>) {
        self.queue.push_back(order);
    }

    pub(super) fn pop(&mut self) -> Option<Order<M>> {
        self.queue.pop_front()
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.push(Order::Notice(notice));
    }

    /// Asks for something that is answered, under a fresh name.
    pub(super) fn call(&mut self, order: impl FnOnce(CallId) -> Order<M>) -> CallId {
        self.last_call = self.last_call.next();
        self.queue.push_back(order(self.last_call));
        self.last_call
    }

    /// The same, for one partition.
    pub(super) fn call_for(
        &mut self,
        partition: &PartitionId,
        order: impl FnOnce(CallId, PartitionId) -> Order<M>,
    ) -> CallId {
        let call = self.call(|call| order(call, partition.clone()));
        self.callers.insert(call, partition.clone());
        call
    }

    /// The partition for which something was asked. The answer has come: it is asked once.
    pub(super) fn caller(&mut self, call: CallId) -> Option<PartitionId> {
        self.callers.remove(&call)
    }
}
