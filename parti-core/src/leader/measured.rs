//! Leader: how heavy partitions are by what workers report, and whether that is worth a move.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::PlanReason;
use crate::assign::MoveReason;
use crate::config::StrategyChoice;
use crate::context::Context;
use crate::ids::{Position, Slot};
use crate::leader::handoff::Handoff;
use crate::leader::planner::Planned;
use crate::leader::rebalance::Roster;
use crate::member::membership::Membership;
use crate::partition::{PartitionId, PartitionList};
use crate::planted::PlantedBug;
use crate::stored::load::MeasuredWeights;
use crate::stored::plan_log::PlanLog;
use crate::time::{Duration, Instant};

/// A measured load that is as far from the mean, in thousandths of it, is even enough.
const EVEN: u64 = 100;
/// What a plan must gain at least, in thousandths of the mean load: twice what two workers' loads differ by, where each is
/// measured two hundredths and a half from the truth.
const LEAST_GAIN: u64 = 100;
/// For so many half-lives a load has to be uneven before anything moves, and so many are from one plan to the next: what is
/// measured by then is three quarters of what has changed.
const PATIENCE: u32 = 2;
/// For so many half-lives a partition rests that has moved because of its load.
const REST: u32 = 4;
/// The mean, in these figures.
const MEAN: u64 = 1_000;

/// The loads of the measured partitions of the list, as workers have told them.
///
/// A grant carries the weight by which it was planned, so that the next owner, and the next leader, go on from there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    weights: MeasuredWeights,
    /// Whether workers have told something, or come or gone, since the last look.
    has_news: bool,
    /// When this leader looks again, at the earliest.
    look_at: Instant,
    /// When this leader began: when what moved before did so it has not seen.
    began: Instant,
    /// What has moved because of its load lately, and when.
    moved: BTreeMap<PartitionId, Instant>,
    /// Since when the load has been uneven, if it is.
    uneven_since: Option<Instant>,
    /// The last plan that was made because of a load.
    planned_at: Option<Instant>,
}

/// The most and the least loaded worker, in thousandths of the mean load, by capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    most: u64,
    least: u64,
}

impl Measured {
    /// What the plan says of this list. O(P) where the list measures anything, and the strategy keeps partitions where they
    /// are while weights change a little: a hash ring with bounds does not, so that it goes by the weights of the list.
    pub(crate) fn of_list(&self, context: &Context, list: &PartitionList, plan: &PlanLog) -> Self {
        let began = if self.began == Instant::default() { context.now } else { self.began };
        let is_sticky = !matches!(context.config.strategy, StrategyChoice::ConsistentHash { .. });
        let mut weights = if is_sticky { MeasuredWeights::new(list) } else { MeasuredWeights::default() };
        weights.observe(list, plan.assignments().map(|(_, assignment)| (&*assignment.record, None)));
        Self { weights, began, has_news: true, look_at: context.now, ..self.clone() }
    }

    /// Whether the list measures anything.
    pub(crate) fn is_on(&self) -> bool {
        self.weights.are_measured()
    }

    /// A worker has told something of its loads, has applied what it was given, has come or gone.
    pub(crate) fn observe_change(&mut self) {
        self.has_news = true;
    }

    /// Whether the loads are to be looked at.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.is_on() && self.has_news && now >= self.look_at
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.look_at).filter(|_| self.has_news && self.is_on())
    }

    /// Takes in what workers tell of what they have. O(P).
    pub(crate) fn look(
        &mut self,
        context: &Context,
        list: &PartitionList,
        membership: &Membership,
        plan: &PlanLog,
    ) -> PartitionList {
        self.has_news = false;
        self.look_at = context.now + context.config.rebalance_interval;
        let told = plan.assignments().filter_map(|(slot, assignment)| {
            let record = membership.member(slot)?.record()?;
            let at = Position { incarnation: plan.incarnation(), revision: assignment.revision };
            let by_any = context.has(PlantedBug::LoadByAnyList);
            let load = record.load.as_ref().filter(|load| record.applied == at && (by_any || load.is_by(list)))?;
            Some((&*assignment.record, Some(load)))
        });
        self.weights.observe(list, told);
        self.weights.weighed(list)
    }

    /// The list with the weights by which it is divided. O(P).
    pub(crate) fn weighed(&self, list: &PartitionList) -> PartitionList {
        self.weights.weighed(list)
    }

    /// Takes from a plan what only evens out the load where that is not worth it, and what rests. A plan that does anything
    /// else as well stands. `list` is weighed; O(P).
    pub(crate) fn judge(
        &mut self,
        context: &Context,
        (roster, list): (&Roster, &PartitionList),
        current: &[Option<Slot>],
        planned: &mut Planned,
    ) {
        let only_evens = planned.placed == 0 && planned.reasons.values().all(|reason| *reason == MoveReason::Balance);
        if planned.reasons.is_empty() || !only_evens || context.has(PlantedBug::MoveForNoise) {
            return;
        }
        let rests = |at: &usize| self.rests(context, &list.as_slice()[*at].id);
        let resting: Vec<usize> = planned.reasons.keys().copied().filter(rests).collect();
        for at in &resting {
            planned.leave(*at, current);
        }
        if !resting.is_empty() {
            // Once it has rested, it may be worth a move.
            self.has_news = true;
            self.look_at = context.now + context.config.load_half_life;
        }
        let (before, after) = (shares(roster, list, current), shares(roster, list, &planned.owners));
        // Others may be as uneven as before: what the budget allows evens out two workers after the other.
        let changed = |of: &BTreeMap<Slot, u64>| {
            Spread::of(of.iter().filter(|(slot, _)| before.get(slot) != after.get(slot)).map(|(_, share)| *share))
        };
        if !changed(&before).zip(changed(&after)).is_some_and(|(before, after)| before.is_worth_leaving_for(after)) {
            for at in planned.reasons.keys().copied().collect::<Vec<_>>() {
                planned.leave(at, current);
            }
            planned.another_round = false;
        }
    }

    /// When a plan may be made because the load is uneven, if it is. O(P).
    pub(crate) fn plan_at(&mut self, context: &Context, roster: &Roster, handoff: &Handoff) -> Option<Instant> {
        let at_all = context.has(PlantedBug::MoveForNoise);
        let spread = Spread::of(shares(roster, handoff.weighed(), handoff.targets()).into_values());
        if spread.is_none_or(|spread| spread.is_even() && !at_all) {
            self.uneven_since = None;
            return None;
        }
        let since = *self.uneven_since.get_or_insert(context.now);
        Some(self.planned_at.map_or(since, |at| at.max(since)) + context.config.load_half_life * PATIENCE)
    }

    /// A plan moves these to even out the load. What has rested is forgotten.
    pub(crate) fn observe_moved<'a>(
        &mut self,
        context: &Context,
        reason: PlanReason,
        moved: impl Iterator<Item = &'a PartitionId>,
    ) {
        let rest = rest(context);
        self.moved.retain(|_, at| context.now < *at + rest);
        self.moved.extend(moved.map(|id| (id.clone(), context.now)));
        if reason == PlanReason::LoadShifted {
            self.planned_at = Some(context.now);
        }
    }

    /// Whether the partition has moved lately to even out the load. What moved before this leader began it does not know: for
    /// a while all rests.
    fn rests(&self, context: &Context, partition: &PartitionId) -> bool {
        context.now < self.moved.get(partition).copied().unwrap_or(self.began) + rest(context)
    }
}

fn rest(context: &Context) -> Duration {
    context.config.load_half_life * REST
}

/// How loaded each worker is that is there, in thousandths of the mean load, by capacity; nobody where nobody has anything.
/// O(P).
fn shares(roster: &Roster, list: &PartitionList, owners: &[Option<Slot>]) -> BTreeMap<Slot, u64> {
    let present = roster.workers.iter().filter(|(slot, _)| !roster.away.contains(slot));
    let capacities: BTreeMap<Slot, u32> = present.map(|(slot, (_, capacity))| (*slot, (*capacity).max(1))).collect();
    let mut loads: BTreeMap<Slot, u64> = capacities.keys().map(|slot| (*slot, 0)).collect();
    for (weight, owner) in list.weights().iter().zip(owners) {
        if let Some(load) = owner.and_then(|owner| loads.get_mut(&owner)) {
            *load += u64::from(*weight);
        }
    }
    let total: u64 = loads.values().sum();
    let capacity: u64 = capacities.values().map(|capacity| u64::from(*capacity)).sum();
    let share = |(slot, load): (&Slot, &u64)| {
        let share = u128::from(*load) * u128::from(capacity) * u128::from(MEAN);
        let mean = u128::from(total) * u128::from(capacities[slot]);
        Some((*slot, u64::try_from(share.checked_div(mean)?).unwrap_or(u64::MAX)))
    };
    loads.iter().filter_map(share).collect()
}

impl Spread {
    /// Among these workers; none where there are none.
    fn of(shares: impl Iterator<Item = u64>) -> Option<Self> {
        shares.fold(None, |spread: Option<Self>, share| {
            let Self { most, least } = spread.unwrap_or(Self { most: share, least: share });
            Some(Self { most: most.max(share), least: least.min(share) })
        })
    }

    fn is_even(self) -> bool {
        self.most <= MEAN + EVEN && self.least >= MEAN - EVEN
    }

    fn width(self) -> u64 {
        self.most.saturating_sub(self.least)
    }

    /// Whether to go from this to `after`: it gains more than loads that are measured a little wrong make it look like.
    fn is_worth_leaving_for(self, after: Self) -> bool {
        self.width().saturating_sub(after.width()) >= LEAST_GAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_gain_is_worth_nothing_even_if_the_load_becomes_even() {
        let spread = |least, most| Spread { most, least };
        for (before, after, worth) in [
            (spread(872, 1_050), spread(900, 1_021), false),
            (spread(980, 1_170), spread(980, 1_080), false),
            (spread(980, 1_170), spread(990, 1_080), true),
            (spread(500, 1_500), spread(500, 1_410), false),
            (spread(500, 1_500), spread(550, 1_440), true),
            (spread(500, 1_500), spread(500, 1_600), false),
        ] {
            assert_eq!(before.is_worth_leaving_for(after), worth, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn even_is_within_a_tenth_of_the_mean() {
        for (least, most, even) in [(900, 1_100, true), (899, 1_000, false), (1_000, 1_101, false)] {
            assert_eq!(Spread { most, least }.is_even(), even);
        }
    }
}
