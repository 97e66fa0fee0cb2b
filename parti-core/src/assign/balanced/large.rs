//! The first part of step 3, where weights differ: large partitions go first, as each saves the moves of many light ones.
//!
//! A partition is *large* if it weighs more than the lightest there are.

use alloc::collections::BinaryHeap;
use alloc::collections::binary_heap::PeekMut;
use alloc::vec::Vec;

use super::Draft;
use super::heap::Ranked;
use super::transfers::{Pass, Transfer, within_budget};
use crate::assign::bounds::Bounds;
use crate::assign::class::{Class, Movable};

/// What is still to be done, all workers together.
struct Need {
    /// The weight above upper bounds.
    excess: u64,
    /// The weight missing below lower bounds.
    lack: u64,
    /// By so much givers may sink below their lower bounds in sum, to be filled up again with light partitions that have
    /// to move anyway.
    refill: u64,
}

/// What a worker still has to give.
struct Giver {
    /// It goes through its classes once, heaviest first; the first so many are left.
    classes: usize,
    /// What its large partitions weigh.
    large_weight: u64,
}

/// How urgent it is that a worker gives: first come those that cannot come within their bounds by giving light
/// partitions, then those with the heaviest to give, then the most loaded.
type Urgency = (bool, u64, u64);

impl Pass {
    /// Transfers large partitions, heaviest first, from workers above their bounds, or from any if that is not enough, to
    /// workers below theirs.
    ///
    /// A giver may give a large partition although that takes it below its lower bound: it comes down as far as it can
    /// at the cost of one move, and gets back light partitions that others have to give in any case, and which the
    /// receiver of the large one no longer needs.
    pub(super) fn move_large(&mut self, draft: &mut Draft<'_>) {
        let mut need = Need::new(draft);
        let mut givers: Vec<_> = (0..draft.loads.len()).map(|worker| Giver::new(self, draft, worker)).collect();
        let mut heap = BinaryHeap::new();
        for worker in (0..draft.loads.len()).filter(|&worker| draft.loads[worker] > draft.bounds.lower[worker]) {
            let excess = draft.loads[worker].saturating_sub(draft.bounds.upper[worker]);
            need.refill += excess.saturating_sub(givers[worker].large_weight);
            if let Some(heaviest) =
                self.movables.of(worker as u32).last().filter(|movable| draft.is_large(movable.class.weight()))
            {
                heap.push(Ranked::new(givers[worker].urgency(draft, worker, heaviest.class), worker, draft));
            }
        }
        while let Some(mut top) = heap.peek_mut() {
            if need.lack == 0 {
                break;
            }
            let from = top.worker();
            let giver = &mut givers[from];
            let movable = self.movables.of(from as u32)[giver.classes - 1];
            let transfer = self.large_transfer(draft, from, movable, &need);
            let transfer = transfer.and_then(|transfer| within_budget(draft, transfer));
            if transfer.is_none_or(|transfer| transfer.count == movable.count) {
                giver.classes -= 1;
            }
            if let Some(transfer) = transfer {
                giver.large_weight -= transfer.weight();
                need.add(self, draft, transfer);
            }
            // What it cannot give now it will not be asked for again: lighter ones come next.
            let left = &self.movables.of(from as u32)[..giver.classes];
            let can_go = |movable: &Movable| {
                draft.is_large(movable.class.weight()) && need.allows(draft, from, movable.class.weight())
            };
            if let Some(at) = left.iter().rposition(can_go) {
                giver.classes = at + 1;
                top.key = giver.urgency(draft, from, left[at].class);
            } else {
                PeekMut::pop(top);
            }
        }
    }

    /// As many partitions of a class as the giver has to give, or as are missing elsewhere; but not more than the
    /// workers' bounds allow, or one if it can be made up for.
    fn large_transfer(&mut self, draft: &Draft<'_>, from: usize, movable: Movable, need: &Need) -> Option<Transfer> {
        let Draft { loads, bounds, .. } = draft;
        let (class, weight) = (movable.class, movable.class.weight());
        let to = self.least_loaded.roomiest(draft, class.pool());
        if to == from || !draft.is_under(to) {
            return None;
        }
        // A giver within its bounds gives only what those above theirs cannot make up for.
        let needed = match loads[from].saturating_sub(bounds.upper[from]) {
            0 => need.lack.saturating_sub(need.excess),
            excess => excess,
        };
        let (room, lack) = (bounds.upper[to] - loads[to], bounds.lower[to] - loads[to]);
        let most = (room / weight).min((lack / weight).max(1));
        let count = needed.div_ceil(weight).min(u64::from(movable.count)).min(most);
        let slack = loads[from].saturating_sub(bounds.lower[from]);
        let fitting = count.min(slack / weight);
        let count = if fitting == 0 && need.allows(draft, from, weight) { count.min(1) } else { fitting };
        let count = u32::try_from(count).ok().filter(|&count| count > 0)?;
        Some(Transfer { from, to, class, count })
    }
}

impl Giver {
    fn new(pass: &Pass, draft: &Draft<'_>, worker: usize) -> Self {
        let movables = pass.movables.of(worker as u32);
        let large = movables.iter().filter(|movable| draft.is_large(movable.class.weight()));
        Self { classes: movables.len(), large_weight: large.map(Movable::weight).sum() }
    }

    fn urgency(&self, draft: &Draft<'_>, worker: usize, next: Class) -> Urgency {
        (self.large_weight > draft.bounds.upper[worker], next.weight(), draft.loads[worker])
    }
}

impl Need {
    fn new(draft: &Draft<'_>) -> Self {
        let Draft { loads, bounds, .. } = draft;
        let sum =
            |more: &[u64], less: &[u64]| more.iter().zip(less).map(|(more, less)| more.saturating_sub(*less)).sum();
        Self { excess: sum(loads, &bounds.upper), lack: sum(&bounds.lower, loads), refill: 0 }
    }

    /// Whether a worker stays above its lower bound without a partition of this weight, or has something above it, and
    /// what it then lacks can be made up for.
    fn allows(&self, draft: &Draft<'_>, from: usize, weight: u64) -> bool {
        let slack = draft.loads[from].saturating_sub(draft.bounds.lower[from]);
        weight <= slack || slack > u64::from(draft.current.lightest) && weight - slack <= self.refill
    }

    /// Adds a transfer to the pass, and counts what that changes.
    fn add(&mut self, pass: &mut Pass, draft: &mut Draft<'_>, transfer: Transfer) {
        let outside = |draft: &Draft<'_>, worker: usize| {
            let load = draft.loads[worker];
            let Bounds { lower, upper, .. } = draft.bounds;
            (load.saturating_sub(upper[worker]), lower[worker].saturating_sub(load))
        };
        let workers = [transfer.from, transfer.to];
        let before = workers.map(|worker| outside(draft, worker));
        pass.add(draft, transfer);
        let after = workers.map(|worker| outside(draft, worker));
        self.excess = self.excess + after[0].0 + after[1].0 - before[0].0 - before[1].0;
        self.lack = self.lack + after[0].1 + after[1].1 - before[0].1 - before[1].1;
        self.refill -= after[0].1 - before[0].1;
    }
}
