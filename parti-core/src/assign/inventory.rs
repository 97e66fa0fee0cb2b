//! What each worker holds, by weight.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a worker has at most 64 cells, and there are cells for at most 2²⁴ workers"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::sieve::CHUNK;
use super::survey::{NOBODY, place};

/// Weights up to this are counted in a table if there are few different ones; others are sorted.
const SMALL_WEIGHT: u32 = u16::MAX as u32;

/// So many different weights are few.
const FEW_WEIGHTS: usize = 32;

/// The cell of a weight that no partition has.
const NO_CELL: u32 = u32::MAX;

/// So many workers have cells, so that these can be numbered: far more than there are slots.
const MOST_WORKERS: u32 = 1 << 24;

/// How many partitions of each weight each worker that stays holds, and at last nobody, before anything moves.
#[derive(Clone, Debug)]
pub(super) struct Inventory {
    /// Worker after worker, each in order of weight.
    lots: Vec<WeightLot>,
    /// Where each worker's lots end.
    ends: Vec<usize>,
    /// If there are few different weights.
    palette: Option<Palette>,
}

/// So many partitions of one weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WeightLot {
    pub(super) weight: u32,
    pub(super) count: u32,
}

impl Inventory {
    /// O(partitions); none if weights are too many or too large for that.
    pub(super) fn counted(seats: &[u32], weights: &[u32], workers: usize) -> Option<Self> {
        let (palette, counts) = Palette::new(seats, weights, workers)?;
        let mut weights = palette.weights.clone();
        weights.sort_unstable();
        let mut lots = Vec::with_capacity((workers + 1) * weights.len());
        let mut ends = Vec::with_capacity(workers + 1);
        for seat in (0..workers as u32).chain([NOBODY]) {
            let all = weights.iter().map(|&weight| WeightLot { weight, count: counts[palette.cell(seat, weight)] });
            lots.extend(all.filter(|lot| lot.count > 0));
            ends.push(lots.len());
        }
        Some(Self { lots, ends, palette: Some(palette) })
    }

    /// Whatever the weights are; up to a factor log partitions slower.
    pub(super) fn sorted(seats: &[u32], weights: &[u32], workers: usize) -> Self {
        let mut next = vec![0; workers + 2];
        for &seat in seats {
            next[place(seat, workers) + 1] += 1;
        }
        for worker in 0..=workers {
            next[worker + 1] += next[worker];
        }
        let mut by_place = vec![0; weights.len()];
        for (&seat, &weight) in seats.iter().zip(weights) {
            let at = &mut next[place(seat, workers)];
            by_place[*at] = weight;
            *at += 1;
        }
        let mut lots = Vec::new();
        let mut ends = Vec::with_capacity(workers + 1);
        let mut start = 0;
        for &end in &next[..=workers] {
            let own = &mut by_place[start..end];
            own.sort_unstable();
            let lot =
                |same: &[u32]| WeightLot { weight: same[0], count: u32::try_from(same.len()).unwrap_or(u32::MAX) };
            lots.extend(own.chunk_by(|a, b| a == b).map(lot));
            ends.push(lots.len());
            start = end;
        }
        Self { lots, ends, palette: None }
    }

    /// What a worker holds, in order of weight; after the last worker comes nobody.
    pub(super) fn of(&self, worker: usize) -> &[WeightLot] {
        let start = if worker == 0 { 0 } else { self.ends[worker - 1] };
        &self.lots[start..self.ends[worker]]
    }

    /// How many lots there are, all workers together.
    pub(super) fn len(&self) -> usize {
        self.lots.len()
    }

    /// The weights, if there are few different ones.
    pub(super) fn palette(&self) -> Option<&Palette> {
        self.palette.as_ref()
    }

    /// How much a worker holds, or nobody.
    pub(super) fn load(&self, worker: usize) -> u64 {
        self.of(worker).iter().map(|lot| u64::from(lot.weight) * u64::from(lot.count)).sum()
    }

    /// How many partitions a worker holds, or nobody.
    pub(super) fn count(&self, worker: usize) -> u32 {
        self.of(worker).iter().map(|lot| lot.count).sum()
    }
}

/// A few small weights, and where the partitions of each are before anything moves.
#[derive(Clone, Debug)]
pub(super) struct Palette {
    /// In the order in which partitions have them.
    weights: Vec<u32>,
    /// For each weight that there is, its cell on the first worker; else [`NO_CELL`].
    first_cells: Vec<u32>,
    /// The cell of each partition.
    cells: Vec<u32>,
    grid: Grid,
}

/// Cells for the partitions of each weight on each worker, and on nobody: first those for partitions that were there
/// before anything moved, then those for partitions that have come since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// How many bits of a cell's number tell where it is; those above tell what is there.
    seat_bits: u32,
    /// Those bits; all of them are set for nobody.
    seat_mask: u32,
    /// How many cells there are before the fresh ones.
    settled: u32,
}

impl Palette {
    /// The palette, and how many partitions are in each cell.
    fn new(seats: &[u32], weights: &[u32], workers: usize) -> Option<(Self, Vec<u32>)> {
        let workers = u32::try_from(workers).ok().filter(|&workers| workers <= MOST_WORKERS)?;
        let mut palette = Self {
            weights: Vec::new(),
            first_cells: Vec::new(),
            cells: Vec::with_capacity(seats.len()),
            grid: Grid::new(workers),
        };
        let mut counts = Vec::new();
        for (seats, weights) in seats.chunks(CHUNK).zip(weights.chunks(CHUNK)) {
            if !palette.has_all(weights) {
                palette.learn(weights)?;
                counts.resize(palette.grid.settled as usize, 0);
            }
            let (first_cells, counts, grid) = (&palette.first_cells[..], &mut counts[..], palette.grid);
            palette.cells.extend(seats.iter().zip(weights).map(move |(&seat, &weight)| {
                let cell = grid.across(first_cells[weight as usize] as usize, seat);
                counts[cell] += 1;
                cell as u32
            }));
        }
        Some((palette, counts))
    }

    fn has_all(&self, weights: &[u32]) -> bool {
        let first_cells = &self.first_cells[..];
        weights.iter().all(|&weight| first_cells.get(weight as usize).is_some_and(|&cell| cell != NO_CELL))
    }

    /// Makes cells for weights, if they are not too many or too large.
    fn learn(&mut self, weights: &[u32]) -> Option<()> {
        for &weight in weights {
            if self.has_all(&[weight]) {
                continue;
            }
            if weight > SMALL_WEIGHT || self.weights.len() == FEW_WEIGHTS {
                return None;
            }
            if self.first_cells.len() <= weight as usize {
                self.first_cells.resize(weight as usize + 1, NO_CELL);
            }
            self.first_cells[weight as usize] = self.grid.add();
            self.weights.push(weight);
        }
        Some(())
    }

    /// Every weight that there is, once.
    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The cell of each partition, now that each has the owner given here.
    pub(super) fn cells(&self, seats: &[u32], owners: &[u32]) -> Vec<u32> {
        let grid = self.grid;
        let owned = self.cells.iter().zip(seats).zip(owners);
        owned.map(move |((&cell, seat), owner)| grid.owned(cell, *seat, *owner)).collect()
    }

    /// The cell of the partitions of a weight, which must be there, that a worker holds since before anything moved.
    pub(super) fn cell(&self, worker: u32, weight: u32) -> usize {
        self.grid.across(self.first_cells[weight as usize] as usize, worker)
    }

    pub(super) fn grid(&self) -> Grid {
        self.grid
    }
}

impl Grid {
    fn new(workers: u32) -> Self {
        // Nobody comes after the last worker.
        let seat_bits = (workers + 1).next_power_of_two().trailing_zeros();
        Self { seat_bits, seat_mask: (1 << seat_bits) - 1, settled: 0 }
    }

    /// Makes cells for one more weight; the first of them.
    fn add(&mut self) -> u32 {
        let first = self.settled;
        self.settled += 1 << self.seat_bits;
        first
    }

    /// How many cells there are.
    pub(super) fn len(self) -> usize {
        2 * self.settled as usize
    }

    /// How many kinds of partitions have cells.
    pub(super) fn kinds(self) -> usize {
        self.len() >> self.seat_bits
    }

    #[inline]
    pub(super) fn seat(self, cell: usize) -> u32 {
        cell as u32 & self.seat_mask
    }

    /// What of a cell's number is the same wherever a partition is.
    #[inline]
    pub(super) fn kind(self, cell: usize) -> usize {
        cell >> self.seat_bits
    }

    /// The cell of the same kind in another seat.
    #[inline]
    pub(super) fn across(self, cell: usize, seat: u32) -> usize {
        (cell as u32 & !self.seat_mask | seat & self.seat_mask) as usize
    }

    /// The cell of the same weight in the same seat that is fresh, or that is not.
    #[inline]
    pub(super) fn arrived(self, cell: usize, fresh: bool) -> usize {
        let settled = self.settled as usize;
        let cell = if cell < settled { cell } else { cell - settled };
        if fresh { cell + settled } else { cell }
    }

    /// The cell of a partition that was in this cell, the one of `seat`, and is now its owner's.
    #[inline]
    fn owned(self, cell: u32, seat: u32, owner: u32) -> u32 {
        (cell & !self.seat_mask | owner & self.seat_mask) + if owner == seat { 0 } else { self.settled }
    }
}
