//! Bugs in what surrounds the core, which the rules that they break ask for.

/// A bug in what surrounds the core: the store, the adapter, the application, the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "planted-bugs", derive(clap::ValueEnum))]
pub enum Around {
    /// The application goes on when it is told to suspend.
    WorkThroughSuspension,
    /// The adapter reports a partition as released while the application still drains it.
    ReleaseBeforeDrained,
    /// The store deletes a member record whatever revision was expected.
    EvictWithoutCondition,
    /// The store takes a renewal whatever revision was expected.
    RenewWithoutCondition,
    /// The store takes an append whatever revision was expected.
    AppendWithoutCondition,
    /// A key that a listing lacks is shown as deleted.
    AbsenceIsDeletion,
    /// Clocks run at rates that differ by more than the margin allows.
    WildClocks,
    /// The application is given tokens without the revision of the claim.
    TokenWithoutClaim,
    /// The application sometimes ignores that it was given a partition.
    DeafApplication,
    /// The application never reports that a drain has ended.
    EndlessDrain,
    /// Workers may move everything at once.
    BudgetIgnored,
    /// A worker that restarts leaves for good.
    RestartLeaves,
    /// A watch shows an old assignment as if it were newly written.
    OldNewsAsNew,
    /// A worker that has halted comes back to life.
    Resurrection,
    /// The timer fires again and again at one moment.
    EndlessTimer,
    /// The adapter hands every acquired partition over twice.
    AcquireTwice,
    /// The adapter does not notice that its client has connected again.
    UnnoticedReconnect,
    /// The adapter takes a question of others for a check of its own that came back.
    ProbeHeardCounts,
    /// The bucket of positions takes a write whatever revision was expected.
    PositionWithoutCondition,
    /// The adapter reports a partition as released before its messages let it go.
    ReleaseBeforeLetGo,
    /// Where the application stores positions, a claim does not ask whether the owner before has gone on since they were read.
    ClaimOverProgress,
    /// There, neither a write of delivery nor one of the application asks whether the stored position is of the stream as it
    /// was made last.
    PositionOfAnyStream,
    /// The name of a partition's consumer does not say of which stream it is.
    OneConsumerName,
}
