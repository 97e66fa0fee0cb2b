//! From the roster to a plan: asks the calculator.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::assign::{self, Balanced, MoveReason, Options, PlanError, Problem, Step, WorkerInput};
use crate::config::Config;
use crate::ids::Slot;
use crate::partition::PartitionList;
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

/// Divides `list` among the workers of `roster`. `current` is by place in the list.
pub(crate) fn plan(
    config: &Config,
    roster: &Roster,
    list: &PartitionList,
    current: &[Option<Slot>],
    step: Step,
) -> Result<Planned, PlanError> {
    let input = |slot: Slot, capacity: u32, draining: bool| WorkerInput {
        capacity: NonZeroU32::new(capacity).unwrap_or(NonZeroU32::MIN),
        draining,
        ..WorkerInput::new(slot)
    };
    let staying = roster.workers.iter().map(|(slot, (_, capacity))| input(*slot, *capacity, false));
    let leaving = roster.draining.iter().map(|(slot, (_, capacity))| input(*slot, *capacity, true));
    let workers: Vec<WorkerInput> = staying.chain(leaving).collect();
    let options = Options { move_budget_percent: config.move_budget_percent, step, ..Options::default() };
    let problem =
        Problem::new(&workers, list, current).expect("a roster has each slot once, and there is a holder per place");
    let problem = problem.with_options(options);
    let plan = assign::plan(&Balanced, &problem)?;
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
