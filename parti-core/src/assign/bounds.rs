//! How much load each worker should have.

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Problem;
use super::current::Current;
use super::pools::Pools;

/// The least and the greatest load of each worker that counts as balanced.
///
/// A worker's *share* is the total weight × its capacity ÷ the capacity of all; partitions that no worker can hold do not
/// count, as nobody will ever have them. It is balanced within epsilon of its
/// share; where no multiple of the granule (the greatest common divisor of the weights) lies so close, the two
/// multiples next to the share are. A *giant*, heavier than a worker's upper bound, still needs an owner: for each one,
/// heaviest first, a largest worker is set aside with it, and the shares of the others are of what is left. A worker whose
/// share is more than its limit has a share of its limit, and the others have shares of the rest.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) lower: Vec<u64>,
    pub(super) upper: Vec<u64>,
    /// The same for half of epsilon: unassigned partitions are assigned within these, so that the next small change
    /// does not at once push many workers out of theirs.
    pub(super) inner_lower: Vec<u64>,
    pub(super) inner_upper: Vec<u64>,
}

impl Bounds {
    pub(super) fn new(problem: &Problem<'_>, pools: &Pools) -> Self {
        let current = problem.current();
        let epsilon_permille = problem.options().epsilon_permille;
        let (own, room) = (current.workers.capacities(), problem.room());
        let mean = current.total_weight.div_ceil(current.holders.len().max(1) as u64);
        let (weight, capacity) = room.without_full(without_giants(problem, pools), own, mean);
        let of_worker = |(worker, own): (usize, &u32), epsilon_permille| {
            let (share, most) = (weight * u128::from(*own), room.most(worker, mean));
            let has_share = most == u64::MAX || capacity > 0 && u128::from(most) * capacity >= share;
            let (share, capacity) = if has_share { (share, capacity) } else { (u128::from(most), 1) };
            let (lower, upper) = bounds(current, share, capacity, epsilon_permille);
            let upper = upper.min(room.limit(worker) - room.limit(worker) % u64::from(current.granule.max(1)));
            (lower.min(upper), upper)
        };
        let within =
            |epsilon_permille| own.iter().enumerate().map(|worker| of_worker(worker, epsilon_permille)).unzip();
        let (lower, upper) = within(epsilon_permille);
        let (inner_lower, inner_upper) = within(epsilon_permille / 2);
        Self { lower, upper, inner_lower, inner_upper }
    }

    pub(super) fn is_under(&self, worker: usize, load: u64) -> bool {
        load < self.lower[worker]
    }

    pub(super) fn is_over(&self, worker: usize, load: u64) -> bool {
        load > self.upper[worker]
    }

    /// How far a load is outside the bounds.
    pub(super) fn outside(&self, worker: usize, load: u64) -> u64 {
        self.lower[worker].saturating_sub(load) + load.saturating_sub(self.upper[worker])
    }
}

/// The bounds of a worker whose share is `share / capacity`.
fn bounds(current: &Current, share: u128, capacity: u128, epsilon_permille: u32) -> (u64, u64) {
    let (capacity, epsilon) = (capacity.max(1), u128::from(epsilon_permille));
    let granule = u128::from(current.granule.max(1));
    let lower = (share * 1000_u128.saturating_sub(epsilon)).div_ceil(capacity * 1000 * granule);
    let upper = share * (1000 + epsilon) / (capacity * 1000 * granule);
    let below = share / (capacity * granule);
    let above = share.div_ceil(capacity * granule);
    let load = |granules: u128| u64::try_from(granules * granule).unwrap_or(u64::MAX);
    (load(lower.min(below)), load(upper.max(above)))
}

/// The total weight and capacity without what no worker can hold, and without the giants and the workers set aside.
fn without_giants(problem: &Problem<'_>, pools: &Pools) -> (u128, u128) {
    let current = problem.current();
    let impossible: u64 = pools.impossible().iter().map(|&partition| problem.weight(partition)).sum();
    let mut weight = u128::from(current.total_weight - impossible);
    let mut capacity = u128::from(current.workers.total_capacity());
    let mut capacities = current.workers.capacities().to_vec();
    capacities.sort_unstable();
    let largest = |capacities: &[u32]| u128::from(capacities.last().copied().unwrap_or(0));
    let is_giant = |heavy: u32, share: u128, capacity: u128| {
        u64::from(heavy) > bounds(current, share, capacity, problem.options().epsilon_permille).1
    };
    if !is_giant(current.heaviest, weight * largest(&capacities), capacity) {
        return (weight, capacity);
    }
    let mut candidates: Vec<_> = current.weights.iter().enumerate().collect();
    candidates.retain(|(partition, _)| pools.impossible().binary_search(partition).is_err());
    candidates.sort_unstable_by_key(|&(_, weight)| Reverse(weight));
    // Setting a giant aside lowers the shares, so that lighter ones may be giants too.
    for (_, &heavy) in candidates {
        if capacities.len() <= 1 || !is_giant(heavy, weight * largest(&capacities), capacity) {
            break;
        }
        weight -= u128::from(heavy);
        capacity -= largest(&capacities);
        capacities.pop();
    }
    (weight, capacity)
}
