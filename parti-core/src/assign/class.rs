//! Partitions that are interchangeable, counted by worker.

#![expect(clippy::cast_possible_truncation, reason = "the parts of a class have as many bits as are left")]

use alloc::vec;
use alloc::vec::Vec;

/// The pool of all workers.
pub(super) const ANYWHERE: u32 = 0;

/// What makes partitions interchangeable: transfers are decided by class, and which partitions of it go comes last.
///
/// In order of pool, weight, and whether they are free; one number, as nothing is compared more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(u64);

/// So many partitions of one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Movable {
    pub(super) class: Class,
    pub(super) count: u32,
}

/// For each worker, what it can give, is to give, or is to get: in order of class, so that in a pool the heaviest come
/// last, and none with a count of 0.
#[derive(Clone, Debug)]
pub(super) struct Movables(Vec<Vec<Movable>>);

impl Class {
    /// The workers of `pool` may hold these partitions. They are free if their owner is not their holder: they move in
    /// any case, and another owner costs nothing.
    pub(super) fn new(pool: u32, weight: u32, is_free: bool) -> Self {
        Self(u64::from(pool) << 33 | u64::from(weight) << 1 | u64::from(is_free))
    }

    pub(super) fn pool(self) -> u32 {
        (self.0 >> 33) as u32
    }

    pub(super) fn weight(self) -> u64 {
        u64::from((self.0 >> 1) as u32)
    }

    pub(super) fn is_free(self) -> bool {
        self.0 & 1 == 1
    }
}

impl Movable {
    /// The one of a class, if there is one.
    #[inline]
    pub(super) fn of(class: Class, movables: &[Self]) -> Option<&Self> {
        movables.binary_search_by_key(&class, |movable| movable.class).ok().map(|at| &movables[at])
    }

    pub(super) fn weight(&self) -> u64 {
        self.class.weight() * u64::from(self.count)
    }
}

impl Movables {
    /// Sums up what so many workers have; what nobody has is left out.
    pub(super) fn new(workers: usize, all: impl Iterator<Item = (u32, Movable)>) -> Self {
        let mut movables: Vec<Vec<Movable>> = vec![Vec::new(); workers];
        for (worker, movable) in all {
            let Some(own) = movables.get_mut(worker as usize) else { continue };
            // Most come in runs of one class, so that little is left to sort.
            match own.last_mut() {
                Some(last) if last.class == movable.class => last.count += movable.count,
                Some(_) | None => {
                    // Classes are few, so that summing up makes room more often than it does not.
                    if own.len() == own.capacity() {
                        sum_up(own);
                        own.reserve(own.len() + 8);
                    }
                    own.push(movable);
                }
            }
        }
        movables.iter_mut().for_each(sum_up);
        Self(movables)
    }

    /// What each worker has.
    pub(super) fn all(&self) -> impl Iterator<Item = &[Movable]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// What one worker has; nothing if it is [`NOBODY`](super::current::NOBODY).
    pub(super) fn of(&self, worker: u32) -> &[Movable] {
        self.0.get(worker as usize).map_or(&[], Vec::as_slice)
    }

    /// Takes so many partitions of a class, which must be there.
    pub(super) fn take(&mut self, worker: u32, class: Class, count: u32) {
        let own = &mut self.0[worker as usize];
        let at = own.binary_search_by_key(&class, |movable| movable.class).expect("only what a worker has is taken");
        own[at].count -= count;
        if own[at].count == 0 {
            own.remove(at);
        }
    }
}

/// Sorts by class, and makes one entry of each.
fn sum_up(movables: &mut Vec<Movable>) {
    movables.sort_unstable_by_key(|movable| movable.class);
    movables.dedup_by(|next, sum| {
        let is_same = next.class == sum.class;
        sum.count += if is_same { next.count } else { 0 };
        is_same
    });
}
