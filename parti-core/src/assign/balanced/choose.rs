//! Which partitions of a class make up the transfers, once it is known how many.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Draft;
use super::transfers::Transfer;
use crate::assign::class::{Class, Movable, Movables};

/// What is still to leave each worker, and to enter it.
struct Open {
    leaving: Movables,
    entering: Movables,
    /// How many partitions that is.
    left: u32,
}

/// Gives partitions their new owners: first those whose home takes one of their class, then others, in the order of the
/// list.
pub(super) fn partitions(draft: &mut Draft<'_>, transfers: &[Transfer]) {
    let mut open = Open::new(draft.loads.len(), transfers);
    let mut others = Vec::new();
    for partition in 0..draft.owners.len() {
        if open.left == 0 {
            return;
        }
        let Some(class) = open.leaver(draft, partition) else { continue };
        // Homes first, so that a worker that is back gets what it had, and caches on its disk still fit.
        let home = draft.home(partition);
        if Movable::of(class, open.entering.of(home)).is_some() {
            open.give(draft, partition, class, home);
        } else {
            others.push(partition as u32);
        }
    }
    let mut takers: BTreeMap<Class, Vec<u32>> = BTreeMap::new();
    for worker in 0..draft.loads.len() as u32 {
        for movable in open.entering.of(worker) {
            takers.entry(movable.class).or_default().push(worker);
        }
    }
    for partition in others {
        let partition = partition as usize;
        if open.left == 0 {
            return;
        }
        let Some(class) = open.leaver(draft, partition) else { continue };
        let Some(takers) = takers.get_mut(&class) else { continue };
        let Some(&to) = takers.last() else { continue };
        open.give(draft, partition, class, to);
        if Movable::of(class, open.entering.of(to)).is_none() {
            takers.pop();
        }
    }
}

impl Open {
    fn new(workers: usize, transfers: &[Transfer]) -> Self {
        let movable = |transfer: &Transfer| Movable { class: transfer.class, count: transfer.count };
        let from = transfers.iter().map(|transfer| (transfer.from as u32, movable(transfer)));
        let to = transfers.iter().map(|transfer| (transfer.to as u32, movable(transfer)));
        let (mut leaving, mut entering) = (Movables::new(workers, from), Movables::new(workers, to));
        let mut left = transfers.iter().map(|transfer| transfer.count).sum();
        // What both leaves and enters a worker stays there.
        for worker in 0..workers as u32 {
            let both =
                |out: &Movable| Some((out.class, out.count.min(Movable::of(out.class, entering.of(worker))?.count)));
            let stay: Vec<_> = leaving.of(worker).iter().filter_map(both).collect();
            for (class, count) in stay {
                leaving.take(worker, class, count);
                entering.take(worker, class, count);
                left -= count;
            }
        }
        Self { leaving, entering, left }
    }

    /// The class of a partition if some of that class are to leave its owner.
    #[inline]
    fn leaver(&self, draft: &Draft<'_>, partition: usize) -> Option<Class> {
        let leaving = self.leaving.of(draft.owners[partition]);
        if leaving.is_empty() {
            return None;
        }
        draft.class(partition).filter(|&class| Movable::of(class, leaving).is_some())
    }

    fn give(&mut self, draft: &mut Draft<'_>, partition: usize, class: Class, to: u32) {
        let from = core::mem::replace(&mut draft.owners[partition], to);
        self.leaving.take(from, class, 1);
        self.entering.take(to, class, 1);
        self.left -= 1;
    }
}
