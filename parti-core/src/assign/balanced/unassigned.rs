//! Step 2: unassigned partitions, heaviest first, each to its home if it fits there, else to where there is most room.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Draft;
use super::heap::LeastLoaded;
use crate::assign::Step;
use crate::assign::bounds::Bounds;
use crate::assign::current::NOBODY;

/// The worker that is being filled up, so that a few workers get much rather than all a little.
struct Filling {
    worker: usize,
    pool: u32,
    /// Up to this load.
    goal: u64,
}

/// What is still to be assigned, and where there is room for it.
struct Room {
    /// The weight of the partitions to come.
    to_come: u64,
    /// What workers lack below their inner bounds.
    lacking: u64,
    filling: Option<Filling>,
    least_loaded: LeastLoaded,
    /// The load of each worker in large partitions; empty until it matters.
    large_loads: Vec<u64>,
    least_large: LeastLoaded,
}

/// Assigns every partition that nobody owns and a worker can hold.
pub(super) fn assign(draft: &mut Draft<'_>) {
    let owned = draft.owners.iter().zip(&*draft.current.weights).enumerate();
    let nobodys = owned.filter(|&(_, (&owner, _))| owner == NOBODY);
    // Of those that weigh the same, the ones that prefer some workers come first, as the others can be anywhere.
    let may_be_anywhere = |partition| draft.pools.preferred(partition).is_none();
    // Where there is room for all, it does not matter how important they are.
    let has_limits = !draft.room.is_unlimited();
    let importance = |partition| if has_limits { draft.problem.priority(partition) } else { 0 };
    let mut unassigned: Vec<_> = nobodys
        .map(|(partition, (_, &weight))| {
            (Reverse(importance(partition)), Reverse(weight), may_be_anywhere(partition), partition as u32)
        })
        .collect();
    unassigned.sort_unstable();
    let lacks = |(load, lower): (&u64, &u64)| lower.saturating_sub(*load);
    let mut room = Room {
        to_come: unassigned.iter().map(|&(_, Reverse(weight), ..)| u64::from(weight)).sum(),
        lacking: draft.loads.iter().zip(&draft.bounds.inner_lower).map(lacks).sum(),
        filling: None,
        least_loaded: LeastLoaded::new(draft),
        large_loads: Vec::new(),
        least_large: LeastLoaded::new(draft),
    };
    for (_, Reverse(weight), _, partition) in unassigned {
        let (weight, partition) = (u64::from(weight), partition as usize);
        room.to_come -= weight;
        // Who finds no room here may do so by displacing others, or not at all: see `room`.
        if let Some(worker) = room.worker_for(draft, partition).filter(|&worker| draft.fits(worker, weight)) {
            let (load, lower) = (draft.loads[worker], draft.bounds.inner_lower[worker]);
            room.lacking -= lower.saturating_sub(load) - lower.saturating_sub(load + weight);
            draft.give(worker, 1, weight);
            draft.owners[partition] = worker as u32;
            if draft.is_large(weight)
                && let Some(large) = room.large_loads.get_mut(worker)
            {
                *large += weight;
            }
        }
    }
}

impl Room {
    /// The worker for a partition, if any can hold it: one that it prefers as long as one of these has room.
    fn worker_for(&mut self, draft: &Draft<'_>, partition: usize) -> Option<usize> {
        if let Some(preferred) = draft.pools.preferred(partition) {
            let weight = draft.problem.weight(partition);
            let has_room = |worker: &usize| draft.has_room(*worker, weight);
            let home = draft.home_in(preferred, partition) as usize;
            let roomiest = || Some(self.least_loaded.roomiest(draft, preferred));
            let worker = Some(home).filter(has_room).or_else(roomiest).filter(has_room);
            if worker.is_some() {
                return worker;
            }
        }
        let home = draft.home_in(draft.pools.of(partition), partition);
        (home != NOBODY).then(|| self.worker_anywhere(draft, partition, home as usize))
    }

    /// The home if that keeps it within its inner bounds and leaves enough for the workers below theirs; else the worker
    /// that is being filled up, or the next to fill up.
    fn worker_anywhere(&mut self, draft: &Draft<'_>, partition: usize, home: usize) -> usize {
        let Bounds { inner_lower, inner_upper, .. } = draft.bounds;
        let weight = draft.problem.weight(partition);
        let load = draft.loads[home];
        if load + weight <= inner_upper[home] && (load < inner_lower[home] || self.to_come >= self.lacking) {
            return home;
        }
        let pool = draft.pools.of(partition);
        if let Some(Filling { worker, pool: known, goal }) = self.filling
            && known == pool
            && draft.loads[worker] + weight <= goal
        {
            return worker;
        }
        let worker = self.least_loaded.roomiest(draft, pool);
        let excess = (draft.loads[worker] + weight).saturating_sub(draft.bounds.upper[worker]);
        if excess > 0 && draft.is_large(weight) && draft.problem.options().step == Step::Planned {
            return self.worker_for_large(draft, pool, worker, excess);
        }
        // First all come to their inner lower bounds, then to the middle of their bounds.
        let lower = inner_lower[worker];
        let goal = if draft.loads[worker] < lower { lower } else { u64::midpoint(lower, inner_upper[worker]) };
        self.filling = Some(Filling { worker, pool, goal });
        worker
    }

    /// For a large partition that has room nowhere: the `roomiest` worker if so much of its load is light that step 3
    /// can take the excess away again; else the one that has the least in large partitions, per unit of capacity.
    fn worker_for_large(&mut self, draft: &Draft<'_>, pool: u32, roomiest: usize, excess: u64) -> usize {
        if self.large_loads.is_empty() {
            self.large_loads = vec![0; draft.loads.len()];
            for (&owner, &weight) in draft.owners.iter().zip(&*draft.current.weights) {
                if let Some(large) = self.large_loads.get_mut(owner as usize).filter(|_| draft.is_large(weight.into()))
                {
                    *large += u64::from(weight);
                }
            }
        }
        if draft.loads[roomiest] - self.large_loads[roomiest] >= excess {
            return roomiest;
        }
        let height = |worker: usize| (false, draft.current.relative_load(worker, self.large_loads[worker]));
        self.least_large.least(draft, pool, height)
    }
}
