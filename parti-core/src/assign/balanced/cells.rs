//! Where the numbers for a kind of partitions on a worker are.

use alloc::vec::Vec;

use super::Table;
use super::level::Draft;
use super::stock::Kind;
use crate::assign::inventory::{Grid, Palette};
use crate::assign::survey::NOBODY;

/// Cells for kinds of partitions on workers, numbered from 0. Nothing leaves or enters the cells of nobody.
pub(super) trait Cells: Copy {
    /// How many cells there are.
    fn len(self) -> usize;

    /// How many kinds there are at most.
    fn kinds(self) -> usize;

    /// The place of a cell's kind among all.
    fn kind(self, cell: usize) -> usize;

    /// The worker that a cell is of.
    fn worker(self, cell: usize) -> u32;

    /// The cell of a kind on a worker.
    fn of(self, worker: u32, kind: Kind) -> usize;

    /// The cell of the same kind on another worker, or on nobody.
    fn across(self, cell: usize, worker: u32) -> usize;

    /// The cell for a partition that has just come to a cell, and is fresh there or back on its seat.
    fn arrived(self, cell: usize, fresh: bool) -> usize;

    /// The cell of each partition where it is now.
    fn of_all(self, table: &Table<'_>) -> Vec<u32>;
}

/// Each worker has a cell for every kind, as weights are few and groups do not matter.
#[derive(Clone, Copy)]
pub(super) struct Everywhere<'p> {
    grid: Grid,
    palette: &'p Palette,
}

/// Each worker has cells for the kinds that leave or enter it; the last cell is nobody's.
pub(super) struct Lists {
    /// In order.
    kinds: Vec<Kind>,
    /// The worker and the place among the kinds, in order.
    cells: Vec<(u32, u32)>,
}

impl<'p> Everywhere<'p> {
    pub(super) fn new(palette: &'p Palette) -> Self {
        Self { grid: palette.grid(), palette }
    }
}

impl Cells for Everywhere<'_> {
    fn len(self) -> usize {
        self.grid.len()
    }

    fn kinds(self) -> usize {
        self.grid.kinds()
    }

    fn kind(self, cell: usize) -> usize {
        self.grid.kind(cell)
    }

    fn worker(self, cell: usize) -> u32 {
        self.grid.seat(cell)
    }

    fn of(self, worker: u32, kind: Kind) -> usize {
        self.grid.arrived(self.palette.cell(worker, kind.weight() as u32), kind.is_fresh())
    }

    fn across(self, cell: usize, worker: u32) -> usize {
        self.grid.across(cell, worker)
    }

    fn arrived(self, cell: usize, fresh: bool) -> usize {
        self.grid.arrived(cell, fresh)
    }

    fn of_all(self, table: &Table<'_>) -> Vec<u32> {
        self.palette.cells(&table.survey.seats, &table.owners)
    }
}

impl Cells for &Lists {
    fn len(self) -> usize {
        self.cells.len() + 1
    }

    fn kinds(self) -> usize {
        self.kinds.len()
    }

    fn kind(self, cell: usize) -> usize {
        self.cells[cell].1 as usize
    }

    fn worker(self, cell: usize) -> u32 {
        self.cells[cell].0
    }

    fn of(self, worker: u32, kind: Kind) -> usize {
        self.kinds.binary_search(&kind).map_or(self.cells.len(), |place| self.find(worker, place as u32))
    }

    fn across(self, cell: usize, worker: u32) -> usize {
        self.find(worker, self.cells[cell].1)
    }

    fn arrived(self, cell: usize, fresh: bool) -> usize {
        let (worker, kind) = self.cells[cell];
        self.of(worker, self.kinds[kind as usize].with_fresh(fresh))
    }

    fn of_all(self, table: &Table<'_>) -> Vec<u32> {
        let cell = |(partition, &owner)| match owner {
            NOBODY => self.cells.len() as u32,
            owner => self.of(owner, table.kind(partition)) as u32,
        };
        table.owners.iter().enumerate().map(cell).collect()
    }
}

impl Lists {
    pub(super) fn new(draft: &Draft, workers: usize) -> Self {
        let Draft { stocks, steps, .. } = draft;
        let leaving = (0..workers).flat_map(|worker| stocks.taken(worker).map(move |(kind, _)| (worker, kind)));
        let used: Vec<_> = leaving.chain(steps.iter().map(|step| (step.to, step.kind))).collect();
        let mut kinds: Vec<_> = used.iter().map(|&(_, kind)| kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let place = |kind| kinds.partition_point(|&known| known < kind) as u32;
        let mut cells: Vec<_> = used.iter().map(|&(worker, kind)| (worker as u32, place(kind))).collect();
        cells.sort_unstable();
        cells.dedup();
        Self { kinds, cells }
    }

    /// The cell of the kind at a place on a worker, or the last one if it has none.
    fn find(&self, worker: u32, place: u32) -> usize {
        self.cells.binary_search(&(worker, place)).unwrap_or(self.cells.len())
    }
}
