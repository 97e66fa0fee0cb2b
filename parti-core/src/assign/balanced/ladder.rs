//! Workers by load, the least loaded first.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use crate::assign::survey::Roster;
use crate::rng::Rng;

/// Workers, least loaded first, ties in the order of a hash of their slots.
///
/// How loaded a worker is, its height, is for the caller to say. Loads change without the ladder's knowledge: a worker
/// that has risen is put right when it is next found at the foot; one that has sunk must be [`sunk`](Self::sunk), or it
/// is found too late.
#[derive(Debug)]
pub(super) struct Ladder(BinaryHeap<Reverse<u128>>);

impl Ladder {
    pub(super) fn new(workers: &[u32], roster: &Roster, seed: u64, height: impl Fn(usize) -> u64) -> Self {
        let rung_of = |&worker: &u32| Reverse(rung(height(worker as usize), tie_break(worker, roster, seed)));
        Self(workers.iter().map(rung_of).collect())
    }

    /// The least loaded worker. There must be one.
    pub(super) fn lowest(&mut self, height: impl Fn(usize) -> u64) -> usize {
        loop {
            let mut foot = self.0.peek_mut().expect("a group with partitions to place has workers");
            let worker = worker_of(foot.0);
            let now = height(worker);
            if now <= height_of(foot.0) {
                return worker;
            }
            *foot = Reverse(rung(now, foot.0 as u64));
        }
    }

    /// Notes that `worker` has less load than before.
    pub(super) fn sunk(&mut self, worker: usize, roster: &Roster, seed: u64, height: u64) {
        self.0.push(Reverse(rung(height, tie_break(worker as u32, roster, seed))));
    }
}

/// Orders workers of equal load: a hash of the slot, then the index, which also tells which worker it is.
pub(super) fn tie_break(worker: u32, roster: &Roster, seed: u64) -> u64 {
    let slot = u64::from(roster.slot(worker as usize).value());
    (Rng::new(seed ^ slot).next_u64() & !u64::from(u32::MAX)) | u64::from(worker)
}

/// A place in an order of workers by height, then by tie break, as one number: quicker to compare than two.
pub(super) fn rung(height: u64, tie_break: u64) -> u128 {
    u128::from(height) << 64 | u128::from(tie_break)
}

/// The height of a rung.
pub(super) fn height_of(rung: u128) -> u64 {
    (rung >> 64) as u64
}

/// The worker of a rung.
pub(super) fn worker_of(rung: u128) -> usize {
    (rung & u128::from(u32::MAX)) as usize
}
