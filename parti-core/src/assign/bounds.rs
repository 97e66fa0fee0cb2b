//! How much load each worker should have.

use alloc::vec::Vec;

use super::Problem;
use super::survey::Survey;

/// The least and the greatest load of each worker that counts as balanced.
///
/// A worker's *share* is the total weight × its capacity ÷ the capacity of all; partitions that no worker can hold do not
/// count, as nobody will ever have them. It is balanced within epsilon of its
/// share; where no multiple of the granule (the greatest common divisor of the weights) lies so close, the two
/// multiples next to the share are. A partition heavier than a worker's upper bound has to sit somewhere: for each one,
/// heaviest first, a largest worker is set aside with it, and the shares of the others are of what is left.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) lower: Vec<u64>,
    pub(super) upper: Vec<u64>,
    /// The same for half of epsilon: partitions that need a place anyway are placed within these, so that the next
    /// small change does not at once push many workers out of theirs.
    pub(super) inner_lower: Vec<u64>,
    pub(super) inner_upper: Vec<u64>,
}

impl Bounds {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let Problem { survey, options, .. } = problem;
        let (roster, epsilon_permille) = (&survey.roster, options.epsilon_permille);
        let (total, capacity) = without_giants(problem);
        let within = |epsilon_permille| {
            let mut known = (0, (0, 0));
            let bounds_of = |index| {
                let own = roster.capacity(index);
                if known.0 != own {
                    known = (own, bounds(survey, total * u128::from(own), capacity, epsilon_permille));
                }
                known.1
            };
            (0..roster.len()).map(bounds_of).unzip()
        };
        let (lower, upper) = within(epsilon_permille);
        let (inner_lower, inner_upper) = within(epsilon_permille / 2);
        Self { lower, upper, inner_lower, inner_upper }
    }
}

/// The bounds of a worker whose share is `share / capacity`.
fn bounds(survey: &Survey, share: u128, capacity: u128, epsilon_permille: u32) -> (u64, u64) {
    let (capacity, epsilon) = (capacity.max(1), u128::from(epsilon_permille));
    let granule = u128::from(survey.granule.max(1));
    let lower = (share * 1000_u128.saturating_sub(epsilon)).div_ceil(capacity * 1000 * granule);
    let upper = share * (1000 + epsilon) / (capacity * 1000 * granule);
    let below = share / (capacity * granule);
    let above = share.div_ceil(capacity * granule);
    let load = |granules: u128| u64::try_from(granules * granule).unwrap_or(u64::MAX);
    (load(lower.min(below)), load(upper.max(above)))
}

/// The total weight and capacity without the partitions that no worker can hold within its bound, and their workers.
fn without_giants(problem: &Problem<'_>) -> (u128, u128) {
    let Problem { survey, options, .. } = problem;
    let roster = &survey.roster;
    let impossible: u64 = problem.groups().impossible().iter().map(|&partition| problem.weight(partition)).sum();
    let (mut total, mut capacity) = (u128::from(survey.total - impossible), u128::from(roster.total_capacity()));
    let mut capacities: Vec<_> = (0..roster.len()).map(|index| roster.capacity(index)).collect();
    capacities.sort_unstable();
    let largest = |capacities: &[u32]| u128::from(capacities.last().copied().unwrap_or(0));
    let upper = |share, capacity| u128::from(bounds(survey, share, capacity, options.epsilon_permille).1);
    let first_upper = upper(total * largest(&capacities), capacity);
    if u128::from(survey.heaviest) <= first_upper {
        return (total, capacity);
    }
    // Setting a giant aside lowers the shares, so that lighter ones may be giants too.
    let mut heavy = heaviest_first(problem);
    heavy.reverse();
    while let Some(weight) = heavy.pop().map(u128::from) {
        if capacities.len() <= 1 || weight <= upper(total * largest(&capacities), capacity) {
            break;
        }
        total -= weight;
        capacity -= largest(&capacities);
        capacities.pop();
    }
    (total, capacity)
}

/// The weights of the heaviest partitions that a worker can hold, as many as there are workers.
fn heaviest_first(problem: &Problem<'_>) -> Vec<u32> {
    let impossible = problem.groups().impossible();
    let all = problem.survey.weights.iter().enumerate();
    let possible = all.filter(|(partition, _)| impossible.binary_search(partition).is_err());
    let mut weights: Vec<_> = possible.map(|(_, &weight)| weight).collect();
    let count = problem.survey.roster.len().min(weights.len());
    if count < weights.len() {
        weights.select_nth_unstable_by(count, |a, b| b.cmp(a));
        weights.truncate(count);
    }
    weights.sort_unstable_by(|a, b| b.cmp(a));
    weights
}
