//! What each worker holds, by weight.

use alloc::vec;
use alloc::vec::Vec;

use super::survey::place;

/// Weights up to this are counted in a table if there are few different ones; others are sorted.
const SMALL_WEIGHT: u32 = u16::MAX as u32;

/// So many different weights are few.
const FEW_WEIGHTS: usize = 32;

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
    /// O(partitions); none if weights, which are within `range`, are too many or too large for that.
    pub(super) fn counted(seats: &[u32], weights: &[u32], workers: usize, range: (u32, u32)) -> Option<Self> {
        let palette = Palette::new(weights, workers, range)?;
        let counts = palette.count(seats);
        let mut lots = Vec::with_capacity((workers + 1) * palette.weights.len());
        let mut ends = Vec::with_capacity(workers + 1);
        for counts in counts.chunks_exact(palette.grid.width()) {
            let all = palette.weights.iter().zip(counts.iter().step_by(2));
            let all = all.map(|(&weight, &count)| WeightLot { weight, count });
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

/// A few small weights, or only one, and which of them each partition has.
#[derive(Clone, Debug)]
pub(super) struct Palette {
    /// In order.
    weights: Vec<u32>,
    /// For each partition, the place of its weight in that order; empty if there is only one.
    ranks: Vec<u8>,
    grid: Grid,
}

/// Cells for the partitions of each weight on each worker, and at last on nobody: an even one for those that were there
/// before anything moved, and the odd one after it for those that have come since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// How many bits of a cell's number tell what is there; those above tell where.
    bits: u32,
    workers: u32,
}

impl Palette {
    fn new(weights: &[u32], workers: usize, (lightest, heaviest): (u32, u32)) -> Option<Self> {
        let workers = u32::try_from(workers).ok()?;
        if lightest == heaviest {
            return Some(Self { weights: vec![lightest], ranks: Vec::new(), grid: Grid { bits: 1, workers } });
        }
        if heaviest > SMALL_WEIGHT || weights.is_empty() {
            return None;
        }
        let mut ranks = vec![0; heaviest as usize + 1];
        for &weight in weights {
            ranks[weight as usize] = 1;
        }
        let seen = (0..).zip(&ranks).filter(|&(_, &seen)| seen == 1);
        let few: Vec<u32> = seen.map(|(weight, _)| weight).collect();
        if few.len() > FEW_WEIGHTS {
            return None;
        }
        for (rank, &weight) in (0..).zip(&few) {
            ranks[weight as usize] = rank;
        }
        let bits = (2 * few.len()).next_power_of_two().trailing_zeros();
        let ranks = weights.iter().map(|&weight| ranks[weight as usize]).collect();
        Some(Self { weights: few, ranks, grid: Grid { bits, workers } })
    }

    /// How many partitions there are in each cell before anything moves.
    #[inline(never)]
    fn count(&self, seats: &[u32]) -> Vec<u32> {
        let grid = self.grid;
        let mut counts = vec![0; grid.last() + 1];
        if self.ranks.is_empty() {
            for &seat in seats {
                counts[grid.cell(seat, 0, false)] += 1;
            }
        } else {
            for (&seat, &rank) in seats.iter().zip(&self.ranks) {
                counts[grid.cell(seat, rank, false)] += 1;
            }
        }
        counts
    }

    /// The cell of each partition, now that each has the owner given here.
    pub(super) fn cells(&self, seats: &[u32], owners: &[u32]) -> Vec<u32> {
        let (grid, seated) = (self.grid, owners.iter().zip(seats));
        if self.ranks.is_empty() {
            seated.map(|(&owner, seat)| grid.cell(owner, 0, owner != *seat) as u32).collect()
        } else {
            seated.zip(&self.ranks).map(|((&owner, seat), &rank)| grid.cell(owner, rank, owner != *seat) as u32).collect()
        }
    }

    /// The place of a weight, which must be there, among the few.
    pub(super) fn rank(&self, weight: u32) -> u8 {
        self.weights.partition_point(|&lighter| lighter < weight) as u8
    }

    pub(super) fn grid(&self) -> Grid {
        self.grid
    }
}

impl Grid {
    /// How many cells each worker has; some may be for nothing.
    pub(super) fn width(self) -> usize {
        1 << self.bits
    }

    /// The number of the last cell, in which no worker's partitions are.
    pub(super) fn last(self) -> usize {
        ((self.workers as usize + 1) << self.bits) - 1
    }

    /// The cell of partitions in a seat.
    #[inline]
    pub(super) fn cell(self, seat: u32, rank: u8, fresh: bool) -> usize {
        (seat.min(self.workers) << self.bits | u32::from(rank) << 1 | u32::from(fresh)) as usize
    }

    #[inline]
    pub(super) fn seat(self, cell: usize) -> u32 {
        cell as u32 >> self.bits
    }

    /// What of a cell's number is the same wherever a partition is.
    #[inline]
    pub(super) fn kind(self, cell: usize) -> usize {
        cell & (self.width() - 1)
    }

    /// The cell of the same kind in another seat.
    #[inline]
    pub(super) fn across(self, cell: usize, seat: u32) -> usize {
        (seat as usize) << self.bits | self.kind(cell)
    }

    /// The cell in the same seat that is fresh, or that is not.
    #[inline]
    pub(super) fn arrived(self, cell: usize, fresh: bool) -> usize {
        cell & !1 | usize::from(fresh)
    }
}
