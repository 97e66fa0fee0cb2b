//! The default: everything stays where it is unless balance or capacity says otherwise.

use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Answer, Problem, Step, Strategy, StrategyError, WorkerInput, figures};
use crate::ids::Slot;

/// Keeps every partition where it is unless balance or capacity says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balanced;

impl Strategy for Balanced {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let mut table = Table::new(problem);
        table.place_homeless();
        let another_round = match problem.options.step {
            Step::Planned => table.balance(),
            Step::Emergency => false,
        };
        Ok(Answer { owners: table.owners(), another_round })
    }
}

struct Table<'p> {
    problem: &'p Problem<'p>,
    workers: Vec<&'p WorkerInput>,
    loads: Vec<u64>,
    upper: Vec<u64>,
    lower: Vec<u64>,
    owners: Vec<Option<usize>>,
    stays: Vec<bool>,
    budget: usize,
}

impl<'p> Table<'p> {
    fn new(problem: &'p Problem<'p>) -> Self {
        let workers: Vec<_> = problem.workers.iter().copied().filter(|worker| !worker.draining).collect();
        let mut loads = vec![0; workers.len()];
        let mut owners = Vec::with_capacity(problem.holders.len());
        for (index, (partition, holder)) in problem.partitions.as_slice().iter().zip(problem.holders).enumerate() {
            let at = holder.and_then(|slot| workers.binary_search_by_key(&slot, |worker| worker.slot).ok());
            let owner = at.filter(|&at| workers[at].can_hold(problem.rule(index)));
            if let Some(at) = owner {
                loads[at] += u64::from(partition.weight.get());
            }
            owners.push(owner);
        }
        let stays: Vec<_> = owners.iter().map(Option::is_some).collect();
        let budget = figures::budget(problem, stays.iter().filter(|&&stays| stays).count());
        let total: u128 = problem.partitions.as_slice().iter().map(|p| u128::from(p.weight.get())).sum();
        let capacity: u128 = workers.iter().map(|worker| u128::from(worker.capacity.get())).sum();
        let bound = |permille: u128, up: bool| {
            workers.iter().map(move |worker| {
                let share = total * u128::from(worker.capacity.get());
                let (exact, near) = if up {
                    (share.div_ceil(capacity), share * permille / (capacity * 1000))
                } else {
                    (share / capacity, (share * permille).div_ceil(capacity * 1000))
                };
                u64::try_from(if up { exact.max(near) } else { exact.min(near) }).unwrap_or(u64::MAX)
            })
        };
        let epsilon = u128::from(problem.options.epsilon_permille);
        let upper = bound(1000 + epsilon, true).collect();
        let lower = bound(1000_u128.saturating_sub(epsilon), false).collect();
        Self { problem, workers, loads, upper, lower, owners, stays, budget }
    }

    fn weight(&self, partition: usize) -> u64 {
        u64::from(self.problem.partitions.as_slice()[partition].weight.get())
    }

    fn can_hold(&self, worker: usize, partition: usize) -> bool {
        self.workers[worker].can_hold(self.problem.rule(partition))
    }

    fn rank(&self, partition: usize, worker: usize) -> u64 {
        let id = self.problem.partitions.as_slice()[partition].id.as_str();
        let slot = u64::from(self.workers[worker].slot.value());
        xxh3_64_with_seed(id.as_bytes(), self.problem.options.seed ^ slot)
    }

    fn give(&mut self, partition: usize, to: usize) {
        let weight = self.weight(partition);
        if let Some(from) = self.owners[partition].replace(to) {
            self.loads[from] -= weight;
        }
        self.loads[to] += weight;
    }

    /// Load per unit of capacity, to compare.
    fn level(&self, worker: usize, load: u64) -> u128 {
        (u128::from(load) << 32) / u128::from(self.workers[worker].capacity.get())
    }

    fn place_homeless(&mut self) {
        let mut homeless: Vec<_> = (0..self.owners.len()).filter(|&p| self.owners[p].is_none()).collect();
        homeless.sort_by_key(|&p| core::cmp::Reverse(self.weight(p)));
        for partition in homeless {
            let can: Vec<_> = (0..self.workers.len()).filter(|&worker| self.can_hold(worker, partition)).collect();
            let Some(home) = can.iter().copied().max_by_key(|&worker| self.rank(partition, worker)) else { continue };
            let weight = self.weight(partition);
            let to = if self.loads[home] + weight <= self.upper[home] {
                home
            } else {
                let least = can.iter().copied().min_by_key(|&worker| self.level(worker, self.loads[worker] + weight));
                least.unwrap_or(home)
            };
            self.give(partition, to);
        }
    }

    /// Moves the best partition until all is within its bounds; whether the budget left something to do.
    fn balance(&mut self) -> bool {
        let mut spent = 0;
        while let Some((partition, to)) = self.best_move() {
            if self.stays[partition] {
                if spent == self.budget {
                    return true;
                }
                spent += 1;
                self.stays[partition] = false;
            }
            self.give(partition, to);
        }
        false
    }

    /// From the most to the least loaded that allow a move that helps, the partition that helps most.
    fn best_move(&self) -> Option<(usize, usize)> {
        let mut best = None;
        for partition in 0..self.owners.len() {
            let Some(from) = self.owners[partition] else { continue };
            let weight = self.weight(partition);
            for to in (0..self.workers.len()).filter(|&to| to != from && self.can_hold(to, partition)) {
                let needed = self.loads[from] > self.upper[from] || self.loads[to] < self.lower[to];
                let (high, low) = (self.level(from, self.loads[from]), self.level(to, self.loads[to] + weight));
                if needed && low < high {
                    let low_before = self.level(to, self.loads[to]);
                    let key = (
                        high,
                        core::cmp::Reverse(low_before),
                        weight.min(1 + (high - low) as u64 >> 32),
                        self.rank(partition, to),
                    );
                    if best.as_ref().is_none_or(|(known, _)| key > *known) {
                        best = Some((key, (partition, to)));
                    }
                }
            }
        }
        best.map(|(_, found)| found)
    }

    fn owners(self) -> Vec<Option<Slot>> {
        self.owners.iter().map(|owner| owner.map(|at| self.workers[at].slot)).collect()
    }
}
