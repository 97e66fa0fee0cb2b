//! The first part of step 3, where weights differ: heavy partitions move first, as each saves the moves of many light ones.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::Table;
use super::ladder::{rung, tie_break, worker_of};
use super::level::{Draft, Step, replace_top};
use super::stock::Lot;

/// What is still to be done, all workers together.
struct Want {
    /// The weight above upper bounds.
    excess: u64,
    /// The weight missing below lower bounds.
    lack: u64,
    /// By so much donors may sink below their lower bounds in sum, to be filled up again with light partitions that have
    /// to move anyway.
    refill: u64,
}

impl Table<'_> {
    /// Whether to try it: there is something heavy, and somebody lacks it.
    pub(super) fn should_move_heavy(&self) -> bool {
        !self.survey.all_equal() && self.groups.is_free() && self.want().lack > 0
    }

    /// Moves all but the lightest partitions, heaviest first, from workers above their bounds, or from any if that is not
    /// enough, to workers below theirs.
    ///
    /// A donor may give a heavy partition although that takes it below its lower bound: it comes down as far as it can
    /// at the cost of one move, and gets back light partitions that others have to give in any case, and which the
    /// receiver of the heavy one no longer needs.
    pub(super) fn move_heavy(&mut self, draft: &mut Draft) {
        let mut want = self.want();
        let mut donors = Vec::with_capacity(self.loads.len());
        let mut next: Vec<usize> = Vec::with_capacity(self.loads.len());
        for worker in 0..self.loads.len() {
            let stock = draft.stocks.of(worker);
            next.push(stock.len());
            if self.loads[worker] <= self.bounds.lower[worker] {
                continue;
            }
            want.refill += self.light_excess(worker, stock);
            if let Some(lot) = stock.last().filter(|lot| self.is_heavy(lot)) {
                let tie_break = tie_break(worker as u32, &self.survey.roster, self.problem.options.seed);
                donors.push(rung(self.heavy_depth(worker, stock, lot.kind.weight()), tie_break));
            }
        }
        let mut donors = BinaryHeap::from(donors);
        while let Some(&top) = donors.peek() {
            let donor = worker_of(top);
            let lot = draft.stocks.of(donor)[next[donor] - 1];
            if want.lack == 0 {
                break;
            }
            let step = self.heavy_step(donor, lot, &want).and_then(|step| self.within_budget(step));
            let used_up = step.as_ref().is_none_or(|step| step.count == lot.count);
            if let Some(step) = step {
                self.take_heavy(draft, donor, step, &mut want);
            }
            next[donor] -= usize::from(used_up);
            // Straight on to what the donor has to give next.
            let stock = draft.stocks.of(donor);
            let gives = |lot: &Lot| self.is_heavy(lot) && self.can_give(donor, lot.kind.weight(), &want);
            match stock[..next[donor]].iter().rposition(gives) {
                Some(at) => {
                    next[donor] = at + 1;
                    let depth = self.heavy_depth(donor, stock, stock[at].kind.weight());
                    replace_top(&mut donors, rung(depth, top as u64));
                }
                None => drop(donors.pop()),
            }
        }
    }

    /// How urgent it is that a worker gives a partition of this weight: first come those that cannot come within their
    /// bounds by giving the lightest ones, then those with the heaviest to give, then the most loaded.
    fn heavy_depth(&self, worker: usize, stock: &[Lot], weight: u64) -> u64 {
        let is_stuck = self.heavy_of(stock) > self.bounds.upper[worker];
        let coarse = (u64::BITS + 1 - self.survey.total.leading_zeros()).saturating_sub(u32::BITS);
        u64::from(is_stuck) << 63 | weight << 31 | self.loads[worker] >> coarse
    }

    fn is_heavy(&self, lot: &Lot) -> bool {
        lot.kind.weight() > u64::from(self.survey.lightest)
    }

    /// What all but the lightest partitions weigh.
    fn heavy_of(&self, stock: &[Lot]) -> u64 {
        let heavy = stock.iter().filter(|lot| self.is_heavy(lot));
        heavy.map(|lot| lot.kind.weight() * u64::from(lot.count)).sum()
    }

    fn want(&self) -> Want {
        let Self { loads, bounds, .. } = self;
        let sum =
            |more: &[u64], less: &[u64]| more.iter().zip(less).map(|(more, less)| more.saturating_sub(*less)).sum();
        Want { excess: sum(loads, &bounds.upper), lack: sum(&bounds.lower, loads), refill: 0 }
    }

    /// The weight that a worker has to give in partitions of the lightest weight, as it has not enough others.
    fn light_excess(&self, worker: usize, stock: &[Lot]) -> u64 {
        self.loads[worker].saturating_sub(self.bounds.upper[worker]).saturating_sub(self.heavy_of(stock))
    }

    /// As many partitions of `lot` as the donor has to give, or as are missing elsewhere; but not more than the workers'
    /// bounds allow, or one if it can be made up for.
    fn heavy_step(&mut self, donor: usize, lot: Lot, want: &Want) -> Option<Step> {
        let weight = lot.kind.weight();
        let to = self.roomiest(lot.kind.group());
        if to == donor || !self.is_under(to) {
            return None;
        }
        let load = self.loads[donor];
        let slack = load.saturating_sub(self.bounds.lower[donor]);
        let needed = match load.saturating_sub(self.bounds.upper[donor]) {
            0 => want.lack.saturating_sub(want.excess),
            excess => excess,
        };
        let room = self.bounds.upper[to] - self.loads[to];
        let lack = self.bounds.lower[to] - self.loads[to];
        let most = (room / weight).min((lack / weight).max(1));
        let count = needed.div_ceil(weight).min(u64::from(lot.count)).min(most);
        let fitting = count.min(slack / weight);
        let count = if fitting == 0 && self.can_give(donor, weight, want) { count.min(1) } else { fitting };
        u32::try_from(count).ok().filter(|&count| count > 0).map(|count| Step { kind: lot.kind, to, count })
    }

    /// Whether a worker stays above its lower bound without a partition of this weight, or has something of it to sink
    /// below.
    fn can_give(&self, donor: usize, weight: u64, want: &Want) -> bool {
        let slack = self.loads[donor].saturating_sub(self.bounds.lower[donor]);
        weight <= slack || slack > u64::from(self.survey.lightest) && weight - slack <= want.refill
    }

    fn take_heavy(&mut self, draft: &mut Draft, donor: usize, step: Step, want: &mut Want) {
        let out = |table: &Self, worker: usize| {
            let (load, bounds) = (table.loads[worker], table.bounds);
            (load.saturating_sub(bounds.upper[worker]), bounds.lower[worker].saturating_sub(load))
        };
        let before = [donor, step.to].map(|worker| out(self, worker));
        self.take(draft, donor, step);
        let after = [donor, step.to].map(|worker| out(self, worker));
        want.excess = want.excess + after[0].0 + after[1].0 - before[0].0 - before[1].0;
        want.lack = want.lack + after[0].1 + after[1].1 - before[0].1 - before[1].1;
        want.refill -= after[0].1 - before[0].1;
    }
}
