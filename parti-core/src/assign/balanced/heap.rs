//! Workers in order of load: the heaps from which givers and receivers are taken.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Draft;
use crate::rng::Rng;

/// A worker in a heap: by `key`, ties by a hash of the slot, so that no worker is preferred everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked<K> {
    pub(super) key: K,
    tie: u32,
    worker: u32,
}

/// How loaded a receiver is: whether it has reached its lower bound, then its load per unit of capacity.
pub(super) type Height = (bool, u64);

/// For each pool, its workers, least loaded first; each heap is made when first asked for.
///
/// Loads change without the heaps' knowledge: a worker that has risen is put right when it is next found at the top;
/// one that has sunk must be [noted](Self::has_sunk), or it is found too late.
#[derive(Debug)]
pub(super) struct LeastLoaded(Vec<Option<BinaryHeap<Reverse<Ranked<Height>>>>>);

impl<K: Ord> Ranked<K> {
    pub(super) fn new(key: K, worker: usize, draft: &Draft<'_>) -> Self {
        let slot = u64::from(draft.current.workers.slots()[worker].value());
        let tie = (Rng::new(draft.problem.options().seed ^ slot).next_u64() >> u32::BITS) as u32;
        Self { key, tie, worker: worker as u32 }
    }

    pub(super) fn worker(&self) -> usize {
        self.worker as usize
    }
}

impl LeastLoaded {
    pub(super) fn new(draft: &Draft<'_>) -> Self {
        Self((0..draft.pools.len()).map(|_| None).collect())
    }

    /// The worker with the most room in a pool, which must have a worker.
    pub(super) fn roomiest(&mut self, draft: &Draft<'_>, pool: u32) -> usize {
        self.least(draft, pool, |worker| height(draft, worker))
    }

    /// The worker that is least loaded by another measure; one heap is for one measure.
    pub(super) fn least(&mut self, draft: &Draft<'_>, pool: u32, height: impl Fn(usize) -> Height) -> usize {
        let ranked = |&worker: &u32| Reverse(Ranked::new(height(worker as usize), worker as usize, draft));
        let heap = self.0[pool as usize].get_or_insert_with(|| draft.pools.members(pool).iter().map(ranked).collect());
        loop {
            let mut top = heap.peek_mut().expect("a pool of partitions that have a home has workers");
            let now = height(top.0.worker());
            if now <= top.0.key {
                return top.0.worker();
            }
            top.0.key = now;
        }
    }

    /// Notes that `worker`, which is in these pools, has less load than before.
    pub(super) fn has_sunk_in(&mut self, draft: &Draft<'_>, pools: &[u32], worker: usize) {
        for &pool in pools {
            if let Some(heap) = &mut self.0[pool as usize] {
                heap.push(Reverse(Ranked::new(height(draft, worker), worker, draft)));
            }
        }
    }

    /// Notes that `worker` has less load than before.
    pub(super) fn has_sunk(&mut self, draft: &Draft<'_>, worker: usize) {
        for (pool, heap) in (0..).zip(&mut self.0) {
            if let Some(heap) = heap
                && draft.pools.allows(pool, worker as u32)
            {
                heap.push(Reverse(Ranked::new(height(draft, worker), worker, draft)));
            }
        }
    }
}

/// Those whose limit allows nothing more come last.
fn height(draft: &Draft<'_>, worker: usize) -> Height {
    if draft.is_full(worker) {
        return (true, u64::MAX);
    }
    (!draft.is_under(worker), draft.current.relative_load(worker, draft.loads[worker]))
}
