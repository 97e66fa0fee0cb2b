//! What became of each tenure that a record or the plan names.

use alloc::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Member, MemberContent, MemberNews, Membership, TenureState};
use crate::context::Context;
use crate::ids::{Incarnation, Position, Slot, Tenure};
use crate::planted::{Planted, PlantedBug};
use crate::stored::record::MemberPhase;
use crate::time::Instant;

/// What is known of tenures beyond what their slots show.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tenures {
    /// Those whose beginning the store has certainly lost.
    forgotten: BTreeSet<(Slot, Tenure)>,
    #[serde(skip)]
    planted: Planted,
}

impl Tenures {
    pub(super) fn new(context: &Context) -> Self {
        Self { planted: context.planted, ..Self::default() }
    }
}

impl Membership {
    /// The tenure of a member's record: named in it, or by its own revision if it began the tenure.
    pub(crate) fn tenure_of(&self, member: &Member) -> Option<Tenure> {
        let written_at = Position { incarnation: self.incarnation, revision: member.revision };
        let tenure = member.record().map(|record| record.tenure_if_written(written_at));
        let unnamed = self.tenures.planted.has(PlantedBug::TenureByRevision);
        tenure.map(|tenure| if unnamed { tenure.with_writer(0) } else { tenure })
    }

    /// Whether the record of the slot that leads continues the tenure that leads.
    pub(crate) fn leader_continues(&self) -> bool {
        let leader = self.leader.record();
        leader.is_some_and(|held| self.tenure_state(held.slot, held.tenure) == TenureState::Continues)
    }

    /// What is known of `tenure` of `slot`.
    pub(crate) fn tenure_state(&self, slot: Slot, tenure: Tenure) -> TenureState {
        let Some(member) = self.slots.get(&slot) else {
            let ended = self.tenures.planted.has(PlantedBug::AbsenceIsEnd);
            return if ended { TenureState::Ended } else { TenureState::NoRecord };
        };
        let begun = tenure.begun();
        let is_known = self.incarnation != Incarnation::default();
        let (same_life, other_life) =
            (begun.incarnation == self.incarnation, is_known && begun.incarnation != self.incarnation);
        match (&member.content, self.tenure_of(member)) {
            (MemberContent::Record(_), Some(seen)) if seen == tenure => TenureState::Continues,
            // A tenure is unbroken: what was written after its beginning and does not continue it has followed it.
            (MemberContent::Record(_) | MemberContent::Deleted, _) if same_life && member.revision > begun.revision => {
                TenureState::Ended
            }
            (MemberContent::Unreadable { .. }, _) if member.broken && same_life && member.revision > begun.revision => {
                TenureState::Ended
            }
            _ if self.tenures.forgotten.contains(&(slot, tenure)) => TenureState::Ended,
            // What is written in this life of the bucket does not continue what began in another one.
            _ if other_life => TenureState::Ended,
            (MemberContent::Record(_) | MemberContent::Unreadable { .. }, _) => TenureState::Unclear,
            (MemberContent::Deleted, _) => TenureState::NoRecord,
        }
    }

    /// The store has certainly forgotten how `tenure` of `slot` began.
    pub(crate) fn forget(&mut self, slot: Slot, tenure: Tenure) {
        self.tenures.forgotten.insert((slot, tenure));
    }

    /// Whether the store has forgotten how `tenure` of `slot` began: what is there instead began before, or with the same
    /// revision.
    pub(crate) fn was_forgotten(&self, slot: Slot, tenure: Tenure) -> bool {
        let seen = self.slots.get(&slot).and_then(|member| self.tenure_of(member));
        let is_older = seen.is_some_and(|seen| seen != tenure && !seen.begun().is_after(tenure.begun()));
        self.tenures.forgotten.contains(&(slot, tenure))
            || is_older && self.tenure_state(slot, tenure) == TenureState::Ended
    }

    /// When a process that had not said that it stops was last replaced in the tenure of this record. A listing tells only
    /// where what was known before is no older than a lease.
    pub(super) fn replaced_at(&self, before: Option<&Member>, after: &Member) -> Option<Instant> {
        let before = before.filter(|before| self.tenure_of(before) == self.tenure_of(after))?;
        let (was, is) = (before.record()?, after.record()?);
        let lately = after.heard || after.observed_at < before.observed_at + before.observed_lease;
        let replaced = was.instance != is.instance && was.phase != MemberPhase::Restarting;
        if replaced && lately { Some(after.observed_at) } else { before.replaced_at }
    }

    /// What `after` says that `before` did not.
    pub(super) fn news_of(&self, before: Option<&Member>, after: &Member) -> MemberNews {
        let tenures = (before.and_then(|member| self.tenure_of(member)), self.tenure_of(after));
        let (Some(before), Some(after)) = (before.and_then(Member::record), after.record()) else {
            return MemberNews::Changed;
        };
        let goes_on = tenures.0 == tenures.1
            && before.instance == after.instance
            && before.phase == after.phase
            && before.capacity == after.capacity
            && before.max_load == after.max_load
            && before.max_partitions == after.max_partitions
            && before.labels == after.labels
            && before.unwanted == after.unwanted
            && before.shared == after.shared;
        let says_the_same =
            before.applied == after.applied && before.releasing == after.releasing && before.load == after.load;
        match (goes_on, says_the_same) {
            (false, _) => MemberNews::Changed,
            (true, true) => MemberNews::None,
            (true, false) => MemberNews::Acknowledged,
        }
    }
}
