//! What each worker holds, by weight.

use alloc::vec;
use alloc::vec::Vec;

use super::survey::{NOBODY, Survey};

/// So many different weights are counted in a table; more are sorted.
const FEW_WEIGHTS: usize = 32;

/// For each worker that stays, how many partitions of each weight it holds before anything moves.
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

impl WeightLot {
    /// Of weights that are all the same.
    fn of(same: &[u32]) -> Self {
        Self { weight: same[0], count: u32::try_from(same.len()).unwrap_or(u32::MAX) }
    }
}

impl Inventory {
    /// O(partitions) where there are few different weights, else a factor log partitions more.
    pub(super) fn new(survey: &Survey) -> Self {
        if survey.all_equal() {
            let lots = survey.counts.iter().map(|&count| WeightLot { weight: survey.heaviest, count }).collect();
            return Self { lots, ends: (1..=survey.counts.len()).collect() };
        }
        match Palette::of(&survey.weights) {
            Some(palette) => Self::counted(survey, &palette),
            None => Self::sorted(survey),
        }
    }

    fn counted(survey: &Survey, palette: &Palette) -> Self {
        let width = palette.weights.len();
        let mut counts = vec![0_u32; survey.counts.len() * width];
        for (&weight, &seat) in survey.weights.iter().zip(&survey.seats) {
            if seat != NOBODY {
                counts[seat as usize * width + palette.rank(weight)] += 1;
            }
        }
        let mut lots = Vec::with_capacity(counts.len());
        let mut ends = Vec::with_capacity(survey.counts.len());
        for counts in counts.chunks_exact(width) {
            let all = palette.weights.iter().zip(counts).map(|(&weight, &count)| WeightLot { weight, count });
            lots.extend(all.filter(|lot| lot.count > 0));
            ends.push(lots.len());
        }
        Self { lots, ends }
    }

    fn sorted(survey: &Survey) -> Self {
        let mut next = Vec::with_capacity(survey.counts.len());
        let mut len = 0;
        for &count in &survey.counts {
            next.push(len);
            len += count as usize;
        }
        let mut weights = vec![0_u32; len];
        for (&weight, &seat) in survey.weights.iter().zip(&survey.seats) {
            if let Some(at) = next.get_mut(seat as usize) {
                weights[*at] = weight;
                *at += 1;
            }
        }
        let mut lots = Vec::with_capacity(len);
        let mut ends = Vec::with_capacity(next.len());
        let mut rest = &mut weights[..];
        for &count in &survey.counts {
            let (own, others) = rest.split_at_mut(count as usize);
            own.sort_unstable();
            lots.extend(own.chunk_by(|a, b| a == b).map(WeightLot::of));
            ends.push(lots.len());
            rest = others;
        }
        Self { lots, ends }
    }

    /// What a worker holds, in order of weight.
    pub(super) fn of(&self, worker: usize) -> &[WeightLot] {
        let start = if worker == 0 { 0 } else { self.ends[worker - 1] };
        &self.lots[start..self.ends[worker]]
    }
}

/// A few weights, in order, and a small hash table of their ranks.
struct Palette {
    weights: Vec<u32>,
    cells: [(u32, u32); Self::CELLS],
}

impl Palette {
    const CELLS: usize = 4 * FEW_WEIGHTS;

    /// The different ones of `weights`, unless there are more than a few.
    fn of(weights: &[u32]) -> Option<Self> {
        let mut palette = Self { weights: Vec::new(), cells: [(0, 0); Self::CELLS] };
        for &weight in weights {
            let cell = palette.cell(weight);
            if palette.cells[cell].0 != weight {
                if palette.weights.len() == FEW_WEIGHTS {
                    return None;
                }
                palette.cells[cell].0 = weight;
                palette.weights.push(weight);
            }
        }
        palette.weights.sort_unstable();
        for (rank, at) in (0..).zip(0..palette.weights.len()) {
            let cell = palette.cell(palette.weights[at]);
            palette.cells[cell].1 = rank;
        }
        Some(palette)
    }

    /// The cell of `weight`, or the empty one where it belongs. No weight is 0, which marks an empty cell.
    fn cell(&self, weight: u32) -> usize {
        let mut cell = (weight.wrapping_mul(0x9e37_79b9) >> 16) as usize % Self::CELLS;
        while self.cells[cell].0 != weight && self.cells[cell].0 != 0 {
            cell = (cell + 1) % Self::CELLS;
        }
        cell
    }

    fn rank(&self, weight: u32) -> usize {
        self.cells[self.cell(weight)].1 as usize
    }
}
