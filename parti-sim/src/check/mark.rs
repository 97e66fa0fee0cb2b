//! The mechanisms that a run can reach.

/// Defines the marks from what each says in words.
macro_rules! marks {
    ($($name:ident = $words:literal,)*) => {
        /// A mechanism that a run can reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $(#[doc = $words] $name,)*
        }

        impl Mark {
            /// What was reached, in words.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

marks! {
    ClaimedFresh = "a slot was claimed that nobody had",
    ClaimedInherited = "a slot was inherited from a predecessor that restarted",
    ClaimedTakenOver = "a slot was taken over from a dead predecessor",
    StoodBy = "a worker stood by for a slot",
    SlotLost = "a worker lost its slot",
    Led = "a worker began to lead",
    SteppedDown = "a leader stepped down",
    EvictedByLease = "a tenure was ended because its lease ran out",
    EvictedByProbe = "a tenure was ended because nobody listened",
    EvictedOtherwise = "a tenure was ended because its worker did not come back, or had no record",
    PlannedEmergency = "orphans were placed",
    PlannedColdStart = "a first assignment was made",
    PlannedList = "a plan followed a change of the list",
    PlannedLeave = "a plan followed a leave",
    PlannedJoin = "a plan followed a join",
    PlannedNextRound = "a plan followed another for balance",
    PlannedRequested = "a plan was asked for",
    PlannedGivenUp = "a plan moved what an application had given up",
    Drained = "a partition went from one living worker to another",
    Acquired = "the application was given a partition",
    Released = "the application was done with a partition",
    ReleaseTimedOut = "a release was cancelled",
    Suspended = "a worker suspended its work",
    Resumed = "a worker went on after a suspension",
    WaitedForMaintenance = "a leader waited for workers to come back that an operator expects back",
    WaitedForRestart = "a leader waited for workers to come back, most of which went at once",
    Renewed = "a worker renewed its lease",
    NobodyListened = "a probe found that nobody listened",
    Crashed = "a process crashed",
    Paused = "a process was paused",
    Halted = "a worker halted",
    Conflict = "a write was refused because its condition did not hold",
    OutcomeUnknown = "a worker did not learn what became of a write",
    WriteRefused = "the store refused a write for a reason of its own",
    FalseConflict = "a write that was committed was answered with a conflict",
    LateWrite = "a write landed after its worker had given it up",
    WatchLost = "a watch broke",
    ConnectionLost = "a connection was lost",
    Undecodable = "a stored value could not be read",
    StoreRegressed = "the loss of writes, or another life of the store, was noticed",
    StaleTokenRefused = "the fenced store refused a stale token",
    NotPresent = "a worker suspended its work because its checks did not come back",
    AskedThrough = "a worker was asked to ask for another one",
    ListenedAgain = "a worker subscribed its probe subject anew",
    AnotherSession = "a worker that had a session went on in another one",
    Wished = "an operator's wish was seen",
    AwaitedOtherVersion = "a worker of another software version waited for the slot of one that was about to go",
    RequestLost = "a request was lost",
    ReplyLost = "a reply was lost, although the write landed",
    StaleRead = "a snapshot came from a replica that was behind",
    PartialListing = "a snapshot lacked some keys",
    Unheard = "a watch was silent about a change",
    FalselyGone = "a probe was told, falsely, that nobody listens",
    ReplacedWatch = "a watch that was replaced showed something",
    OldNews = "news from before a break of the connection came after it",
    StoreAwayForOne = "a request or a reading of one worker did not reach the store, to which its connection stands",
    ReadOnlyForOne = "the store took no write of one worker",
    MixedListing = "a snapshot had some of its keys from a replica that was behind",
    MissedChange = "a watch showed a change of a key of which it had not shown the one before",
    Encoded = "a record went through its encoding into the store",
    RecordTooLarge = "a record was larger than the store takes",
    PlanRefused = "a plan was refused, such as one with a record that is larger than the store takes",
    Slept = "a machine slept, and its clock went on",
    ClockStepped = "a clock jumped forward",
    GarbageUnderLeader = "what is under `leader` is not a record",
    GarbageUnderControl = "what is under a key of an operator is not a record",
    GarbageInPlan = "what is in the plan is not a record",
    GarbageStays = "what is not a record is never deleted",
    OtherStrategy = "a worker has a strategy that others do not have",
    OtherList = "a worker has a list that others do not have",
    AvailableWorker = "a worker goes on when its lease runs out",
    OtherLease = "a worker acts by another lease than others",
    AvailableDuplicate = "more than one worked on a partition, and one of them had gone on without its lease",
    OtherCapacity = "a worker has a capacity that others do not have",
    Labelled = "a worker has a label that partitions ask for",
    Pinned = "a partition was given to the slot to which it is pinned",
    KnownDead = "a worker began that knew its predecessor dead",
    MessageFinished = "a handler finished a message",
    MessageFailed = "a handler failed at a message",
    MessageInterrupted = "a handler handed back or dropped what it had not finished",
    MessageKilled = "a message ended the process that worked on it",
    DeadLetter = "a message became a dead letter",
    MessagesRemoved = "the stream's limits removed messages",
    SuffixLost = "the stream lost its newest messages",
    StreamMadeAnew = "the stream was made anew",
    PositionStored = "a position was stored",
    PositionRefused = "the write of a position was refused because its condition did not hold",
    PositionsLost = "stored positions were lost",
    GapTold = "it was told that messages were removed unread",
    MisfitTold = "it was told that a position is not one of the stream",
    DeliveryFenced = "a former owner of a partition found that it is another's",
    DeliveryStopped = "the delivery of a partition was begun anew, since the stream or the position had changed",
    LetGo = "everything finished of a partition was stored, and it was let go",
    TailLost = "a tail was silent or had ended",
    TailSkipped = "a tail had passed over a message",
    ReplicaLagged = "a reading was answered by a replica that is behind",
    RaceForTheDead = "two that began after the death of a slot's holder were after the slot",
}
