//! The default strategy: everything stays where it is unless balance or capacity says otherwise.

#![expect(
    clippy::cast_possible_truncation,
    reason = "workers and partitions are fewer than 2³², by the limits of slots and lists"
)]

mod cells;
mod heavy;
mod ladder;
mod level;
mod settle;
mod stock;

use alloc::vec;
use alloc::vec::Vec;

use self::ladder::Ladder;
use super::bounds::Bounds;
use super::groups::Groups;
use super::home::Homes;
use super::sieve::{CHUNK, Sieve};
use super::survey::{NOBODY, Roster, Survey};
use super::{Answer, Problem, Step, Strategy, StrategyError, figures};

/// Keeps every partition where it is unless balance or capacity says otherwise.
///
/// 1. A partition whose holder stays, stays.
/// 2. Partitions without a holder are placed heaviest first, each on its *home* (its choice by hash among the workers)
///    if that keeps the home within its bounds and leaves enough for the workers below theirs. So a worker that comes
///    back tends to get its own partitions again. The others go to the worker with the most room, which is filled up
///    before the next.
/// 3. Then partitions move from the most to the least loaded per unit of capacity, until every worker is within its
///    bounds, or no move helps, or the move budget is spent. Where weights differ there are two drafts of that, heavy
///    partitions first or at once the one that evens out most; the second one is made where the first takes more moves
///    than it should need, and the better one counts. Among partitions that do equally well, those whose home is a
///    receiver go first.
///
/// O(partitions + moves × log workers) where all weights are equal, and at most a factor log partitions more where they
/// are not: there is no pass over partitions × workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balanced;

impl Strategy for Balanced {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        if problem.survey.roster.len() == 0 {
            return Ok(Answer::new(vec![None; problem.holders.len()]));
        }
        let mut table = Table::new(problem);
        table.place_pinned();
        table.place_homeless();
        match problem.options.step {
            Step::Planned => table.level(),
            Step::Emergency => table.another_round |= table.is_uneven(),
        }
        Ok(Answer::of_seats(table.owners, table.another_round))
    }
}

/// Who owns what so far.
#[derive(Debug)]
struct Table<'p> {
    problem: &'p Problem<'p>,
    survey: &'p Survey,
    groups: &'p Groups,
    bounds: &'p Bounds,
    homes: Homes,
    /// The index of the owner of each partition, or [`NOBODY`].
    owners: Vec<u32>,
    loads: Vec<u64>,
    /// The partitions that had no holder, heaviest first, ties in the order of the list; see [`partition_of`].
    homeless: Vec<u64>,
    /// For each group, its workers, least loaded first; made when first asked for.
    ladders: Vec<Option<Ladder>>,
    /// For each group, its workers, those first that have least of what is heavy; made when first asked for.
    light_ladders: Vec<Option<Ladder>>,
    /// For each worker, the load that is not of the lightest weight; made with the first of these ladders.
    heavy_loads: Vec<u64>,
    /// The worker that is being filled up with partitions of a group, and whether beyond its inner lower bound.
    filling: Option<(u32, usize)>,
    filling_above: bool,
    /// How many more partitions with a staying holder may move.
    budget: usize,
    another_round: bool,
}

impl<'p> Table<'p> {
    fn new(problem: &'p Problem<'p>) -> Self {
        let survey = &problem.survey;
        let groups = problem.groups();
        let no_ladders = || (0..groups.len()).map(|_| None).collect();
        Self {
            problem,
            survey,
            bounds: problem.bounds(),
            homes: Homes::new(&survey.roster),
            owners: survey.seats.clone(),
            loads: survey.loads.clone(),
            homeless: Vec::new(),
            groups,
            ladders: no_ladders(),
            light_ladders: no_ladders(),
            heavy_loads: Vec::new(),
            filling: None,
            filling_above: false,
            budget: figures::budget(problem, survey.seats.len() - survey.homeless),
            another_round: false,
        }
    }

    fn weight(&self, partition: usize) -> u32 {
        self.survey.weights[partition]
    }

    fn is_under(&self, worker: usize) -> bool {
        self.loads[worker] < self.bounds.lower[worker]
    }

    fn is_over(&self, worker: usize) -> bool {
        self.loads[worker] > self.bounds.upper[worker]
    }

    fn is_uneven(&self) -> bool {
        (0..self.loads.len()).any(|worker| self.is_under(worker) || self.is_over(worker))
    }

    /// Brings pinned partitions to their workers, and takes partitions from workers that lack a label that they need;
    /// in an emergency only those without a holder.
    fn place_pinned(&mut self) {
        for rule in &self.problem.rules {
            let partition = rule.partition;
            let seat = self.owners[partition];
            let to = match self.groups.pin(partition) {
                Some(worker) => worker,
                None if seat != NOBODY && self.groups.allows(self.groups.of(partition), seat as usize) => seat,
                None => NOBODY,
            };
            if to == seat {
                continue;
            }
            if seat != NOBODY && (self.budget == 0 || self.problem.options.step == Step::Emergency) {
                self.another_round = true;
                continue;
            }
            self.budget -= usize::from(seat != NOBODY);
            self.seat(partition, to);
        }
    }

    /// Gives a partition to a worker, or to nobody.
    fn seat(&mut self, partition: usize, to: u32) {
        let weight = u64::from(self.weight(partition));
        let from = core::mem::replace(&mut self.owners[partition], to);
        if from != NOBODY {
            self.loads[from as usize] -= weight;
        }
        if to != NOBODY {
            self.loads[to as usize] += weight;
        }
    }

    /// Step 2: heaviest first, each on its home if it fits there, else where there is most room.
    fn place_homeless(&mut self) {
        let homeless = self.find_homeless();
        let mut unplaced: u64 = homeless.iter().map(|&key| weight_of(key)).sum();
        let lacks = |(load, lower): (&u64, &u64)| lower.saturating_sub(*load);
        let mut wanted = self.loads.iter().zip(&self.bounds.inner_lower).map(lacks).sum();
        let mut homes = Vec::with_capacity(CHUNK);
        for keys in homeless.chunks(CHUNK) {
            homes.clear();
            self.add_quick_homes(keys.iter().map(|&key| partition_of(key)), &mut homes);
            for (home, &key) in homes.iter_mut().zip(keys).filter(|(home, _)| **home == NOBODY) {
                *home = self.home(partition_of(key));
            }
            for (&key, &home) in keys.iter().zip(&homes) {
                unplaced -= weight_of(key);
                if home != NOBODY {
                    self.place(key, home as usize, unplaced, &mut wanted);
                }
            }
        }
        self.homeless = homeless;
    }

    /// Places one partition, on its home if that keeps it within its inner bounds and leaves enough of what is still
    /// `unplaced` for what the workers below theirs have `wanted`, else where there is most room.
    fn place(&mut self, key: u64, home: usize, unplaced: u64, wanted: &mut u64) {
        let (partition, weight) = (partition_of(key), weight_of(key));
        let Bounds { inner_lower, inner_upper, .. } = self.bounds;
        let load = self.loads[home];
        let fits = load + weight <= inner_upper[home] && (load < inner_lower[home] || unplaced >= *wanted);
        let worker = if fits { home } else { self.with_room(self.groups.of(partition), weight) };
        let (load, lower) = (self.loads[worker], self.bounds.inner_lower[worker]);
        *wanted = *wanted + lower.saturating_sub(load + weight) - lower.saturating_sub(load);
        self.loads[worker] = load + weight;
        self.owners[partition] = worker as u32;
        if weight > u64::from(self.survey.lightest)
            && let Some(heavy) = self.heavy_loads.get_mut(worker)
        {
            *heavy += weight;
        }
    }

    /// A worker that is filled up: the one before, if it still has room for the weight, else the roomiest. First all come
    /// to their inner lower bounds, then to the middle of their bounds.
    fn with_room(&mut self, group: u32, weight: u64) -> usize {
        let Bounds { inner_lower, inner_upper, .. } = self.bounds;
        if let Some((known, worker)) = self.filling
            && known == group
        {
            let (load, lower) = (self.loads[worker], inner_lower[worker]);
            let middle = u64::midpoint(lower, inner_upper[worker]);
            let goal = if self.filling_above { middle } else { lower };
            if load + weight <= goal.max(lower) {
                return worker;
            }
        }
        let worker = self.roomiest(group);
        let excess = (self.loads[worker] + weight).saturating_sub(self.bounds.upper[worker]);
        let is_heavy = weight > u64::from(self.survey.lightest);
        if excess > 0 && is_heavy && self.problem.options.step == Step::Planned {
            self.weigh_heavy();
            let light = self.loads[worker] - self.heavy_loads[worker];
            return if light < excess { self.least_heavy(group) } else { worker };
        }
        self.filling_above = self.loads[worker] >= inner_lower[worker];
        self.filling = Some((group, worker));
        worker
    }

    /// Finds how much of each worker's load is not of the lightest weight, if that is not known yet.
    fn weigh_heavy(&mut self) {
        if self.heavy_loads.is_empty() {
            self.heavy_loads = vec![0; self.loads.len()];
            for (&owner, &weight) in self.owners.iter().zip(&*self.survey.weights) {
                if owner != NOBODY && weight > self.survey.lightest {
                    self.heavy_loads[owner as usize] += u64::from(weight);
                }
            }
        }
    }

    /// For what is heavy and has room nowhere: the worker with the least of what is heavy, per unit of capacity. Of the
    /// rest of its load enough can leave, a little here and a little there.
    fn least_heavy(&mut self, group: u32) -> usize {
        let Self { light_ladders, heavy_loads, survey, groups, problem, .. } = self;
        let roster = &survey.roster;
        let height = |worker: usize| roster.level(worker, heavy_loads[worker]);
        let ladder = light_ladders[group as usize]
            .get_or_insert_with(|| Ladder::new(groups.members(group), roster, problem.options.seed, height));
        ladder.lowest(height)
    }

    /// The partitions that nobody owns, heaviest first, ties in the order of the list.
    fn find_homeless(&self) -> Vec<u64> {
        if self.survey.homeless == 0 && self.groups.is_free() {
            return Vec::new();
        }
        let key = |&partition: &u32| u64::from(!self.weight(partition as usize)) << 32 | u64::from(partition);
        let mut keys = Vec::with_capacity(self.survey.homeless);
        let mut sieve = Sieve::new();
        for (nth, owners) in self.owners.chunks(CHUNK).enumerate() {
            let homeless = sieve.passing(nth * CHUNK, owners.iter().map(|&owner| owner == NOBODY));
            keys.extend(homeless.iter().map(key));
        }
        if !self.survey.all_equal() {
            sort_by_weight(&mut keys);
        }
        keys
    }

    /// Adds the home of each of these partitions, or [`NOBODY`] where it takes longer to tell.
    fn add_quick_homes(&self, partitions: impl Iterator<Item = usize>, homes: &mut Vec<u32>) {
        let problem = self.problem;
        if !self.groups.is_free() {
            homes.extend(partitions.map(|_| NOBODY));
        } else if problem.options.seed == 0 {
            let hashes = problem.partitions.hashes();
            self.homes.add_quick(partitions.map(move |partition| hashes[partition]), homes);
        } else {
            self.homes.add_quick(partitions.map(|partition| problem.hash(partition)), homes);
        }
    }

    /// The index of the home of a partition, or [`NOBODY`] where no worker can hold it.
    #[cold]
    fn home(&self, partition: usize) -> u32 {
        let (hash, group) = (self.problem.hash(partition), self.groups.of(partition));
        let allows = |worker: u32| self.groups.allows(group, worker as usize);
        self.homes.home_of(hash, allows, self.groups.members(group))
    }

    /// The least loaded worker that may hold partitions of `group`, those below their bound first.
    fn roomiest(&mut self, group: u32) -> usize {
        if self.ladders[group as usize].is_none() {
            let (roster, seed) = (&self.survey.roster, self.problem.options.seed);
            let ladder = Ladder::new(self.groups.members(group), roster, seed, |worker| self.height(worker));
            self.ladders[group as usize] = Some(ladder);
        }
        let Self { ladders, loads, bounds, survey, .. } = self;
        let ladder = ladders[group as usize].as_mut().expect("made above");
        ladder.lowest(|worker| height(loads[worker], bounds.lower[worker], &survey.roster, worker))
    }

    /// How loaded a receiver is: whether it has reached its lower bound, then its load per unit of capacity.
    fn height(&self, worker: usize) -> u64 {
        height(self.loads[worker], self.bounds.lower[worker], &self.survey.roster, worker)
    }
}

fn height(load: u64, lower: u64, roster: &Roster, worker: usize) -> u64 {
    u64::from(load >= lower) << 63 | roster.level(worker, load)
}

/// Sorts keys that are in order but for their weights: byte by byte, which is faster than to compare them.
fn sort_by_weight(keys: &mut Vec<u64>) {
    let differing = keys.iter().fold(0, |bits, key| bits | (key ^ keys[0])) >> 32;
    let mut sorted = vec![0; keys.len()];
    for shift in (32..64).step_by(8).filter(|shift| differing >> (shift - 32) & 0xff != 0) {
        let byte = |key: u64| (key >> shift & 0xff) as usize;
        let mut ends = [0_u32; 256];
        for &key in keys.iter() {
            ends[byte(key)] += 1;
        }
        let mut next = 0;
        for end in &mut ends {
            next += core::mem::replace(end, next);
        }
        for &key in keys.iter() {
            sorted[ends[byte(key)] as usize] = key;
            ends[byte(key)] += 1;
        }
        core::mem::swap(keys, &mut sorted);
    }
}

fn weight_of(key: u64) -> u64 {
    u64::from(!((key >> 32) as u32))
}

fn partition_of(key: u64) -> usize {
    (key & u64::from(u32::MAX)) as usize
}
