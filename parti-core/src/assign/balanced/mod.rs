//! The default strategy: everything stays where it is unless balance or capacity says otherwise.

#![expect(
    clippy::cast_possible_truncation,
    reason = "workers and partitions are fewer than 2³², by the limits of slots and lists"
)]

mod choose;
mod heap;
mod large;
mod transfers;
mod unassigned;

use alloc::vec;
use alloc::vec::Vec;

use super::bounds::Bounds;
use super::class::Class;
use super::current::{Current, NOBODY};
use super::home::Homes;
use super::pools::Pools;
use super::{Answer, Problem, Step, Strategy, StrategyError};

/// So many passes are made in one plan; what they leave is for another round.
const MAX_PASSES: u32 = 8;

/// Keeps every partition where it is unless balance or capacity says otherwise.
///
/// 1. A partition whose holder stays, stays.
/// 2. Unassigned partitions are assigned heaviest first, each to its *home* (its choice by hash among the workers) if
///    that keeps the home within its bounds and leaves enough for the workers below theirs. So a worker that comes back
///    tends to get its own partitions again. The others go to the worker with the most room, which is filled up before
///    the next.
/// 3. Then partitions are transferred from the most to the least loaded per unit of capacity, until every worker is
///    within its bounds, or no transfer helps, or the move budget is spent. Where weights differ, those above the
///    lightest go first. Among partitions that do equally well, those whose home is a receiver go first.
///
/// O(partitions + moves × log workers) where all weights are equal, and at most a factor log partitions more where they
/// are not: there is no pass over partitions × workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balanced;

impl Strategy for Balanced {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        if problem.current().workers.len() == 0 {
            return Ok(Answer::new(vec![None; problem.holders().len()]));
        }
        let mut draft = Draft::new(problem);
        draft.follow_rules();
        unassigned::assign(&mut draft);
        match problem.options().step {
            Step::Planned => draft.balance(),
            Step::Emergency => draft.another_round |= !draft.is_even(),
        }
        Ok(Answer::of_indices(draft.owners, draft.another_round))
    }
}

/// Who owns what so far.
#[derive(Debug)]
struct Draft<'p> {
    problem: &'p Problem<'p>,
    current: &'p Current,
    pools: &'p Pools,
    bounds: &'p Bounds,
    homes: Homes<'p>,
    /// The worker index of the owner of each partition, or [`NOBODY`].
    owners: Vec<u32>,
    /// The load of each worker; in step 3 it runs ahead of the owners, which are chosen at the end of a pass.
    loads: Vec<u64>,
    /// How many more partitions with a staying holder may move.
    budget: usize,
    another_round: bool,
}

impl<'p> Draft<'p> {
    fn new(problem: &'p Problem<'p>) -> Self {
        let current = problem.current();
        Self {
            problem,
            current,
            pools: problem.pools(),
            bounds: problem.bounds(),
            homes: Homes::new(&current.workers),
            owners: current.holders.clone(),
            loads: current.loads.clone(),
            budget: problem.budget(),
            another_round: false,
        }
    }

    /// Brings pinned partitions to their workers, and takes partitions from workers that lack a label that they need;
    /// in an emergency only unassigned ones.
    fn follow_rules(&mut self) {
        for rule in self.problem.rules() {
            let partition = rule.partition;
            let owner = self.owners[partition];
            let to = match self.pools.pin(partition) {
                Some(worker) => worker,
                None if owner != NOBODY && self.pools.allows(self.pools.of(partition), owner) => owner,
                None => NOBODY,
            };
            if to == owner {
                continue;
            }
            if owner != NOBODY {
                // A rule can wait for its turn in the budget: the partition is worked on where it is.
                if self.budget == 0 || self.problem.options().step == Step::Emergency {
                    self.another_round = true;
                    continue;
                }
                self.budget -= 1;
                self.loads[owner as usize] -= self.problem.weight(partition);
            }
            if to != NOBODY {
                self.loads[to as usize] += self.problem.weight(partition);
            }
            self.owners[partition] = to;
        }
    }

    /// Step 3: transfers partitions until every worker is within its bounds, or no transfer helps, or the budget is
    /// spent.
    ///
    /// A partition moves once in a pass, so that another pass may find more where not all workers came within bounds.
    /// Each transfer takes the workers less far out of their bounds in sum, or no farther and evens out their loads, so
    /// that the passes come to an end.
    fn balance(&mut self) {
        for nth in 0..MAX_PASSES {
            if self.is_even() {
                return;
            }
            let pass = transfers::find(self, nth == 0);
            choose::partitions(self, &pass.transfers);
            if pass.is_cut_short {
                break;
            }
            if pass.transfers.is_empty() {
                return;
            }
        }
        self.another_round = true;
    }

    fn is_even(&self) -> bool {
        !(0..self.loads.len()).any(|worker| self.is_under(worker) || self.is_over(worker))
    }

    fn is_under(&self, worker: usize) -> bool {
        self.bounds.is_under(worker, self.loads[worker])
    }

    fn is_over(&self, worker: usize) -> bool {
        self.bounds.is_over(worker, self.loads[worker])
    }

    /// Whether a partition of this weight is large: heavier than the lightest there are.
    fn is_large(&self, weight: u64) -> bool {
        weight > u64::from(self.current.lightest)
    }

    /// The class of a partition; none if it is where it is pinned, and so cannot move.
    #[inline]
    fn class(&self, partition: usize) -> Option<Class> {
        let owner = self.owners[partition];
        if !self.pools.is_free() && self.pools.pin(partition) == Some(owner) {
            return None;
        }
        let is_free = self.current.holders[partition] != owner;
        Some(Class::new(self.pools.of(partition), self.current.weights[partition], is_free))
    }

    /// The home of a partition, or [`NOBODY`] where no worker can hold it.
    #[inline]
    fn home(&self, partition: usize) -> u32 {
        let pool = self.pools.of(partition);
        let allows = |worker: u32| self.pools.allows(pool, worker);
        self.homes.home(self.problem.hash(partition), allows, self.pools.members(pool))
    }
}
