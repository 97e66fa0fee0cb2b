//! The classic strategy: a ring of hashes, with bounded loads.

use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::apart::Crowd;
use super::current::{NOBODY, Workers};
use super::{Answer, Problem, Strategy, StrategyError};

/// Puts workers and partitions on a ring by hash; a partition goes to the next worker on the ring that has room.
///
/// Karger et al., 1997, "Consistent Hashing and Random Trees", with the bounded loads of Mirrokni, Thorup and
/// Zadimoghaddam, 2018: no worker is above its upper bound (`1 + epsilon` of its share, or the next possible load where
/// partitions are few), as long as the partitions, heaviest first, find room; one that finds none goes to the worker
/// with the least load. Holders do not count: the answer depends on workers and partitions alone. Compared with
/// [`Balanced`](super::Balanced) a change of the workers moves more, and nobody has to know who held what. A partition
/// that prefers some workers goes to the next of those that has room, and only if none has to another; one that is to be
/// apart from others passes over their workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsistentHash {
    /// How many points on the ring a worker of average capacity has; 150 by default, at least 1.
    ///
    /// With fewer points the arcs between them differ more, so that more partitions find their first worker full.
    pub virtual_nodes: u32,
}

impl Default for ConsistentHash {
    fn default() -> Self {
        Self { virtual_nodes: 150 }
    }
}

impl Strategy for ConsistentHash {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let current = problem.current();
        let workers = &current.workers;
        if workers.len() == 0 {
            return Ok(Answer::new(vec![None; problem.holders().len()]));
        }
        let (pools, bounds) = (problem.pools(), problem.bounds());
        let mut ring = Ring::new(workers, self.virtual_nodes, problem.options().seed);
        let mut loads = vec![0_u64; workers.len()];
        let mut owners = vec![NOBODY; problem.holders().len()];
        let mut crowd = Crowd::new(problem.apart(), &owners);
        for (partition, worker) in pools.pins() {
            loads[worker as usize] += problem.weight(partition);
            owners[partition] = worker;
            crowd.change(partition, NOBODY, worker);
        }
        for (hash, partition) in in_order(problem) {
            let pool = pools.of(partition);
            if owners[partition] != NOBODY || pools.members(pool).is_empty() {
                continue;
            }
            let weight = problem.weight(partition);
            let has_place = |worker: u32| crowd.has_place(partition, worker);
            let has_room =
                |worker: u32| has_place(worker) && !bounds.is_over(worker as usize, loads[worker as usize] + weight);
            let fits_in = |pool: u32| move |worker: u32| pools.allows(pool, worker) && has_room(worker);
            let is_full =
                |worker: u32| bounds.is_over(worker as usize, loads[worker as usize] + u64::from(current.lightest));
            let least = || {
                let after = |&&worker: &&u32| current.relative_load(worker as usize, loads[worker as usize] + weight);
                pools.members(pool).iter().min_by_key(after).copied().unwrap_or(0)
            };
            let preferred = pools.preferred(partition).and_then(|pool| ring.next(hash, fits_in(pool), is_full));
            let worker = preferred.or_else(|| ring.next(hash, fits_in(pool), is_full)).unwrap_or_else(least);
            loads[worker as usize] += weight;
            owners[partition] = worker;
            crowd.change(partition, NOBODY, worker);
        }
        Ok(Answer::new(owners.iter().map(|&owner| workers.slot(owner)).collect()))
    }
}

/// The partitions with their hashes, heaviest first, then in order of hash.
fn in_order(problem: &Problem<'_>) -> impl Iterator<Item = (u64, usize)> {
    let partitions = problem.partitions().as_slice();
    let hashed =
        partitions.iter().enumerate().map(|(index, partition)| (!partition.weight.get(), problem.hash(index), index));
    let mut order: Vec<_> = hashed.collect();
    order.sort_unstable();
    order.into_iter().map(|(_, hash, index)| (hash, index))
}

/// Points of workers, in order of hash.
struct Ring {
    hashes: Vec<u64>,
    workers: Vec<u32>,
    /// For each point, one at or after it whose worker may have room; the paths are shortened as they are walked.
    onward: Vec<u32>,
}

impl Ring {
    fn new(workers: &Workers, virtual_nodes: u32, seed: u64) -> Self {
        let mut points = Vec::new();
        for (worker, (slot, &capacity)) in (0..).zip(workers.slots().iter().zip(workers.capacities())) {
            let share = u64::from(virtual_nodes) * u64::from(capacity) * workers.len() as u64;
            for nth in 0..(share / workers.total_capacity()).max(1) {
                let mut name = [0; 12];
                name[..4].copy_from_slice(&slot.value().to_le_bytes());
                name[4..].copy_from_slice(&nth.to_le_bytes());
                points.push((xxh3_64_with_seed(&name, seed), worker));
            }
        }
        points.sort_unstable();
        let onward = (0..).take(points.len()).collect();
        let (hashes, workers) = points.into_iter().unzip();
        Self { hashes, workers, onward }
    }

    /// The worker of the first point after `hash` where the partition fits. Points of full workers are passed over from
    /// then on.
    fn next(&mut self, hash: u64, fits: impl Fn(u32) -> bool, is_full: impl Fn(u32) -> bool) -> Option<u32> {
        let len = self.hashes.len();
        let start = self.hashes.partition_point(|&point| point < hash) % len;
        let (mut at, mut walked) = (start, 0);
        while walked < len {
            let next = self.skip(at, &is_full);
            walked += (next + len - at) % len;
            if walked >= len {
                break;
            }
            let worker = self.workers[next];
            if fits(worker) {
                return Some(worker);
            }
            at = (next + 1) % len;
            walked += 1;
        }
        None
    }

    /// The first point from `at` on whose worker is not full, or `at` where all are.
    fn skip(&mut self, at: usize, is_full: &impl Fn(u32) -> bool) -> usize {
        let len = self.hashes.len();
        let mut next = at;
        for _ in 0..len {
            if self.onward[next] as usize != next {
                next = self.onward[next] as usize;
            } else if is_full(self.workers[next]) {
                next = (next + 1) % len;
            } else {
                break;
            }
        }
        self.onward[at] = u32::try_from(next).unwrap_or(0);
        next
    }
}
