//! Who is to own what: a strategy's answer, audited and explained.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use super::apart::Crowd;
use super::current::NOBODY;
use super::room::Over;
use super::{AuditError, Figures, PlanError, Problem, Rule, Step, StrategyError, WorkerInput};
use crate::ids::Slot;
use crate::partition::PartitionList;

/// A way to divide partitions among workers. Bring your own by implementing it.
///
/// It must be a function of the problem alone, or two leaders would disagree.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// Decides the owner of every partition.
    ///
    /// What the answer moves beyond the move budget, or in an emergency at all, [`plan`] leaves for a later round.
    ///
    /// # Errors
    ///
    /// [`StrategyError`] if it has no answer; the current assignment then stays.
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError>;
}

/// What a strategy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    owners: Owners,
    another_round: bool,
    /// Those that were taken from a worker for lack of room, in any order.
    displaced: Vec<u32>,
}

/// Owners by slot, as a user's strategy names them, or by worker index.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owners {
    Slots(Vec<Option<Slot>>),
    Indices(Vec<u32>),
}

impl Answer {
    /// The owner of each partition, in the order of the list; none where no worker can hold it.
    pub fn new(owners: Vec<Option<Slot>>) -> Self {
        Self { owners: Owners::Slots(owners), another_round: false, displaced: Vec::new() }
    }

    /// The same answer, when there is more to move than it moves.
    #[must_use]
    pub fn with_another_round(self) -> Self {
        Self { another_round: true, ..self }
    }

    /// An answer that names owners by worker index, and is trusted to be valid and within the step and the budget.
    pub(super) fn of_indices(owners: Vec<u32>, another_round: bool) -> Self {
        Self { owners: Owners::Indices(owners), another_round, displaced: Vec::new() }
    }

    /// The same answer, which took these from their workers for lack of room.
    pub(super) fn displacing(self, mut displaced: Vec<u32>) -> Self {
        displaced.sort_unstable();
        Self { displaced, ..self }
    }
}

/// Who is to own what, and what that takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The owner of each partition, in the order of the list; none where no worker can hold it.
    pub owners: Vec<Option<Slot>>,
    /// The partitions whose owner is not their holder, in the order of the list.
    pub moves: Vec<Move>,
    /// How good it is, and what it costs.
    pub figures: Figures,
    /// How many partitions have no owner for lack of room, by priority, the highest first. Each of them has workers that
    /// may hold it, and none of these has room for it beside what is as important or more.
    pub without_room: Vec<(u8, usize)>,
    /// Whether there is more to move: plan again from the result.
    pub another_round: bool,
    /// For the names of the partitions.
    pub(super) partitions: PartitionList,
}

/// One partition that changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its index in the list.
    pub partition: usize,
    /// Its holder, which may be gone.
    pub from: Option<Slot>,
    /// Its owner; none where no worker can hold it.
    pub to: Option<Slot>,
    /// Why.
    pub reason: MoveReason,
    /// Whether its owner is one that it prefers; none where it prefers nobody, or gets no owner.
    pub fit: Option<Fit>,
}

/// Whether a partition that prefers some workers is with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fit {
    /// It is.
    Preferred,
    /// It is with another: none of those that it prefers is there, or none has room.
    Spilled,
}

impl MoveReason {
    /// Whether what moves for this reason goes from a worker that stays.
    pub(crate) fn is_from_staying(self) -> bool {
        match self {
            Self::Pinned | Self::Label | Self::Preferred | Self::Apart | Self::Room | Self::Balance => true,
            Self::New | Self::Orphaned | Self::Drain => false,
        }
    }
}

impl Fit {
    /// How well `worker` fits a partition with this rule; none where the rule prefers nobody.
    pub fn of(rule: &Rule, worker: &WorkerInput) -> Option<Self> {
        let has = |(name, value): (&String, &String)| worker.labels.get(name) == Some(value);
        match rule.prefers.is_empty() {
            true => None,
            false if rule.prefers.iter().all(has) => Some(Self::Preferred),
            false => Some(Self::Spilled),
        }
    }
}

/// Why a partition moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveReason {
    /// It had no holder.
    New,
    /// Its holder is gone.
    Orphaned,
    /// Its holder is leaving.
    Drain,
    /// It is pinned to its new owner.
    Pinned,
    /// Its holder lacks a label that it asks for, or is one that it avoids.
    Label,
    /// Its holder is not one that it prefers, and its owner is.
    Preferred,
    /// Its holder has another of its key, from which it is to be apart.
    Apart,
    /// Its holder has no room for it: a more important partition takes its place, or the holder has more than its limit
    /// allows.
    Room,
    /// The load is uneven.
    Balance,
}

/// Asks `strategy` for an answer, audits it, keeps it within the step and the move budget, and explains it.
///
/// # Errors
///
/// [`PlanError`] if the strategy has no answer or its answer fails the audit; the current assignment should then stay.
pub fn plan(strategy: &dyn Strategy, problem: &Problem<'_>) -> Result<Plan, PlanError> {
    let Answer { owners, another_round, displaced } = strategy.assign(problem)?;
    let (indices, another_round) = match owners {
        Owners::Slots(slots) => {
            let mut indices = indices(problem, &slots)?;
            let limited = limit(problem, &mut indices) | keep_room(problem, &mut indices);
            // Where all that is left waits for room, another round would find none either.
            let is_stuck = !problem.room().is_unlimited() && indices == problem.current().holders;
            (indices, (another_round || limited) && !is_stuck)
        }
        Owners::Indices(indices) => (indices, another_round),
    };
    let moves = moves(problem, &indices, &displaced);
    let figures = Figures::new(problem, &indices, &moves);
    let without_room = without_room(problem, &indices);
    let mut owners = problem.holders().to_vec();
    for change in &moves {
        owners[change.partition] = change.to;
    }
    Ok(Plan { owners, moves, figures, without_room, another_round, partitions: problem.partitions().clone() })
}

/// Checks an answer: an owner or none for every partition, only owners that can hold it, and no worker with more than its
/// limit. A partition that stays with its holder passes even if a label that it asks for is gone: whether and when it
/// moves is the strategy's business.
///
/// # Errors
///
/// [`AuditError`] with the first partition, in the order of the list, whose owner cannot hold it, or else with the first
/// worker that has no room for all that it is to own.
pub fn audit(problem: &Problem<'_>, owners: &[Option<Slot>]) -> Result<(), AuditError> {
    indices(problem, owners).map(|_| ())
}

/// The worker index of each owner, once the audit has passed.
fn indices(problem: &Problem<'_>, owners: &[Option<Slot>]) -> Result<Vec<u32>, AuditError> {
    let holders = &problem.current().holders;
    if owners.len() != holders.len() {
        return Err(AuditError::Length { owners: owners.len(), partitions: holders.len() });
    }
    let checked = |(partition, (&owner, &holder)): (usize, (&Option<Slot>, &Option<Slot>))| match owner {
        None => Ok(NOBODY),
        // Where nothing changes, rules are the strategy's business.
        Some(_) if owner == holder && holders[partition] != NOBODY => Ok(holders[partition]),
        Some(slot) => index(problem, partition, slot),
    };
    let indices: Vec<u32> = owners.iter().zip(problem.holders()).enumerate().map(checked).collect::<Result<_, _>>()?;
    match problem.room().first_over(problem, &indices) {
        None => Ok(indices),
        Some(Over { worker, load, partitions }) => {
            let slot = problem.current().workers.slots()[worker as usize];
            Err(AuditError::Room { slot, load, partitions })
        }
    }
}

/// The worker index of the new owner of one partition.
fn index(problem: &Problem<'_>, partition: usize, slot: Slot) -> Result<u32, AuditError> {
    let id = || problem.partitions().as_slice()[partition].id.clone();
    match problem.worker(slot) {
        None => Err(AuditError::UnknownWorker { partition: id(), slot }),
        Some(worker) if worker.draining => Err(AuditError::Draining { partition: id(), slot }),
        Some(_) if problem.rule(partition).is_some_and(|rule| rule.avoids.contains(&slot)) => {
            Err(AuditError::Avoided { partition: id(), slot })
        }
        Some(worker) if !worker.can_hold(problem.rule(partition)) => Err(AuditError::Label { partition: id(), slot }),
        Some(_) => Ok(problem.current().workers.index(slot)),
    }
}

/// Gives back to their holders what moves beyond the step and the budget; whether there was anything.
fn limit(problem: &Problem<'_>, owners: &mut [u32]) -> bool {
    let mut left = match problem.options().step {
        Step::Planned => problem.budget(),
        Step::Emergency => 0,
    };
    let mut limited = false;
    for (&holder, owner) in problem.current().holders.iter().zip(owners) {
        if holder == NOBODY || holder == *owner {
            continue;
        }
        if left == 0 {
            *owner = holder;
            limited = true;
        } else {
            left -= 1;
        }
    }
    limited
}

/// Takes back, in a plan that the budget has cut short, what came to workers whose limit does not allow it beside what has
/// not left them yet; whether there was anything.
fn keep_room(problem: &Problem<'_>, owners: &mut [u32]) -> bool {
    let holders = &problem.current().holders;
    let mut crowded_out = false;
    while let Some(over) = problem.room().first_over(problem, owners) {
        let worker = over.worker;
        let mut has_come: Vec<_> =
            (0..owners.len()).filter(|&at| owners[at] == worker && holders[at] != worker).collect();
        if has_come.is_empty() {
            break; // Its limit was lowered, and the strategy has yet to take away what is too much.
        }
        let (mut load, mut count) = (over.load, over.partitions);
        while let Some(partition) = has_come.pop().filter(|_| problem.room().is_too_much(worker, load, count)) {
            owners[partition] = holders[partition];
            load -= problem.weight(partition);
            count -= 1;
            crowded_out = true;
        }
    }
    crowded_out
}

/// How many partitions have no owner though a worker may hold them, by priority, the highest first.
fn without_room(problem: &Problem<'_>, owners: &[u32]) -> Vec<(u8, usize)> {
    let mut counts = BTreeMap::new();
    if !problem.room().is_unlimited() {
        let pools = problem.pools();
        let unowned = owners.iter().enumerate().filter(|(_, owner)| **owner == NOBODY).map(|(partition, _)| partition);
        for partition in unowned.filter(|&partition| !pools.members(pools.of(partition)).is_empty()) {
            *counts.entry(Reverse(problem.priority(partition))).or_default() += 1;
        }
    }
    counts.into_iter().map(|(Reverse(priority), count)| (priority, count)).collect()
}

/// What changes hands, in the order of the list, and why.
fn moves(problem: &Problem<'_>, owners: &[u32], displaced: &[u32]) -> Vec<Move> {
    let current = problem.current();
    let pairs = current.holders.iter().zip(owners);
    // A partition that no worker can hold moves, too, if its holder is leaving or gone.
    let changed = pairs.enumerate().filter(|&(_, (holder, owner))| holder != owner || *owner == NOBODY);
    let crowd = Crowd::new(problem.apart(), &current.holders);
    let has_limits = !problem.room().is_unlimited();
    let is_displaced = |partition: usize| displaced.binary_search_by(|of| (*of as usize).cmp(&partition)).is_ok();
    let mut moves = Vec::with_capacity(changed.clone().count());
    // Both come in the order of the list, and to look for a rule takes longer than all else.
    let mut rules = problem.rules().iter().peekable();
    for (partition, (_, &owner)) in changed {
        let (from, to) = (problem.holders()[partition], current.workers.slot(owner));
        if from != to {
            while rules.next_if(|rule| rule.partition < partition).is_some() {}
            let rule = rules.peek().copied().copied().filter(|rule| rule.partition == partition);
            let fit = rule.and_then(|rule| Fit::of(rule, problem.worker(to?)?));
            let reason = match reason(problem, partition, rule, to, fit) {
                reason if !reason.is_from_staying() => reason,
                _ if is_displaced(partition) => MoveReason::Room,
                MoveReason::Label => MoveReason::Label,
                _ if to.is_none() && has_limits => MoveReason::Room,
                MoveReason::Balance if crowd.is_crowded(partition, current.holders[partition]) => MoveReason::Apart,
                reason => reason,
            };
            moves.push(Move { partition, from, to, reason, fit });
        }
    }
    moves
}

/// Why a partition moves; `fit_now` tells how well its owner fits it.
fn reason(
    problem: &Problem<'_>,
    partition: usize,
    rule: Option<&Rule>,
    to: Option<Slot>,
    fit_now: Option<Fit>,
) -> MoveReason {
    let Some(holder) = problem.holders()[partition] else { return MoveReason::New };
    if problem.current().holders[partition] == NOBODY {
        return if problem.worker(holder).is_some() { MoveReason::Drain } else { MoveReason::Orphaned };
    }
    let Some(rule) = rule else { return MoveReason::Balance };
    let Some(holder) = problem.worker(holder) else { return MoveReason::Orphaned };
    if !holder.can_hold(Some(rule)) {
        MoveReason::Label
    } else if to.is_some() && rule.pin == to {
        MoveReason::Pinned
    } else if fit_now == Some(Fit::Preferred) && Fit::of(rule, holder) == Some(Fit::Spilled) {
        MoveReason::Preferred
    } else {
        MoveReason::Balance
    }
}
