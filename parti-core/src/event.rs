//! Everything that can happen to a worker.

use serde::{Deserialize, Serialize};

use crate::ids::{CheckId, Incarnation, OperationId, ProbeId, Revision, ServerId, Session, Token, WatchId};
use crate::partition::{PartitionId, PartitionList};
use crate::stored::key::Key;
use crate::stored::record::{Record, RecordError};

/// Everything that can happen, given to [`Worker::handle`](crate::Worker::handle).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The timer that was set to [`poll_timeout`](crate::Worker::poll_timeout) has fired. A spurious one is harmless.
    Timeout,
    /// News from the store.
    Kv(KvEvent),
    /// This process's probe subject is subscribed: for the first time, anew because of
    /// [`Listen`](crate::Action::Listen), or by the client on another connection.
    Listening {
        /// Names the subscription on this connection: greater than all before.
        session: Session,
        /// The server that the connection ends at.
        server: ServerId,
    },
    /// A [`Check`](crate::Action::Check) has come back through the very session on which it was sent.
    Present {
        /// The session, at the sending and still at the receipt.
        session: Session,
        /// Which check.
        check: CheckId,
    },
    /// The outcome of a [`Probe`](crate::Action::Probe). Every probe gets exactly one.
    Probed {
        /// Which probe.
        probe: ProbeId,
        /// What came back.
        outcome: ProbeOutcome,
        /// The server that the connection of whoever probed ended at, the same before and after; none if that is not
        /// known.
        server: Option<ServerId>,
    },
    /// The partitions to divide, at the start and whenever the list changes.
    Partitions(PartitionList),
    /// How many bytes a stored record may have, without end before it is told: whoever runs the worker knows what its
    /// store takes. A plan with a larger record is refused as a whole.
    RecordLimit(usize),
    /// The application has stopped working on a partition that it was told to [`Release`](crate::Action::Release).
    Released {
        /// Which partition.
        partition: PartitionId,
        /// The token of the hold that has ended.
        token: Token,
    },
    /// The application cannot work on a partition that it holds, and wants another worker to have it. It holds it until
    /// it is told to [`Release`](crate::Action::Release) it, which happens only where there is another worker that may
    /// have it and has not given it up itself.
    GivenUp {
        /// Which partition.
        partition: PartitionId,
        /// The token of the hold.
        token: Token,
    },
    /// The application says how heavy a partition is at present, in units of its choice, the same for all workers: what
    /// takes the place of its weight where the list [measures](crate::Partition::measured) it. Of no use elsewhere, and
    /// ignored.
    Load {
        /// Which partition.
        partition: PartitionId,
        /// The token of the hold.
        token: Token,
        /// How heavy it is, from 1 to [`MAX_LOAD`](crate::MAX_LOAD). Anything else changes nothing and is counted.
        units: u64,
    },
    /// What the application or an operator wants.
    Command(Command),
}

/// News from the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum KvEvent {
    /// A watch shows the current value of a key: in its snapshot, or because it was written.
    Entry {
        /// Which watch.
        watch: WatchId,
        /// Which key.
        key: Key,
        /// The revision that wrote it.
        revision: Revision,
        /// The value.
        record: Record,
    },
    /// A watch shows the delete marker of a key.
    Deleted {
        /// Which watch.
        watch: WatchId,
        /// Which key.
        key: Key,
        /// The revision of the marker.
        revision: Revision,
    },
    /// A watch shows a value that cannot be read.
    Undecodable {
        /// Which watch.
        watch: WatchId,
        /// Which key.
        key: Key,
        /// The revision that wrote it.
        revision: Revision,
        /// What is wrong with it.
        error: RecordError,
    },
    /// A watch has shown all current values, and goes on with changes. Comes again after each re-reading.
    CaughtUp {
        /// Which watch.
        watch: WatchId,
        /// Which life of the bucket was read.
        incarnation: Incarnation,
        /// The bucket's last revision at that time. Where every key is of interest, every write up to it has been
        /// shown, or one that came after it and replaced it; only those to keys that are not ours have not.
        last: Revision,
    },
    /// A watch has broken, or its bucket was made anew or has lost writes; the adapter opens it again, and another
    /// snapshot follows.
    WatchLost {
        /// Which watch.
        watch: WatchId,
    },
    /// The outcome of a write. Every request gets exactly one.
    Done {
        /// Which request.
        operation: OperationId,
        /// What became of it.
        outcome: Outcome,
    },
    /// The connection to the store is gone: nothing can be heard or written. Every watch is lost with it, and others are
    /// asked for: what the lost ones have shown may come later than this.
    Lost,
    /// The connection is back.
    Restored,
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was applied, as this revision.
    Committed(Revision),
    /// Its condition did not hold; it was not applied and never will be.
    Conflict,
    /// The store has said no, and not because of the condition: it is full, or closed to this worker. It was not applied
    /// and never will be; another try may fare better.
    Refused,
    /// No answer: it may have been applied, and may yet be.
    Unknown,
}

/// What came back from a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// The process answered.
    Answered,
    /// The transport says that nobody listens there, as far as the server that was asked knows.
    NobodyListens,
    /// Nothing came back in time, or whoever was to ask could not.
    TimedOut,
}

/// What the application or an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Hand everything over to others, delete the member record, and halt.
    ///
    /// What nobody has taken over within `release_timeout` is released then, and within another `release_timeout` the
    /// application has to be done: all in all it takes at most twice `release_timeout` and
    /// [`LAST_WAIT`](crate::LAST_WAIT), 25 s by default. While the store is out of reach nobody can take over:
    /// everything is released at once, the application is told to cancel when the lease is over, and the worker halts as
    /// soon as the lease is over and the application is done.
    Leave,
    /// Release everything, keep the slot and its partitions for the successor, and halt; within the same time as
    /// [`Leave`](Self::Leave), and as soon where the store is out of reach.
    Restart,
    /// Hand everything over to others, but stay, ready to take it back: until [`Undrain`](Self::Undrain) or the end of
    /// this process. A group of nothing but draining workers keeps what it has.
    Drain,
    /// Take part again after [`Drain`](Self::Drain).
    Undrain,
    /// Plan again now, if this worker leads, without waiting for a window or an interval.
    RebalanceNow,
}

impl KvEvent {
    /// What a watch shows for `key`, whose stored value is `bytes`: an entry, or the reason why it cannot be read.
    pub fn from_stored(watch: WatchId, key: Key, revision: Revision, bytes: &[u8]) -> Self {
        match Record::decode(key, bytes) {
            Ok(record) => Self::Entry { watch, key, revision, record },
            Err(error) => Self::Undecodable { watch, key, revision, error },
        }
    }
}
