//! Where the numbers for a kind of partitions on a worker are.

use alloc::vec::Vec;

use super::Table;
use super::level::Draft;
use super::stock::Kind;
use crate::assign::inventory::{Grid, Palette};
use crate::assign::survey::NOBODY;

/// Cells for kinds of partitions on workers, numbered from 0.
pub(super) enum Cells<'p> {
    /// Each worker has a cell for every kind, as weights are few and groups do not matter.
    Grid(Grid, &'p Palette),
    /// Each worker has cells for the kinds that leave or enter it.
    Lists(Lists),
}

/// Cells for those kinds on workers that are needed, and a last one that nothing leaves or enters.
pub(super) struct Lists {
    /// In order.
    kinds: Vec<Kind>,
    /// The worker and the place among the kinds, in order.
    cells: Vec<(u32, u32)>,
}

impl Cells<'_> {
    /// How many cells there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Grid(grid, _) => grid.len(),
            Self::Lists(lists) => lists.cells.len() + 1,
        }
    }

    /// How many kinds there are at most.
    pub(super) fn kinds(&self) -> usize {
        match self {
            Self::Grid(grid, _) => grid.kinds(),
            Self::Lists(lists) => lists.kinds.len(),
        }
    }

    /// The place of a cell's kind among all.
    #[inline]
    pub(super) fn kind(&self, cell: usize) -> usize {
        match self {
            Self::Grid(grid, _) => grid.kind(cell),
            Self::Lists(lists) => lists.cells[cell].1 as usize,
        }
    }

    /// The worker that a cell is of.
    #[inline]
    pub(super) fn worker(&self, cell: usize) -> u32 {
        match self {
            Self::Grid(grid, _) => grid.seat(cell),
            Self::Lists(lists) => lists.cells[cell].0,
        }
    }

    /// The cell of a kind on a worker.
    pub(super) fn of(&self, worker: u32, kind: Kind) -> usize {
        match self {
            Self::Grid(grid, palette) => {
                grid.arrived(grid.cell(worker, palette.rank(kind.weight() as u32)), kind.is_fresh())
            }
            Self::Lists(lists) => lists.of(worker, kind),
        }
    }

    /// The cell of the same kind on another worker.
    #[inline]
    pub(super) fn across(&self, cell: usize, worker: u32) -> usize {
        match self {
            Self::Grid(grid, _) => grid.across(cell, worker),
            Self::Lists(lists) => lists.find(worker, lists.cells[cell].1),
        }
    }

    /// The cell for a partition that has just come to a cell, and is fresh there or back on its seat.
    #[inline]
    pub(super) fn arrived(&self, cell: usize, fresh: bool) -> usize {
        match self {
            Self::Grid(grid, _) => grid.arrived(cell, fresh),
            Self::Lists(lists) => {
                let (worker, kind) = lists.cells[cell];
                lists.of(worker, lists.kinds[kind as usize].with_fresh(fresh))
            }
        }
    }

    /// The cell of each partition where it is now.
    pub(super) fn of_all(&self, table: &Table<'_>) -> Vec<u32> {
        match self {
            Self::Grid(_, palette) => palette.cells(&table.survey.seats, &table.owners),
            Self::Lists(lists) => {
                let cell = |(partition, &owner)| match owner {
                    NOBODY => lists.cells.len() as u32,
                    owner => lists.of(owner, table.kind(partition)) as u32,
                };
                table.owners.iter().enumerate().map(cell).collect()
            }
        }
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

    /// The cell of a kind on a worker, or the last one if it has none.
    fn of(&self, worker: u32, kind: Kind) -> usize {
        self.kinds.binary_search(&kind).map_or(self.cells.len(), |place| self.find(worker, place as u32))
    }

    /// The same by the place of the kind.
    fn find(&self, worker: u32, place: u32) -> usize {
        self.cells.binary_search(&(worker, place)).unwrap_or(self.cells.len())
    }
}
