//! From the roster to a plan: asks the calculator.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::assign::{self, Move, MoveReason, Options, PlanError, Problem, Rule, Step, Strategy, WorkerInput};
use crate::context::Context;
use crate::ids::Slot;
use crate::leader::rebalance::Roster;
use crate::partition::{PartitionId, PartitionList, Placement};
use crate::planted::PlantedBug;

/// A plan as the leader carries it out.
#[derive(Debug)]
pub(crate) struct Planned {
    /// By place in the list.
    pub(crate) owners: Vec<Option<Slot>>,
    /// Partitions that go from a worker that stays.
    pub(crate) moved: usize,
    /// Partitions that had no owner that stays.
    pub(crate) placed: usize,
    /// Partitions for which there is no worker.
    pub(crate) unplaced: usize,
    /// By priority, the highest first: how many partitions no worker has room for.
    pub(crate) without_room: Vec<(u8, usize)>,
    pub(crate) another_round: bool,
    /// By place in the list: why the calculator moves what it takes from a worker that stays.
    pub(crate) reasons: BTreeMap<usize, MoveReason>,
}

impl Planned {
    /// The partition at this place, which the plan takes from a worker that stays, stays with it.
    pub(crate) fn leave(&mut self, at: usize, current: &[Option<Slot>]) {
        if self.reasons.remove(&at).is_some() {
            self.owners[at] = current[at];
            self.moved = self.moved.saturating_sub(1);
        }
    }
}

/// A question to the calculator, before it is put in the calculator's terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planner<'a> {
    pub(crate) strategy: &'a dyn Strategy,
    pub(crate) context: &'a Context,
    pub(crate) roster: &'a Roster,
    /// Which workers given-up partitions are not to be with.
    pub(crate) avoids: &'a BTreeMap<PartitionId, BTreeSet<Slot>>,
    pub(crate) step: Step,
}

impl Planner<'_> {
    /// Divides `list` among the workers of the roster; `current` is by place in the list. What the uncertain ones and
    /// those that are away have stays with them, and the rest is divided as if it were all.
    pub(crate) fn plan(&self, list: &PartitionList, current: &[Option<Slot>]) -> Result<Planned, PlanError> {
        let away = &self.roster.away;
        if self.step == Step::Planned && !away.is_empty() {
            // What is even enough among all may look uneven among the rest, for the time of a restart.
            let among_all = self.divide_but_for(&BTreeSet::new(), list, current)?;
            if among_all.moved == 0 && among_all.placed == 0 {
                return Ok(among_all);
            }
        }
        self.divide_but_for(away, list, current)
    }

    /// The same; `absent` are those that get nothing and keep what they have, beside the uncertain ones.
    fn divide_but_for(
        &self,
        absent: &BTreeSet<Slot>,
        list: &PartitionList,
        current: &[Option<Slot>],
    ) -> Result<Planned, PlanError> {
        let uncertain = &self.roster.uncertain;
        if uncertain.is_empty() && absent.is_empty() {
            return self.divide(absent, list, current);
        }
        let stays = |at: &usize| current[*at].is_some_and(|slot| uncertain.contains(&slot) || absent.contains(&slot));
        let others: Vec<usize> = (0..current.len()).filter(|at| !stays(at)).collect();
        let part = PartitionList::new(others.iter().map(|at| list.as_slice()[*at].clone()).collect());
        let part = part.expect("a part of a list is a list");
        let holders: Vec<_> = others.iter().map(|at| current[*at]).collect();
        let planned = self.divide(absent, &part, &holders)?;
        let mut owners = current.to_vec();
        for (at, owner) in others.iter().zip(&planned.owners) {
            owners[*at] = *owner;
        }
        let reasons = planned.reasons.iter().map(|(at, reason)| (others[*at], *reason)).collect();
        Ok(Planned { owners, reasons, ..planned })
    }

    fn divide(
        &self,
        absent: &BTreeSet<Slot>,
        list: &PartitionList,
        current: &[Option<Slot>],
    ) -> Result<Planned, PlanError> {
        let Self { context, strategy, roster, avoids, step } = *self;
        let heeded = !context.has(PlantedBug::CapacityIgnored);
        let limits = |slot: Slot| {
            let known = roster.limits.get(&slot).filter(|_| !context.has(PlantedBug::LimitIgnored));
            known.copied().unwrap_or_default()
        };
        let input = |slot: Slot, capacity: u32, draining: bool| WorkerInput {
            capacity: NonZeroU32::new(capacity).filter(|_| heeded).unwrap_or(NonZeroU32::MIN),
            draining,
            labels: roster.labels.get(&slot).cloned().unwrap_or_default(),
            max_load: limits(slot).load,
            max_partitions: limits(slot).partitions,
            ..WorkerInput::new(slot)
        };
        let present = roster.workers.iter().filter(|(slot, _)| !absent.contains(slot));
        let staying = present.map(|(slot, (_, capacity))| input(*slot, *capacity, false));
        let leaving = roster.draining.iter().map(|(slot, (_, capacity))| input(*slot, *capacity, true));
        let workers: Vec<WorkerInput> = staying.chain(leaving).collect();
        let options = Options { move_budget_percent: context.config.move_budget_percent, step, ..Options::default() };
        let problem = Problem::new(&workers, list, current)
            .expect("a roster has each slot once, and there is a holder per place");
        let rules = rules(list, avoids);
        let problem = problem.with_rules(&rules).expect("a partition has at most one placement").with_options(options);
        let plan = assign::plan(strategy, &problem)?;
        let from_staying = plan.moves.iter().filter(|step| step.reason.is_from_staying());
        let is_placed = |step: &&Move| step.to.is_some() && !step.reason.is_from_staying();
        let without_room: usize = plan.without_room.iter().map(|(_, count)| count).sum();
        Ok(Planned {
            moved: plan.figures.staying_moved,
            placed: plan.moves.iter().filter(is_placed).count(),
            unplaced: plan.figures.unassigned - without_room,
            without_room: plan.without_room,
            another_round: plan.another_round,
            reasons: from_staying.map(|step| (step.partition, step.reason)).collect(),
            owners: plan.owners,
        })
    }
}

/// Gives each partition that may not be anywhere, or was given up, the rule that says where it may be.
fn rules(list: &PartitionList, avoids: &BTreeMap<PartitionId, BTreeSet<Slot>>) -> Vec<Rule> {
    let placed = list.as_slice().iter().enumerate().filter_map(|(at, of)| Some((at, of.placement.as_ref()?)));
    let placed = placed.filter(|(_, placement)| placement.asks_for_workers());
    let rule = |(partition, placement): (usize, &Arc<Placement>)| Rule {
        partition,
        requires: placement.requires.clone(),
        prefers: placement.prefers.clone(),
        apart: placement.apart.clone(),
        pin: placement.pin,
        ..Rule::default()
    };
    let mut rules: Vec<Rule> = placed.map(rule).collect();
    for (id, avoids) in avoids {
        let Ok(partition) = list.as_slice().binary_search_by(|partition| partition.id.cmp(id)) else { continue };
        match rules.iter_mut().find(|rule| rule.partition == partition) {
            Some(rule) => rule.avoids.clone_from(avoids),
            None => rules.push(Rule { partition, avoids: avoids.clone(), ..Rule::default() }),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use super::*;
    use crate::assign::Balanced;
    use crate::ids::Tenure;
    use crate::partition::{Partition, PartitionId};
    use crate::time::Instant;

    #[test]
    fn a_partition_that_asks_for_what_nobody_has_leaves_its_worker_and_counts_as_unplaced() {
        let slot = Slot::new(0);
        let roster = Roster { workers: [(slot, (Tenure::default(), 1))].into(), ..Roster::default() };
        let partition = |n: u32| Partition::new(PartitionId::new(format!("p{n}")).expect("a valid id"));
        let list = PartitionList::new(vec![partition(0).requiring("zone", "a"), partition(1)]).expect("a valid list");
        let calculator = Planner {
            strategy: &Balanced,
            context: &Context::at(Instant::ORIGIN),
            roster: &roster,
            avoids: &BTreeMap::new(),
            step: Step::Planned,
        };

        let planned = calculator.plan(&list, &[Some(slot), Some(slot)]).expect("a plan");

        assert_eq!(planned.owners, [None, Some(slot)]);
        assert_eq!((planned.moved, planned.placed, planned.unplaced), (1, 0, 1));
    }
}
