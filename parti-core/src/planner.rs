//! From the roster to a plan: asks the calculator.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::assign::{self, MoveReason, Options, PlanError, Problem, Rule, Step, Strategy, WorkerInput};
use crate::config::Config;
use crate::ids::Slot;
use crate::partition::{PartitionList, Placement};
use crate::rebalance::Roster;

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
    pub(crate) another_round: bool,
}

/// Divides `list` among the workers of `roster`; `current` is by place in the list. What the unreadable ones have stays
/// with them, and the rest is divided as if it were all.
pub(crate) fn plan(
    strategy: &dyn Strategy,
    config: &Config,
    roster: &Roster,
    list: &PartitionList,
    current: &[Option<Slot>],
    step: Step,
) -> Result<Planned, PlanError> {
    if roster.unreadable.is_empty() {
        return divide(strategy, config, roster, list, current, step);
    }
    let stays = |at: &usize| current[*at].is_some_and(|slot| roster.unreadable.contains(&slot));
    let others: Vec<usize> = (0..current.len()).filter(|at| !stays(at)).collect();
    let part = PartitionList::new(others.iter().map(|at| list.as_slice()[*at].clone()).collect());
    let part = part.expect("a part of a list is a list");
    let holders: Vec<_> = others.iter().map(|at| current[*at]).collect();
    let planned = divide(strategy, config, roster, &part, &holders, step)?;
    let mut owners = current.to_vec();
    for (at, owner) in others.into_iter().zip(planned.owners) {
        owners[at] = owner;
    }
    Ok(Planned { owners, ..planned })
}

fn divide(
    strategy: &dyn Strategy,
    config: &Config,
    roster: &Roster,
    list: &PartitionList,
    current: &[Option<Slot>],
    step: Step,
) -> Result<Planned, PlanError> {
    let input = |slot: Slot, capacity: u32, draining: bool| WorkerInput {
        capacity: NonZeroU32::new(capacity).unwrap_or(NonZeroU32::MIN),
        draining,
        labels: roster.labels.get(&slot).cloned().unwrap_or_default(),
        ..WorkerInput::new(slot)
    };
    let staying = roster.workers.iter().map(|(slot, (_, capacity))| input(*slot, *capacity, false));
    let leaving = roster.draining.iter().map(|(slot, (_, capacity))| input(*slot, *capacity, true));
    let workers: Vec<WorkerInput> = staying.chain(leaving).collect();
    let options = Options { move_budget_percent: config.move_budget_percent, step, ..Options::default() };
    let problem =
        Problem::new(&workers, list, current).expect("a roster has each slot once, and there is a holder per place");
    let rules = rules(list);
    let problem = problem.with_rules(&rules).expect("a partition has at most one placement").with_options(options);
    let plan = assign::plan(strategy, &problem)?;
    let from_staying = |reason| matches!(reason, MoveReason::Balance | MoveReason::Pinned | MoveReason::Label);
    let moved = plan.moves.iter().filter(|step| from_staying(step.reason)).count();
    Ok(Planned {
        moved,
        placed: plan.moves.iter().filter(|step| step.to.is_some()).count() - moved,
        unplaced: plan.figures.unassigned,
        another_round: plan.another_round,
        owners: plan.owners,
    })
}

/// What the partitions that may not be anywhere ask for.
fn rules(list: &PartitionList) -> Vec<Rule> {
    let placed = list.as_slice().iter().enumerate().filter_map(|(at, of)| Some((at, of.placement.as_ref()?)));
    let rule = |(partition, placement): (usize, &Arc<Placement>)| Rule {
        partition,
        requires: placement.requires.clone(),
        pin: placement.pin,
    };
    placed.map(rule).collect()
}
