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
        let palette = Palette::new(weights, range)?;
        let width = palette.weights.len();
        let counts = palette.count(seats, weights, workers);
        let mut lots = Vec::with_capacity(counts.len());
        let mut ends = Vec::with_capacity(workers + 1);
        for counts in counts.chunks_exact(width) {
            let all = palette.weights.iter().zip(counts).map(|(&weight, &count)| WeightLot { weight, count });
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

/// A few small weights, or only one.
#[derive(Clone, Debug)]
pub(super) struct Palette {
    /// In order.
    weights: Vec<u32>,
    /// The place of each weight in that order; empty if there is only one.
    ranks: Vec<u8>,
}

impl Palette {
    fn new(weights: &[u32], (lightest, heaviest): (u32, u32)) -> Option<Self> {
        if lightest == heaviest {
            return Some(Self { weights: vec![lightest], ranks: Vec::new() });
        }
        if heaviest > SMALL_WEIGHT || weights.is_empty() {
            return None;
        }
        let mut ranks = vec![0; heaviest as usize + 1];
        for &weight in weights {
            ranks[weight as usize] = 1;
        }
        let seen = (0..).zip(&ranks).filter(|&(_, &seen)| seen == 1);
        let weights: Vec<u32> = seen.map(|(weight, _)| weight).collect();
        if weights.len() > FEW_WEIGHTS {
            return None;
        }
        for (rank, &weight) in (0..).zip(&weights) {
            ranks[weight as usize] = rank;
        }
        Some(Self { weights, ranks })
    }

    /// How many partitions of each weight each worker holds, and at last nobody.
    #[inline(never)]
    fn count(&self, seats: &[u32], weights: &[u32], workers: usize) -> Vec<u32> {
        let (width, ranks) = (self.weights.len(), &self.ranks[..]);
        let mut counts = vec![0; (workers + 1) * width];
        if width == 1 {
            for &seat in seats {
                counts[place(seat, workers)] += 1;
            }
        } else {
            for (&seat, &weight) in seats.iter().zip(weights) {
                counts[place(seat, workers) * width + usize::from(ranks[weight as usize])] += 1;
            }
        }
        counts
    }

    /// The weights in order.
    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The place of a weight, which must be there, in that order.
    #[inline]
    pub(super) fn rank(&self, weight: u32) -> usize {
        if self.ranks.is_empty() { 0 } else { usize::from(self.ranks[weight as usize]) }
    }
}
