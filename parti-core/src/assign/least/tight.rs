//! A tighter bound than the quick one, for those who have the time.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::assign::Problem;
use crate::assign::class::Movable;

/// What a move costs in all; giver and receiver each bear a part of it.
const MOVE: i64 = 1000;

/// So many different weights are dealt with; with more, the quick bound has to do.
const MOST_WEIGHTS: usize = 8;

/// So many changes of load are looked at, all workers together; with more, the quick bound has to do.
const MOST_CHANGES: u64 = 1 << 24;

/// More than any change of load costs.
const IMPOSSIBLE: i64 = i64::MAX / 4;

/// How many partitions whose holder stays have to move, at least, to bring every worker within its bounds; none if there
/// are too many different weights to tell, or one so heavy that no worker can hold it within its bounds.
///
/// Each move is counted in part at its giver and in part at its receiver: `MOVE - share` and `share`. Take any plan. The
/// net weight that leaves worker `w` is some `x(w)`, within what its bounds allow, and what `w` pays is at least
/// `cost(w, x(w))`, the cheapest way to give some of its own partitions, and receive partitions of weights that there
/// are, so that `x(w)` leaves. The sum of `x` over the workers is minus the weight of the unassigned partitions,
/// so for any `price` the plan pays at least the sum of the least `cost(w, x) - price · x`, minus `price` times that
/// weight. Every share and every price thus proves a bound. Both are searched for the best.
pub(super) fn staying_moves(problem: &Problem<'_>) -> Option<u64> {
    let ledger = Ledger::new(problem)?;
    // The best bound for a share is a concave function of it.
    let (mut from, mut to) = (0, MOVE);
    while to - from > 2 {
        let third = (to - from) / 3;
        if ledger.bound(from + third) < ledger.bound(to - third) { from += third } else { to -= third }
    }
    let best = (from..=to).map(|share| ledger.bound(share)).max().unwrap_or(0);
    u64::try_from(best.max(0)).ok().map(|cost| cost.div_ceil(MOVE.unsigned_abs()))
}

/// Loads and weights, in multiples of the granule.
struct Ledger {
    workers: Vec<Account>,
    /// All weights that there are.
    weights: Vec<i64>,
    unassigned: i64,
    unassigned_weight: i64,
    /// How far a sum of what is given and received strays from the change that it comes to.
    detour: i64,
}

/// What can change for one worker.
struct Account {
    /// The least and the greatest weight that may leave it, net.
    least: i64,
    greatest: i64,
    /// The weights that it holds, and how many of each.
    held: Vec<(i64, u32)>,
}

/// For one worker, the costs of the changes from `least` on.
struct Costs {
    least: i64,
    of: Vec<i64>,
}

impl Ledger {
    fn new(problem: &Problem<'_>) -> Option<Self> {
        let current = problem.current();
        let granule = current.granule.max(1);
        let weights: BTreeSet<_> = current.weights.iter().map(|weight| i64::from(weight / granule)).collect();
        if weights.len() > MOST_WEIGHTS {
            return None;
        }
        let in_granules = |weight: u64| i64::try_from(weight / u64::from(granule)).ok();
        let bounds = problem.bounds();
        let highest = bounds.upper.iter().max().copied().unwrap_or(0);
        if u64::from(current.heaviest) > highest {
            return None;
        }
        let account = |(worker, held): (usize, &[Movable])| {
            let held = held.iter().map(|held| Some((in_granules(held.class.weight())?, held.count)));
            Some(Account {
                least: in_granules(current.loads[worker])? - in_granules(bounds.upper[worker])?,
                greatest: in_granules(current.loads[worker])? - in_granules(bounds.lower[worker])?,
                held: held.collect::<Option<_>>()?,
            })
        };
        let workers: Vec<_> = current.movables().all().enumerate().map(account).collect::<Option<_>>()?;
        let weights: Vec<_> = weights.into_iter().collect();
        let detour = detour(&weights)?;
        let changes: u64 = workers.iter().map(|account| account.window(detour).1.unsigned_abs()).sum();
        let unassigned = i64::try_from(current.unassigned).ok()?;
        let unassigned_weight = in_granules(current.unassigned_weight)?;
        Some(Self { workers, weights, unassigned, unassigned_weight, detour }).filter(|_| changes <= MOST_CHANGES)
    }

    /// The best bound for one share, in units of `MOVE`.
    fn bound(&self, share: i64) -> i64 {
        let costs: Vec<_> = self.workers.iter().map(|account| self.costs(account, share)).collect();
        // The higher the price, the more leaves; the best price is where what leaves is what has to.
        let (mut low, mut high) = (-4 * MOVE, 4 * MOVE);
        while low < high {
            let price = low + (high - low) / 2;
            let leaving: i64 = costs.iter().map(|costs| costs.at(price).1).sum();
            if leaving < -self.unassigned_weight { low = price + 1 } else { high = price }
        }
        let bound = |price: i64| {
            let paid: i64 = costs.iter().map(|costs| costs.at(price).0).sum();
            paid - price * self.unassigned_weight - share * self.unassigned
        };
        bound(low).max(bound(low - 1))
    }

    /// What each change costs a worker at least.
    ///
    /// Weights in turn: some of those held are given, any number is received. Sums on the way need be no farther from the
    /// change than the detour, see [`detour`].
    fn costs(&self, account: &Account, share: i64) -> Costs {
        let (start, len) = account.window(self.detour);
        let mut costs = vec![IMPOSSIBLE; usize::try_from(len).unwrap_or(0)];
        costs[usize::try_from(-start).unwrap_or(0)] = 0;
        for &weight in &self.weights {
            let step = usize::try_from(weight).unwrap_or(usize::MAX);
            let mut count = account.held.iter().find(|held| held.0 == weight).map_or(0, |held| held.1);
            // So many at once that every number up to the count is a sum of some of them.
            let mut batch = 1;
            while count > 0 {
                let given = batch.min(count);
                let (cost, by) = (i64::from(given) * (MOVE - share), step.saturating_mul(given as usize));
                for at in (by..costs.len()).rev() {
                    costs[at] = costs[at].min(costs[at - by] + cost);
                }
                count -= given;
                batch *= 2;
            }
            for at in (0..costs.len().saturating_sub(step)).rev() {
                costs[at] = costs[at].min(costs[at + step] + share);
            }
        }
        let from = usize::try_from(account.least - start).unwrap_or(0);
        let to = usize::try_from(account.greatest - start).unwrap_or(0);
        Costs { least: account.least, of: costs[from..=to].to_vec() }
    }
}

impl Account {
    /// The first of the changes to look at, and how many they are.
    fn window(&self, detour: i64) -> (i64, i64) {
        let start = self.least.min(0) - detour;
        (start, self.greatest.max(0) + detour + 1 - start)
    }
}

impl Costs {
    /// The least cost at a price, and the least change that has it.
    fn at(&self, price: i64) -> (i64, i64) {
        let all = (self.least..).zip(&self.of).map(|(change, cost)| (cost - price * change, change));
        all.min().unwrap_or((0, 0))
    }
}

/// How much is given beyond what leaves, or received beyond what comes, in the cheapest way to any change: for each
/// weight less than the greatest of the least common multiples of two weights.
///
/// Say that more is received, though something leaves. Then so much of some weight `j` is received that it reaches its
/// common multiple with every other one. As more is given than received, so much of some weight `i` is given, too; but
/// then a common multiple of both could be left out on either side, which is cheaper.
fn detour(weights: &[i64]) -> Option<i64> {
    let pairs = weights.iter().flat_map(|a| weights.iter().map(move |b| (*a, *b)));
    let multiple = |(a, b): (i64, i64)| a.checked_mul(b).map(|product| product / greatest_common_divisor(a, b));
    let greatest = pairs.map(multiple).try_fold(0, |known, multiple| multiple.map(|multiple| multiple.max(known)))?;
    greatest.checked_mul(i64::try_from(weights.len()).ok()?)
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
