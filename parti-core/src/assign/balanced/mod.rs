//! The default strategy: everything stays where it is unless balance or capacity says otherwise.

#![expect(
    clippy::cast_possible_truncation,
    reason = "workers and partitions are fewer than 2³², by the limits of slots and lists"
)]

mod choose;
mod heap;
mod large;
mod preferred;
mod separate;
mod transfers;
mod unassigned;

use alloc::vec;
use alloc::vec::Vec;

use super::apart::{Apart, Crowd};
use super::bounds::Bounds;
use super::class::Class;
use super::current::{Current, NOBODY};
use super::home::Homes;
use super::pools::Pools;
use super::room::{self, Books, Room};
use preferred::Return;

use super::{Answer, Problem, Step, Strategy, StrategyError};

/// So many passes are made in one plan; what they leave is for another round.
const MAX_PASSES: u32 = 8;

/// So many partitions are looked at for an exchange before the next worker is turned to.
const MOST_LOOKS: usize = 8;

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
/// Where partitions *prefer* workers, they are assigned and transferred among these as long as one of them has room
/// within its bounds; else they are spilled to others, and brought back when there is room again. A preference takes no
/// worker out of its bounds, and neither does a *key*: partitions of one key are assigned, and taken apart, within the
/// bounds. Where workers have *limits*, nobody gets more than its limit, and the least important partitions stay without
/// an owner, as the file on room says.
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
        draft.settle();
        separate::separate(&mut draft);
        match problem.options().step {
            Step::Planned => draft.balance(),
            Step::Emergency => draft.another_round |= !draft.is_even(),
        }
        // What has moved since may have made room. Where that goes may be uneven, and it may be what a pin waits for.
        let has_room_again = draft.settle() | draft.can_pin();
        draft.another_round |= has_room_again && draft.owners != problem.current().holders;
        Ok(Answer::of_indices(draft.owners, draft.another_round).displacing(draft.displaced))
    }
}

/// Who owns what so far.
#[derive(Debug)]
struct Draft<'p> {
    problem: &'p Problem<'p>,
    current: &'p Current,
    pools: &'p Pools,
    apart: &'p Apart,
    bounds: &'p Bounds,
    room: &'p Room,
    homes: Homes<'p>,
    /// The worker index of the owner of each partition, or [`NOBODY`].
    owners: Vec<u32>,
    /// The load of each worker; in step 3 it runs ahead of the owners, which are chosen at the end of a pass.
    loads: Vec<u64>,
    /// How many partitions each worker has, as its load; empty where nobody has a limit.
    counts: Vec<u64>,
    /// Those that were taken from a worker for lack of room.
    displaced: Vec<u32>,
    /// How many more partitions with a staying holder may move.
    budget: usize,
    another_round: bool,
    /// Whether partitions may be taken from workers that they prefer, or brought together with others of their key.
    may_spill: bool,
    /// Where the partitions are that have keys.
    crowd: Crowd<'p>,
    /// How often a partition was given another owner for what it asks for.
    brought: usize,
}

impl<'p> Draft<'p> {
    fn new(problem: &'p Problem<'p>) -> Self {
        let current = problem.current();
        Self {
            problem,
            current,
            pools: problem.pools(),
            apart: problem.apart(),
            bounds: problem.bounds(),
            room: problem.room(),
            homes: Homes::new(&current.workers),
            owners: current.holders.clone(),
            loads: current.loads.clone(),
            counts: if problem.room().is_unlimited() { Vec::new() } else { current.counts() },
            displaced: Vec::new(),
            budget: problem.budget(),
            another_round: false,
            may_spill: false,
            crowd: Crowd::new(problem.apart(), &current.holders),
            brought: 0,
        }
    }

    /// Brings pinned partitions to their workers, and takes partitions from workers that lack a label that they need;
    /// in an emergency only unassigned ones.
    fn follow_rules(&mut self) {
        for rule in self.problem.rules() {
            let partition = rule.partition;
            let owner = self.owners[partition];
            let weight = self.problem.weight(partition);
            let to = match self.pools.pin(partition) {
                Some(worker) if worker == owner || self.fits(worker as usize, weight) => worker,
                Some(_) | None if owner != NOBODY && self.pools.allows(self.pools.of(partition), owner) => owner,
                Some(_) | None => NOBODY,
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
                self.take(owner as usize, 1, weight);
            }
            if to != NOBODY {
                self.give(to as usize, 1, weight);
            }
            self.owners[partition] = to;
        }
    }

    /// Whether a partition is elsewhere than it is pinned, and would fit there now.
    fn can_pin(&self) -> bool {
        self.problem.rules().iter().any(|rule| {
            let pin = self.pools.pin(rule.partition).filter(|&worker| worker != self.owners[rule.partition]);
            pin.is_some_and(|worker| self.fits(worker as usize, self.problem.weight(rule.partition)))
        })
    }

    /// Step 3, with what preferences and keys ask for around it: see `preferred` and `separate`.
    fn balance(&mut self) {
        if self.pools.preferring().is_empty() && self.apart.keyed().is_empty() {
            return self.even_out();
        }
        preferred::bring_back(self, Return::WhereItEvensOut);
        self.even_out();
        // Where another round goes on with what does without it, nothing is spilled yet.
        if !self.is_even() && !self.another_round {
            self.may_spill = true;
            self.even_out();
            self.may_spill = false;
        }
        self.come_to_rest();
        // What has moved may be what something waits for that is still to be had: only a plan that moves nothing is at rest.
        let leaves_wishes = !self.is_even() || preferred::are_spilled(self) || separate::are_crowded(self);
        self.another_round |= leaves_wishes && self.owners != self.current.holders;
    }

    /// Takes apart and brings back what can be.
    fn come_to_rest(&mut self) {
        for _ in 0..MAX_PASSES {
            let before = self.brought;
            separate::separate(self);
            preferred::bring_back(self, Return::WhereThereIsRoom);
            if self.brought == before {
                return;
            }
        }
    }

    /// Transfers partitions until every worker is within its bounds, or no transfer helps, or the budget is spent.
    ///
    /// A partition moves once in a pass, so that another pass may find more where not all workers came within bounds.
    /// Each transfer takes the workers less far out of their bounds in sum, or no farther and evens out their loads, so
    /// that the passes come to an end.
    fn even_out(&mut self) {
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
        self.bounds.is_under(worker, self.loads[worker]) && !self.is_full(worker)
    }

    fn is_over(&self, worker: usize) -> bool {
        self.bounds.is_over(worker, self.loads[worker])
    }

    /// Whether a partition of this weight is within a worker's bounds and its limit.
    fn has_room(&self, worker: usize, weight: u64) -> bool {
        !self.bounds.is_over(worker, self.loads[worker] + weight) && self.fits(worker, weight)
    }

    /// Whether a partition of this weight is within a worker's limit.
    #[inline]
    fn fits(&self, worker: usize, weight: u64) -> bool {
        self.left(worker, weight) > 0
    }

    /// How many partitions of this weight a worker's limit still allows.
    #[inline]
    fn left(&self, worker: usize, weight: u64) -> u64 {
        self.room.left(worker, self.loads[worker], &self.counts, weight)
    }

    /// Whether a worker's limit allows nothing more.
    fn is_full(&self, worker: usize) -> bool {
        !self.fits(worker, u64::from(self.current.lightest))
    }

    /// A worker gets so many partitions, of this weight together.
    fn give(&mut self, worker: usize, count: u32, weight: u64) {
        self.loads[worker] += weight;
        if let Some(known) = self.counts.get_mut(worker) {
            *known += u64::from(count);
        }
    }

    /// A worker loses so many partitions, of this weight together.
    fn take(&mut self, worker: usize, count: u32, weight: u64) {
        self.loads[worker] -= weight;
        if let Some(known) = self.counts.get_mut(worker) {
            *known -= u64::from(count);
        }
    }

    /// Brings every worker within its limit, and places whom nobody owns as far as there is room; whether there was any.
    fn settle(&mut self) -> bool {
        if self.room.is_unlimited() {
            return false;
        }
        let unowned = |draft: &Self| draft.owners.iter().filter(|&&owner| owner == NOBODY).count();
        let before = unowned(self);
        let Self { owners, loads, counts, .. } = self;
        let displaced = room::settle(self.problem, &mut Books { owners, loads, counts });
        let has_changed = !displaced.is_empty() || unowned(self) != before;
        self.displaced.extend(displaced);
        has_changed
    }

    /// Whether a partition of this weight is large: heavier than the lightest there are.
    fn is_large(&self, weight: u64) -> bool {
        weight > u64::from(self.current.lightest)
    }

    /// The class of a partition; none if it is where it is pinned, or is to be apart from others, and so cannot move.
    #[inline]
    fn class(&self, partition: usize) -> Option<Class> {
        let owner = self.owners[partition];
        if !self.pools.is_free() && self.pools.pin(partition) == Some(owner) {
            return None;
        }
        if !self.may_spill && self.apart.key(partition).is_some() {
            return None;
        }
        let pool = match self.pools.preferred(partition) {
            Some(preferred) if !self.pools.allows(preferred, owner) => self.pools.of(partition),
            Some(_) if self.may_spill => self.pools.spilling(partition),
            Some(preferred) => preferred,
            None => self.pools.of(partition),
        };
        Some(Class::new(pool, self.current.weights[partition], self.is_free(partition)))
    }

    /// Whether the owner of a partition is not its holder, so that it moves in any case.
    fn is_free(&self, partition: usize) -> bool {
        self.current.holders[partition] != self.owners[partition]
    }

    /// Counts anew where the partitions are that have keys.
    fn recount(&mut self) {
        if !self.apart.keyed().is_empty() {
            self.crowd = Crowd::new(self.apart, &self.owners);
        }
    }

    /// Whether the budget allows that all of these move; in an emergency there is none.
    fn can_afford(&self, partitions: &[usize]) -> bool {
        let cost = partitions.iter().filter(|&&partition| !self.is_free(partition)).count();
        cost == 0 || cost <= self.budget && self.problem.options().step == Step::Planned
    }

    /// Gives a partition another owner, at the cost of a move if its holder stays and has had it until now.
    fn bring(&mut self, partition: usize, to: u32) {
        let (weight, from) = (self.problem.weight(partition), self.owners[partition]);
        self.budget -= usize::from(!self.is_free(partition));
        self.take(from as usize, 1, weight);
        self.give(to as usize, 1, weight);
        self.owners[partition] = to;
        self.brought += 1;
        self.crowd.change(partition, from, to);
    }

    /// Whether a partition may be exchanged for one of the worker `to`, and loses nothing by it.
    fn can_go(&self, partition: usize, to: u32) -> bool {
        let owner = self.owners[partition];
        let loses = |preferred| self.pools.allows(preferred, owner) && !self.pools.allows(preferred, to);
        self.pools.allows(self.pools.of(partition), to)
            && self.pools.pin(partition) != Some(owner)
            && !self.pools.preferred(partition).is_some_and(loses)
            && self.crowd.has_place(partition, to)
    }

    /// An exchange is too much for what is left of the budget. Where no round has a budget of two moves, nothing is ever
    /// exchanged.
    fn wait_for_exchange(&mut self) {
        let owned = self.owners.iter().filter(|&&owner| owner != NOBODY).count();
        self.another_round |= self.problem.budget_of(owned) >= 2;
    }

    /// The home of a partition, among the workers that it prefers if there are any; [`NOBODY`] where no worker can hold
    /// it.
    #[inline]
    fn home(&self, partition: usize) -> u32 {
        self.home_in(self.pools.preferred(partition).unwrap_or_else(|| self.pools.of(partition)), partition)
    }

    #[inline]
    fn home_in(&self, pool: u32, partition: usize) -> u32 {
        let allows = |worker: u32| self.pools.allows(pool, worker);
        self.homes.home(self.problem.hash(partition), allows, self.pools.members(pool))
    }
}
