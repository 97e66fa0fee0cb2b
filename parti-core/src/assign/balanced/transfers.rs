//! Step 3: how many partitions of which class go from the most to the least loaded workers.

use alloc::collections::BinaryHeap;
use alloc::collections::binary_heap::PeekMut;
use alloc::vec::Vec;

use super::Draft;
use super::heap::{LeastLoaded, Ranked};
use crate::assign::class::{Class, Movable, Movables};

/// So many partitions of a class from one worker to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) class: Class,
    pub(super) count: u32,
}

/// What one pass transfers, and what it works with.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) transfers: Vec<Transfer>,
    /// Whether more would be transferred if the budget allowed it.
    pub(super) is_cut_short: bool,
    pub(super) movables: Movables,
    pub(super) least_loaded: LeastLoaded,
}

/// How loaded a giver is: whether it is above its upper bound, then its load per unit of capacity.
type Depth = (bool, u64);

/// Finds the transfers of one pass; the loads are then as if they were done.
pub(super) fn find(draft: &mut Draft<'_>, is_first: bool) -> Pass {
    let Draft { current, pools, .. } = *draft;
    // Where nothing has moved yet, what workers hold has been counted for the least possible number of moves.
    let is_plain = pools.is_free() && draft.room.is_unlimited();
    let movables = if is_first && current.unassigned == 0 && is_plain {
        current.movables().clone()
    } else {
        let owned = draft.owners.iter().enumerate();
        let movable = |(partition, &owner)| Some((owner, Movable { class: draft.class(partition)?, count: 1 }));
        Movables::new(draft.loads.len(), owned.filter_map(movable))
    };
    let transfers = Vec::with_capacity(2 * draft.loads.len());
    let mut pass = Pass { transfers, is_cut_short: false, movables, least_loaded: LeastLoaded::new(draft) };
    if is_first && !current.all_weigh_the_same() && is_plain {
        pass.move_large(draft);
    }
    pass.move_best(draft);
    pass
}

impl Transfer {
    pub(super) fn weight(&self) -> u64 {
        self.class.weight() * u64::from(self.count)
    }
}

impl Pass {
    /// Transfers from the most loaded what evens out most.
    fn move_best(&mut self, draft: &mut Draft<'_>) {
        let workers = 0..draft.loads.len();
        let mut givers: BinaryHeap<_> =
            workers.clone().map(|worker| Ranked::new(depth(draft, worker), worker, draft)).collect();
        // Where the budget will not do, everybody gets a part of it.
        let is_enough = draft.problem.least_staying_moves() <= draft.budget;
        let over = workers.clone().filter(|&worker| draft.is_over(worker)).count();
        let most = if is_enough { u64::MAX } else { (draft.budget / over.max(1)) as u64 };
        let mut under = workers.filter(|&worker| draft.is_under(worker)).count();
        loop {
            let Some(mut top) = givers.peek_mut() else { break };
            let from = top.worker();
            // A load that has changed since the worker came into the heap moves it to where it belongs now.
            let now = depth(draft, from);
            if now != top.key {
                top.key = now;
                continue;
            }
            if !draft.is_over(from) && under == 0 {
                break;
            }
            let Some(transfer) = self.best_transfer(draft, from, most) else {
                PeekMut::pop(top);
                continue;
            };
            let Some(transfer) = within_budget(draft, transfer) else {
                self.is_cut_short = true;
                break;
            };
            let to = transfer.to;
            let was_under = usize::from(draft.is_under(from)) + usize::from(draft.is_under(to));
            self.add(draft, transfer);
            under = under + usize::from(draft.is_under(from)) + usize::from(draft.is_under(to)) - was_under;
            top.key = depth(draft, from);
            drop(top);
            // A heavy partition may lift its receiver above the upper bound, which then has lighter ones to give.
            if draft.is_over(to) {
                givers.push(Ranked::new(depth(draft, to), to, draft));
            }
        }
    }

    /// Adds a transfer to the pass.
    pub(super) fn add(&mut self, draft: &mut Draft<'_>, transfer: Transfer) {
        let Transfer { from, to, class, count } = transfer;
        self.movables.take(from as u32, class, count);
        draft.take(from, count, transfer.weight());
        draft.give(to, count, transfer.weight());
        self.transfers.push(transfer);
        // A giver that is still above its lower bound is nobody's receiver, so that the heaps need not know.
        if draft.is_under(from) {
            self.least_loaded.has_sunk(draft, from);
        }
    }

    /// The transfer from a worker that evens out most, if one helps; of at most so many partitions.
    fn best_transfer(&mut self, draft: &Draft<'_>, from: usize, most: u64) -> Option<Transfer> {
        let mut best: Option<(u128, Transfer)> = None;
        for movables in self.movables.of(from as u32).chunk_by(|a, b| a.class.pool() == b.class.pool()) {
            let pool = movables[0].class.pool();
            if draft.pools.members(pool).is_empty() {
                continue;
            }
            let to = self.least_loaded.roomiest(draft, pool);
            // Two workers within their bounds are left alone, however far they are from each other.
            if to == from || !(draft.is_over(from) || draft.is_under(to)) {
                continue;
            }
            let pair = Pair::new(draft, from, to);
            let Some(movable) = pair.best(movables) else { continue };
            let gain = pair.gain(&movable);
            if best.as_ref().is_none_or(|(known, _)| gain > *known) {
                let count = pair.how_many(movable, most);
                best = Some((gain, Transfer { from, to, class: movable.class, count }));
            }
        }
        best.map(|(_, transfer)| transfer)
    }
}

/// A giver and a receiver.
struct Pair<'d, 'p> {
    draft: &'d Draft<'p>,
    from: usize,
    to: usize,
    /// The weight that, transferred, swaps how loaded the two are; half of it makes them equally loaded.
    reach: u64,
}

impl<'d, 'p> Pair<'d, 'p> {
    fn new(draft: &'d Draft<'p>, from: usize, to: usize) -> Self {
        let capacity = |worker: usize| u128::from(draft.current.workers.capacities()[worker]);
        let (giving, taking) = (capacity(from), capacity(to));
        let (high, low) = (u128::from(draft.loads[from]), u128::from(draft.loads[to]));
        let reach = (2 * high * taking).saturating_sub(2 * low * giving) / (giving + taking);
        Self { draft, from, to, reach: u64::try_from(reach).unwrap_or(u64::MAX) }
    }

    /// How much a partition evens out the two: what the sum of their squared loads loses.
    fn gain(&self, movable: &Movable) -> u128 {
        let weight = movable.class.weight();
        u128::from(weight) * u128::from(self.reach.saturating_sub(weight))
    }

    /// Of `movables`, which are in order of weight, the one whose transfer evens out most.
    fn best(&self, movables: &[Movable]) -> Option<Movable> {
        let room = self.draft.bounds.upper[self.to].saturating_sub(self.draft.loads[self.to]);
        let middle = movables.partition_point(|movable| movable.class.weight() <= self.reach / 2);
        let near = movables[..middle].last().into_iter().chain(first_or_free(&movables[middle..]));
        // Weights next to half of the reach gain most; one that takes the two farther out of their bounds is no gain.
        let now = self.outside_after(0);
        // What a preference asks for gives way to the bounds alone, not to a more even load within them.
        let most = if self.draft.may_spill { now.saturating_sub(1) } else { now };
        let is_better = |movable: &&Movable| {
            let weight = movable.class.weight();
            self.gain(movable) > 0 && self.outside_after(weight) <= most && self.draft.fits(self.to, weight)
        };
        let best = near.filter(is_better).max_by_key(|movable| self.gain(movable));
        if let Some(best) = best
            && (best.class.weight() <= room || self.is_only_way(best, movables, room))
        {
            return Some(*best);
        }
        // Else the heaviest that fits, even if the loads get no more even by it, as bounds come first.
        let fitting = movables.partition_point(|movable| movable.class.weight() <= room);
        let helps = |movable: &&Movable| {
            let weight = movable.class.weight();
            is_better(movable) || self.outside_after(weight) < now && self.draft.fits(self.to, weight)
        };
        movables[..fitting].last().filter(helps).copied()
    }

    /// Whether the giver cannot come within its bounds by giving lighter ones that the receiver has room for, and the two
    /// come closer to theirs.
    fn is_only_way(&self, heavy: &Movable, movables: &[Movable], room: u64) -> bool {
        let weight = heavy.class.weight();
        let lighter = movables.iter().filter(|movable| movable.class.weight() < weight.min(room + 1));
        let excess = self.draft.loads[self.from].saturating_sub(self.draft.bounds.upper[self.from]);
        lighter.map(Movable::weight).sum::<u64>() < excess && self.outside_after(weight) < self.outside_after(0)
    }

    /// How many partitions to transfer at once: what both need, or what one needs as far as it brings the other no
    /// further than the middle of its bounds, and at most so many; at least one.
    fn how_many(&self, movable: Movable, most: u64) -> u32 {
        let Draft { loads, bounds, .. } = self.draft;
        let (high, low) = (loads[self.from], loads[self.to]);
        let middle = |worker: usize| u64::midpoint(bounds.lower[worker], bounds.upper[worker]);
        let (excess, lack) = (high.saturating_sub(bounds.upper[self.from]), bounds.lower[self.to].saturating_sub(low));
        let spare = if excess > 0 { excess } else { high.saturating_sub(middle(self.from)) };
        let room = if lack > 0 { lack } else { middle(self.to).saturating_sub(low) };
        let most = most.min(self.draft.left(self.to, movable.class.weight()));
        let count = (spare.min(room) / movable.class.weight()).min(most).clamp(1, u64::from(movable.count));
        u32::try_from(count).unwrap_or(movable.count)
    }

    /// How far the two, taken together, are outside their bounds once `weight` is transferred.
    fn outside_after(&self, weight: u64) -> u64 {
        let Draft { loads, bounds, .. } = self.draft;
        bounds.outside(self.from, loads[self.from] - weight) + bounds.outside(self.to, loads[self.to] + weight)
    }
}

/// The transfer, or as much of it as the budget allows, which then has less.
pub(super) fn within_budget(draft: &mut Draft<'_>, transfer: Transfer) -> Option<Transfer> {
    if transfer.class.is_free() {
        return Some(transfer);
    }
    let count = transfer.count.min(u32::try_from(draft.budget).unwrap_or(u32::MAX));
    draft.budget -= count as usize;
    Some(Transfer { count, ..transfer }).filter(|transfer| transfer.count > 0)
}

fn depth(draft: &Draft<'_>, worker: usize) -> Depth {
    (draft.is_over(worker), draft.current.relative_load(worker, draft.loads[worker]))
}

/// The first of `movables`, or the second where that weighs the same and is free to move.
fn first_or_free(movables: &[Movable]) -> Option<&Movable> {
    match movables {
        [first, second, ..] if first.class.weight() == second.class.weight() => Some(second),
        [first, ..] => Some(first),
        [] => None,
    }
}
