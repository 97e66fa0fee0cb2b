//! What happens in a run, as told to everyone who looks on: invariants, figures, marks, trace and report.

use std::fmt;

use parti_core::{
    Action, Control, Event, Generation, Incarnation, KvEvent, Outcome, ReleaseReason, Revision, Slot, Status,
    SuspendReason, Token, Write,
};

use crate::check::mark::Mark;
use crate::told::message::MessageFact;

/// One process life of a worker, numbered in order of the starts and shown as `w7`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(u32);

/// The place of a partition in the list of all that a run ever has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(u32);

impl ProcessId {
    /// The process with this place in the order of starts.
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer processes than u32 counts"))
    }

    /// Its place in the order of starts.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

impl PartitionIndex {
    /// The partition with this place in the list.
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer partitions than u32 counts"))
    }

    /// Its place in the list.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact<'a> {
    /// A process began, in this zone where there are zones.
    Started { process: ProcessId, capacity: u32, zone: Option<u32> },
    /// A process ended without a word.
    Crashed { process: ProcessId },
    /// A worker halted, and its process ended.
    Halted { process: ProcessId },
    /// A process stopped running; its clock goes on.
    Paused { process: ProcessId },
    /// A paused process runs again.
    Woke { process: ProcessId },
    /// A worker was given an event.
    Handed { process: ProcessId, event: &'a Event },
    /// A worker asked for something.
    Asked { process: ProcessId, action: &'a Action },
    /// What a worker says of itself has changed.
    Status { process: ProcessId, before: &'a Status, after: &'a Status },
    /// The store took or refused a write.
    Stored { process: ProcessId, write: &'a Write, outcome: Outcome, late: bool },
    /// The application was given a partition.
    Acquired {
        process: ProcessId,
        partition: PartitionIndex,
        token: Token,
        /// Whether it has not yet been shown the present life of the plan.
        in_former_life: bool,
    },
    /// The application was told to finish with a partition.
    Draining { process: ProcessId, partition: PartitionIndex, reason: ReleaseReason },
    /// The application now works on a partition: newly, or again.
    Works { process: ProcessId, partition: PartitionIndex, token: Token },
    /// The application does not work on a partition any more, or for now.
    Stops { process: ProcessId, partition: PartitionIndex },
    /// The application is done with a partition.
    Released { process: ProcessId, partition: PartitionIndex },
    /// A worker made its application stop all work, and keep the partitions.
    Suspended { process: ProcessId, reason: SuspendReason },
    /// A worker let its application go on.
    Resumed { process: ProcessId },
    /// The application wrote for a partition to the store that it serves, which looks at the token.
    Wrote { process: ProcessId, partition: PartitionIndex, token: Token, accepted: bool },
    /// A partition joined or left the list.
    Listed { partition: PartitionIndex, listed: bool },
    /// Something went wrong in the world; whether that is a reason for partitions to move.
    Disturbed { what: &'a str, may_move: bool },
    /// Someone did something on purpose, a scale-up or a rolling update; whether that is a reason to move.
    Operated { what: &'a str, may_move: bool },
    /// An operator made a wish, or took it back.
    Wished { control: Control, wanted: bool },
    /// Something small went wrong on the way to or from the store.
    Mishap { process: ProcessId, mishap: Mishap },
    /// Something was reached that no other fact tells of.
    Reached { process: ProcessId, mark: Mark },
    /// Something happened to messages, or to the positions of partitions.
    Message { process: Option<ProcessId>, partition: Option<PartitionIndex>, what: &'a MessageFact },
    /// All faults are over.
    Healed,
    /// The store has lost writes, or a bucket was made anew, purged or brought back: up to this revision of the plan, and
    /// this generation in it.
    PlanRegressed { last: Revision, generation: Generation },
    /// The plan is what it was before, up to this generation.
    PlanBroughtBack { generation: Generation },
    /// The members are what they were before, up to this revision.
    MembersBroughtBack { last: Revision },
    /// The store has forgotten something about a process. Nothing in the store tells, and who knows may not be reached.
    Forgotten { process: ProcessId, what: Forgotten },
    /// After a loss of writes: the greatest era and the newest plan that a record which is left, or a worker that runs
    /// and is in reach, has heard of.
    Remembered { era: Incarnation, generation: Generation },
}

/// What a store can forget about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// That it went on in the tenure of another process, whose record is back.
    Takeover,
    /// That another process went on in its tenure: its own record is back.
    Replacement,
    /// That its tenure had ended: its record is back.
    End,
    /// That it began a tenure in this slot.
    Claim(Slot),
    /// What it was granted: the plan has lost it, and its record does not say, or no longer says, that it has seen it.
    Grant,
    /// That it was there at all, and what it was given.
    Everything,
}

/// Something small that goes wrong on the way to or from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// A request was lost.
    RequestLost,
    /// A reply was lost, although the write landed.
    ReplyLost,
    /// A write that was committed was answered with a conflict.
    FalseConflict,
    /// A snapshot came from a replica that was behind.
    StaleRead,
    /// A snapshot lacked some keys.
    PartialListing,
    /// A watch showed nothing of a change, and said nothing about that.
    Unheard,
    /// A probe goes through another worker.
    AskedThrough,
    /// A probe was told, falsely, that nobody listens.
    FalselyGone,
    /// A watch that was replaced showed something.
    ReplacedWatch,
    /// The connection broke while the end of a snapshot waited in the worker's queue.
    OldNews,
}

/// The kinds of facts that make up most of a run, and all others: who does not look at a kind is not told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A worker was given an event other than an outcome.
    Handed,
    /// A worker was given the outcome of a write.
    Answered,
    /// A worker asked for something, other than that an operator should hear something.
    Asked,
    /// A worker had something to say for an operator.
    Noticed,
    /// The store took or refused a write.
    Stored,
    /// An application was given a partition, began, stopped or finished to work on it, or wrote for it.
    Worked,
    /// Something happened to messages.
    Message,
    /// Anything else.
    Other,
}

impl Topic {
    /// Every topic.
    pub(crate) const ALL: [Self; 8] = [
        Self::Handed,
        Self::Answered,
        Self::Asked,
        Self::Noticed,
        Self::Stored,
        Self::Worked,
        Self::Message,
        Self::Other,
    ];
}

impl Fact<'_> {
    /// What kind of fact it is.
    pub(crate) const fn topic(&self) -> Topic {
        match self {
            Self::Handed { event: Event::Kv(KvEvent::Done { .. }), .. } => Topic::Answered,
            Self::Handed { .. } => Topic::Handed,
            Self::Asked { action: Action::Notice(_), .. } => Topic::Noticed,
            Self::Asked { .. } => Topic::Asked,
            Self::Stored { .. } => Topic::Stored,
            Self::Acquired { .. }
            | Self::Draining { .. }
            | Self::Works { .. }
            | Self::Stops { .. }
            | Self::Released { .. }
            | Self::Wrote { .. } => Topic::Worked,
            Self::Message { .. } => Topic::Message,
            _ => Topic::Other,
        }
    }

    /// The process that this is about.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Started { process, .. }
            | Self::Crashed { process }
            | Self::Halted { process }
            | Self::Paused { process }
            | Self::Woke { process }
            | Self::Handed { process, .. }
            | Self::Asked { process, .. }
            | Self::Status { process, .. }
            | Self::Stored { process, .. }
            | Self::Acquired { process, .. }
            | Self::Draining { process, .. }
            | Self::Works { process, .. }
            | Self::Stops { process, .. }
            | Self::Released { process, .. }
            | Self::Suspended { process, .. }
            | Self::Resumed { process }
            | Self::Forgotten { process, .. }
            | Self::Wrote { process, .. }
            | Self::Mishap { process, .. }
            | Self::Reached { process, .. } => Some(*process),
            Self::Message { process, .. } => *process,
            Self::Listed { .. }
            | Self::Disturbed { .. }
            | Self::Operated { .. }
            | Self::Healed
            | Self::PlanRegressed { .. }
            | Self::PlanBroughtBack { .. }
            | Self::MembersBroughtBack { .. }
            | Self::Wished { .. }
            | Self::Remembered { .. } => None,
        }
    }
}
