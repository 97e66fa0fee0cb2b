//! Homes: each partition's own choice among the workers, by hash.

#![expect(
    clippy::cast_possible_truncation,
    reason = "workers and partitions are fewer than 2³², by the limits of slots and lists"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::survey::{NOBODY, Roster};

/// How often a partition tries for a home by hash before it takes any.
const TRIES: u32 = 64;

/// How many tries one hash is good for.
const TRIES_PER_HASH: u32 = 4;

/// How many bits of a hash one try takes.
const TRY_BITS: u32 = u64::BITS / TRIES_PER_HASH;

/// What is in a cell where nobody is: more than any worker found in any try, and [`NOBODY`] in its lower half.
const ABSENT: u64 = (TRIES_PER_HASH as u64) << u32::BITS | NOBODY as u64;

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
    /// The index of the worker in each cell, or [`ABSENT`].
    cells: Vec<u64>,
    /// How far the bits of a try are shifted to name a cell.
    shift: u32,
    /// The capacity of each worker; empty where all are equal.
    capacities: Vec<u32>,
    largest: u32,
}

impl Homes {
    /// For at least one worker.
    pub(super) fn new(roster: &Roster) -> Self {
        let workers = roster.len();
        let dense = roster.slots().last().is_some_and(|last| last.value() as usize / CELLS_PER_WORKER < workers);
        let cell = |index: usize| if dense { roster.slot(index).value() as usize } else { index };
        let len = (cell(workers - 1) + 1).next_power_of_two();
        let mut cells = vec![ABSENT; len];
        for (index, worker) in (0..workers).zip(0..) {
            cells[cell(index)] = worker;
        }
        let capacities: Vec<_> = (0..workers).map(|index| roster.capacity(index)).collect();
        let largest = capacities.iter().copied().max().unwrap_or(1);
        let equal = capacities.iter().all(|&capacity| capacity == largest);
        let capacities = if equal { Vec::new() } else { capacities };
        Self { cells, shift: TRY_BITS.saturating_sub(len.trailing_zeros()), capacities, largest }
    }

    /// Adds the index of the worker that is the home of each of the partitions with these hashes, among all workers, or
    /// [`NOBODY`] where it takes longer to tell: so there is no branch, and the processor works far ahead.
    pub(super) fn add_quick(&self, hashes: impl Iterator<Item = u64>, homes: &mut Vec<u32>) {
        if self.capacities.is_empty() {
            let (cells, shift) = (&self.cells[..], self.shift);
            homes.extend(hashes.map(move |hash| first_present(cells, shift, hash)));
        } else {
            homes.extend(hashes.map(|_| NOBODY));
        }
    }

    /// The index of the worker that is the home of the partition with this hash among the workers that `can` hold it, which
    /// are `all`, or [`NOBODY`] if there are none.
    pub(super) fn home_of(&self, hash: u64, can: impl Fn(u32) -> bool, all: &[u32]) -> u32 {
        let nth = |hash: u64| hash.checked_rem(all.len() as u64).map_or(NOBODY, |nth| all[nth as usize]);
        self.home_among(hash, can).unwrap_or_else(nth)
    }

    /// The home, or the last hash that was tried.
    fn home_among(&self, mut hash: u64, can: impl Fn(u32) -> bool) -> Result<u32, u64> {
        for _ in 0..TRIES / TRIES_PER_HASH {
            let draws = next(hash);
            let tries = (0..TRIES_PER_HASH).map(|nth| (draws >> (nth * TRY_BITS), self.try_cell(hash, nth)));
            let mut present = tries.filter(|&(_, worker)| worker != NOBODY);
            let home = present.find(|&(draw, worker)| self.wins(worker as usize, draw) && can(worker));
            if let Some((_, worker)) = home {
                return Ok(worker);
            }
            hash = draws;
        }
        Err(hash)
    }

    /// Who is in the cell that the `nth` try of a hash names.
    #[inline]
    fn try_cell(&self, hash: u64, nth: u32) -> u32 {
        let bits = (hash >> (nth * TRY_BITS)) & ((1 << TRY_BITS) - 1);
        self.cells[(bits >> self.shift) as usize] as u32
    }

    /// True with the probability of the worker's capacity ÷ the largest capacity.
    fn wins(&self, worker: usize, draw: u64) -> bool {
        let draw = ((draw & ((1 << TRY_BITS) - 1)) * u64::from(self.largest)) >> TRY_BITS;
        self.capacities.get(worker).is_none_or(|&capacity| draw < u64::from(capacity))
    }
}

/// The worker in the first cell that a hash names and where there is one, or [`NOBODY`]: the least of the numbers of try
/// and worker, so that there is no branch.
#[inline]
fn first_present(cells: &[u64], shift: u32, hash: u64) -> u32 {
    let tries = hash >> shift;
    let found = (0..TRIES_PER_HASH).map(|nth| {
        let cell = cells[(tries >> (nth * TRY_BITS)) as usize & (cells.len() - 1)];
        cell + (u64::from(nth) << u32::BITS)
    });
    found.min().unwrap_or(ABSENT) as u32
}

/// The next of a sequence of hashes: one step of `SplitMix64`.
fn next(hash: u64) -> u64 {
    crate::rng::Rng::new(hash).next_u64()
}
