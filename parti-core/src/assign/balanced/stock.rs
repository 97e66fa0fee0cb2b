//! What each worker has to give, by kind.

use alloc::vec::Vec;

use super::{Table, partition_of};
use crate::assign::groups::ANYWHERE;
use crate::assign::inventory::WeightLot;
use crate::assign::survey::NOBODY;

/// What makes partitions interchangeable: group, weight, and whether they are on the move anyway, so that it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind(u64);

impl Kind {
    /// Partitions that stay where they are pinned.
    const PINNED: Self = Self(u64::MAX);

    pub(super) fn new(group: u32, weight: u32, fresh: bool) -> Self {
        Self(u64::from(group) << 33 | u64::from(weight) << 1 | u64::from(fresh))
    }

    /// The same kind, fresh or not.
    pub(super) fn with_fresh(self, fresh: bool) -> Self {
        Self(self.0 & !1 | u64::from(fresh))
    }

    pub(super) fn group(self) -> u32 {
        (self.0 >> 33) as u32
    }

    pub(super) fn weight(self) -> u64 {
        (self.0 >> 1) & u64::from(u32::MAX)
    }

    pub(super) fn is_fresh(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Partitions of one kind on one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lot {
    pub(super) kind: Kind,
    /// How many are there.
    pub(super) count: u32,
    /// How many have been taken.
    pub(super) taken: u32,
}

/// What all workers have to give.
#[derive(Debug)]
pub(super) struct Stocks {
    /// Worker after worker, each in order of kind.
    lots: Vec<Lot>,
    /// Where each worker's lots end.
    ends: Vec<usize>,
    /// How many of each worker's lots are not used up; those that are, come after them.
    left: Vec<usize>,
}

impl Stocks {
    /// Before anything but partitions without a holder has moved, and where there are no rules, the inventory tells of
    /// most; else every partition is looked at.
    pub(super) fn new(table: &Table<'_>, first: bool) -> Self {
        let workers = table.loads.len();
        let with_inventory = first && table.groups.is_free();
        let entry = |partition: usize| (table.owners[partition], table.kind(partition));
        let mut more: Vec<_> = if with_inventory {
            table.homeless.iter().map(|&key| entry(partition_of(key))).collect()
        } else {
            let owned = (0..table.owners.len()).filter(|&partition| table.owners[partition] != NOBODY);
            owned.map(entry).filter(|(_, kind)| *kind != Kind::PINNED).collect()
        };
        more.sort_unstable();
        let lots = Vec::with_capacity(table.survey.inventory().len() + more.len());
        let mut stocks = Self { lots, ends: Vec::with_capacity(workers), left: Vec::with_capacity(workers) };
        let mut more = more.chunk_by(|a, b| a == b).peekable();
        for worker in 0..workers {
            let start = stocks.lots.len();
            if with_inventory {
                let held = table.survey.inventory().of(worker).iter();
                stocks.lots.extend(held.map(|&WeightLot { weight, count }| Lot {
                    kind: Kind::new(ANYWHERE, weight, false),
                    count,
                    taken: 0,
                }));
            }
            let known = stocks.lots.len();
            while let Some(same) = more.next_if(|same| same[0].0 as usize == worker) {
                stocks.lots.push(Lot { kind: same[0].1, count: same.len() as u32, taken: 0 });
            }
            if start < known && known < stocks.lots.len() {
                stocks.lots[start..].sort_unstable_by_key(|lot| lot.kind);
            }
            stocks.left.push(stocks.lots.len() - start);
            stocks.ends.push(stocks.lots.len());
        }
        stocks
    }

    /// What is left of a worker's lots, in order of kind.
    pub(super) fn of(&self, worker: usize) -> &[Lot] {
        let start = self.start(worker);
        &self.lots[start..start + self.left[worker]]
    }

    /// Takes so many partitions of a kind, which must be there.
    pub(super) fn take(&mut self, worker: usize, kind: Kind, count: u32) {
        let (start, left) = (self.start(worker), &mut self.left[worker]);
        let lots = &mut self.lots[start..start + *left];
        let at = lots.binary_search_by_key(&kind, |lot| lot.kind).expect("only what a stock shows is taken");
        lots[at].count -= count;
        lots[at].taken += count;
        if lots[at].count == 0 {
            lots[at..].rotate_left(1);
            *left -= 1;
        }
    }

    /// What has been taken from a worker.
    pub(super) fn taken(&self, worker: usize) -> impl Iterator<Item = (Kind, u32)> {
        let lots = self.lots[self.start(worker)..self.ends[worker]].iter();
        lots.filter(|lot| lot.taken > 0).map(|lot| (lot.kind, lot.taken))
    }

    fn start(&self, worker: usize) -> usize {
        if worker == 0 { 0 } else { self.ends[worker - 1] }
    }
}

impl Table<'_> {
    /// The kind of a partition.
    pub(super) fn kind(&self, partition: usize) -> Kind {
        let fresh = self.survey.seats[partition] != self.owners[partition];
        if self.groups.is_free() {
            return Kind::new(ANYWHERE, self.weight(partition), fresh);
        }
        if self.groups.pin(partition).is_some_and(|pin| pin == self.owners[partition]) {
            return Kind::PINNED;
        }
        Kind::new(self.groups.of(partition), self.weight(partition), fresh)
    }
}
