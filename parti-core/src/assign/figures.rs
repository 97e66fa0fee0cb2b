//! How good a plan is and what it costs.

use alloc::vec::Vec;

use super::{Move, Problem};
use crate::ids::Slot;

/// What a plan reaches and what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many partitions change hands.
    pub moved: usize,
    /// How many of those have a holder that stays.
    pub staying_moved: usize,
    /// How many partitions with a holder that stays this plan may move.
    pub budget: usize,
    /// How many partitions no worker can hold.
    pub unassigned: usize,
    /// The loads before.
    pub before: Spread,
    /// The loads after.
    pub after: Spread,
}

/// How even the loads of the workers that stay are, per unit of capacity, in thousandths of the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// The highest load.
    pub peak_permille: u64,
    /// The lowest load.
    pub least_permille: u64,
}

impl Figures {
    pub(super) fn new(problem: &Problem<'_>, owners: &[Option<Slot>], moves: &[Move]) -> Self {
        let stays = |slot: Slot| problem.worker(slot).is_some_and(|worker| !worker.draining);
        let staying = problem.holders.iter().flatten().filter(|&&slot| stays(slot)).count();
        Self {
            moved: moves.len(),
            staying_moved: moves.iter().filter(|step| step.from.is_some_and(stays)).count(),
            budget: budget(problem, staying),
            unassigned: owners.iter().filter(|owner| owner.is_none()).count(),
            before: Spread::new(problem, problem.holders),
            after: Spread::new(problem, owners),
        }
    }
}

/// How many of the `staying` partitions a plan may move.
pub(super) fn budget(problem: &Problem<'_>, staying: usize) -> usize {
    let share = staying as u128 * u128::from(problem.options.move_budget_percent.min(100)) / 100;
    usize::try_from(share).unwrap_or(staying).max(1).min(staying)
}

impl Spread {
    fn new(problem: &Problem<'_>, owners: &[Option<Slot>]) -> Self {
        let staying: Vec<_> = problem.workers.iter().filter(|worker| !worker.draining).collect();
        let mut loads = alloc::vec![0_u64; staying.len()];
        for (partition, owner) in problem.partitions.as_slice().iter().zip(owners) {
            let at = owner.and_then(|slot| staying.binary_search_by_key(&slot, |worker| worker.slot).ok());
            if let Some(index) = at {
                loads[index] += u64::from(partition.weight.get());
            }
        }
        let total: u128 = loads.iter().map(|&load| u128::from(load)).sum();
        let capacity: u128 = staying.iter().map(|worker| u128::from(worker.capacity.get())).sum();
        let permille = |(load, capacity_here): (u64, u32)| {
            let mean = (total * u128::from(capacity_here)).max(1);
            u64::try_from(u128::from(load) * capacity * 1000 / mean).unwrap_or(u64::MAX)
        };
        let all = || loads.iter().copied().zip(staying.iter().map(|worker| worker.capacity.get())).map(permille);
        Self { peak_permille: all().max().unwrap_or(0), least_permille: all().min().unwrap_or(0) }
    }
}
