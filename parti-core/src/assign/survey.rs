//! The problem as numbers: who sits where, and how loaded that makes every worker.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::OnceCell;

use super::inventory::{Inventory, Palette};
use super::{MoveReason, WorkerInput};
use crate::ids::Slot;
use crate::partition::PartitionList;

/// The seat of a partition that no staying worker holds.
pub(super) const NOBODY: u32 = u32::MAX;

/// The place of a seat among so many workers, after which comes nobody.
#[inline]
pub(super) fn place(seat: u32, workers: usize) -> usize {
    (seat as usize).min(workers)
}

/// Slots up to this many times the number of workers are found by table; beyond, by search.
const TABLE_SLOTS_PER_WORKER: usize = 64;

/// The workers that stay, in order of their slots; each is known by its index from here on.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    slots: Vec<Slot>,
    capacities: Vec<u32>,
    capacity: u64,
    /// The slots of the workers that are leaving, in order.
    leaving: Vec<Slot>,
    /// The index of each slot, or [`NOBODY`]; empty where slots are too sparse for a table.
    table: Vec<u32>,
    /// Whether the worker in each slot is leaving; as long as the table.
    leaving_table: Vec<bool>,
    /// How far loads are shifted before they are divided by capacities; 0 where all capacities are equal.
    spread_bits: u32,
}

/// Who sits where, among the workers that stay, before anything moves.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) roster: Roster,
    /// The index of the holder of each partition, or [`NOBODY`].
    pub(super) seats: Vec<u32>,
    /// The weight of each partition.
    pub(super) weights: Arc<[u32]>,
    pub(super) loads: Vec<u64>,
    /// How many partitions no staying worker holds, and their weight.
    pub(super) homeless: usize,
    pub(super) homeless_weight: u64,
    /// The weight of all partitions.
    pub(super) total: u64,
    pub(super) lightest: u32,
    pub(super) heaviest: u32,
    /// The greatest weight that divides every weight: loads differ by multiples of it.
    pub(super) granule: u32,
    inventory: OnceCell<Inventory>,
}

impl Roster {
    /// From all workers, in order of their slots.
    pub(super) fn new(workers: &[&WorkerInput]) -> Self {
        let (leaving, staying): (Vec<&WorkerInput>, Vec<_>) = workers.iter().partition(|worker| worker.draining);
        let slots: Vec<_> = staying.iter().map(|worker| worker.slot).collect();
        let leaving: Vec<_> = leaving.iter().map(|worker| worker.slot).collect();
        let mut capacities: Vec<_> = staying.iter().map(|worker| worker.capacity.get()).collect();
        let divisor = capacities.iter().fold(0, |divisor, &capacity| greatest_common_divisor(divisor, capacity));
        if divisor > 1 {
            for capacity in &mut capacities {
                *capacity /= divisor;
            }
        }
        let capacity = capacities.iter().map(|&capacity| u64::from(capacity)).sum();
        let table_len = slots.last().max(leaving.last()).map_or(0, |slot| slot.value() as usize + 1);
        let (mut table, mut leaving_table) = (Vec::new(), Vec::new());
        if table_len <= TABLE_SLOTS_PER_WORKER * workers.len() {
            table = vec![NOBODY; table_len];
            leaving_table = vec![false; table_len];
            for (index, slot) in (0..).zip(&slots) {
                table[slot.value() as usize] = index;
            }
            for slot in &leaving {
                leaving_table[slot.value() as usize] = true;
            }
        }
        Self { slots, capacities, capacity, leaving, table, leaving_table, spread_bits: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The index of each holder, or [`NOBODY`].
    fn seats(&self, holders: &[Option<Slot>]) -> Vec<u32> {
        if self.table.is_empty() {
            return holders.iter().map(|holder| holder.map_or(NOBODY, |slot| self.index(slot))).collect();
        }
        let seat = |slot: Slot| self.table.get(slot.value() as usize).copied().unwrap_or(NOBODY);
        holders.iter().map(|holder| holder.map_or(NOBODY, seat)).collect()
    }

    /// The index of the worker in `slot`, or [`NOBODY`].
    pub(super) fn index(&self, slot: Slot) -> u32 {
        if self.table.is_empty() {
            self.slots.binary_search(&slot).map_or(NOBODY, |index| u32::try_from(index).unwrap_or(NOBODY))
        } else {
            self.table.get(slot.value() as usize).copied().unwrap_or(NOBODY)
        }
    }

    /// Why a partition moves whose holder does not stay.
    pub(super) fn reason_without_seat(&self, holder: Slot) -> MoveReason {
        let leaving = if self.table.is_empty() {
            self.leaving.binary_search(&holder).is_ok()
        } else {
            self.leaving_table.get(holder.value() as usize).copied().unwrap_or(false)
        };
        if leaving { MoveReason::Drain } else { MoveReason::Orphaned }
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
        let seats = roster.seats(holders);
        let weights = Arc::clone(partitions.weights());
        let counted = Inventory::counted(&seats, &weights, roster.len());
        // Where there are few different weights, only those have to be looked at.
        let different = counted.as_ref().and_then(Inventory::palette).map_or(&weights[..], Palette::weights);
        let lightest = different.iter().copied().min().unwrap_or(0);
        let heaviest = different.iter().copied().max().unwrap_or(0);
        let granule = granule(different);
        let mut loads: Vec<_> = match &counted {
            Some(inventory) => (0..=roster.len()).map(|worker| inventory.load(worker)).collect(),
            None => loads(&seats, &weights, roster.len()),
        };
        let homeless = match &counted {
            Some(inventory) => inventory.count(roster.len()) as usize,
            None => seats.iter().filter(|&&seat| seat == NOBODY).count(),
        };
        let total: u64 = loads.iter().sum();
        if roster.capacities.iter().any(|&capacity| capacity != 1) {
            roster.spread_bits = total.leading_zeros().saturating_sub(1);
        }
        let homeless_weight = loads.pop().unwrap_or(0);
        let inventory = counted.map_or_else(OnceCell::new, OnceCell::from);
        Self { roster, seats, weights, loads, homeless, homeless_weight, total, lightest, heaviest, granule, inventory }
    }

    /// Whether all partitions weigh the same.
    pub(super) fn all_equal(&self) -> bool {
        self.lightest >= self.heaviest
    }

    /// What each worker holds, by weight; found when first asked for where it takes long.
    pub(super) fn inventory(&self) -> &Inventory {
        self.inventory.get_or_init(|| Inventory::sorted(&self.seats, &self.weights, self.roster.len()))
    }
}

/// The weight of what each of so many workers holds; the last entry is of what nobody holds.
fn loads(seats: &[u32], weights: &[u32], workers: usize) -> Vec<u64> {
    let mut loads = vec![0_u64; workers + 1];
    for (&seat, &weight) in seats.iter().zip(weights) {
        loads[place(seat, workers)] += u64::from(weight);
    }
    loads
}

/// The greatest weight that divides every weight; 0 where there are none.
fn granule(weights: &[u32]) -> u32 {
    let (mut granule, mut last) = (0, 0);
    for &weight in weights {
        if granule == 1 {
            break;
        }
        if weight != last {
            last = weight;
            granule = greatest_common_divisor(granule, weight);
        }
    }
    granule
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while a != 1 && b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
