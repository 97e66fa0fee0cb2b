//! Everything that can happen to message delivery.

use alloc::string::String;
use alloc::vec::Vec;

use super::consumer::{ConsumerState, PullEnd, Pulled};
use super::message::Message;
use super::position::PositionRecord;
use crate::event::Outcome;
use crate::ids::{CallId, Revision, Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::stored::record::RecordError;

/// Everything that can happen, given to [`Delivery::handle`](super::Delivery::handle).
#[derive(Clone, Debug)]
pub enum Event<M> {
    /// The timer that was set to [`poll_timeout`](super::Delivery::poll_timeout) has fired. A spurious one is harmless.
    Timeout,
    /// What the worker decides about a partition.
    Ownership(Ownership),
    /// What the application does with a partition.
    Application(Request<M>),
    /// The answer to an [order](super::Order) that has a call. Each gets exactly one.
    Answer {
        /// Which order.
        call: CallId,
        /// What came back.
        answer: Answer<M>,
    },
    /// What a tail shows, after the [answer](Answer::TailOpened) that it is open.
    Tail {
        /// Which tail.
        tail: CallId,
        /// What it shows.
        news: TailNews<M>,
    },
    /// A pull shows a message, before the [answer](Answer::PullOver) that it is over.
    Pulled {
        /// For which partition.
        partition: PartitionId,
        /// Which pull.
        pull: CallId,
        /// What it shows.
        pulled: Pulled<M>,
    },
}

/// What the worker decides about partitions.
#[derive(Clone, Debug)]
pub enum Ownership {
    /// A partition is this worker's.
    Acquired {
        /// Which one.
        partition: PartitionId,
        /// The token of the hold.
        token: Token,
    },
    /// A partition is to be given up: what is handed out may be finished.
    Releasing {
        /// Which one.
        partition: PartitionId,
        /// The token of the hold.
        token: Token,
    },
    /// The hold of a partition has ended: nothing more may be done for it.
    Ended {
        /// Which one.
        partition: PartitionId,
        /// The token of the hold.
        token: Token,
    },
    /// Nothing may be done for any partition until work is resumed.
    Suspended,
    /// Work goes on.
    Resumed,
}

/// What the application does with a partition that it was given.
#[derive(Clone, Debug)]
pub enum Request<M> {
    /// It is ready for messages: for as many as this at once. Each is answered by one [`Hand`](super::Order::Hand), as soon as there are some.
    Want {
        /// Which partition.
        partition: PartitionId,
        /// How many messages at most.
        most: u32,
    },
    /// It has finished every message that it was handed up to this one.
    Finish {
        /// Which partition.
        partition: PartitionId,
        /// The last one that is finished.
        through: Sequence,
    },
    /// It hands back messages that are not finished: the last ones that it was handed, in order.
    Return {
        /// Which partition.
        partition: PartitionId,
        /// The messages.
        messages: Vec<Message<M>>,
        /// Why the first of them failed; none if nothing was tried in earnest, as when the work was interrupted.
        failed: Option<String>,
    },
    /// It wants what is finished stored now, and not only when it is due.
    Commit {
        /// Which partition.
        partition: PartitionId,
    },
    /// It works on the partition no more: what it was handed and has not finished comes again, here or elsewhere.
    Leave {
        /// Which partition.
        partition: PartitionId,
    },
}

impl<M> Request<M> {
    /// For which partition.
    pub fn partition(&self) -> &PartitionId {
        match self {
            Self::Want { partition, .. }
            | Self::Finish { partition, .. }
            | Self::Return { partition, .. }
            | Self::Commit { partition }
            | Self::Leave { partition } => partition,
        }
    }
}

/// The answer to an order.
#[derive(Clone, Debug)]
pub enum Answer<M> {
    /// To [`ReadPosition`](super::Order::ReadPosition).
    Position(StoredPosition),
    /// To [`WritePosition`](super::Order::WritePosition).
    Written(Outcome),
    /// To [`Inspect`](super::Order::Inspect): the stream as its leader knows it.
    Stream(StreamState),
    /// To [`Inspect`](super::Order::Inspect): there is no such stream.
    NoStream,
    /// To [`Ask`](super::Order::Ask).
    Ends(Ends),
    /// To [`Ask`](super::Order::Ask): this server cannot answer it.
    CannotTell,
    /// To [`Fetch`](super::Order::Fetch).
    Fetched(Fetched<M>),
    /// To [`OpenTail`](super::Order::OpenTail): from now on its news come.
    TailOpened,
    /// To [`DeadLetter`](super::Order::DeadLetter): it is stored there.
    Buried,
    /// To [`DeadLetter`](super::Order::DeadLetter): it is not known to be stored there. The message comes back.
    NotBuried(Message<M>),
    /// To [`FindConsumer`](super::Order::FindConsumer), [`CreateConsumer`](super::Order::CreateConsumer) and
    /// [`RestoreConsumer`](super::Order::RestoreConsumer): the consumer as its leader knows it.
    Consumer(ConsumerState),
    /// To [`FindConsumer`](super::Order::FindConsumer) and [`RestoreConsumer`](super::Order::RestoreConsumer): there is none.
    NoConsumer,
    /// To the same: there is one that is of no use, or there can be none, until a person has changed something.
    Unfit {
        /// What is wrong and how to mend it, for people.
        reason: String,
    },
    /// To [`Pull`](super::Order::Pull): it shows nothing more.
    PullOver(PullEnd),
    /// To [`Acknowledge`](super::Order::Acknowledge): the server has said so of each message.
    Acknowledged,
    /// There was no answer, or no certain one. Not to [`WritePosition`](super::Order::WritePosition), which has
    /// [`Outcome::Unknown`], nor to [`DeadLetter`](super::Order::DeadLetter).
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// The stored position of a partition.
#[derive(Clone, Debug)]
pub enum StoredPosition {
    /// There is one.
    Found {
        /// What it says.
        record: PositionRecord,
        /// The revision that wrote it.
        revision: Revision,
        /// When the message at [`seq`](PositionRecord::seq) that the stream has now was stored; none if it has none there.
        at: Option<Timestamp>,
    },
    /// There is none.
    Missing,
    /// There is something that cannot be read.
    Unreadable {
        /// What is wrong with it.
        error: RecordError,
    },
}

/// What a stream says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// When it was made.
    pub created: Timestamp,
    /// The first message that it still has, or the number that the next one gets if it has none.
    pub first: Sequence,
    /// The last number that it gave.
    pub last: Sequence,
}

/// The last message of each partition that was asked for, all as of one moment of one replica.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The last message of each partition that has any.
    pub last: Vec<(PartitionId, Sequence)>,
    /// The last message of any kind that this replica knew of at that moment.
    pub through: Sequence,
}

/// Messages of one partition, read one after another.
#[derive(Clone, Debug)]
pub struct Fetched<M> {
    /// All that the stream has of it from where the order said to the last of these, in order.
    pub messages: Vec<Message<M>>,
    /// How many more the replica knew of.
    pub pending: u64,
}

/// What a tail shows.
#[derive(Clone, Debug)]
pub enum TailNews<M> {
    /// A message of a partition.
    Message {
        /// Which partition.
        partition: PartitionId,
        /// The message.
        message: Message<M>,
    },
    /// It has passed over every message up to here that is of none of the worker's partitions.
    Passed {
        /// Up to where.
        sequence: Sequence,
    },
    /// It is there, without news.
    Alive,
    /// It is no more.
    Lost {
        /// Why, for people.
        reason: String,
    },
}
