//! The problem as numbers: who sits where, and how loaded that makes every worker.

use alloc::vec;
use alloc::vec::Vec;

use super::WorkerInput;
use crate::ids::Slot;
use crate::partition::PartitionList;

/// The seat of a partition that no staying worker holds.
pub(super) const NOBODY: u32 = u32::MAX;

/// Slots up to this many times the number of workers are found by table; beyond, by search.
const TABLE_SLOTS_PER_WORKER: usize = 64;

/// The workers that stay, in order of their slots; each is known by its index from here on.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    slots: Vec<Slot>,
    capacities: Vec<u32>,
    capacity: u64,
    /// The index of each slot, or [`NOBODY`]; empty where slots are too sparse for a table.
    table: Vec<u32>,
    /// How far loads are shifted before they are divided by capacities; 0 where all capacities are equal.
    spread_bits: u32,
}

/// Who sits where, among the workers that stay, before anything moves.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) roster: Roster,
    /// The index of the holder of each partition, or [`NOBODY`].
    pub(super) seats: Vec<u32>,
    /// The weight of each partition, closer together than in the list.
    pub(super) weights: Vec<u32>,
    pub(super) loads: Vec<u64>,
    pub(super) counts: Vec<u32>,
    /// How many partitions no staying worker holds, and their weight.
    pub(super) homeless: usize,
    pub(super) homeless_weight: u64,
    /// The weight of all partitions.
    pub(super) total: u64,
    pub(super) lightest: u32,
    pub(super) heaviest: u32,
    /// The greatest weight that divides every weight: loads differ by multiples of it.
    pub(super) granule: u32,
}

impl Roster {
    /// From all workers, in order of their slots.
    pub(super) fn new(workers: &[&WorkerInput]) -> Self {
        let staying = || workers.iter().filter(|worker| !worker.draining);
        let slots: Vec<_> = staying().map(|worker| worker.slot).collect();
        let divisor = staying().fold(0, |divisor, worker| greatest_common_divisor(divisor, worker.capacity.get()));
        let capacities: Vec<_> = staying().map(|worker| worker.capacity.get() / divisor).collect();
        let capacity = capacities.iter().map(|&capacity| u64::from(capacity)).sum();
        let table_len = slots.last().map_or(0, |slot| slot.value() as usize + 1);
        let mut table = Vec::new();
        if table_len <= TABLE_SLOTS_PER_WORKER * slots.len() {
            table = vec![NOBODY; table_len];
            for (index, slot) in (0..).zip(&slots) {
                table[slot.value() as usize] = index;
            }
        }
        Self { slots, capacities, capacity, table, spread_bits: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The index of the worker in `slot`, or [`NOBODY`].
    pub(super) fn index(&self, slot: Slot) -> u32 {
        if self.table.is_empty() {
            self.slots.binary_search(&slot).map_or(NOBODY, |index| u32::try_from(index).unwrap_or(NOBODY))
        } else {
            self.table.get(slot.value() as usize).copied().unwrap_or(NOBODY)
        }
    }

    pub(super) fn slot(&self, index: usize) -> Slot {
        self.slots[index]
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The capacity of a worker, in units of the greatest common divisor of all.
    pub(super) fn capacity(&self, index: usize) -> u32 {
        self.capacities[index]
    }

    /// The capacity of all, in the same units.
    pub(super) fn total_capacity(&self) -> u64 {
        self.capacity
    }

    /// Load per unit of capacity, to compare: exact where capacities are equal, else to 2⁻⁶³ of the total load.
    pub(super) fn level(&self, index: usize, load: u64) -> u64 {
        if self.spread_bits == 0 { load } else { (load << self.spread_bits) / u64::from(self.capacities[index]) }
    }
}

impl Survey {
    pub(super) fn new(workers: &[&WorkerInput], partitions: &PartitionList, holders: &[Option<Slot>]) -> Self {
        let mut roster = Roster::new(workers);
        let nobody = roster.len();
        // The last entry counts the homeless, so that the loop below has no branch.
        let mut loads = vec![0_u64; nobody + 1];
        let mut counts = vec![0_u32; nobody + 1];
        let mut seats = Vec::with_capacity(holders.len());
        let mut weights = Vec::with_capacity(holders.len());
        let (mut lightest, mut heaviest, mut granule, mut last) = (u32::MAX, 0, 0, 0);
        for (partition, holder) in partitions.as_slice().iter().zip(holders) {
            let weight = partition.weight.get();
            let seat = holder.map_or(NOBODY, |slot| roster.index(slot));
            let place = (seat as usize).min(nobody);
            loads[place] += u64::from(weight);
            counts[place] += 1;
            seats.push(seat);
            weights.push(weight);
            lightest = lightest.min(weight);
            heaviest = heaviest.max(weight);
            if granule != 1 && weight != last {
                last = weight;
                granule = greatest_common_divisor(granule, weight);
            }
        }
        let total: u64 = loads.iter().sum();
        if roster.capacities.iter().any(|&capacity| capacity != 1) {
            roster.spread_bits = total.leading_zeros().saturating_sub(1);
        }
        let homeless_weight = loads.pop().unwrap_or(0);
        let homeless = counts.pop().unwrap_or(0) as usize;
        Self { roster, seats, weights, loads, counts, homeless, homeless_weight, total, lightest, heaviest, granule }
    }

    /// Whether all partitions weigh the same.
    pub(super) fn all_equal(&self) -> bool {
        self.lightest >= self.heaviest
    }
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
