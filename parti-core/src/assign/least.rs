//! The least possible number of moves; what it is and why it holds is told at [`Figures::least_moves`].
//!
//! [`Figures::least_moves`]: super::Figures::least_moves

use alloc::vec;
use alloc::vec::Vec;

use super::Problem;
use super::bounds::Bounds;
use super::survey::{NOBODY, Survey};
use crate::partition::Partition;

/// How many partitions whose holder stays have to move, at least, to bring every worker within its bounds.
pub(super) fn staying_moves(problem: &Problem<'_>) -> usize {
    let survey = &problem.survey;
    let bounds = Bounds::new(survey, problem.partitions, problem.options.epsilon_permille);
    let excess: Vec<_> = pairwise(&survey.loads, &bounds.upper);
    let lacking: u64 = pairwise(&bounds.lower, &survey.loads).iter().sum();
    let still_lacking = lacking.saturating_sub(survey.homeless_weight);
    if survey.all_equal() {
        let weight = u64::from(survey.heaviest.max(1));
        let shed: u64 = excess.iter().map(|excess| excess.div_ceil(weight)).sum();
        return usize::try_from(shed.max(still_lacking.div_ceil(weight))).unwrap_or(usize::MAX);
    }
    let partitions = problem.partitions.as_slice();
    shed(survey, partitions, &excess).max(fill(survey, partitions, still_lacking))
}

fn pairwise(more: &[u64], less: &[u64]) -> Vec<u64> {
    more.iter().zip(less).map(|(more, less)| more.saturating_sub(*less)).collect()
}

/// How many partitions the workers with too much must give, heaviest first.
fn shed(survey: &Survey, partitions: &[Partition], excess: &[u64]) -> usize {
    if excess.iter().all(|&excess| excess == 0) {
        return 0;
    }
    let mut ends: Vec<usize> = Vec::with_capacity(excess.len());
    let mut next = 0;
    for (&count, &excess) in survey.counts.iter().zip(excess) {
        ends.push(next);
        next += if excess > 0 { count as usize } else { 0 };
    }
    let mut weights = vec![0_u32; next];
    for (partition, &seat) in partitions.iter().zip(&survey.seats) {
        if seat != NOBODY && excess[seat as usize] > 0 {
            let end = &mut ends[seat as usize];
            weights[*end] = partition.weight.get();
            *end += 1;
        }
    }
    let mut start = 0;
    let each = ends.iter().zip(excess).map(|(&end, &excess)| heaviest_reaching(&mut weights[core::mem::replace(&mut start, end)..end], excess));
    each.sum()
}

/// How many partitions it takes to bring `lacking`, heaviest first.
fn fill(survey: &Survey, partitions: &[Partition], lacking: u64) -> usize {
    if lacking == 0 {
        return 0;
    }
    let staying = partitions.iter().zip(&survey.seats).filter(|&(_, &seat)| seat != NOBODY);
    let mut weights: Vec<_> = staying.map(|(partition, _)| partition.weight.get()).collect();
    heaviest_reaching(&mut weights, lacking)
}

/// How many of `weights`, heaviest first, it takes to reach `goal`; all of them if they do not. Reorders them.
///
/// O(n): halves what is left with each look at it.
fn heaviest_reaching(mut weights: &mut [u32], mut goal: u64) -> usize {
    let mut taken = 0;
    while weights.len() > 1 && goal > 0 {
        let middle = weights.len() / 2;
        weights.select_nth_unstable_by(middle, |a, b| b.cmp(a));
        let heavier: u64 = weights[..middle].iter().map(|&weight| u64::from(weight)).sum();
        if heavier >= goal {
            weights = &mut weights[..middle];
        } else {
            taken += middle;
            goal -= heavier;
            weights = &mut weights[middle..];
        }
    }
    taken + usize::from(goal > 0 && !weights.is_empty())
}
