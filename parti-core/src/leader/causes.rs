//! Leader: what a plan moves, and why.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::action::PlanReason;
use crate::assign::MoveReason;
use crate::context::Context;
use crate::ids::Slot;
use crate::leader::given_up::GivenUp;
use crate::leader::handoff::Handoff;
use crate::leader::planner::Planned;
use crate::leader::rebalance::Roster;
use crate::planted::PlantedBug;
use crate::stored::history::{CausedMoves, MoveCause, MovedPartition};

/// A plan, and what was known when it was made. What the plan moves is told before it is carried out.
pub(crate) struct Causes<'a> {
    pub(crate) context: &'a Context,
    pub(crate) roster: &'a Roster,
    pub(crate) given_up: &'a GivenUp,
    /// Where everything is, and where it was to go until now.
    pub(crate) handoff: &'a Handoff,
    /// By place in the list: who counted as the owner when the plan was made; nobody where that one is gone.
    pub(crate) current: &'a [Option<Slot>],
    pub(crate) planned: &'a Planned,
    pub(crate) reason: PlanReason,
}

impl Causes<'_> {
    /// All moves, by cause. O(P).
    pub(crate) fn moves(&self) -> Vec<CausedMoves> {
        let mut by_cause: BTreeMap<MoveCause, Vec<MovedPartition>> = BTreeMap::new();
        for (place, partition) in self.handoff.list().as_slice().iter().enumerate() {
            let (target, to) = (self.handoff.targets()[place], self.planned.owners[place]);
            // Where another process has taken the place of one that is gone, the slot is the same.
            let has_lost_owner = target.is_some() && self.current[place].is_none();
            if target == to && !has_lost_owner {
                continue;
            }
            // A leader that has just begun may find what its predecessor had taken from a worker, and not where it was to go.
            let from = target.or(self.handoff.holder(place));
            let moved = MovedPartition { partition: partition.id.clone(), from, to };
            by_cause.entry(self.cause(place, from)).or_default().push(moved);
        }
        let caused = |(cause, moves): (MoveCause, Vec<MovedPartition>)| {
            let count = moves.len() as u64;
            CausedMoves { cause, count, moves }
        };
        by_cause.into_iter().map(caused).collect()
    }

    /// Why the partition does not stay with the worker in slot `from`.
    fn cause(&self, place: usize, from: Option<Slot>) -> MoveCause {
        if self.context.has(PlantedBug::GuessCause) {
            return MoveCause::Balance;
        }
        let Some(slot) = from else { return MoveCause::List };
        let (roster, id) = (self.roster, &self.handoff.list().as_slice()[place].id);
        if self.given_up.avoids.get(id).is_some_and(|avoids| avoids.contains(&slot)) {
            return MoveCause::GivenUp;
        }
        if roster.draining.contains_key(&slot) {
            return match (roster.drained.contains(&slot), roster.resting.contains(&slot)) {
                (true, _) => MoveCause::Drain,
                (false, true) => MoveCause::CrashLoop,
                (false, false) => MoveCause::Leave,
            };
        }
        if self.handoff.targets()[place].is_some() && self.current[place].is_none() {
            return if roster.away.contains(&slot) { MoveCause::Away } else { MoveCause::Crash };
        }
        match self.planned.reasons.get(&place) {
            Some(MoveReason::Pinned) => MoveCause::Pin,
            Some(MoveReason::Label) => MoveCause::Label,
            Some(MoveReason::Preferred) => MoveCause::Preference,
            Some(MoveReason::Apart) => MoveCause::Apart,
            Some(MoveReason::Room) => MoveCause::Room,
            Some(MoveReason::Balance | MoveReason::New | MoveReason::Orphaned | MoveReason::Drain) | None => {
                match self.reason {
                    PlanReason::Requested => MoveCause::Operator,
                    PlanReason::LoadShifted => MoveCause::Load,
                    PlanReason::Emergency
                    | PlanReason::ColdStart
                    | PlanReason::PartitionsChanged
                    | PlanReason::WorkerLeaving
                    | PlanReason::WorkersJoined
                    | PlanReason::NextRound
                    | PlanReason::GivenUp => MoveCause::Balance,
                }
            }
        }
    }
}
