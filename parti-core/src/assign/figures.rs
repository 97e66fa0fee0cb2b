//! How good a plan is and what it costs.

use super::survey::Roster;
use super::{Changes, Problem};

/// What a plan reaches and what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many workers stay.
    pub workers: usize,
    /// How many partitions there are.
    pub partitions: usize,
    /// How many partitions change hands.
    pub moved: usize,
    /// How many of those have a holder that stays.
    pub staying_moved: usize,
    /// How many partitions with a holder that stays this plan may move.
    pub budget: usize,
    /// A number of moves, over all rounds, below which no plan brings every worker within its bounds.
    ///
    /// It is the number of partitions without a staying holder, each of which has to move, plus the number of others
    /// that have to:
    ///
    /// - *Shedding.* A worker above its upper bound has to give so many of its partitions that the rest is within it.
    ///   No choice takes fewer than giving the heaviest first, and what it receives only adds to it.
    /// - *Filling.* The workers below their lower bounds lack a weight in sum. The partitions without a holder, and
    ///   those shed, may all go there; what is then still lacking, more partitions have to bring.
    ///
    /// Say that a plan takes `n(w)` partitions from each worker `w`. Then `n(w)` is at least what `w` has to shed, and
    /// what all of them weigh is at most the weight of the `n(w)` heaviest of each, which has to cover what is lacking.
    /// As the next heaviest of a worker never weighs more than the one before, the least sum of such `n(w)` is found by
    /// first shedding and then taking the heaviest that are left anywhere, until nothing is lacking.
    ///
    /// With equal weights it is exact: moving partitions from workers above to workers below their bounds, and from or
    /// to the others where either side runs out, takes exactly so many. With unequal weights the two sides can be at
    /// odds (a heavy partition may fit nowhere until lighter ones have made way), so that more may be needed. Rules
    /// are ignored: they can only make more moves necessary. Where no assignment keeps the bounds, a plan stops short
    /// of them, and may move less.
    pub least_moves: usize,
    /// How many partitions no worker can hold.
    pub unassigned: usize,
    /// The loads before.
    pub before: Spread,
    /// The loads after.
    pub after: Spread,
}

/// How even the loads of the workers that stay are, per unit of capacity, in thousandths of the mean (rounded up for
/// the peak, down for the least).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// The highest load.
    pub peak_permille: u64,
    /// The lowest load.
    pub least_permille: u64,
}

impl Figures {
    pub(super) fn new(problem: &Problem<'_>, changes: &Changes) -> Self {
        let survey = &problem.survey;
        let roster = &survey.roster;
        let Changes { moves, staying_moved, left_out, loads } = changes;
        let forced = moves.len() - staying_moved;
        Self {
            workers: roster.len(),
            partitions: survey.seats.len(),
            moved: moves.len(),
            staying_moved: *staying_moved,
            budget: budget(problem, survey.seats.len() - survey.homeless),
            least_moves: forced + problem.least_staying_moves(),
            // Those that had no holder and get none are not moves.
            unassigned: survey.homeless - forced + left_out,
            before: Spread::new(roster, &survey.loads),
            after: Spread::new(roster, loads),
        }
    }
}

/// How many of the `staying` partitions a plan may move: fewer than the share of the budget, at least one.
pub(super) fn budget(problem: &Problem<'_>, staying: usize) -> usize {
    let percent = u128::from(problem.options.move_budget_percent);
    if percent >= 100 {
        return staying;
    }
    let share = (staying as u128 * percent).saturating_sub(1) / 100;
    usize::try_from(share).unwrap_or(staying).max(1).min(staying)
}

impl Spread {
    fn new(roster: &Roster, loads: &[u64]) -> Self {
        let total: u128 = loads.iter().map(|&load| u128::from(load)).sum();
        let capacity = u128::from(roster.total_capacity());
        let level = |&index: &usize| roster.level(index, loads[index]);
        let mean = |index: usize| (total * u128::from(roster.capacity(index))).max(1);
        let scaled = |index: usize| u128::from(loads[index]) * capacity * 1000;
        let peak = (0..roster.len()).max_by_key(level).map(|index| scaled(index).div_ceil(mean(index)));
        let least = (0..roster.len()).min_by_key(level).map(|index| scaled(index) / mean(index));
        let permille = |value: Option<u128>| u64::try_from(value.unwrap_or(0)).unwrap_or(u64::MAX);
        Self { peak_permille: permille(peak), least_permille: permille(least) }
    }
}
