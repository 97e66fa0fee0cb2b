//! The problem as numbers: which worker holds what now, and how loaded that makes it.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::OnceCell;

use super::WorkerInput;
use super::class::{ANYWHERE, Class, Movable, Movables};
use crate::ids::Slot;
use crate::partition::PartitionList;

/// Stands for a worker index where no worker is meant: more than any index.
pub(super) const NOBODY: u32 = u32::MAX;

/// Slots up to this many times the number of workers are found by table; beyond, by search.
const TABLE_SLOTS_PER_WORKER: usize = 64;

/// The workers that stay, in order of their slots. The place in this order is the *worker index*, by which all code
/// below speaks of them.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    slots: Vec<Slot>,
    capacities: Vec<u32>,
    total_capacity: u64,
    /// The index of each slot, or [`NOBODY`]; empty where slots are too sparse for a table.
    table: Vec<u32>,
}

/// What the workers that stay hold before anything moves.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) workers: Workers,
    /// The worker index of the holder of each partition; [`NOBODY`] where it is unassigned.
    pub(super) holders: Vec<u32>,
    pub(super) weights: Arc<[u32]>,
    /// The load of each worker.
    pub(super) loads: Vec<u64>,
    pub(super) unassigned: usize,
    pub(super) unassigned_weight: u64,
    pub(super) total_weight: u64,
    pub(super) lightest: u32,
    pub(super) heaviest: u32,
    /// The greatest weight that divides every weight: loads differ by multiples of it.
    pub(super) granule: u32,
    /// Loads are shifted so far before they are divided by capacities; 0 where all capacities are equal.
    scale_bits: u32,
    movables: OnceCell<Movables>,
}

impl Workers {
    /// Of all workers, in order of their slots, those that stay.
    fn new(workers: &[&WorkerInput]) -> Self {
        let staying = || workers.iter().filter(|worker| !worker.draining);
        let slots: Vec<_> = staying().map(|worker| worker.slot).collect();
        let divisor = staying().fold(0, |divisor, worker| greatest_common_divisor(divisor, worker.capacity.get()));
        let capacities: Vec<_> = staying().map(|worker| worker.capacity.get() / divisor).collect();
        let total_capacity = capacities.iter().map(|&capacity| u64::from(capacity)).sum();
        let table_len = slots.last().map_or(0, |slot| slot.value() as usize + 1);
        let mut table = Vec::new();
        // The holder of every partition is looked up, and a table is five times as fast as a search.
        if table_len <= TABLE_SLOTS_PER_WORKER * slots.len() {
            table = vec![NOBODY; table_len];
            for (index, slot) in (0..).zip(&slots) {
                table[slot.value() as usize] = index;
            }
        }
        Self { slots, capacities, total_capacity, table }
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

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot of a worker; none for [`NOBODY`].
    pub(super) fn slot(&self, worker: u32) -> Option<Slot> {
        self.slots.get(worker as usize).copied()
    }

    /// The capacity of each worker, in units of the greatest common divisor of all.
    pub(super) fn capacities(&self) -> &[u32] {
        &self.capacities
    }

    /// The capacity of all, in the same units.
    pub(super) fn total_capacity(&self) -> u64 {
        self.total_capacity
    }
}

impl Current {
    /// From all workers, in order of their slots.
    pub(super) fn new(workers: &[&WorkerInput], partitions: &PartitionList, holders: &[Option<Slot>]) -> Self {
        let workers = Workers::new(workers);
        let holders: Vec<_> = holders.iter().map(|holder| holder.map_or(NOBODY, |slot| workers.index(slot))).collect();
        let weights = Arc::clone(partitions.weights());
        let mut loads = vec![0; workers.len()];
        let (mut unassigned, mut unassigned_weight) = (0, 0);
        for (&holder, &weight) in holders.iter().zip(&*weights) {
            if let Some(load) = loads.get_mut(holder as usize) {
                *load += u64::from(weight);
            } else {
                unassigned += 1;
                unassigned_weight += u64::from(weight);
            }
        }
        let total_weight = unassigned_weight + loads.iter().sum::<u64>();
        let is_uniform = workers.capacities.iter().all(|&capacity| capacity == 1);
        Self {
            scale_bits: if is_uniform { 0 } else { total_weight.leading_zeros().saturating_sub(1) },
            lightest: weights.iter().copied().min().unwrap_or(0),
            heaviest: weights.iter().copied().max().unwrap_or(0),
            granule: weights.iter().fold(0, |divisor, &weight| greatest_common_divisor(divisor, weight)),
            workers,
            holders,
            weights,
            loads,
            unassigned,
            unassigned_weight,
            total_weight,
            movables: OnceCell::new(),
        }
    }

    /// How many partitions a worker that stays holds, all workers together.
    pub(super) fn staying(&self) -> usize {
        self.holders.len() - self.unassigned
    }

    pub(super) fn all_weigh_the_same(&self) -> bool {
        self.lightest == self.heaviest
    }

    /// Load per unit of capacity, to compare: exact where capacities are equal, else to 2⁻⁶³ of the total weight.
    pub(super) fn relative_load(&self, worker: usize, load: u64) -> u64 {
        match self.scale_bits {
            0 => load,
            bits => (load << bits) / u64::from(self.workers.capacities[worker]),
        }
    }

    /// How many partitions each worker holds. O(partitions).
    pub(super) fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.workers.len()];
        for &holder in &self.holders {
            if let Some(count) = counts.get_mut(holder as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// What each worker holds, by weight alone; counted when first asked for, as a balanced group never asks.
    pub(super) fn movables(&self) -> &Movables {
        self.movables.get_or_init(|| {
            let movable = |weight: u32| Movable { class: Class::new(ANYWHERE, weight, false), count: 1 };
            let held = self.holders.iter().zip(&*self.weights).map(|(&holder, &weight)| (holder, movable(weight)));
            Movables::new(self.workers.len(), held)
        })
    }
}

/// Of 0 and a number, the number.
fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while a != 1 && b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
