//! Which partitions of a kind move, once it is known how many.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::Table;
use super::level::{Draft, Step};
use super::stock::{Kind, Stocks};
use crate::assign::groups::ANYWHERE;
use crate::assign::home::Found;
use crate::assign::inventory::Palette;
use crate::assign::sieve::{CHUNK, Sieve};

/// How many partitions of each kind are still to leave and to enter each worker.
struct Settlement<'p> {
    cells: Cells<'p>,
    /// By cell.
    leaving: Vec<u32>,
    entering: Vec<u32>,
    /// How many are still to leave, all workers together.
    left: u64,
    /// For each worker, and at last for nobody, the least weight of which it still gives, or `u64::MAX`.
    lightest: Vec<u64>,
    /// For each worker, how many are still to enter.
    room: Vec<u32>,
}

/// Where the numbers for a kind of partitions on a worker are.
enum Cells<'p> {
    /// Each worker has a cell for every kind, as weights are few and groups do not matter.
    Table { palette: &'p Palette, kinds: Vec<Kind> },
    /// Each worker has cells for the kinds that leave or enter it, worker after worker and each in order.
    Lists { kinds: Vec<Kind>, ends: Vec<usize> },
}

impl Table<'_> {
    /// Chooses the partitions: first those whose home takes one of their kind, then others, in the order of the list.
    pub(super) fn settle(&mut self, draft: &Draft) {
        let mut settlement = Settlement::new(self, draft);
        self.settle_home(&mut settlement);
        self.settle_others(&mut settlement);
    }

    fn settle_home(&mut self, settlement: &mut Settlement<'_>) {
        let (mut leavers, mut welcome, mut found) = (Sieve::new(), Sieve::new(), Found::new());
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if settlement.left == 0 {
                break;
            }
            // What may leave first, then homes, then whether they take any, then of which kind: so no loop has a branch
            // that the processor would guess wrong.
            let may_leave = self.may_leave(start, &settlement.lightest, &mut leavers);
            let homes = self.homes_of(may_leave.iter().map(|&partition| partition as usize), &mut found);
            let room = &settlement.room;
            let takes = |&home: &u32| room.get(home as usize).is_some_and(|&count| count > 0);
            for &nth in welcome.passing(0, homes.iter().map(takes)) {
                let (partition, to) = (may_leave[nth as usize] as usize, homes[nth as usize]);
                if settlement.moves(self.owners[partition], to, self.kind(partition)) {
                    self.owners[partition] = to;
                }
            }
        }
    }

    fn settle_others(&mut self, settlement: &mut Settlement<'_>) {
        let mut takers = settlement.takers();
        let mut leavers = Sieve::new();
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if settlement.left == 0 {
                break;
            }
            for &partition in self.may_leave(start, &settlement.lightest, &mut leavers) {
                let partition = partition as usize;
                let kind = self.kind(partition);
                let Some(workers) = takers.get_mut(&kind) else { continue };
                let Some(&to) = workers.last() else { continue };
                if settlement.moves(self.owners[partition], to, kind) {
                    self.owners[partition] = to;
                    if !settlement.takes(to, kind) {
                        workers.pop();
                    }
                }
            }
        }
    }

    /// Of the [`CHUNK`] partitions from `start` on, those that are not lighter than what leaves their owners.
    fn may_leave<'s>(&self, start: usize, lightest: &[u64], sieve: &'s mut Sieve) -> &'s [u32] {
        let end = self.owners.len().min(start + CHUNK);
        let (owners, weights) = (&self.owners[start..end], &self.survey.weights[start..end]);
        let nobody = lightest.len() - 1;
        let may = |(&owner, &weight): (&u32, &u32)| u64::from(weight) >= lightest[(owner as usize).min(nobody)];
        sieve.passing(start, owners.iter().zip(weights).map(may))
    }
}

impl<'p> Settlement<'p> {
    fn new(table: &Table<'p>, draft: &Draft) -> Self {
        let workers = table.loads.len();
        let cells = match table.survey.inventory().palette() {
            Some(palette) if table.groups.is_free() => Cells::table(palette),
            Some(_) | None => Cells::lists(&draft.stocks, &draft.steps, workers),
        };
        let len = cells.row(workers - 1).0.end;
        let (mut leaving, mut entering) = (vec![0; len], vec![0; len]);
        for worker in 0..workers {
            for (kind, count) in draft.stocks.taken(worker) {
                leaving[cells.of(worker, kind)] += count;
            }
        }
        for step in &draft.steps {
            entering[cells.of(step.to, step.kind)] += step.count;
        }
        // What both leaves and enters a worker stays.
        for (leaving, entering) in leaving.iter_mut().zip(&mut entering) {
            let both = (*leaving).min(*entering);
            *leaving -= both;
            *entering -= both;
        }
        let left = leaving.iter().map(|&count| u64::from(count)).sum();
        let room = (0..workers).map(|worker| entering[cells.row(worker).0].iter().sum()).collect();
        let mut settlement = Self { cells, leaving, entering, left, lightest: vec![u64::MAX; workers + 1], room };
        for worker in 0..workers {
            settlement.find_lightest(worker);
        }
        settlement
    }

    /// Notes that a partition of `kind` goes from one worker to another, if one is still to leave and one to enter.
    fn moves(&mut self, from: u32, to: u32, kind: Kind) -> bool {
        let (Some(from_cell), Some(to_cell)) =
            (self.cells.find(from as usize, kind), self.cells.find(to as usize, kind))
        else {
            return false;
        };
        if self.leaving[from_cell] == 0 || self.entering[to_cell] == 0 {
            return false;
        }
        self.left -= 1;
        self.room[to as usize] -= 1;
        self.entering[to_cell] -= 1;
        self.leaving[from_cell] -= 1;
        if self.leaving[from_cell] == 0 {
            self.find_lightest(from as usize);
        }
        true
    }

    /// Whether a partition of `kind` is still to enter a worker.
    fn takes(&self, worker: u32, kind: Kind) -> bool {
        self.cells.find(worker as usize, kind).is_some_and(|cell| self.entering[cell] > 0)
    }

    /// The workers that partitions of each kind are still to enter.
    fn takers(&self) -> BTreeMap<Kind, Vec<u32>> {
        let mut takers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (worker, _) in (0..).zip(&self.room).filter(|&(_, &room)| room > 0) {
            let (row, kinds) = self.cells.row(worker as usize);
            let taking = kinds.iter().zip(&self.entering[row]).filter(|&(_, &count)| count > 0);
            taking.for_each(|(&kind, _)| takers.entry(kind).or_default().push(worker));
        }
        takers
    }

    fn find_lightest(&mut self, worker: usize) {
        let (row, kinds) = self.cells.row(worker);
        let leaving = kinds.iter().zip(&self.leaving[row]).filter(|&(_, &count)| count > 0);
        self.lightest[worker] = leaving.map(|(kind, _)| kind.weight()).min().unwrap_or(u64::MAX);
    }
}

impl<'p> Cells<'p> {
    fn table(palette: &'p Palette) -> Self {
        let kinds =
            palette.weights().iter().flat_map(|&weight| [false, true].map(|fresh| Kind::new(ANYWHERE, weight, fresh)));
        Self::Table { palette, kinds: kinds.collect() }
    }

    fn lists(stocks: &Stocks, steps: &[Step], workers: usize) -> Self {
        let leaving = (0..workers).flat_map(|worker| stocks.taken(worker).map(move |(kind, _)| (worker, kind)));
        let mut all: Vec<_> = leaving.chain(steps.iter().map(|step| (step.to, step.kind))).collect();
        all.sort_unstable();
        all.dedup();
        let ends = (0..workers).map(|worker| all.partition_point(|&(of, _)| of <= worker)).collect();
        Self::Lists { kinds: all.into_iter().map(|(_, kind)| kind).collect(), ends }
    }

    /// The cells of a worker, and their kinds, in order.
    fn row(&self, worker: usize) -> (Range<usize>, &[Kind]) {
        match self {
            Self::Table { kinds, .. } => (worker * kinds.len()..(worker + 1) * kinds.len(), kinds),
            Self::Lists { kinds, ends } => {
                let row = if worker == 0 { 0 } else { ends[worker - 1] }..ends[worker];
                (row.clone(), &kinds[row])
            }
        }
    }

    /// The cell of a kind on a worker, if it has one.
    fn find(&self, worker: usize, kind: Kind) -> Option<usize> {
        match self {
            Self::Table { palette, kinds } => {
                let rank = 2 * palette.rank(kind.weight() as u32) + usize::from(kind.is_fresh());
                Some(worker * kinds.len() + rank)
            }
            Self::Lists { .. } => {
                let (row, kinds) = self.row(worker);
                kinds.binary_search(&kind).ok().map(|at| row.start + at)
            }
        }
    }

    /// The cell of a kind that leaves or enters a worker.
    fn of(&self, worker: usize, kind: Kind) -> usize {
        self.find(worker, kind).expect("there are cells for all that leaves or enters")
    }
}
