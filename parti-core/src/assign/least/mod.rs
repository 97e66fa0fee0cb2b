//! The least possible number of moves; what it is and why it holds is told at [`Figures::least_moves`].
//!
//! [`Figures::least_moves`]: super::Figures::least_moves

mod tight;

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Problem;
use super::bounds::Bounds;
use super::class::Movable;
use super::current::Current;

/// A number of moves, over all rounds, below which no plan brings every worker within its bounds: as
/// [`Figures::least_moves`](super::Figures::least_moves), but closer where weights differ, and much slower to find.
pub fn least_moves(problem: &Problem<'_>) -> usize {
    let staying = problem.least_staying_moves();
    let tight = if problem.current().all_weigh_the_same() { None } else { tight::staying_moves(problem) };
    let left_alone = |&&partition: &&usize| problem.holders()[partition].is_none();
    let forced = problem.current().unassigned - problem.pools().impossible().iter().filter(left_alone).count();
    forced + staying.max(usize::try_from(tight.unwrap_or(0)).unwrap_or(0))
}

/// How many partitions whose holder stays have to move, at least, to bring every worker within its bounds.
pub(super) fn staying_moves(current: &Current, bounds: &Bounds) -> usize {
    let excess: Vec<_> = pairwise(&current.loads, &bounds.upper);
    let lacking: u64 = pairwise(&bounds.lower, &current.loads).iter().sum();
    let still_lacking = lacking.saturating_sub(current.unassigned_weight);
    if still_lacking == 0 && excess.iter().all(|&excess| excess == 0) {
        return 0;
    }
    let mut shed = Taken::default();
    let mut kept = Vec::new();
    for (movables, &excess) in current.movables().all().zip(&excess) {
        let movables = movables.iter().rev();
        let taken = Taken::heaviest_first(movables.clone(), excess);
        let mut skip = taken.count;
        kept.extend(movables.map(|movable| {
            let gone = u32::try_from(skip).unwrap_or(u32::MAX).min(movable.count);
            skip -= u64::from(gone);
            Movable { count: movable.count - gone, ..*movable }
        }));
        shed.count += taken.count;
        shed.weight += taken.weight;
    }
    kept.sort_unstable_by_key(|movable| Reverse(movable.class));
    let fill = Taken::heaviest_first(kept.iter(), still_lacking.saturating_sub(shed.weight));
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
    /// So many of `movables`, which come heaviest first, that their weight reaches `goal`; all if it does not.
    fn heaviest_first<'m>(movables: impl Iterator<Item = &'m Movable>, goal: u64) -> Self {
        let mut taken = Self::default();
        for movable in movables {
            if taken.weight >= goal {
                break;
            }
            let weight = movable.class.weight();
            let count = (goal - taken.weight).div_ceil(weight).min(u64::from(movable.count));
            taken.count += count;
            taken.weight += count * weight;
        }
        taken
    }
}
