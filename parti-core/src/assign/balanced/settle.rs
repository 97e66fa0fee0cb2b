//! Which partitions of a kind move, once it is known how many.

use alloc::vec;
use alloc::vec::Vec;

use super::Table;
use super::cells::{Cells, Lists};
use super::level::Draft;
use crate::assign::sieve::{CHUNK, Sieve};

/// How many partitions of each kind are still to leave and to enter each worker.
struct Settlement<'p> {
    cells: Cells<'p>,
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
        let mut settlement = Settlement::new(self, draft);
        self.settle_home(&mut settlement);
        self.settle_others(&mut settlement);
    }

    fn settle_home(&mut self, settlement: &mut Settlement<'_>) {
        let (mut leavers, mut welcome, mut homes) = (Sieve::new(), Sieve::new(), Vec::with_capacity(CHUNK));
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if settlement.left == 0 {
                break;
            }
            // What may leave first, then homes, then whether they take any of that kind: so no loop has a branch that
            // the processor would guess wrong.
            let leavers = settlement.leavers(start, &mut leavers);
            homes.clear();
            self.add_homes(leavers.iter().map(|&partition| partition as usize), &mut homes);
            for &nth in settlement.welcome(leavers, &homes, &mut welcome) {
                let (partition, home) = (leavers[nth as usize], homes[nth as usize]);
                let target = settlement.target(partition, home);
                self.settle_one(settlement, partition, target);
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
            for &partition in settlement.leavers(start, &mut leavers) {
                let kind = settlement.cells.kind(settlement.cell_of[partition as usize] as usize);
                let Some(&target) = takers[kind].last() else { continue };
                self.settle_one(settlement, partition, target);
                if settlement.entering[target] == 0 {
                    takers[kind].pop();
                }
            }
        }
    }

    /// Moves a partition to another cell, if one is still to leave and one to enter.
    fn settle_one(&mut self, settlement: &mut Settlement<'_>, partition: u32, target: usize) {
        let Settlement { cells, cell_of, leaving, entering, left } = settlement;
        let partition = partition as usize;
        let (leaving, entering) = (&mut leaving[cell_of[partition] as usize], &mut entering[target]);
        if *leaving > 0 && *entering > 0 {
            *leaving -= 1;
            *entering -= 1;
            *left -= 1;
            let owner = cells.worker(target);
            self.owners[partition] = owner;
            cell_of[partition] = cells.arrived(target, owner != self.survey.seats[partition]) as u32;
        }
    }
}

impl<'p> Settlement<'p> {
    fn new(table: &Table<'p>, draft: &Draft) -> Self {
        let workers = table.loads.len();
        let cells = match table.survey.inventory().palette() {
            Some(palette) if table.groups.is_free() => Cells::Grid(palette.grid(), palette),
            Some(_) | None => Cells::Lists(Lists::new(draft, workers)),
        };
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
        Self { cell_of: cells.of_all(table), cells, leaving, entering, left }
    }

    /// Of the [`CHUNK`] partitions from `start` on, those of a kind of which some are to leave their owners.
    fn leavers<'s>(&self, start: usize, sieve: &'s mut Sieve) -> &'s [u32] {
        let cells = &self.cell_of[start..self.cell_of.len().min(start + CHUNK)];
        let leaving = &self.leaving[..];
        sieve.passing(start, cells.iter().map(move |&cell| leaving[cell as usize] > 0))
    }

    /// Which of the leavers have homes that partitions of their kind are to enter.
    fn welcome<'s>(&self, leavers: &[u32], homes: &[u32], sieve: &'s mut Sieve) -> &'s [u32] {
        let (cell_of, entering) = (&self.cell_of[..], &self.entering[..]);
        let leavers = leavers.iter().map(move |&partition| cell_of[partition as usize] as usize).zip(homes);
        // Not a choice in the loop.
        match &self.cells {
            &Cells::Grid(grid, _) => {
                sieve.passing(0, leavers.map(move |(cell, &home)| entering[grid.across(cell, home)] > 0))
            }
            cells @ Cells::Lists(_) => {
                sieve.passing(0, leavers.map(move |(cell, &home)| entering[cells.across(cell, home)] > 0))
            }
        }
    }

    /// The cell to which a partition would go on a worker.
    #[inline]
    fn target(&self, partition: u32, to: u32) -> usize {
        self.cells.across(self.cell_of[partition as usize] as usize, to)
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
