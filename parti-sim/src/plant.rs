//! Planted bugs: deliberately wrong variants of the core and of what surrounds it, which the invariants must catch.
//!
//! An invariant that no planted bug has tripped is not yet a test.

use std::fmt;

use parti_core::PlantedBug;
use serde::{Deserialize, Serialize};

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
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
    /// A slot is taken over from a holder whose lease has not run out.
    TakeOverEarly,
    /// A successor forgets what its tenure has applied.
    ForgetApplied,
    /// Work goes on when the lease has run out.
    OutliveLease,
    /// Work goes on when the connection is gone, where probes may evict early.
    OutliveConnection,
    /// A process that was frozen goes on as if it had not been, where probes may evict early.
    OutliveStall,
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
    /// A single change counts as if every write before it had been seen.
    TailFromNews,
    /// All appends are sent at once.
    AppendsPipelined,
    /// A leader goes on after an append was refused, on top of what it does not know.
    LeadThroughConflict,
    /// A worker that has renewed its lease meanwhile is evicted all the same.
    EvictRenewed,
    /// A worker is evicted as soon as one probe says that nobody listens.
    EvictUnconfirmed,
    /// Silence counts although it could not have been heard broken.
    JudgeByOldSilence,
    /// After a loss of writes, grants go on at once.
    GrantWhileRecovering,
    /// A tenure is named by its revision alone, which a store that has lost writes gives again.
    TenureByRevision,
    /// The newest plan is only what the store remembers.
    ForgetGeneration,
}

impl Plant {
    /// Every planted bug.
    pub const ALL: [Self; 39] = [
        Self::WorkThroughSuspension,
        Self::ReleaseBeforeDrained,
        Self::EvictWithoutCondition,
        Self::RenewWithoutCondition,
        Self::AppendWithoutCondition,
        Self::AbsenceIsDeletion,
        Self::WildClocks,
        Self::TokenWithoutClaim,
        Self::DeafApplication,
        Self::EndlessDrain,
        Self::BudgetIgnored,
        Self::RestartLeaves,
        Self::OldNewsAsNew,
        Self::Resurrection,
        Self::EndlessTimer,
        Self::AcquireTwice,
        Self::TakeOverEarly,
        Self::ForgetApplied,
        Self::OutliveLease,
        Self::OutliveConnection,
        Self::OutliveStall,
        Self::LeaseFromReply,
        Self::ResumeUnrenewed,
        Self::AbsenceIsEnd,
        Self::ReleaseUnconfirmed,
        Self::GrantUnreleased,
        Self::EpochNotRaised,
        Self::OtherTenure,
        Self::OlderAssignment,
        Self::ReplacedWatch,
        Self::TailFromNews,
        Self::AppendsPipelined,
        Self::LeadThroughConflict,
        Self::EvictRenewed,
        Self::EvictUnconfirmed,
        Self::JudgeByOldSilence,
        Self::GrantWhileRecovering,
        Self::TenureByRevision,
        Self::ForgetGeneration,
    ];

    /// The bug in the core that it is; none for one around it.
    pub const fn in_core(self) -> Option<PlantedBug> {
        Some(match self {
            Self::TakeOverEarly => PlantedBug::TakeOverEarly,
            Self::ForgetApplied => PlantedBug::ForgetApplied,
            Self::OutliveLease => PlantedBug::OutliveLease,
            Self::OutliveConnection => PlantedBug::OutliveConnection,
            Self::OutliveStall => PlantedBug::OutliveStall,
            Self::LeaseFromReply => PlantedBug::LeaseFromReply,
            Self::ResumeUnrenewed => PlantedBug::ResumeUnrenewed,
            Self::AbsenceIsEnd => PlantedBug::AbsenceIsEnd,
            Self::ReleaseUnconfirmed => PlantedBug::ReleaseUnconfirmed,
            Self::GrantUnreleased => PlantedBug::GrantUnreleased,
            Self::EpochNotRaised => PlantedBug::EpochNotRaised,
            Self::OtherTenure => PlantedBug::OtherTenure,
            Self::OlderAssignment => PlantedBug::OlderAssignment,
            Self::ReplacedWatch => PlantedBug::ReplacedWatch,
            Self::TailFromNews => PlantedBug::TailFromNews,
            Self::AppendsPipelined => PlantedBug::AppendsPipelined,
            Self::LeadThroughConflict => PlantedBug::LeadThroughConflict,
            Self::EvictRenewed => PlantedBug::EvictRenewed,
            Self::EvictUnconfirmed => PlantedBug::EvictUnconfirmed,
            Self::JudgeByOldSilence => PlantedBug::JudgeByOldSilence,
            Self::GrantWhileRecovering => PlantedBug::GrantWhileRecovering,
            Self::TenureByRevision => PlantedBug::TenureByRevision,
            Self::ForgetGeneration => PlantedBug::ForgetGeneration,
            Self::WorkThroughSuspension
            | Self::ReleaseBeforeDrained
            | Self::EvictWithoutCondition
            | Self::RenewWithoutCondition
            | Self::AppendWithoutCondition
            | Self::AbsenceIsDeletion
            | Self::WildClocks
            | Self::TokenWithoutClaim
            | Self::DeafApplication
            | Self::EndlessDrain
            | Self::BudgetIgnored
            | Self::RestartLeaves
            | Self::OldNewsAsNew
            | Self::Resurrection
            | Self::EndlessTimer
            | Self::AcquireTwice => return None,
        })
    }

    /// Whether it takes a store that loses writes to see it.
    pub const fn needs_loss(self) -> bool {
        matches!(self, Self::GrantWhileRecovering | Self::TenureByRevision | Self::ForgetGeneration)
    }

    /// The invariants of which at least one must catch it.
    pub const fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::WorkThroughSuspension
            | Self::ReleaseBeforeDrained
            | Self::AbsenceIsDeletion
            | Self::WildClocks
            | Self::TakeOverEarly
            | Self::OutliveLease
            | Self::OutliveConnection
            | Self::OutliveStall
            | Self::LeaseFromReply
            | Self::ResumeUnrenewed
            | Self::AbsenceIsEnd
            | Self::ReleaseUnconfirmed
            | Self::GrantUnreleased
            | Self::TailFromNews
            | Self::EvictUnconfirmed
            | Self::GrantWhileRecovering => &["no-duplicate"],
            Self::EvictWithoutCondition | Self::RenewWithoutCondition => &["no-duplicate", "one-tenure"],
            Self::AppendWithoutCondition | Self::LeadThroughConflict => &["one-writer"],
            Self::OtherTenure | Self::EvictRenewed => &["no-duplicate", "tokens-increase"],
            Self::ReplacedWatch => &["no-duplicate", "one-writer"],
            Self::AppendsPipelined => &["contract", "one-writer"],
            Self::TokenWithoutClaim | Self::EpochNotRaised | Self::TenureByRevision | Self::ForgetGeneration => {
                &["tokens-increase"]
            }
            Self::DeafApplication => &["no-orphan"],
            Self::EndlessDrain => &["balance", "no-orphan"],
            Self::BudgetIgnored => &["move-budget"],
            Self::RestartLeaves | Self::JudgeByOldSilence => &["no-move-without-cause"],
            Self::OldNewsAsNew | Self::ForgetApplied | Self::OlderAssignment => &["monotone"],
            Self::Resurrection => &["state-table"],
            Self::EndlessTimer => &["bounded"],
            Self::AcquireTwice => &["contract", "tokens-increase"],
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no variant is hidden");
        f.write_str(value.get_name())
    }
}
