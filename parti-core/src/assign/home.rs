//! Homes: each partition's own choice among the workers, by hash.

use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::survey::{NOBODY, Roster};
use crate::partition::PartitionId;

/// How often a partition tries for a home by hash before it takes any.
const TRIES: u32 = 64;

/// Slots up to this many times the number of workers have a cell each; beyond, the order of the workers counts.
const CELLS_PER_WORKER: usize = 8;

/// The home of every partition: found in constant time, in proportion to capacity, and as lasting as the workers.
///
/// Slots are cells of a table whose length is a power of two. A partition's hash names a cell; where nobody is, or the
/// worker's capacity loses against the largest in a draw, it goes on to the next of a fixed sequence of cells. So a
/// worker that goes away changes only the homes that it was, and when it comes back they are its own again. (The idea
/// is that of rendezvous hashing, Thaler and Ravishankar, 1996, without its pass over all workers.)
#[derive(Debug)]
pub(super) struct Homes {
    /// The index of the worker in each cell, or [`NOBODY`].
    cells: Vec<u32>,
    /// How far a hash is shifted to name a cell.
    shift: u32,
    /// The capacity of each worker; empty where all are equal.
    capacities: Vec<u32>,
    largest: u32,
    workers: usize,
    seed: u64,
}

impl Homes {
    /// For at least one worker.
    pub(super) fn new(roster: &Roster, seed: u64) -> Self {
        let workers = roster.len();
        let dense = roster.slots().last().is_some_and(|last| last.value() as usize / CELLS_PER_WORKER < workers);
        let cell = |index: usize| if dense { roster.slot(index).value() as usize } else { index };
        let len = (cell(workers - 1) + 1).next_power_of_two().max(2);
        let mut cells = vec![NOBODY; len];
        for (index, worker) in (0..workers).zip(0..) {
            cells[cell(index)] = worker;
        }
        let capacities: Vec<_> = (0..workers).map(|index| roster.capacity(index)).collect();
        let largest = capacities.iter().copied().max().unwrap_or(1);
        let equal = capacities.iter().all(|&capacity| capacity == largest);
        let capacities = if equal { Vec::new() } else { capacities };
        Self { cells, shift: 64 - len.trailing_zeros(), capacities, largest, workers, seed }
    }

    /// The index of the worker that is the home of `id`.
    pub(super) fn home(&self, id: &PartitionId) -> usize {
        self.home_among(id, |_| true).unwrap_or_else(|hash| (hash % self.workers as u64) as usize)
    }

    /// The index of the worker that is the home of `id` among the workers that `can` hold it, which must be `some`.
    pub(super) fn home_of(&self, id: &PartitionId, can: impl Fn(usize) -> bool, some: &[u32]) -> usize {
        self.home_among(id, can).unwrap_or_else(|hash| some[(hash % some.len() as u64) as usize] as usize)
    }

    /// The home, or the last hash that was tried.
    fn home_among(&self, id: &PartitionId, can: impl Fn(usize) -> bool) -> Result<usize, u64> {
        let mut hash = xxh3_64_with_seed(id.as_str().as_bytes(), self.seed);
        for _ in 0..TRIES {
            let worker = self.cells[(hash >> self.shift) as usize];
            if worker != NOBODY && self.wins_draw(worker as usize, hash) && can(worker as usize) {
                return Ok(worker as usize);
            }
            hash = next(hash);
        }
        Err(hash)
    }

    /// True with the probability of the worker's capacity ÷ the largest capacity.
    fn wins_draw(&self, worker: usize, hash: u64) -> bool {
        let draw = (u64::from(hash as u32) * u64::from(self.largest)) >> 32;
        self.capacities.get(worker).is_none_or(|&capacity| draw < u64::from(capacity))
    }
}

/// The next of a sequence of hashes: one step of `SplitMix64`.
fn next(hash: u64) -> u64 {
    crate::rng::Rng::new(hash).next_u64()
}
