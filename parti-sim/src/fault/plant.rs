//! Planted bugs: deliberately wrong variants of the core and of what surrounds it, which the invariants must catch.
//!
//! An invariant that no planted bug has tripped is not yet a test.

use std::fmt;
use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use parti_core::PlantedBug;
use serde::{Deserialize, Serialize};

use super::around::Around;

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Plant {
    /// In the core.
    Core(PlantedBug),
    /// In what surrounds the core.
    Around(Around),
}

impl Plant {
    /// Every planted bug.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Whether it takes a store that loses writes to see it.
    pub const fn needs_loss(self) -> bool {
        use PlantedBug as Bug;
        matches!(
            self,
            Self::Core(
                Bug::GrantWhileRecovering
                    | Bug::GoOnAfterLoss
                    | Bug::NeverBelieve
                    | Bug::GrantUnsound
                    | Bug::GrantInQuarantine
                    | Bug::CommitTellsNothing
                    | Bug::RenewUnlisted
                    | Bug::WriteOnUnshown
                    | Bug::ClaimUnshown
                    | Bug::LeadUnlisted
                    | Bug::ResumeUnread
                    | Bug::KeepUnnamed
                    | Bug::TenureByRevision
                    | Bug::ForgetGeneration
                    | Bug::ForgetEra
                    | Bug::OwnByToken
            )
        )
    }

    /// Whether it takes messages to see it.
    pub const fn needs_messages(self) -> bool {
        use PlantedBug as Bug;
        matches!(
            self,
            Self::Around(
                Around::PositionWithoutCondition
                    | Around::ReleaseBeforeLetGo
                    | Around::ClaimOverProgress
                    | Around::PositionOfAnyStream
                    | Around::OneConsumerName
            ) | Self::Core(
                Bug::StoreThroughFence
                    | Bug::OwnByToken
                    | Bug::CommitBeforeWork
                    | Bug::CommitWhatWasRead
                    | Bug::LetGoUnstored
                    | Bug::JoinRunningTail
                    | Bug::TailFromEnd
                    | Bug::HandWhileSuspended
                    | Bug::HandUnasked
                    | Bug::ForgetTries
                    | Bug::HandUncounted
                    | Bug::TryAmongOthers
                    | Bug::BeginAnew
                    | Bug::ForgetReturned
                    | Bug::NeverLook
                    | Bug::PullBeforeRestored
                    | Bug::HandAgain
                    | Bug::AcknowledgeWhenHanded
                    | Bug::IgnorePlaces
                    | Bug::LetGoUnacknowledged
            )
        )
    }

    /// Whether it takes a stream that removes what is acknowledged to see it.
    pub const fn needs_queue(self) -> bool {
        use PlantedBug as Bug;
        matches!(
            self,
            Self::Around(Around::OneConsumerName)
                | Self::Core(
                    Bug::PullBeforeRestored
                        | Bug::HandAgain
                        | Bug::AcknowledgeWhenHanded
                        | Bug::IgnorePlaces
                        | Bug::LetGoUnacknowledged
                )
        )
    }

    /// The invariants of which at least one must catch it.
    pub const fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::Core(bug) => in_core_caught_by(bug),
            Self::Around(bug) => around_caught_by(bug),
        }
    }
}

const fn in_core_caught_by(bug: PlantedBug) -> &'static [&'static str] {
    use PlantedBug as Bug;
    match bug {
        Bug::TakeOverEarly
        | Bug::OutliveLease
        | Bug::OutlivePresence
        | Bug::PresenceTooLong
        | Bug::PresenceFromReceipt
        | Bug::StaleServer
        | Bug::ProberElsewhere
        | Bug::LeaseFromReply
        | Bug::ResumeUnrenewed
        | Bug::EvictRenewed
        | Bug::JudgeByOwnLease
        | Bug::WriteOnUnshown
        | Bug::DeadWhoeverIsThere
        | Bug::GarbageEndsTenure => &["ended-means-stopped", "no-duplicate"],
        Bug::ReleaseUnconfirmed
        | Bug::GrantUnreleased
        | Bug::TailFromNews
        | Bug::GrantWhileRecovering
        | Bug::GrantUnsound
        | Bug::GrantInQuarantine
        | Bug::CommitTellsNothing
        | Bug::LeadUnlisted
        | Bug::ResumeUnread
        | Bug::KeepUnnamed => &["no-duplicate"],
        Bug::GoOnAfterLoss | Bug::NeverBelieve => &["no-orphan"],
        Bug::ClaimUnshown => &["bounded"],
        Bug::ForgetMoves | Bug::GuessCause => &["moves-told"],
        // It writes over what another process has applied, and works on what that one has.
        Bug::RenewUnlisted => &["ended-means-stopped", "monotone", "no-duplicate"],
        // Since a leader knows all members from before it was named, what shows first is an emergency that was none.
        Bug::AbsenceIsEnd => &["no-duplicate", "move-budget"],
        Bug::EvictUnconfirmed | Bug::RowOverRevisions | Bug::RowThroughAnswer => {
            &["row-of-probes", "ended-means-stopped", "no-duplicate"]
        }
        Bug::RowThroughTimeout | Bug::RowThroughElsewhere | Bug::RowThroughBreak => &["row-of-probes"],
        Bug::GiveUpUnasked => &["no-duplicate", "contract", "tokens-increase"],
        Bug::LeadThroughConflict => &["one-writer"],
        Bug::OtherTenure => &["no-duplicate", "tokens-increase"],
        Bug::ReplacedWatch | Bug::WatchOutlivesBreak => &["no-duplicate", "one-writer"],
        Bug::AppendsPipelined => &["contract", "one-writer"],
        Bug::TakeWithoutLease | Bug::TakeAbsent | Bug::EpochNotRaised | Bug::ForgetGeneration | Bug::ForgetEra => {
            &["tokens-increase"]
        }
        // Whose claims are confused gives up everything, again and again.
        Bug::TenureByRevision => &["no-orphan", "tokens-increase"],
        Bug::JudgeByOldSilence | Bug::RestartUnheld | Bug::JudgeUnheard => &["no-move-without-cause"],
        Bug::UnreadableIsFree => &["no-duplicate", "one-tenure"],
        Bug::CapacityIgnored => &["balance"],
        Bug::MoveForNoise => &["load-moves", "no-move-without-cause"],
        Bug::LoadByAnyList => &["settles"],
        // What is planned beyond a limit is never granted, and waits.
        Bug::LimitIgnored => &["no-orphan", "within-limits"],
        Bug::GrantWithoutRoom => &["within-limits"],
        Bug::ForgetApplied | Bug::OlderAssignment => &["monotone"],
        Bug::StoreThroughFence | Bug::OwnByToken => &["commit-fenced"],
        Bug::CommitBeforeWork | Bug::CommitWhatWasRead | Bug::NeverLook | Bug::AcknowledgeWhenHanded => {
            &["no-message-skipped"]
        }
        Bug::LetGoUnstored | Bug::HandAgain | Bug::LetGoUnacknowledged => &["no-repeat"],
        Bug::PullBeforeRestored | Bug::IgnorePlaces => &["in-order"],
        Bug::JoinRunningTail | Bug::TailFromEnd | Bug::ForgetReturned => &["in-order", "no-message-skipped"],
        Bug::HandWhileSuspended | Bug::HandUnasked => &["one-processor"],
        Bug::ForgetTries | Bug::HandUncounted => &["poison-leaves"],
        Bug::TryAmongOthers => &["innocents-stay"],
        Bug::BeginAnew => &["position-monotone"],
    }
}

const fn around_caught_by(bug: Around) -> &'static [&'static str] {
    match bug {
        Around::WorkThroughSuspension | Around::UnnoticedReconnect | Around::ProbeHeardCounts | Around::WildClocks => {
            &["ended-means-stopped", "no-duplicate"]
        }
        Around::ReleaseBeforeDrained | Around::AbsenceIsDeletion => &["no-duplicate"],
        Around::EvictWithoutCondition | Around::RenewWithoutCondition => &["no-duplicate", "one-tenure"],
        Around::AppendWithoutCondition => &["one-writer"],
        Around::TokenWithoutClaim => &["tokens-increase"],
        Around::DeafApplication => &["no-orphan"],
        Around::EndlessDrain => &["balance", "no-orphan"],
        Around::BudgetIgnored => &["move-budget"],
        Around::RestartLeaves => &["no-move-without-cause"],
        // What it breaks first depends on whose it was.
        Around::OldNewsAsNew => &["monotone", "no-duplicate"],
        Around::Resurrection => &["state-table"],
        Around::EndlessTimer => &["bounded"],
        Around::AcquireTwice => &["contract", "tokens-increase"],
        // The condition is what a former owner's write fails at.
        Around::PositionWithoutCondition => &["commit-fenced", "position-monotone"],
        Around::ClaimOverProgress => &["no-repeat", "position-monotone"],
        Around::PositionOfAnyStream => &["no-message-skipped"],
        Around::OneConsumerName => &["in-order", "no-message-skipped"],
        // The handler goes on where it may not.
        Around::ReleaseBeforeLetGo => &["one-processor", "no-repeat"],
    }
}

/// Its name on the command line is that of its variant, in small letters.
impl ValueEnum for Plant {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Plant>> = LazyLock::new(|| {
            let in_core = PlantedBug::ALL.iter().copied().map(Plant::Core);
            Around::value_variants().iter().copied().map(Plant::Around).chain(in_core).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Core(bug) => {
                Some(PossibleValue::new(kebab_case(&format!("{bug:?}"))).help(bug.does().trim_end_matches('.')))
            }
            Self::Around(bug) => bug.to_possible_value(),
        }
    }
}

fn kebab_case(variant: &str) -> String {
    let mut name = String::new();
    for letter in variant.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no variant is hidden");
        f.write_str(value.get_name())
    }
}

impl From<Plant> for String {
    fn from(plant: Plant) -> Self {
        plant.to_string()
    }
}

impl TryFrom<String> for Plant {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::from_str(&name, false)
    }
}
