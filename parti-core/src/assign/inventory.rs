//! What each worker holds, by weight.

use alloc::vec;
use alloc::vec::Vec;

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
}

/// So many partitions of one weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WeightLot {
    pub(super) weight: u32,
    pub(super) count: u32,
}

impl Inventory {
    /// Of partitions with these seats and weights, the heaviest of which is `heaviest`. O(partitions); none if weights
    /// are too many or too large for that.
    pub(super) fn counted(seats: &[u32], weights: &[u32], workers: usize, heaviest: u32) -> Option<Self> {
        let (different, ranks) = few(weights, heaviest)?;
        let width = different.len();
        let mut counts = vec![0_u32; (workers + 1) * width];
        if width == 1 {
            for &seat in seats {
                counts[place(seat, workers)] += 1;
            }
        } else {
            for (&seat, &weight) in seats.iter().zip(weights) {
                counts[place(seat, workers) * width + usize::from(ranks[weight as usize])] += 1;
            }
        }
        let mut lots = Vec::with_capacity(counts.len());
        let mut ends = Vec::with_capacity(workers + 1);
        for counts in counts.chunks_exact(width) {
            let all = different.iter().zip(counts).map(|(&weight, &count)| WeightLot { weight, count });
            lots.extend(all.filter(|lot| lot.count > 0));
            ends.push(lots.len());
        }
        Some(Self { lots, ends })
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
        Self { lots, ends }
    }

    /// What a worker holds, in order of weight; after the last worker comes nobody.
    pub(super) fn of(&self, worker: usize) -> &[WeightLot] {
        let start = if worker == 0 { 0 } else { self.ends[worker - 1] };
        &self.lots[start..self.ends[worker]]
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

/// The worker of a seat; nobody comes after the last of so many.
fn place(seat: u32, workers: usize) -> usize {
    (seat as usize).min(workers)
}

/// The different weights in order, and the rank of each among them; none unless they are few and small.
fn few(weights: &[u32], heaviest: u32) -> Option<(Vec<u32>, Vec<u8>)> {
    if heaviest > SMALL_WEIGHT {
        return None;
    }
    let mut ranks = vec![0; heaviest as usize + 1];
    for &weight in weights {
        ranks[weight as usize] = 1;
    }
    let seen = (0..).zip(&ranks).filter(|&(_, &seen)| seen == 1);
    let different: Vec<u32> = seen.map(|(weight, _)| weight).collect();
    if different.is_empty() || different.len() > FEW_WEIGHTS {
        return None;
    }
    for (rank, &weight) in (0..).zip(&different) {
        ranks[weight as usize] = rank;
    }
    Some((different, ranks))
}
