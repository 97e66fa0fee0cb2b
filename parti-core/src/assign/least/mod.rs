//! The least possible number of moves; what it is and why it holds is told at [`Figures::least_moves`].
//!
//! [`Figures::least_moves`]: super::Figures::least_moves

mod tight;

use alloc::vec::Vec;

use super::Problem;
use super::inventory::WeightLot;

/// A number of moves, over all rounds, below which no plan brings every worker within its bounds: as
/// [`Figures::least_moves`](super::Figures::least_moves), but closer where weights differ, and much slower to find.
pub fn least_moves(problem: &Problem<'_>) -> usize {
    let staying = problem.least_staying_moves();
    let tight = if problem.survey.all_equal() { None } else { tight::staying_moves(problem) };
    let left_alone = |&&partition: &&usize| problem.holders[partition].is_none();
    let forced = problem.survey.homeless - problem.groups().impossible().iter().filter(left_alone).count();
    forced + staying.max(usize::try_from(tight.unwrap_or(0)).unwrap_or(0))
}

/// How many partitions whose holder stays have to move, at least, to bring every worker within its bounds.
pub(super) fn staying_moves(problem: &Problem<'_>) -> usize {
    let survey = &problem.survey;
    let bounds = problem.bounds();
    let excess: Vec<_> = pairwise(&survey.loads, &bounds.upper);
    let lacking: u64 = pairwise(&bounds.lower, &survey.loads).iter().sum();
    let still_lacking = lacking.saturating_sub(survey.homeless_weight);
    if still_lacking == 0 && excess.iter().all(|&excess| excess == 0) {
        return 0;
    }
    let inventory = survey.inventory();
    let mut shed = Taken::default();
    let mut kept = Vec::new();
    for (worker, &excess) in excess.iter().enumerate() {
        let lots = inventory.of(worker);
        let taken = Taken::heaviest_first(lots.iter().rev(), excess);
        if still_lacking > 0 {
            let mut skip = taken.count;
            kept.extend(lots.iter().rev().map(|lot| {
                let gone = u32::try_from(skip).unwrap_or(u32::MAX).min(lot.count);
                skip -= u64::from(gone);
                WeightLot { count: lot.count - gone, ..*lot }
            }));
        }
        shed.count += taken.count;
        shed.weight += taken.weight;
    }
    kept.sort_unstable();
    let fill = Taken::heaviest_first(kept.iter().rev(), still_lacking.saturating_sub(shed.weight));
    usize::try_from(shed.count + fill.count).unwrap_or(usize::MAX)
}

fn pairwise(more: &[u64], less: &[u64]) -> Vec<u64> {
    more.iter().zip(less).map(|(more, less)| more.saturating_sub(*less)).collect()
}

/// Partitions taken from somewhere.
#[derive(Default)]
struct Taken {
    count: u64,
    weight: u64,
}

impl Taken {
    /// So many of `lots`, which come heaviest first, that their weight reaches `goal`; all of them if it does not.
    fn heaviest_first<'l>(lots: impl Iterator<Item = &'l WeightLot>, goal: u64) -> Self {
        let mut taken = Self::default();
        for lot in lots {
            let weight = u64::from(lot.weight);
            let count = goal.saturating_sub(taken.weight).div_ceil(weight).min(u64::from(lot.count));
            if taken.weight >= goal {
                break;
            }
            taken.count += count;
            taken.weight += count * weight;
        }
        taken
    }
}
