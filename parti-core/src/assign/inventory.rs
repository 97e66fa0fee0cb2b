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

/// The rank of a weight that no partition has.
const NO_RANK: u8 = u8::MAX;

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
        let mut ranks: Vec<_> = (0..palette.weights.len()).collect();
        ranks.sort_unstable_by_key(|&rank| palette.weights[rank]);
        let mut lots = Vec::with_capacity((workers + 1) * ranks.len());
        let mut ends = Vec::with_capacity(workers + 1);
        for seat in (0..workers as u32).chain([NOBODY]) {
            let count = |rank: usize| counts[palette.grid.cell(seat, rank as u8)];
            let all = ranks.iter().map(|&rank| WeightLot { weight: palette.weights[rank], count: count(rank) });
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
    /// The place of each weight in that order, or [`NO_RANK`].
    ranks: Vec<u8>,
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
    /// How many cells there are before the fresh ones.
    settled: u32,
}

impl Palette {
    /// The palette, and how many partitions are in each cell.
    fn new(seats: &[u32], weights: &[u32], workers: usize) -> Option<(Self, Vec<u32>)> {
        let workers = u32::try_from(workers).ok().filter(|&workers| workers <= MOST_WORKERS)?;
        // The seat of nobody is more than that of any worker.
        let seat_bits = (workers + 1).next_power_of_two().trailing_zeros();
        let grid = Grid { seat_bits, settled: 0 };
        let mut palette = Self { weights: Vec::new(), ranks: Vec::new(), cells: Vec::with_capacity(seats.len()), grid };
        let mut counts = Vec::new();
        for (seats, weights) in seats.chunks(CHUNK).zip(weights.chunks(CHUNK)) {
            if !palette.has_all(weights) {
                palette.learn(weights)?;
                counts.resize(palette.weights.len() << seat_bits, 0);
            }
            let (ranks, counts) = (&palette.ranks[..], &mut counts[..]);
            palette.cells.extend(seats.iter().zip(weights).map(move |(&seat, &weight)| {
                let cell = grid.cell(seat, ranks[weight as usize]);
                counts[cell] += 1;
                cell as u32
            }));
        }
        palette.grid.settled = (palette.weights.len() as u32) << seat_bits;
        Some((palette, counts))
    }

    fn has_all(&self, weights: &[u32]) -> bool {
        let ranks = &self.ranks[..];
        weights.iter().all(|&weight| ranks.get(weight as usize).is_some_and(|&rank| rank != NO_RANK))
    }

    /// Gives ranks to weights, if they are not too many or too large.
    fn learn(&mut self, weights: &[u32]) -> Option<()> {
        for &weight in weights {
            if self.has_all(&[weight]) {
                continue;
            }
            if weight > SMALL_WEIGHT || self.weights.len() == FEW_WEIGHTS {
                return None;
            }
            if self.ranks.len() <= weight as usize {
                self.ranks.resize(weight as usize + 1, NO_RANK);
            }
            self.ranks[weight as usize] = self.weights.len() as u8;
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
        let (settled, seat_mask) = (self.grid.settled, self.grid.seat_mask());
        let owned = self.cells.iter().zip(seats).zip(owners);
        let cell = move |((&cell, &seat), &owner): ((&u32, &u32), &u32)| {
            (cell & !seat_mask | owner & seat_mask) + if owner == seat { 0 } else { settled }
        };
        owned.map(cell).collect()
    }

    /// The place of a weight, which must be there, among the few.
    pub(super) fn rank(&self, weight: u32) -> u8 {
        self.ranks[weight as usize]
    }

    pub(super) fn grid(&self) -> Grid {
        self.grid
    }
}

impl Grid {
    /// How many cells there are.
    pub(super) fn len(self) -> usize {
        2 * self.settled as usize
    }

    /// How many kinds of partitions have cells.
    pub(super) fn kinds(self) -> usize {
        self.len() >> self.seat_bits
    }

    /// The cell of partitions that are in a seat since before anything moved.
    #[inline]
    pub(super) fn cell(self, seat: u32, rank: u8) -> usize {
        (u32::from(rank) << self.seat_bits | seat & self.seat_mask()) as usize
    }

    #[inline]
    pub(super) fn seat(self, cell: usize) -> u32 {
        cell as u32 & self.seat_mask()
    }

    /// What of a cell's number is the same wherever a partition is.
    #[inline]
    pub(super) fn kind(self, cell: usize) -> usize {
        cell >> self.seat_bits
    }

    /// The cell of the same kind in another seat.
    #[inline]
    pub(super) fn across(self, cell: usize, seat: u32) -> usize {
        (cell as u32 & !self.seat_mask() | seat & self.seat_mask()) as usize
    }

    /// The cell of the same weight in the same seat that is fresh, or that is not.
    #[inline]
    pub(super) fn arrived(self, cell: usize, fresh: bool) -> usize {
        let settled = self.settled as usize;
        let cell = if cell < settled { cell } else { cell - settled };
        if fresh { cell + settled } else { cell }
    }

    /// The bits that tell where a cell is; all of them for nobody.
    #[inline]
    fn seat_mask(self) -> u32 {
        (1 << self.seat_bits) - 1
    }
}
