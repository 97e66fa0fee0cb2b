//! The least possible number of moves; what it is and why it holds is told at [`Figures::least_moves`].
//!
//! [`Figures::least_moves`]: super::Figures::least_moves

use alloc::vec::Vec;

use super::Problem;
use super::bounds::Bounds;
use super::inventory::WeightLot;

/// How many partitions whose holder stays have to move, at least, to bring every worker within its bounds.
pub(super) fn staying_moves(problem: &Problem<'_>) -> usize {
    let survey = &problem.survey;
    let bounds = Bounds::new(survey, problem.partitions, problem.options.epsilon_permille);
    let excess: Vec<_> = pairwise(&survey.loads, &bounds.upper);
    let lacking: u64 = pairwise(&bounds.lower, &survey.loads).iter().sum();
    let still_lacking = lacking.saturating_sub(survey.homeless_weight);
    if still_lacking == 0 && excess.iter().all(|&excess| excess == 0) {
        return 0;
    }
    let inventory = problem.inventory();
    let shed: u64 = (0..).zip(&excess).map(|(worker, &excess)| heaviest_reaching(inventory.of(worker), excess)).sum();
    let fill = if still_lacking == 0 { 0 } else { heaviest_reaching(&inventory.all(), still_lacking) };
    usize::try_from(shed.max(fill)).unwrap_or(usize::MAX)
}

fn pairwise(more: &[u64], less: &[u64]) -> Vec<u64> {
    more.iter().zip(less).map(|(more, less)| more.saturating_sub(*less)).collect()
}

/// How many partitions of `lots`, which are in order of weight, it takes to reach `goal`, heaviest first; all of them
/// if they do not.
fn heaviest_reaching(lots: &[WeightLot], mut goal: u64) -> u64 {
    let mut taken = 0;
    for lot in lots.iter().rev() {
        let (weight, count) = (u64::from(lot.weight), u64::from(lot.count));
        let enough = goal.div_ceil(weight).min(count);
        taken += enough;
        goal = goal.saturating_sub(enough * weight);
        if goal == 0 {
            break;
        }
    }
    taken
}
