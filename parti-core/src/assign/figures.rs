//! How good a plan is and what it costs.

use super::apart::Crowd;
use super::current::{Current, NOBODY};
use super::{Move, MoveReason, Problem};

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
    /// How many of those leave it for lack of room: a more important one takes their place, or their holder has more than
    /// its limit allows. The budget does not hold them up.
    pub displaced: usize,
    /// How many partitions with a holder that stays this plan may move beside those.
    pub budget: usize,
    /// A number of moves, over all rounds, below which no plan brings every worker within its bounds.
    ///
    /// It is the number of unassigned partitions, each of which has to move, plus the number of others that have to:
    ///
    /// - *Shedding.* A worker above its upper bound has to give so many of its partitions that the rest is within it.
    ///   No choice takes fewer than giving the heaviest first, and what it receives only adds to it.
    /// - *Filling.* The workers below their lower bounds lack a weight in sum. The unassigned partitions, and those
    ///   shed, may all go there; what is then still lacking, more partitions have to bring.
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
    /// How many partitions have no owner: no worker can hold them, or none has room for them (see
    /// [`Plan::without_room`](super::Plan::without_room)).
    pub unassigned: usize,
    /// How many partitions are with a worker that stays, and that is not one that they prefer.
    pub spilled_before: usize,
    /// The same after.
    pub spilled_after: usize,
    /// How many partitions would have to leave workers that stay so that those of one key are as far apart as they are
    /// to be.
    pub crowded_before: usize,
    /// The same after.
    pub crowded_after: usize,
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
    /// Of a plan with these owners, by worker index, and these moves.
    pub(super) fn new(problem: &Problem<'_>, owners: &[u32], moves: &[Move]) -> Self {
        let (current, pools) = (problem.current(), problem.pools());
        let mut loads = current.loads.clone();
        let (mut staying_moved, mut left_out) = (0, 0);
        for &Move { partition, to, .. } in moves {
            let holder = current.holders[partition];
            if holder != NOBODY {
                staying_moved += 1;
                loads[holder as usize] -= problem.weight(partition);
            }
            match to {
                Some(slot) => loads[current.workers.index(slot) as usize] += problem.weight(partition),
                None => left_out += 1,
            }
        }
        let forced = moves.len() - staying_moved;
        Self {
            workers: current.workers.len(),
            partitions: current.holders.len(),
            moved: moves.len(),
            staying_moved,
            displaced: moves.iter().filter(|change| change.reason == MoveReason::Room).count(),
            budget: problem.budget(),
            least_moves: forced + problem.least_staying_moves(),
            // Those that had no holder and get none are not moves.
            unassigned: current.unassigned - forced + left_out,
            spilled_before: pools.spilled(&current.holders).count(),
            spilled_after: pools.spilled(owners).count(),
            crowded_before: Crowd::new(problem.apart(), &current.holders).excess(),
            crowded_after: Crowd::new(problem.apart(), owners).excess(),
            before: Spread::new(current, &current.loads),
            after: Spread::new(current, &loads),
        }
    }
}

impl Spread {
    fn new(current: &Current, loads: &[u64]) -> Self {
        let total: u128 = loads.iter().map(|&load| u128::from(load)).sum();
        let capacity = u128::from(current.workers.total_capacity());
        let relative_load = |&worker: &usize| current.relative_load(worker, loads[worker]);
        let mean = |worker: usize| (total * u128::from(current.workers.capacities()[worker])).max(1);
        let scaled = |worker: usize| u128::from(loads[worker]) * capacity * 1000;
        let workers = 0..loads.len();
        let peak = workers.clone().max_by_key(relative_load).map(|worker| scaled(worker).div_ceil(mean(worker)));
        let least = workers.min_by_key(relative_load).map(|worker| scaled(worker) / mean(worker));
        let permille = |value: Option<u128>| u64::try_from(value.unwrap_or(0)).unwrap_or(u64::MAX);
        Self { peak_permille: permille(peak), least_permille: permille(least) }
    }
}
