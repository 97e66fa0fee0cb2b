//! Homes: each partition's own choice among the workers, by hash.

#![expect(clippy::cast_possible_truncation, reason = "what is left of a hash is an index")]

use alloc::vec;
use alloc::vec::Vec;

use super::current::{NOBODY, Workers};
use crate::rng::Rng;

/// How many hashes a partition draws before it takes any worker of its pool.
const HASHES: u32 = 16;

/// How many entries of the table one hash names.
const TRIES_PER_HASH: u32 = 4;

/// How many bits of a hash name one entry.
const TRY_BITS: u32 = u64::BITS / TRIES_PER_HASH;

/// Slots up to this many times the number of workers have an entry each; beyond, the order of the workers counts.
const ENTRIES_PER_WORKER: usize = 8;

/// The home of every partition: found in constant time, in proportion to capacity, and as lasting as the workers.
///
/// Each slot has an entry in a table whose length is a power of two. A partition's hash names an entry; where no worker
/// is, or its capacity loses against the largest in a draw, the partition goes on to the next of a fixed sequence of
/// entries. So a worker that goes away changes only the homes that it was, and when it comes back they are its own
/// again. (The idea is that of rendezvous hashing, Thaler and Ravishankar, 1996, without its pass over all workers.)
#[derive(Debug)]
pub(super) struct Homes<'a> {
    /// The index of the worker in each entry, or [`NOBODY`].
    table: Vec<u32>,
    /// The bits of a try are shifted so far to name an entry.
    shift: u32,
    capacities: &'a [u32],
    largest_capacity: u64,
}

impl<'a> Homes<'a> {
    /// For at least one worker.
    pub(super) fn new(workers: &'a Workers) -> Self {
        let slots = workers.slots();
        let is_dense = slots.last().is_some_and(|last| last.value() as usize / ENTRIES_PER_WORKER < slots.len());
        let entry = |index: usize| if is_dense { slots[index].value() as usize } else { index };
        let len = (entry(slots.len() - 1) + 1).next_power_of_two();
        let mut table = vec![NOBODY; len];
        for (index, worker) in (0..slots.len()).zip(0..) {
            table[entry(index)] = worker;
        }
        let capacities = workers.capacities();
        let largest_capacity = capacities.iter().copied().max().map_or(1, u64::from);
        Self { table, shift: TRY_BITS.saturating_sub(len.trailing_zeros()), capacities, largest_capacity }
    }

    /// The home of the partition with this hash among the workers of its `pool`, which `allows` them; [`NOBODY`] if the
    /// pool is empty.
    #[inline]
    pub(super) fn home(&self, mut hash: u64, allows: impl Fn(u32) -> bool, pool: &[u32]) -> u32 {
        for _ in 0..HASHES {
            // The next hash of the sequence also serves as the draws of this one.
            let draws = Rng::new(hash).next_u64();
            for nth in 0..TRIES_PER_HASH {
                let worker = self.table[bits(hash, nth) >> self.shift];
                if worker != NOBODY && self.wins(worker, bits(draws, nth)) && allows(worker) {
                    return worker;
                }
            }
            hash = draws;
        }
        hash.checked_rem(pool.len() as u64).map_or(NOBODY, |nth| pool[nth as usize])
    }

    /// True with the probability of the worker's capacity ÷ the largest capacity.
    fn wins(&self, worker: u32, draw: usize) -> bool {
        (draw as u64 * self.largest_capacity) >> TRY_BITS < u64::from(self.capacities[worker as usize])
    }
}

/// The bits of the `nth` try of a hash.
fn bits(hash: u64, nth: u32) -> usize {
    (hash >> (nth * TRY_BITS)) as usize & ((1 << TRY_BITS) - 1)
}
