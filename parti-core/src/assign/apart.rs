//! Which partitions are to be on different workers.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::Problem;
use super::current::NOBODY;
use crate::rng::Rng;

/// The partitions that have a key: those of one key are to be on different workers, where there are enough, and else
/// spread over all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Apart {
    /// The number of the key of each partition, or [`NOBODY`]; empty where none has one.
    keys: Vec<u32>,
    /// The partitions that have a key, in order.
    keyed: Vec<usize>,
    /// How many partitions of each key one worker is to have at most.
    most: Vec<u32>,
}

/// How many partitions of each key each worker has.
#[derive(Clone, Debug)]
pub(super) struct Crowd<'p> {
    apart: &'p Apart,
    /// By key and worker: open addressing, as a map is several times as slow where many partitions have keys. A power of
    /// two of cells, less than half of them in use.
    cells: Vec<Cell>,
    used: usize,
    excess: usize,
}

/// How often a key and a worker, in one number, have come together; 0 where the cell is not in use, or they no longer are.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The key and the worker, and 1 more, so that none is 0.
    name: u64,
    count: u32,
}

impl Apart {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let mut apart = Self::default();
        let workers = u32::try_from(problem.current().workers.len()).unwrap_or(NOBODY);
        let mut known = BTreeMap::new();
        for rule in problem.rules() {
            let Some(key) = &rule.apart else { continue };
            if apart.keys.is_empty() {
                apart.keys = vec![NOBODY; problem.holders().len()];
            }
            let next = u32::try_from(apart.most.len()).unwrap_or(NOBODY);
            let number = *known.entry(key.as_str()).or_insert(next);
            if number == next {
                apart.most.push(0);
            }
            apart.most[number as usize] += 1;
            apart.keys[rule.partition] = number;
            apart.keyed.push(rule.partition);
        }
        for count in &mut apart.most {
            *count = count.div_ceil(workers.max(1));
        }
        apart
    }

    /// The partitions that have a key, in order.
    pub(super) fn keyed(&self) -> &[usize] {
        &self.keyed
    }

    #[inline]
    pub(super) fn key(&self, partition: usize) -> Option<u32> {
        self.keys.get(partition).copied().filter(|&key| key != NOBODY)
    }
}

impl<'p> Crowd<'p> {
    /// O(partitions that have a key).
    pub(super) fn new(apart: &'p Apart, owners: &[u32]) -> Self {
        let cells = if apart.keyed().is_empty() { 0 } else { (4 * apart.keyed().len()).next_power_of_two() };
        let mut crowd = Self { apart, cells: vec![Cell::default(); cells], used: 0, excess: 0 };
        for &partition in apart.keyed() {
            crowd.add(partition, owners[partition]);
        }
        crowd
    }

    /// A partition goes from one worker to another.
    pub(super) fn change(&mut self, partition: usize, from: u32, to: u32) {
        let Some(key) = self.apart.key(partition) else { return };
        if from != NOBODY {
            let at = self.cell(key, from);
            self.excess -= usize::from(self.cells[at].count > self.apart.most[key as usize]);
            self.cells[at].count -= 1;
        }
        self.add(partition, to);
    }

    /// Whether a worker has fewer of the partition's key than it is to have at most.
    #[inline]
    pub(super) fn has_place(&self, partition: usize, worker: u32) -> bool {
        self.apart.key(partition).is_none_or(|key| self.count(key, worker) < self.apart.most[key as usize])
    }

    /// Whether a partition's owner has more of its key than it is to have.
    #[inline]
    pub(super) fn is_crowded(&self, partition: usize, owner: u32) -> bool {
        self.apart.key(partition).is_some_and(|key| self.count(key, owner) > self.apart.most[key as usize])
    }

    /// How many partitions would have to go elsewhere.
    pub(super) fn excess(&self) -> usize {
        self.excess
    }

    fn add(&mut self, partition: usize, worker: u32) {
        let Some(key) = self.apart.key(partition).filter(|_| worker != NOBODY) else { return };
        let mut at = self.cell(key, worker);
        if self.cells[at].name == 0 {
            if 2 * (self.used + 1) >= self.cells.len() {
                self.grow();
                at = self.cell(key, worker);
            }
            self.used += 1;
            self.cells[at].name = name(key, worker);
        }
        self.cells[at].count += 1;
        self.excess += usize::from(self.cells[at].count > self.apart.most[key as usize]);
    }

    fn count(&self, key: u32, worker: u32) -> u32 {
        self.cells[self.cell(key, worker)].count
    }

    /// The cell of a key and a worker, or the one that would be theirs.
    fn cell(&self, key: u32, worker: u32) -> usize {
        let name = name(key, worker);
        let last = self.cells.len() - 1;
        let mut at = usize::try_from(Rng::new(name).next_u64() & last as u64).unwrap_or(0);
        while self.cells[at].name != name && self.cells[at].name != 0 {
            at = (at + 1) & last;
        }
        at
    }

    /// Makes room for as many again.
    fn grow(&mut self) {
        let cells = vec![Cell::default(); 2 * self.cells.len()];
        for old in core::mem::replace(&mut self.cells, cells) {
            if old.name != 0 {
                let [key, worker] = [(old.name - 1) >> u32::BITS, (old.name - 1) & u64::from(u32::MAX)];
                let [key, worker] = [key, worker].map(|part| u32::try_from(part).unwrap_or(NOBODY));
                let at = self.cell(key, worker);
                self.cells[at] = old;
            }
        }
    }
}

fn name(key: u32, worker: u32) -> u64 {
    (u64::from(key) << u32::BITS | u64::from(worker)) + 1
}
