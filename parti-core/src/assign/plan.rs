//! Who is to own what: a strategy's answer, audited and explained.

use alloc::vec::Vec;
use core::fmt;

use super::current::NOBODY;
use super::{AuditError, Figures, PlanError, Problem, Step, StrategyError};
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
        Self { owners: Owners::Slots(owners), another_round: false }
    }

    /// The same answer, when there is more to move than it moves.
    #[must_use]
    pub fn with_another_round(self) -> Self {
        Self { another_round: true, ..self }
    }

    /// An answer that names owners by worker index, and is trusted to be valid and within the step and the budget.
    pub(super) fn of_indices(owners: Vec<u32>, another_round: bool) -> Self {
        Self { owners: Owners::Indices(owners), another_round }
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
    /// The load is uneven.
    Balance,
}

/// Asks `strategy` for an answer, audits it, keeps it within the step and the move budget, and explains it.
///
/// # Errors
///
/// [`PlanError`] if the strategy has no answer or its answer fails the audit; the current assignment should then stay.
pub fn plan(strategy: &dyn Strategy, problem: &Problem<'_>) -> Result<Plan, PlanError> {
    let Answer { owners, another_round } = strategy.assign(problem)?;
    let (indices, another_round) = match owners {
        Owners::Slots(slots) => {
            let mut indices = indices(problem, &slots)?;
            let limited = limit(problem, &mut indices);
            (indices, another_round || limited)
        }
        Owners::Indices(indices) => (indices, another_round),
    };
    let moves = moves(problem, &indices);
    let figures = Figures::new(problem, &moves);
    let mut owners = problem.holders().to_vec();
    for change in &moves {
        owners[change.partition] = change.to;
    }
    Ok(Plan { owners, moves, figures, another_round, partitions: problem.partitions().clone() })
}

/// Checks an answer: an owner or none for every partition, and only owners that can hold it. A partition that stays
/// with its holder passes even if a label that it asks for is gone: whether and when it moves is the strategy's business.
///
/// # Errors
///
/// [`AuditError`] with the first partition, in the order of the list, whose owner cannot hold it.
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
    owners.iter().zip(problem.holders()).enumerate().map(checked).collect()
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

/// What changes hands, in the order of the list, and why.
fn moves(problem: &Problem<'_>, owners: &[u32]) -> Vec<Move> {
    let current = problem.current();
    let pairs = current.holders.iter().zip(owners);
    // A partition that no worker can hold moves, too, if its holder is leaving or gone.
    let changed = pairs.enumerate().filter(|&(_, (holder, owner))| holder != owner || *owner == NOBODY);
    let mut moves = Vec::with_capacity(changed.clone().count());
    for (partition, (_, &owner)) in changed {
        let (from, to) = (problem.holders()[partition], current.workers.slot(owner));
        if from != to {
            moves.push(Move { partition, from, to, reason: reason(problem, partition, to) });
        }
    }
    moves
}

/// Why a partition moves.
fn reason(problem: &Problem<'_>, partition: usize, to: Option<Slot>) -> MoveReason {
    let Some(holder) = problem.holders()[partition] else { return MoveReason::New };
    if problem.current().holders[partition] == NOBODY {
        return if problem.worker(holder).is_some() { MoveReason::Drain } else { MoveReason::Orphaned };
    }
    let Some(rule) = problem.rule(partition) else { return MoveReason::Balance };
    if problem.worker(holder).is_some_and(|holder| !holder.can_hold(Some(rule))) {
        MoveReason::Label
    } else if to.is_some() && rule.pin == to {
        MoveReason::Pinned
    } else {
        MoveReason::Balance
    }
}
