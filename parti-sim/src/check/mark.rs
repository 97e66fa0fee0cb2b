//! The mechanisms that a run can reach.

/// A mechanism that a run can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A slot was claimed that nobody had.
    ClaimedFresh,
    /// A slot was inherited from a predecessor that restarted.
    ClaimedInherited,
    /// A slot was taken over from a dead predecessor.
    ClaimedTakenOver,
    /// A worker stood by for a slot.
    StoodBy,
    /// A worker lost its slot.
    SlotLost,
    /// A worker began to lead.
    Led,
    /// A leader stepped down.
    SteppedDown,
    /// A tenure was ended because its lease ran out.
    EvictedByLease,
    /// A tenure was ended because nobody listened.
    EvictedByProbe,
    /// A tenure was ended because its worker did not come back, or had no record.
    EvictedOtherwise,
    /// Orphans were placed.
    PlannedEmergency,
    /// A first assignment was made.
    PlannedColdStart,
    /// A plan followed a change of the list.
    PlannedList,
    /// A plan followed a leave.
    PlannedLeave,
    /// A plan followed a join.
    PlannedJoin,
    /// A plan followed another for balance.
    PlannedNextRound,
    /// A plan was asked for.
    PlannedRequested,
    /// A plan moved what an application had given up.
    PlannedGivenUp,
    /// A partition went from one living worker to another.
    Drained,
    /// The application was given a partition.
    Acquired,
    /// The application was done with a partition.
    Released,
    /// A release was cancelled.
    ReleaseTimedOut,
    /// A worker suspended its work.
    Suspended,
    /// A worker went on after a suspension.
    Resumed,
    /// A leader waited for workers to come back that an operator expects back.
    WaitedForMaintenance,
    /// A leader waited for workers to come back, most of which went at once.
    WaitedForRestart,
    /// A worker renewed its lease.
    Renewed,
    /// A probe found that nobody listened.
    NobodyListened,
    /// A process crashed.
    Crashed,
    /// A process was paused.
    Paused,
    /// A worker halted.
    Halted,
    /// A write was refused because its condition did not hold.
    Conflict,
    /// A worker did not learn what became of a write.
    OutcomeUnknown,
    /// The store refused a write for a reason of its own.
    WriteRefused,
    /// A write that was committed was answered with a conflict.
    FalseConflict,
    /// A write landed after its worker had given it up.
    LateWrite,
    /// A watch broke.
    WatchLost,
    /// A connection was lost.
    ConnectionLost,
    /// A stored value could not be read.
    Undecodable,
    /// The loss of writes, or another life of the store, was noticed.
    StoreRegressed,
    /// The fenced store refused a stale token.
    StaleTokenRefused,
    /// A worker suspended its work because its checks did not come back.
    NotPresent,
    /// A worker was asked to ask for another one.
    AskedThrough,
    /// A worker subscribed its probe subject anew.
    ListenedAgain,
    /// A worker that had a session went on in another one.
    AnotherSession,
    /// An operator's wish was seen.
    Wished,
    /// A worker of another software version waited for the slot of one that was about to go.
    AwaitedOtherVersion,
    /// A request was lost.
    RequestLost,
    /// A reply was lost, although the write landed.
    ReplyLost,
    /// A snapshot came from a replica that was behind.
    StaleRead,
    /// A snapshot lacked some keys.
    PartialListing,
    /// A watch was silent about a change.
    Unheard,
    /// A probe was told, falsely, that nobody listens.
    FalselyGone,
    /// A watch that was replaced showed something.
    ReplacedWatch,
    /// News from before a break of the connection came after it.
    OldNews,
    /// A request or a reading of one worker did not reach the store, to which its connection stands.
    StoreAwayForOne,
    /// The store took no write of one worker.
    ReadOnlyForOne,
    /// A snapshot had some of its keys from a replica that was behind.
    MixedListing,
    /// A watch showed a change of a key of which it had not shown the one before.
    MissedChange,
    /// A record went through its encoding into the store.
    Encoded,
    /// A record was larger than the store takes.
    RecordTooLarge,
    /// A plan was refused, such as one with a record that is larger than the store takes.
    PlanRefused,
    /// A machine slept, and its clock went on.
    Slept,
    /// A clock jumped forward.
    ClockStepped,
    /// What is under `leader` is not a record.
    GarbageUnderLeader,
    /// What is under a key of an operator is not a record.
    GarbageUnderControl,
    /// What is in the plan is not a record.
    GarbageInPlan,
    /// What is not a record is never deleted.
    GarbageStays,
    /// A worker has a strategy that others do not have.
    OtherStrategy,
    /// A worker has a list that others do not have.
    OtherList,
    /// A worker goes on when its lease runs out.
    AvailableWorker,
    /// A worker acts by another lease than others.
    OtherLease,
    /// More than one worked on a partition, and one of them had gone on without its lease.
    AvailableDuplicate,
    /// A worker has a capacity that others do not have.
    OtherCapacity,
    /// A worker has a label that partitions ask for.
    Labelled,
    /// A partition was given to the slot to which it is pinned.
    Pinned,
    /// A worker began that knew its predecessor dead.
    KnownDead,
    /// Two that began after the death of a slot's holder were after the slot.
    RaceForTheDead,
}
