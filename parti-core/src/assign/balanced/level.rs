//! Step 3: which partitions move from the most to the least loaded, told by kind; which ones of a kind is settled later.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::ladder::{tie_break, worker_of};
use super::settle::Flows;
use super::{Table, partition_of};
use crate::assign::bounds::Bounds;
use crate::assign::groups::ANYWHERE;
use crate::assign::survey::NOBODY;

/// So many passes are made in one plan; what they leave is for another round.
const MAX_PASSES: u32 = 8;

/// What makes partitions interchangeable: group, weight, and whether they are on the move anyway, so that it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind(u64);

impl Kind {
    pub(super) fn new(group: u32, weight: u32, fresh: bool) -> Self {
        Self(u64::from(group) << 33 | u64::from(weight) << 1 | u64::from(fresh))
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
struct Lot {
    kind: Kind,
    count: u32,
}

/// What one worker has to give, in order of kind.
type Stock = Vec<Lot>;

/// So many partitions of a kind from one worker to another.
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) to: usize,
    pub(super) count: u32,
}

/// The stocks of all workers, made when first asked for.
struct Stocks {
    made: Vec<Option<Stock>>,
    /// Partitions that the inventory does not tell of, or all of them where it is not enough: worker and kind, in order.
    more: Vec<(u32, Kind)>,
    /// Whether the inventory is part of the stocks.
    with_inventory: bool,
}

impl Table<'_> {
    /// Moves partitions until every worker is within its bounds, or no move helps, or the budget is spent.
    ///
    /// A partition moves once in a pass, so that another pass may find more where not all workers came within bounds.
    /// Each step takes the workers less far out of their bounds in sum, or no farther and evens out their loads, so
    /// that the passes come to an end.
    pub(super) fn level(&mut self) {
        for pass in 0..MAX_PASSES {
            if !self.is_uneven() || !self.level_once(pass == 0) {
                return;
            }
        }
        self.another_round = true;
    }

    /// One pass; whether there may be more to do in another.
    fn level_once(&mut self, first: bool) -> bool {
        let mut stocks = Stocks::new(self, first);
        self.ladders.fill_with(|| None);
        let mut flows = Flows::new(self.loads.len());
        let (roster, seed) = (&self.survey.roster, self.problem.options.seed);
        let rung = |table: &Self, worker: usize| (table.depth(worker), tie_break(worker as u32, roster, seed));
        let mut donors: BinaryHeap<_> = (0..roster.len()).map(|worker| rung(self, worker)).collect();
        let mut steps = 0;
        // Where the budget will not do, everybody gets a part of it.
        self.turn = (self.budget / roster.len()) as u64;
        let mut under = (0..roster.len()).filter(|&worker| self.is_under(worker)).count();
        while let Some(&(known, key)) = donors.peek() {
            let donor = worker_of(key);
            if self.depth(donor) != known {
                replace_top(&mut donors, (self.depth(donor), key));
                continue;
            }
            if !self.is_over(donor) && under == 0 {
                break;
            }
            let Some(step) = self.best_step(donor, stocks.of(donor, self)) else {
                donors.pop();
                continue;
            };
            let Some(step) = self.within_budget(step) else {
                self.another_round = true;
                break;
            };
            steps += 1;
            stocks.take(donor, &step);
            flows.record(donor, &step);
            let was_under = usize::from(self.is_under(donor)) + usize::from(self.is_under(step.to));
            self.loads[donor] -= step.weight();
            self.loads[step.to] += step.weight();
            under = under + usize::from(self.is_under(donor)) + usize::from(self.is_under(step.to)) - was_under;
            replace_top(&mut donors, (self.depth(donor), key));
            if self.is_over(step.to) {
                donors.push(rung(self, step.to));
            }
            if self.is_under(donor) {
                self.has_sunk(donor);
            }
        }
        self.settle(flows);
        steps > 0 && !self.another_round
    }

    /// The step, or as much of it as the budget allows, which then has less.
    fn within_budget(&mut self, step: Step) -> Option<Step> {
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
    fn best_step(&mut self, donor: usize, stock: &Stock) -> Option<Step> {
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
                best = Some((gain, Step { kind: lot.kind, to, count: self.how_many(donor, to, lot) }));
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
            && (lot.kind.weight() <= room || self.is_much_better(donor, to, lot.kind.weight()))
        {
            return Some(*lot);
        }
        let fitting = lots.partition_point(|lot| lot.kind.weight() <= room);
        let strays_less = |lot: &&Lot| self.stray_after(donor, to, lot.kind.weight()) < self.stray_after(donor, to, 0);
        lots[..fitting].last().filter(|lot| better(lot) || strays_less(lot)).copied()
    }

    /// How many partitions of `lot` to move at once: what both need, or what one needs as far as it brings the other no
    /// further than the middle of its bounds, and not more than is its turn; at least one.
    fn how_many(&self, donor: usize, to: usize, lot: Lot) -> u32 {
        let Bounds { lower, upper, .. } = &self.bounds;
        let (high, low) = (self.loads[donor], self.loads[to]);
        let middle = |worker: usize| u64::midpoint(lower[worker], upper[worker]);
        let (excess, lack) = (high.saturating_sub(upper[donor]), lower[to].saturating_sub(low));
        let spare = if excess > 0 { excess } else { high.saturating_sub(middle(donor)) };
        let room = if lack > 0 { lack } else { middle(to).saturating_sub(low) };
        let count = (spare.min(room) / lot.kind.weight()).min(self.turn).clamp(1, u64::from(lot.count));
        u32::try_from(count).unwrap_or(lot.count)
    }

    /// Whether the receiver, though above its bound, is then lower than the donor was by more than epsilon.
    fn is_much_better(&self, donor: usize, to: usize, weight: u64) -> bool {
        let level = |worker: usize, load: u64| u128::from(self.survey.roster.level(worker, load));
        let epsilon = u128::from(self.problem.options.epsilon_permille.min(1000));
        level(to, self.loads[to] + weight) * 1000 < level(donor, self.loads[donor]) * (1000 - epsilon)
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
fn replace_top<T: Ord>(heap: &mut BinaryHeap<T>, value: T) {
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

impl Stocks {
    /// Where there are no rules and none but those without a holder have moved, the inventory tells of all others.
    fn new(table: &Table<'_>, first: bool) -> Self {
        let made = (0..table.loads.len()).map(|_| None).collect();
        let with_inventory = first && table.groups.is_free();
        let entry = |partition: usize| (table.owners[partition], table.kind(partition));
        let mut more: Vec<_> = if with_inventory {
            table.homeless.iter().map(|&key| entry(partition_of(key))).collect()
        } else {
            let owned = (0..table.owners.len()).filter(|&partition| table.owners[partition] != NOBODY);
            owned.map(entry).filter(|(_, kind)| *kind != Kind::PINNED).collect()
        };
        more.sort_unstable();
        Self { made, more, with_inventory }
    }

    fn of(&mut self, worker: usize, table: &Table<'_>) -> &Stock {
        let Self { made, more, with_inventory } = self;
        made[worker].get_or_insert_with(|| {
            let from = more.partition_point(|&(owner, _)| (owner as usize) < worker);
            let to = more.partition_point(|&(owner, _)| owner as usize <= worker);
            let same = more[from..to].chunk_by(|a, b| a == b);
            let mut stock: Stock = same.map(|same| Lot { kind: same[0].1, count: same.len() as u32 }).collect();
            if *with_inventory {
                let lots = table.problem.inventory().of(worker);
                stock.extend(
                    lots.iter().map(|lot| Lot { kind: Kind::new(ANYWHERE, lot.weight, false), count: lot.count }),
                );
                stock.sort_unstable_by_key(|lot| lot.kind);
            }
            stock
        })
    }

    fn take(&mut self, worker: usize, step: &Step) {
        let stock = self.made[worker].as_mut().expect("only what a stock shows is taken");
        let at = stock.binary_search_by_key(&step.kind, |lot| lot.kind).expect("only what a stock shows is taken");
        stock[at].count -= step.count;
        if stock[at].count == 0 {
            stock.remove(at);
        }
    }
}

impl Kind {
    /// Partitions that stay where they are pinned.
    const PINNED: Self = Self(u64::MAX);
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
