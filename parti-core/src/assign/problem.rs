//! What is there: workers, partitions, who holds what, and how far a plan may go.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::num::NonZeroU32;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::apart::Apart;
use super::bounds::Bounds;
use super::current::Current;
use super::pools::Pools;
use super::room::Room;
use super::{Labels, ProblemError, least};
use serde::{Deserialize, Serialize};

use crate::ids::Slot;
use crate::partition::PartitionList;

/// A worker that can be given partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInput {
    /// Which worker.
    pub slot: Slot,
    /// How much load it takes compared with others.
    pub capacity: NonZeroU32,
    /// What partitions can ask for.
    pub labels: Labels,
    /// The most load it can take, whatever the balance; none if there is no limit.
    pub max_load: Option<u64>,
    /// The most partitions it can take, whatever the balance; none if there is no limit.
    pub max_partitions: Option<u32>,
    /// Whether it is leaving: it is given nothing, and what it holds goes to others.
    pub draining: bool,
}

impl WorkerInput {
    /// A worker of capacity 1 without labels and limits, here to stay.
    pub fn new(slot: Slot) -> Self {
        let (capacity, labels) = (NonZeroU32::MIN, Labels::new());
        Self { slot, capacity, labels, max_load: None, max_partitions: None, draining: false }
    }

    /// Whether a partition with this rule may be given to this worker.
    pub fn can_hold(&self, rule: Option<&Rule>) -> bool {
        !self.draining
            && rule.is_none_or(|rule| {
                rule.requires.iter().all(|(name, value)| self.labels.get(name) == Some(value))
                    && !rule.avoids.contains(&self.slot)
            })
    }
}

/// Which worker may or should hold one partition. Partitions without a rule may be anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The index of the partition in the list.
    pub partition: usize,
    /// The labels that its worker must have. Where no worker has them all, the partition stays unassigned.
    pub requires: Labels,
    /// The labels that its worker should have, beyond those that it must. It is with a worker that has them all as long
    /// as one of them has room within its bounds, and *spilled* to another as long as none has.
    pub prefers: Labels,
    /// What it has in common with others that are to be on different workers: where there are enough of these, no two
    /// partitions of one key are together, and else no more than must be, as long as the bounds allow it.
    pub apart: Option<String>,
    /// The workers that cannot hold it, whatever their labels. Where no other can, the partition stays unassigned.
    pub avoids: BTreeSet<Slot>,
    /// The worker that is to hold it, whatever the balance. Where that worker is not there, is leaving, or cannot hold
    /// it, the partition is assigned as if it had no pin.
    pub pin: Option<Slot>,
}

/// How far a plan may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How far a worker's load may be from its share, in thousandths of the share; 50 by default.
    ///
    /// A smaller value balances better and moves more. Where partitions are so heavy that no worker can come so
    /// close, the nearest possible load is within the bound.
    pub epsilon_permille: u32,
    /// One plan moves less than this share of the partitions whose holder stays, but may always move one; in percent, 20 by
    /// default, and 100 is no limit.
    pub move_budget_percent: u32,
    /// Whether partitions of workers that stay may move at all.
    pub step: Step,
    /// Enters every hash of a partition; 0 by default. All who plan for a group must have the same.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { epsilon_permille: 50, move_budget_percent: 20, step: Step::Planned, seed: 0 }
    }
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Unassigned partitions are assigned, and the load is balanced.
    #[default]
    Planned,
    /// Only unassigned partitions are assigned: no partition of a worker that stays moves.
    Emergency,
}

/// What is there: workers, partitions, and who holds what.
///
/// ```
/// use parti_core::assign::{Balanced, Problem, WorkerInput, plan};
/// use parti_core::{PartitionList, Slot};
///
/// let workers = [0, 1].map(|slot| WorkerInput::new(Slot::new(slot)));
/// let partitions = PartitionList::from_pairs([("a", 2), ("b", 1), ("c", 1)])?;
/// let holders = [Some(Slot::new(0)), None, None]; // as many as partitions, in the same order
/// let answer = plan(&Balanced, &Problem::new(&workers, &partitions, &holders)?)?;
/// assert_eq!(answer.owners, [Some(Slot::new(0)), Some(Slot::new(1)), Some(Slot::new(1))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    workers: Vec<&'a WorkerInput>,
    partitions: &'a PartitionList,
    holders: &'a [Option<Slot>],
    rules: Vec<&'a Rule>,
    options: Options,
    current: Current,
    room: Room,
    limits: OnceCell<Limits>,
}

/// What follows from the problem under its rules and options; worked out when first asked for, as these come last.
#[derive(Clone, Debug)]
struct Limits {
    pools: Pools,
    apart: Apart,
    bounds: Bounds,
    least_staying_moves: usize,
}

impl<'a> Problem<'a> {
    /// The workers to choose from, the partitions to divide, and the holder of each partition, in the order of the list.
    ///
    /// A holder that is not among the workers is gone.
    ///
    /// # Errors
    ///
    /// [`ProblemError`] if a slot comes twice or the holders are not as many as the partitions.
    pub fn new(
        workers: &'a [WorkerInput],
        partitions: &'a PartitionList,
        holders: &'a [Option<Slot>],
    ) -> Result<Self, ProblemError> {
        if holders.len() != partitions.as_slice().len() {
            return Err(ProblemError::Holders { holders: holders.len(), partitions: partitions.as_slice().len() });
        }
        let mut workers: Vec<_> = workers.iter().collect();
        workers.sort_unstable_by_key(|worker| worker.slot);
        if let Some(pair) = workers.windows(2).find(|pair| pair[0].slot == pair[1].slot) {
            return Err(ProblemError::SlotTwice { slot: pair[0].slot });
        }
        let (current, room) = (Current::new(&workers, partitions, holders), Room::new(&workers));
        let (rules, options, limits) = (Vec::new(), Options::default(), OnceCell::new());
        Ok(Self { workers, partitions, holders, rules, options, current, room, limits })
    }

    /// The same problem with rules for some partitions.
    ///
    /// # Errors
    ///
    /// [`ProblemError`] if a partition has two rules or is not in the list.
    pub fn with_rules(self, rules: &'a [Rule]) -> Result<Self, ProblemError> {
        let mut rules: Vec<_> = rules.iter().collect();
        rules.sort_unstable_by_key(|rule| rule.partition);
        if let Some(pair) = rules.windows(2).find(|pair| pair[0].partition == pair[1].partition) {
            return Err(ProblemError::RuleTwice { partition: pair[0].partition });
        }
        match rules.last() {
            Some(rule) if rule.partition >= self.holders.len() => {
                Err(ProblemError::RuleWithoutPartition { partition: rule.partition, partitions: self.holders.len() })
            }
            Some(_) | None => Ok(Self { rules, limits: OnceCell::new(), ..self }),
        }
    }

    /// The same problem with other options.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        Self { options, limits: OnceCell::new(), ..self }
    }

    /// The workers in order of their slots, each slot once.
    pub fn workers(&self) -> &[&'a WorkerInput] {
        &self.workers
    }

    /// The partitions in order of their ids, each id once.
    pub fn partitions(&self) -> &'a PartitionList {
        self.partitions
    }

    /// The holder of each partition, in the order of the list; it may be a worker that is gone.
    pub fn holders(&self) -> &'a [Option<Slot>] {
        self.holders
    }

    /// The rules in the order of the partitions, at most one for each.
    pub fn rules(&self) -> &[&'a Rule] {
        &self.rules
    }

    /// How far the plan may go.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The worker in `slot`, if it is there. O(log workers).
    pub fn worker(&self, slot: Slot) -> Option<&'a WorkerInput> {
        self.workers.binary_search_by_key(&slot, |worker| worker.slot).ok().map(|index| self.workers[index])
    }

    /// The rule of the partition at `index`, if it has one. O(log rules).
    pub fn rule(&self, index: usize) -> Option<&'a Rule> {
        if self.rules.is_empty() {
            return None;
        }
        self.rules.binary_search_by_key(&index, |rule| rule.partition).ok().map(|at| self.rules[at])
    }

    /// The worker to which the partition of `rule` is pinned, if it can hold it.
    pub fn pinned(&self, rule: &Rule) -> Option<&'a WorkerInput> {
        rule.pin.and_then(|slot| self.worker(slot)).filter(|worker| worker.can_hold(Some(rule)))
    }

    /// What the workers that stay hold before anything moves.
    pub(super) fn current(&self) -> &Current {
        &self.current
    }

    /// The most that each worker can take.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Which workers may hold which partitions.
    pub(super) fn pools(&self) -> &Pools {
        &self.limits().pools
    }

    /// Which partitions are to be on different workers.
    pub(super) fn apart(&self) -> &Apart {
        &self.limits().apart
    }

    /// What each worker should hold.
    pub(super) fn bounds(&self) -> &Bounds {
        &self.limits().bounds
    }

    /// As [`Figures::least_moves`](super::Figures::least_moves) tells it, of the partitions whose holder stays.
    pub(super) fn least_staying_moves(&self) -> usize {
        self.limits().least_staying_moves
    }

    /// How many partitions whose holder stays one plan may move: fewer than the share of the budget, at least one.
    pub(super) fn budget(&self) -> usize {
        self.budget_of(self.current.staying())
    }

    /// The same for so many partitions whose holder stays.
    pub(super) fn budget_of(&self, staying: usize) -> usize {
        let percent = u128::from(self.options.move_budget_percent);
        if percent >= 100 {
            return staying;
        }
        let share = (staying as u128 * percent).saturating_sub(1) / 100;
        usize::try_from(share).unwrap_or(staying).max(1).min(staying)
    }

    pub(super) fn weight(&self, partition: usize) -> u64 {
        u64::from(self.current.weights[partition])
    }

    /// How important a partition is, where room is short.
    pub(super) fn priority(&self, partition: usize) -> u8 {
        self.partitions.priorities().get(partition).copied().unwrap_or(0)
    }

    /// The hash of the id of a partition; the list has it where there is no seed.
    #[inline]
    pub(super) fn hash(&self, partition: usize) -> u64 {
        match self.options.seed {
            0 => self.partitions.hashes()[partition],
            seed => xxh3_64_with_seed(self.partitions.as_slice()[partition].id.as_str().as_bytes(), seed),
        }
    }

    fn limits(&self) -> &Limits {
        self.limits.get_or_init(|| {
            let pools = Pools::new(self);
            let bounds = Bounds::new(self, &pools);
            let least_staying_moves = least::staying_moves(&self.current, &bounds);
            Limits { apart: Apart::new(self), pools, bounds, least_staying_moves }
        })
    }
}
