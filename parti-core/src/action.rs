//! Everything that a worker can ask for.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{CheckId, Generation, Instance, OperationId, ProbeId, Revision, Session, Slot, Term, Token, WatchId};
use crate::partition::{Partition, PartitionId};
use crate::stored::key::{Bucket, Interest, Key};
use crate::stored::record::{Record, RecordError};
use crate::stored::settings::Difference;
use crate::time::Duration;

/// Everything that a worker can ask for, taken from [`Worker::poll_action`](crate::Worker::poll_action).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Try a conditional write, and report its outcome once, as [`KvEvent::Done`](crate::event::KvEvent::Done).
    Kv(Request),
    /// Watch these keys of a bucket, in place of what was watched in that bucket before: show each key's current
    /// value or delete marker, say that the watch has caught up, then show each change of a key in order.
    Watch {
        /// Names the watch in what it shows.
        watch: WatchId,
        /// Which bucket.
        bucket: Bucket,
        /// Which keys.
        interest: Interest,
    },
    /// Subscribe the own probe subject anew, in place of the subscription before, and report
    /// [`Event::Listening`](crate::Event::Listening): checks do not come back.
    Listen,
    /// Send something to the own probe subject through the own connection, if that still is the one of this session, and
    /// report [`Event::Present`](crate::Event::Present) when it comes back through that session. Nothing is reported
    /// where it does not.
    Check {
        /// The session to check.
        session: Session,
        /// Names the check.
        check: CheckId,
    },
    /// Ask whether a process is there, and report [`Event::Probed`](crate::Event::Probed) once.
    Probe {
        /// Names the probe.
        probe: ProbeId,
        /// The slot that the process holds.
        slot: Slot,
        /// The process.
        instance: Instance,
        /// The process that is to ask in place of this one, since its connection ends at another server. What it does
        /// not answer says nothing of the other: that is [`TimedOut`](crate::ProbeOutcome::TimedOut).
        through: Option<Instance>,
    },
    /// Start to work on a partition.
    Acquire {
        /// Which one.
        partition: Partition,
        /// The fencing token for what is done on its behalf.
        token: Token,
    },
    /// A partition will probably come: warm up, but do no work on it.
    Prepare {
        /// Which one.
        partition: PartitionId,
    },
    /// Finish the work on a partition, stop, and report [`Event::Released`](crate::Event::Released) once.
    Release {
        /// Which one.
        partition: PartitionId,
        /// The token of the hold that is to end.
        token: Token,
        /// Why, and so how quickly.
        reason: ReleaseReason,
    },
    /// A release has taken too long: drop what is left of the work now, and report
    /// [`Event::Released`](crate::Event::Released).
    Cancel {
        /// Which one.
        partition: PartitionId,
        /// The token of the hold that is to end.
        token: Token,
    },
    /// Stop all work at once, but keep every partition: the lease has run out or the store is out of reach.
    Suspend {
        /// Why.
        reason: SuspendReason,
    },
    /// Go on with the partitions that were suspended, with the tokens that they have.
    Resume,
    /// Something that an operator should hear.
    Notice(Notice),
    /// The worker is done; nothing more will be asked for.
    Halt,
}

/// A conditional write and the name under which its outcome is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Names the request.
    pub operation: OperationId,
    /// What to write, and on which condition.
    pub write: Write,
}

/// A conditional write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Write {
    /// Only if the key is absent or deleted.
    Create {
        /// Which key.
        key: Key,
        /// The new value.
        record: Record,
    },
    /// Only if the key's last revision is the expected one, be that a value's or a delete marker's.
    Update {
        /// Which key.
        key: Key,
        /// The new value.
        record: Record,
        /// The key's revision on which the write depends.
        expected: Revision,
    },
    /// Only if the key's last revision is the expected one; leaves a delete marker. An expected revision of 0 means
    /// that the key was never written.
    Delete {
        /// Which key.
        key: Key,
        /// The key's revision on which the write depends.
        expected: Revision,
    },
    /// Only if the last revision of the whole bucket is the expected one.
    Append {
        /// Which key.
        key: Key,
        /// The new value.
        record: Record,
        /// The bucket's revision on which the write depends.
        expected_last: Revision,
    },
}

impl Write {
    /// The key that is written.
    pub const fn key(&self) -> Key {
        match self {
            Self::Create { key, .. }
            | Self::Update { key, .. }
            | Self::Delete { key, .. }
            | Self::Append { key, .. } => *key,
        }
    }

    /// What it is called: `create`, `update`, `delete` or `append`.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
            Self::Append { .. } => "append",
        }
    }
}

/// Why a partition is to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseReason {
    /// It goes to another worker, or is no longer in the list: drain, then stop.
    Moved,
    /// This worker leaves: drain, then stop.
    Leaving,
    /// This worker restarts and will have it again: drain, then stop.
    Restarting,
    /// This worker's slot is no longer its own: stop at once.
    Evicted,
}

/// Why all work is to stop for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspendReason {
    /// The lease ran out before a renewal was known to be committed.
    LeaseRanOut,
    /// The lease ran out because the store has refused the renewals.
    WritesRefused,
    /// The connection to the store is gone.
    ConnectionLost,
    /// The checks of its own presence have not come back for so long that others may take it for gone: the server or the
    /// process stalls, the connection is dead, or the subscription of the probe subject was taken away.
    NotPresent,
    /// The store has lost writes, and not everyone is over it yet.
    StoreRegressed,
}

/// Something that an operator should hear, as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Notice {
    /// This worker has a slot.
    SlotClaimed {
        /// Which slot.
        slot: Slot,
        /// How it came to it.
        how: ClaimKind,
    },
    /// This worker waits for a slot.
    Standby {
        /// Why.
        reason: StandbyReason,
        /// For how long at most from now on, where that is known.
        at_most: Option<Duration>,
    },
    /// The checks of this worker's own presence do not come back in time, although it is connected. It works on nothing
    /// until they do, and subscribes its probe subject anew meanwhile.
    NotPresent {
        /// Whether some came back, only too late.
        late: bool,
    },
    /// The checks of this worker's own presence come back again.
    PresentAgain,
    /// Another process has this worker's slot, or its lease was ended by a leader; it starts over.
    SlotLost {
        /// Which slot.
        slot: Slot,
    },
    /// This worker leads.
    LeadershipGained {
        /// The term of its leadership.
        term: Term,
    },
    /// This worker leads no longer.
    LeadershipLost {
        /// Why.
        reason: StepDownReason,
    },
    /// This worker, as leader, has ended another worker's tenure.
    Evicted {
        /// Whose.
        slot: Slot,
        /// Why.
        reason: EvictReason,
    },
    /// This worker, as leader, waits before it plans.
    Waiting {
        /// For what.
        reason: WaitReason,
    },
    /// This worker, as leader, has published a plan.
    Planned {
        /// Its number.
        generation: Generation,
        /// What made it necessary.
        reason: PlanReason,
        /// How many partitions it moves away from a worker that stays.
        moved: usize,
        /// How many partitions it places that had no owner.
        placed: usize,
        /// Whether balance needs another round.
        another_round: bool,
    },
    /// This worker, as leader, gives another one no new work for a while, since it has died again and again soon after it
    /// had started: each life of it takes partitions from others and leaves them without an owner.
    Resting {
        /// Whom.
        slot: Slot,
        /// How often it has died so, without having lived longer in between.
        deaths: u32,
        /// For how long from now.
        rest: Duration,
    },
    /// Some partitions have no owner, because there is no worker that may take them.
    Unplaced {
        /// How many.
        partitions: usize,
    },
    /// Some partitions have no owner, since no worker has room for them within its limit: the least important ones. Told
    /// when it begins, and whenever it has changed.
    WithoutRoom {
        /// How many there are of which priority, the highest first.
        partitions: Vec<(u8, usize)>,
    },
    /// There is room for all partitions again.
    RoomForAll,
    /// The calculator has no answer; the assignment stays as it is.
    PlanRefused {
        /// Why.
        reason: String,
    },
    /// A release took longer than `release_timeout` and was cancelled.
    ReleaseTimedOut {
        /// Which partition.
        partition: PartitionId,
    },
    /// This worker has a setting that should be the same in the whole group, and is not that of the leader.
    SettingDiffers {
        /// The slot of the leader.
        leader: Slot,
        /// Which setting, and how it differs.
        difference: Difference,
    },
    /// A stored value cannot be read; it is left as it is.
    Undecodable {
        /// Under which key.
        key: Key,
        /// Written at which revision.
        revision: Revision,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The leader record could not be read, and nobody has led by it for a lease and the margin: this worker leads in its
    /// place. Every other stored value that cannot be read is left as it is.
    UnreadableReplaced {
        /// Under which key.
        key: Key,
        /// Written at which revision.
        revision: Revision,
    },
    /// The bucket was made anew, or has lost writes.
    StoreRegressed {
        /// Which bucket.
        bucket: Bucket,
        /// What was seen.
        detail: String,
    },
}

/// How a worker came to its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimKind {
    /// The slot was free.
    Fresh,
    /// The predecessor had restarted and left the slot for its successor.
    Inherited,
    /// The predecessor's lease had run out, or it was known to be dead.
    TakenOver,
}

/// Why a worker waits for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StandbyReason {
    /// Every slot of the range is held.
    NoFreeSlot {
        /// The lowest slot of the range.
        first: Slot,
        /// The highest slot of the range.
        last: Slot,
    },
    /// The slot that was asked for is held by another process.
    PreferredSlotHeld {
        /// Which slot.
        slot: Slot,
        /// By whom.
        holder: Instance,
    },
    /// The slot that was asked for has a record that this version cannot read.
    PreferredSlotUnreadable {
        /// Which slot.
        slot: Slot,
    },
    /// Workers of another software version are there, one of which may be about to leave its slot to this worker.
    OtherVersion {
        /// How many there are.
        workers: usize,
    },
    /// Some records may be those of dead predecessors, whose slots are better than fresh ones.
    LearningWhoIsAlive {
        /// How many records have not been renewed since this worker began to listen.
        silent: usize,
    },
}

/// Why a leader has stepped down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepDownReason {
    /// Another worker is named in the leader record.
    Replaced {
        /// Its slot.
        by: Slot,
    },
    /// The plan has a write that this leader did not make.
    PlanConflict,
    /// The store has refused to take a plan, and not because of what it holds.
    PlanRefused,
    /// This worker no longer holds its slot.
    SlotLost,
    /// This worker leaves or restarts.
    Leaving,
    /// The leader record is gone.
    RecordGone,
    /// The leader record was written by a version that this one cannot read.
    RecordUnreadable,
}

/// Why a leader has ended a tenure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EvictReason {
    /// Its lease, and the margin, ran out without a renewal.
    LeaseRanOut,
    /// Its process was seen to be gone, again and again, for `probe_confirm`.
    NobodyListens,
    /// It was to come back within `restart_hold` and did not.
    RestartHoldRanOut,
    /// The assignment names it, but it has no member record.
    NoRecord,
    /// Garbage has taken the place of its member record, and its lease and the margin have passed since. The garbage is
    /// left where it is.
    Garbled,
}

/// For what a leader waits before it plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitReason {
    /// More workers may join an empty group.
    ColdStart,
    /// More workers may join.
    WorkersJoined,
    /// Most workers are gone at once, and may come back.
    Restart,
    /// The next round waits for the rebalance interval.
    RebalanceInterval,
    /// An operator has paused rebalancing.
    Paused,
    /// In a maintenance, workers that are gone are expected back, and what they have is held for them.
    Maintenance,
    /// The store has lost writes, and not every worker has noticed yet.
    StoreRegressed,
    /// The list of partitions has not come yet.
    NoPartitions,
    /// The plan has a record that this version cannot read: who owns what is not known, so nothing is planned. Unless
    /// it is from a newer version, nobody else leads meanwhile; it goes on once the record is repaired or deleted.
    PlanUnreadable,
}

/// What made a plan necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlanReason {
    /// Partitions without an owner are placed; nothing else moves.
    Emergency,
    /// The first assignment of the group.
    ColdStart,
    /// The list of partitions changed.
    PartitionsChanged,
    /// A worker leaves.
    WorkerLeaving,
    /// Workers joined.
    WorkersJoined,
    /// The last plan left something to do, or a worker came back with other labels.
    NextRound,
    /// Someone asked for it.
    Requested,
    /// An application cannot work on some partitions that its worker has; nothing else moves.
    GivenUp,
    /// The measured load of the partitions has become uneven.
    LoadShifted,
}
