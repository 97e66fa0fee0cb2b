//! Planted bugs: deliberately wrong variants of what surrounds the core, which the invariants must catch.
//!
//! An invariant that no planted bug has tripped is not yet a test.

use std::fmt;

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
    /// The lease counts from the reply to a renewal: clocks stand still while one is in flight.
    LeaseFromReply,
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
}

impl Plant {
    /// Every planted bug.
    pub const ALL: [Self; 17] = [
        Self::WorkThroughSuspension,
        Self::ReleaseBeforeDrained,
        Self::EvictWithoutCondition,
        Self::RenewWithoutCondition,
        Self::AppendWithoutCondition,
        Self::LeaseFromReply,
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
    ];

    /// The invariants of which at least one must catch it.
    pub const fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::WorkThroughSuspension
            | Self::ReleaseBeforeDrained
            | Self::LeaseFromReply
            | Self::AbsenceIsDeletion
            | Self::WildClocks => &["no-duplicate"],
            Self::EvictWithoutCondition | Self::RenewWithoutCondition => &["no-duplicate", "one-tenure"],
            Self::AppendWithoutCondition => &["one-writer"],
            Self::TokenWithoutClaim => &["tokens-increase"],
            Self::DeafApplication => &["no-orphan"],
            Self::EndlessDrain => &["balance", "no-orphan"],
            Self::BudgetIgnored => &["move-budget"],
            Self::RestartLeaves => &["no-move-without-cause"],
            Self::OldNewsAsNew => &["monotone"],
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
