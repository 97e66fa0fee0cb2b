//! Which partitions of a kind move, once it is known how many.

use alloc::vec;
use alloc::vec::Vec;

use super::Table;
use super::cells::{Cells, Everywhere, Lists};
use super::level::Draft;
use crate::assign::sieve::{CHUNK, Sieve};
use crate::assign::survey::NOBODY;

/// How many partitions of each kind are still to leave and to enter each worker.
struct Settlement<C> {
    cells: C,
    /// The cell of each partition.
    cell_of: Vec<u32>,
    /// By cell.
    leaving: Vec<u32>,
    entering: Vec<u32>,
    /// How many are still to leave, all workers together.
    left: u64,
}

impl Table<'_> {
    /// Chooses the partitions: first those whose home takes one of their kind, then others, in the order of the list.
    pub(super) fn settle(&mut self, draft: &Draft) {
        match self.survey.inventory().palette() {
            Some(palette) if self.groups.is_free() => self.settle_in(Everywhere::new(palette), draft),
            Some(_) | None => self.settle_in(&Lists::new(draft, self.loads.len()), draft),
        }
    }

    fn settle_in<C: Cells>(&mut self, cells: C, draft: &Draft) {
        let mut settlement = Settlement::new(cells, self, draft);
        self.settle_home(&mut settlement);
        self.settle_others(&mut settlement);
    }

    fn settle_home<C: Cells>(&mut self, settlement: &mut Settlement<C>) {
        let (mut leavers, mut welcome, mut homes) = (Sieve::new(), Sieve::new(), Vec::with_capacity(CHUNK));
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if settlement.left == 0 {
                break;
            }
            // What may leave first, then homes, then whether they take any of that kind: so no loop has a branch that
            // the processor would guess wrong.
            let leavers = settlement.leavers(start, &mut leavers);
            homes.clear();
            self.add_quick_homes(leavers.iter().map(|&partition| partition as usize), &mut homes);
            for &nth in settlement.welcome(leavers, &homes, &mut welcome) {
                let partition = leavers[nth as usize] as usize;
                let home = if homes[nth as usize] == NOBODY { self.home(partition) } else { homes[nth as usize] };
                let target = settlement.cells.across(settlement.cell_of[partition] as usize, home);
                self.settle_one(settlement, partition, target);
            }
        }
    }

    fn settle_others<C: Cells>(&mut self, settlement: &mut Settlement<C>) {
        let mut takers = settlement.takers();
        let mut leavers = Sieve::new();
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if settlement.left == 0 {
                break;
            }
            for &partition in settlement.leavers(start, &mut leavers) {
                let kind = settlement.cells.kind(settlement.cell_of[partition as usize] as usize);
                let Some(&target) = takers[kind].last() else { continue };
                self.settle_one(settlement, partition as usize, target);
                if settlement.entering[target] == 0 {
                    takers[kind].pop();
                }
            }
        }
    }

    /// Moves a partition to another cell, if one is still to leave and one to enter.
    fn settle_one<C: Cells>(&mut self, settlement: &mut Settlement<C>, partition: usize, target: usize) {
        let Settlement { cells, cell_of, leaving, entering, left } = settlement;
        let cell = &mut cell_of[partition];
        let (leaving, entering) = (&mut leaving[*cell as usize], &mut entering[target]);
        if *leaving > 0 && *entering > 0 {
            *leaving -= 1;
            *entering -= 1;
            *left -= 1;
            let owner = cells.worker(target);
            self.owners[partition] = owner;
            *cell = cells.arrived(target, owner != self.survey.seats[partition]) as u32;
        }
    }
}

impl<C: Cells> Settlement<C> {
    fn new(cells: C, table: &Table<'_>, draft: &Draft) -> Self {
        let workers = table.loads.len();
        let (mut leaving, mut entering) = (vec![0; cells.len()], vec![0; cells.len()]);
        for worker in 0..workers {
            for (kind, count) in draft.stocks.taken(worker) {
                leaving[cells.of(worker as u32, kind)] += count;
            }
        }
        for step in &draft.steps {
            entering[cells.of(step.to as u32, step.kind)] += step.count;
        }
        // What both leaves and enters a worker stays.
        for (leaving, entering) in leaving.iter_mut().zip(&mut entering) {
            let both = (*leaving).min(*entering);
            *leaving -= both;
            *entering -= both;
        }
        let left = leaving.iter().map(|&count| u64::from(count)).sum();
        Self { cells, cell_of: cells.of_all(table), leaving, entering, left }
    }

    /// Of the [`CHUNK`] partitions from `start` on, those of a kind of which some are to leave their owners.
    fn leavers<'s>(&self, start: usize, sieve: &'s mut Sieve) -> &'s [u32] {
        let cells = &self.cell_of[start..self.cell_of.len().min(start + CHUNK)];
        let leaving = &self.leaving[..];
        sieve.passing(start, cells.iter().map(move |&cell| leaving[cell as usize] > 0))
    }

    /// Which of the leavers have homes that partitions of their kind are to enter, or homes that are not known yet.
    fn welcome<'s>(&self, leavers: &[u32], homes: &[u32], sieve: &'s mut Sieve) -> &'s [u32] {
        let (cells, cell_of, entering) = (self.cells, &self.cell_of[..], &self.entering[..]);
        let is_welcome = move |(&partition, &home): (&u32, &u32)| {
            let target = cells.across(cell_of[partition as usize] as usize, home);
            entering[target] > 0 || home == NOBODY
        };
        sieve.passing(0, leavers.iter().zip(homes).map(is_welcome))
    }

    /// For each kind, the cells that partitions are still to enter.
    fn takers(&self) -> Vec<Vec<usize>> {
        let mut takers = vec![Vec::new(); self.cells.kinds()];
        for (cell, _) in self.entering.iter().enumerate().filter(|&(_, &entering)| entering > 0) {
            takers[self.cells.kind(cell)].push(cell);
        }
        takers
    }
}
