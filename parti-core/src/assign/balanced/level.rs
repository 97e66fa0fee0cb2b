//! Step 3: which partitions move from the most to the least loaded, told by kind; which ones of a kind is settled later.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::Table;
use super::ladder::{height_of, rung, tie_break, worker_of};
use super::stock::{Kind, Lot, Stocks};
use crate::assign::bounds::Bounds;

/// So many passes are made in one plan; what they leave is for another round.
const MAX_PASSES: u32 = 8;

/// A draft is good enough that moves less than one in so many more than the least possible number.
const CLOSE: usize = 50;

/// So many partitions of a kind from one worker to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) to: usize,
    pub(super) count: u32,
}

/// What moves in a pass.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) stocks: Stocks,
    pub(super) steps: Vec<Step>,
    /// Whether more would move if the budget allowed it.
    cut_short: bool,
}

/// What one way comes to.
struct Trial {
    draft: Draft,
    heavy_first: bool,
    /// How far the workers are out of their bounds, in sum.
    strays: u64,
    /// How many partitions with a staying holder move.
    moved: usize,
    loads: Vec<u64>,
}

impl Table<'_> {
    /// Moves partitions until every worker is within its bounds, or no move helps, or the budget is spent.
    ///
    /// A partition moves once in a pass, so that another pass may find more where not all workers came within bounds.
    /// Each step takes the workers less far out of their bounds in sum, or no farther and evens out their loads, so
    /// that the passes come to an end.
    pub(super) fn level(&mut self) {
        for pass in 0..MAX_PASSES {
            if !self.is_uneven() {
                return;
            }
            let draft = if pass == 0 { self.better_draft() } else { self.draft(false, false) };
            let (moves, cut_short) = (!draft.steps.is_empty(), draft.cut_short);
            self.settle(&draft);
            if cut_short {
                break;
            }
            if !moves {
                return;
            }
        }
        self.another_round = true;
    }

    /// The better of two drafts: heavy partitions first, or at once whatever evens out most. Heavy ones come first where
    /// that is close to the least possible number of moves, or where one round will not do in any case.
    fn better_draft(&mut self) -> Draft {
        let least = self.problem.least_staying_moves();
        if !self.should_move_heavy() || least > self.budget {
            return self.draft(true, self.should_move_heavy());
        }
        let (loads, budget) = (self.loads.clone(), self.budget);
        let mut best = self.trial(true);
        if best.moved > least + least / CLOSE || best.strays > 0 {
            self.loads.clone_from(&loads);
            let other = self.trial(false);
            if (best.strays, best.moved) > (other.strays, other.moved) {
                best = other;
            }
        }
        if best.moved > budget {
            (self.loads, self.budget) = (loads, budget);
            return self.draft(true, best.heavy_first);
        }
        (self.loads, self.budget) = (best.loads, budget - best.moved);
        best.draft
    }

    /// A first pass without a limit.
    fn trial(&mut self, heavy_first: bool) -> Trial {
        self.budget = usize::MAX;
        let draft = self.draft(true, heavy_first);
        Trial {
            draft,
            heavy_first,
            strays: self.stray(),
            moved: usize::MAX - self.budget,
            loads: core::mem::take(&mut self.loads),
        }
    }

    /// One pass; the loads are then as if it had been settled.
    fn draft(&mut self, first: bool, heavy_first: bool) -> Draft {
        let stocks = Stocks::new(self, first);
        let mut draft = Draft { stocks, steps: Vec::with_capacity(2 * self.loads.len()), cut_short: false };
        self.ladders.fill_with(|| None);
        if heavy_first {
            self.move_heavy(&mut draft);
        }
        self.move_best(&mut draft);
        draft
    }

    /// Moves from the most loaded what evens out most.
    fn move_best(&mut self, draft: &mut Draft) {
        let (roster, seed) = (&self.survey.roster, self.problem.options.seed);
        let rung_of = |table: &Self, worker: usize| rung(table.depth(worker), tie_break(worker as u32, roster, seed));
        let mut donors: BinaryHeap<_> = (0..roster.len()).map(|worker| rung_of(self, worker)).collect();
        // Where the budget will not do, everybody gets a part of it.
        let enough = self.problem.least_staying_moves() <= self.budget;
        let givers = (0..roster.len()).filter(|&worker| self.is_over(worker)).count();
        let turn = if enough { u64::MAX } else { (self.budget / givers.max(1)) as u64 };
        let mut under = (0..roster.len()).filter(|&worker| self.is_under(worker)).count();
        while let Some(&top) = donors.peek() {
            let donor = worker_of(top);
            if self.depth(donor) != height_of(top) {
                replace_top(&mut donors, rung(self.depth(donor), top as u64));
                continue;
            }
            if !self.is_over(donor) && under == 0 {
                break;
            }
            let Some(step) = self.best_step(donor, draft.stocks.of(donor), turn) else {
                donors.pop();
                continue;
            };
            let Some(step) = self.within_budget(step) else {
                draft.cut_short = true;
                break;
            };
            let was_under = usize::from(self.is_under(donor)) + usize::from(self.is_under(step.to));
            self.take(draft, donor, step);
            under = under + usize::from(self.is_under(donor)) + usize::from(self.is_under(step.to)) - was_under;
            replace_top(&mut donors, rung(self.depth(donor), top as u64));
            if self.is_over(step.to) {
                donors.push(rung_of(self, step.to));
            }
        }
    }

    /// Takes a step.
    pub(super) fn take(&mut self, draft: &mut Draft, donor: usize, step: Step) {
        draft.stocks.take(donor, step.kind, step.count);
        self.loads[donor] -= step.weight();
        self.loads[step.to] += step.weight();
        draft.steps.push(step);
        if self.is_under(donor) {
            self.has_sunk(donor);
        }
    }

    /// How far the workers are out of their bounds.
    fn stray(&self) -> u64 {
        let Bounds { lower, upper, .. } = self.bounds;
        let stray = |worker: usize| {
            let load = self.loads[worker];
            lower[worker].saturating_sub(load) + load.saturating_sub(upper[worker])
        };
        (0..self.loads.len()).map(stray).sum()
    }

    /// The step, or as much of it as the budget allows, which then has less.
    pub(super) fn within_budget(&mut self, step: Step) -> Option<Step> {
        if step.kind.is_fresh() {
            return Some(step);
        }
        let count = step.count.min(u32::try_from(self.budget).unwrap_or(u32::MAX));
        self.budget -= count as usize;
        Some(Step { count, ..step }).filter(|step| step.count > 0)
    }

    /// How loaded a donor is: whether it is above its upper bound, then its load per unit of capacity.
    fn depth(&self, worker: usize) -> u64 {
        u64::from(self.is_over(worker)) << 63 | self.survey.roster.level(worker, self.loads[worker])
    }

    fn has_sunk(&mut self, worker: usize) {
        let height = self.height(worker);
        for (group, ladder) in (0..).zip(&mut self.ladders) {
            if let Some(ladder) = ladder
                && self.groups.allows(group, worker)
            {
                ladder.sunk(worker, &self.survey.roster, self.problem.options.seed, height);
            }
        }
    }

    /// The step from `donor` that evens out most, if one helps.
    fn best_step(&mut self, donor: usize, stock: &[Lot], turn: u64) -> Option<Step> {
        let mut best: Option<(u128, Step)> = None;
        for lots in stock.chunk_by(|a, b| a.kind.group() == b.kind.group()) {
            let group = lots[0].kind.group();
            if self.groups.members(group).is_empty() {
                continue;
            }
            let to = self.roomiest(group);
            if to == donor || !(self.is_over(donor) || self.is_under(to)) {
                continue;
            }
            let reach = self.reach(donor, to);
            let Some(lot) = self.best_lot(donor, to, reach, lots) else { continue };
            let gain = gain(lot.kind, reach);
            if best.as_ref().is_none_or(|(known, _)| gain > *known) {
                best = Some((gain, Step { kind: lot.kind, to, count: self.how_many(donor, to, lot, turn) }));
            }
        }
        best.map(|(_, step)| step)
    }

    /// The weight that, moved from `donor` to `to`, changes their places; half of it makes both equally loaded.
    fn reach(&self, donor: usize, to: usize) -> u64 {
        let roster = &self.survey.roster;
        let (giving, taking) = (roster.capacity(donor), roster.capacity(to));
        let (high, low) = (self.loads[donor], self.loads[to]);
        if giving == taking {
            return high.saturating_sub(low);
        }
        let (giving, taking) = (u128::from(giving), u128::from(taking));
        let reach = (2 * u128::from(high) * taking).saturating_sub(2 * u128::from(low) * giving) / (giving + taking);
        u64::try_from(reach).unwrap_or(u64::MAX)
    }

    /// Of `lots`, which are in order of weight, the one whose move evens out most.
    fn best_lot(&self, donor: usize, to: usize, reach: u64, lots: &[Lot]) -> Option<Lot> {
        let room = self.bounds.upper[to].saturating_sub(self.loads[to]);
        let middle = lots.partition_point(|lot| lot.kind.weight() <= reach / 2);
        let near = lots[..middle].last().into_iter().chain(first(&lots[middle..]));
        let better = |lot: &&Lot| {
            gain(lot.kind, reach) > 0
                && self.stray_after(donor, to, lot.kind.weight()) <= self.stray_after(donor, to, 0)
        };
        let best = near.filter(better).max_by_key(|lot| gain(lot.kind, reach));
        if let Some(lot) = best
            && (lot.kind.weight() <= room || self.is_only_way(donor, to, *lot, lots))
        {
            return Some(*lot);
        }
        let fitting = lots.partition_point(|lot| lot.kind.weight() <= room);
        let strays_less = |lot: &&Lot| self.stray_after(donor, to, lot.kind.weight()) < self.stray_after(donor, to, 0);
        lots[..fitting].last().filter(|lot| better(lot) || strays_less(lot)).copied()
    }

    /// How many partitions of `lot` to move at once: what both need, or what one needs as far as it brings the other no
    /// further than the middle of its bounds, and not more than is its turn; at least one.
    fn how_many(&self, donor: usize, to: usize, lot: Lot, turn: u64) -> u32 {
        let Bounds { lower, upper, .. } = self.bounds;
        let (high, low) = (self.loads[donor], self.loads[to]);
        let middle = |worker: usize| u64::midpoint(lower[worker], upper[worker]);
        let (excess, lack) = (high.saturating_sub(upper[donor]), lower[to].saturating_sub(low));
        let spare = if excess > 0 { excess } else { high.saturating_sub(middle(donor)) };
        let room = if lack > 0 { lack } else { middle(to).saturating_sub(low) };
        let count = (spare.min(room) / lot.kind.weight()).min(turn).clamp(1, u64::from(lot.count));
        u32::try_from(count).unwrap_or(lot.count)
    }

    /// Whether the donor cannot come within its bounds by giving lighter ones, and the two come closer to theirs.
    fn is_only_way(&self, donor: usize, to: usize, lot: Lot, lots: &[Lot]) -> bool {
        let weight = lot.kind.weight();
        let lighter = lots.iter().filter(|lot| lot.kind.weight() < weight);
        let lighter: u64 = lighter.map(|lot| lot.kind.weight() * u64::from(lot.count)).sum();
        lighter < self.loads[donor].saturating_sub(self.bounds.upper[donor])
            && self.stray_after(donor, to, weight) < self.stray_after(donor, to, 0)
    }

    /// How far the two, taken together, are out of their bounds once `weight` has moved.
    fn stray_after(&self, donor: usize, to: usize, weight: u64) -> u64 {
        let stray = |worker: usize, load: u64| {
            self.bounds.lower[worker].saturating_sub(load) + load.saturating_sub(self.bounds.upper[worker])
        };
        stray(donor, self.loads[donor] - weight) + stray(to, self.loads[to] + weight)
    }
}

impl Step {
    fn weight(&self) -> u64 {
        self.kind.weight() * u64::from(self.count)
    }
}

/// Changes the top of a heap, which costs less than to take it out and put it back.
pub(super) fn replace_top<T: Ord>(heap: &mut BinaryHeap<T>, value: T) {
    if let Some(mut top) = heap.peek_mut() {
        *top = value;
    }
}

/// How much a partition evens out two workers: what the sum of their squared loads loses.
fn gain(kind: Kind, reach: u64) -> u128 {
    u128::from(kind.weight()) * u128::from(reach.saturating_sub(kind.weight()))
}

/// The first of `lots`, or the second where that weighs the same and is free to move.
fn first(lots: &[Lot]) -> Option<&Lot> {
    match lots {
        [first, second, ..] if first.kind.weight() == second.kind.weight() => Some(second),
        [first, ..] => Some(first),
        [] => None,
    }
}
