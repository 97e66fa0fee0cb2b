//! Planted bugs: deliberately wrong variants of the rules of the protocol, which the simulator must catch.
//!
//! Without the feature `planted-bugs`, which only the simulator turns on, [`Planted::has`] is a constant `false`, and
//! nothing of this is left.

/// Lists the bugs once: each with what it does.
macro_rules! planted_bugs {
    ($(#[doc = $does:literal] $bug:ident,)+) => {
        /// A rule of the protocol that is broken on purpose.
        #[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "made known with the feature only"))]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum PlantedBug {
            $(#[doc = $does] $bug,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl PlantedBug {
            /// Every bug there is.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// What is wrong, in one sentence.
            pub const fn does(self) -> &'static str {
                match self {
                    $(Self::$bug => $does.trim_ascii(),)+
                }
            }
        }
    };
}

planted_bugs! {
    /// A slot is taken over from a holder whose lease has not run out.
    TakeOverEarly,
    /// A successor forgets what its tenure has applied.
    ForgetApplied,
    /// Work goes on when the lease has run out.
    OutliveLease,
    /// Work goes on when the checks of the own presence no longer come back.
    OutlivePresence,
    /// A check that came back gives the right to act for longer than others may wait.
    PresenceTooLong,
    /// A check gives the right to act from its receipt on.
    PresenceFromReceipt,
    /// The record goes on to name the server at which the process began.
    StaleServer,
    /// A worker that goes on without a lease takes what it is given by old news.
    TakeWithoutLease,
    /// A worker that goes on without a lease takes what it is given although others may take it for gone.
    TakeAbsent,
    /// The lease counts from the reply to a renewal.
    LeaseFromReply,
    /// Work goes on as soon as the connection is back, before a renewal is committed.
    ResumeUnrenewed,
    /// A tenure of which there is no record counts as ended.
    AbsenceIsEnd,
    /// A release counts as confirmed as soon as it was asked for.
    ReleaseUnconfirmed,
    /// A partition is granted while its holder still has it.
    GrantUnreleased,
    /// A grant has the epoch of the first plan.
    EpochNotRaised,
    /// An assignment of another tenure is applied.
    OtherTenure,
    /// An assignment older than what was applied is applied.
    OlderAssignment,
    /// What a replaced watch shows is taken in.
    ReplacedWatch,
    /// A partition that the application gives up counts as released before anybody has asked for it.
    GiveUpUnasked,
    /// What a watch has shown before a break of the connection counts as shown after it.
    WatchOutlivesBreak,
    /// A single change counts as if every write before it had been seen.
    TailFromNews,
    /// All appends are sent at once.
    AppendsPipelined,
    /// A leader goes on after an append was refused, on top of what it does not know.
    LeadThroughConflict,
    /// A worker is judged by the lease of who judges it.
    JudgeByOwnLease,
    /// A worker that has renewed its lease meanwhile is evicted all the same.
    EvictRenewed,
    /// A worker is evicted as soon as one probe says that nobody listens.
    EvictUnconfirmed,
    /// A row of probes to which nobody listened goes on although the worker has renewed its lease.
    RowOverRevisions,
    /// A row of probes to which nobody listened goes on after an answer.
    RowThroughAnswer,
    /// A row of probes to which nobody listened goes on after one that timed out.
    RowThroughTimeout,
    /// A row of probes to which nobody listened goes on after one from another server.
    RowThroughElsewhere,
    /// A row of probes to which nobody listened goes on although whoever probes was cut off meanwhile.
    RowThroughBreak,
    /// That nobody listens counts from whatever server.
    ProberElsewhere,
    /// Who was known to be dead counts as dead whoever is in its slot.
    DeadWhoeverIsThere,
    /// A slot that was left for a successor is not held for it.
    RestartUnheld,
    /// A worker whose own writes do not get through judges others all the same.
    JudgeUnheard,
    /// A slot whose record cannot be read counts as free, and is written over.
    UnreadableIsFree,
    /// Garbage in a slot ends the tenure there at once.
    GarbageEndsTenure,
    /// A plan takes no notice of capacities.
    CapacityIgnored,
    /// A plan takes no notice of limits.
    LimitIgnored,
    /// What is to take the place of another is granted before that one has made way.
    GrantWithoutRoom,
    /// Silence counts although it could not have been heard broken.
    JudgeByOldSilence,
    /// After a loss of writes, grants go on at once.
    GrantWhileRecovering,
    /// A tenure is named by its revision alone, which a store that has lost writes gives again.
    TenureByRevision,
    /// Who notices that the store has lost what it had applied goes on as before.
    GoOnAfterLoss,
    /// What listings do not show any more is never taken for lost.
    NeverBelieve,
    /// Grants go on while a member has applied what the plan does not have.
    GrantUnsound,
    /// Grants go on at once after a loss of writes was noticed, or a tenure that has partitions is forgotten.
    GrantInQuarantine,
    /// A write that commits where a later one was known tells nothing.
    CommitTellsNothing,
    /// Who was cut off renews before it has listed the members.
    RenewUnlisted,
    /// A write depends on a revision of another's record that the last listing has not shown.
    WriteOnUnshown,
    /// Who finds no record of the leader claims its place although it finds none of its own either.
    ClaimUnshown,
    /// A measured load is evened out whenever it can be, however little that gains.
    MoveForNoise,
    /// What a worker tells of its loads counts for partitions that its own list does not measure.
    LoadByAnyList,
    /// The head of the plan does not say what the plan moves.
    ForgetMoves,
    /// Whatever moves is said to move for the sake of balance.
    GuessCause,
    /// A leader begins with a list of members that may lack some who claimed before it was named.
    LeadUnlisted,
    /// Work goes on before the own assignment was read again.
    ResumeUnread,
    /// What an assignment does not name any more is given up like what it says is to be released.
    KeepUnnamed,
    /// The newest plan is only what the store remembers.
    ForgetGeneration,
    /// The era of a plan is only the life of the store.
    ForgetEra,
    /// A former owner of a partition goes on to store its position.
    StoreThroughFence,
    /// A position under the own token counts as written by the own hold.
    OwnByToken,
    /// A message counts as finished when it is handed out.
    CommitBeforeWork,
    /// A position says how far the partition was read, and not how far it is finished.
    CommitWhatWasRead,
    /// A partition is let go before what was finished of it is stored.
    LetGoUnstored,
    /// A partition joins a tail that runs.
    JoinRunningTail,
    /// What a stream says is its end is where a tail begins, whatever its partitions have read.
    TailFromEnd,
    /// Messages are handed out while work is suspended.
    HandWhileSuspended,
    /// More is handed out than was asked for.
    HandUnasked,
    /// A new owner forgets how often a message was tried.
    ForgetTries,
    /// A message that may have ended its process is handed out before that is stored.
    HandUncounted,
    /// The last try of a message that may have ended processes is made while others are in hand.
    TryAmongOthers,
    /// A new owner begins where the settings say, whatever is stored.
    BeginAnew,
    /// What is handed back is not handed out again.
    ForgetReturned,
    /// A partition that a tail serves is never looked at.
    NeverLook,
    /// A new owner pulls from a consumer that is not at its floor.
    PullBeforeRestored,
    /// What a consumer delivers again is handed out again.
    HandAgain,
    /// A message is acknowledged when it is handed out.
    AcknowledgeWhenHanded,
    /// What a consumer has delivered to somebody else in between is not missed.
    IgnorePlaces,
    /// A partition is let go before what was finished of it is acknowledged.
    LetGoUnacknowledged,
}

/// Which bug a worker has, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(crate) const fn new(bug: PlantedBug) -> Self {
        Self { bug: Some(bug) }
    }

    /// Whether the worker has this bug.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether the worker has this bug: no.
    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "asked like the one that has bugs")]
    pub(crate) const fn has(self, _: PlantedBug) -> bool {
        false
    }
}
