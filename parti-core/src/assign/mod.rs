//! Who gets what: the assignment calculator, a pure function that is useful alone.
//!
//! Describe what is there in a [`Problem`], choose a [`Strategy`], and [`plan`] answers with a [`Plan`]: the owner of
//! every partition, each move with its reason, and figures. Same input, same plan, on every machine: integers only, and
//! the order in which workers, partitions and rules are given does not matter.
//!
//! ```
//! use parti_core::assign::{Balanced, Problem, WorkerInput, plan};
//! use parti_core::{Partition, PartitionId, PartitionList, Slot};
//!
//! let partitions = (0..12).map(|n| Partition::new(PartitionId::new(format!("orders-{n}")).unwrap())).collect();
//! let partitions = PartitionList::new(partitions)?;
//! let workers = [0, 1, 2].map(|slot| WorkerInput::new(Slot::new(slot)));
//! let holders = vec![None; 12];
//!
//! let first = plan(&Balanced, &Problem::new(&workers, &partitions, &holders)?)?;
//! assert_eq!(first.moves.len(), 12);
//!
//! // Worker 2 has crashed: what it held goes to the others, and nothing else moves.
//! let after = plan(&Balanced, &Problem::new(&workers[..2], &partitions, &first.owners)?)?;
//! assert_eq!(after.moves.len(), 4);
//! assert_eq!(after.figures.staying_moved, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod balanced;
mod bounds;
mod display;
mod error;
mod figures;
mod groups;
mod home;
mod inventory;
#[cfg(test)]
mod laws;
mod least;
#[cfg(test)]
mod reference;
mod ring;
mod round_robin;
mod sieve;
mod survey;
#[cfg(test)]
mod testing;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::fmt;
use core::num::NonZeroU32;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::Slot;
use crate::partition::PartitionList;

use self::bounds::Bounds;
use self::groups::Groups;
use self::sieve::{CHUNK, Sieve};
use self::survey::{NOBODY, Survey, place};
pub use balanced::Balanced;
pub use error::{AuditError, PlanError, ProblemError, StrategyError};
pub use figures::{Figures, Spread};
pub use least::least_moves;
pub use ring::ConsistentHash;
pub use round_robin::RoundRobin;

/// Labels of a worker, or labels that a partition asks for: name and value.
pub type Labels = BTreeMap<String, String>;

/// A worker that can be given partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInput {
    /// Which worker.
    pub slot: Slot,
    /// How much load it takes compared with others.
    pub capacity: NonZeroU32,
    /// What partitions can ask for.
    pub labels: Labels,
    /// Whether it is leaving: it is given nothing, and what it holds goes to others.
    pub draining: bool,
}

impl WorkerInput {
    /// A worker of capacity 1 without labels, here to stay.
    pub fn new(slot: Slot) -> Self {
        Self { slot, capacity: NonZeroU32::MIN, labels: Labels::new(), draining: false }
    }

    /// Whether a partition with this rule may be given to this worker.
    pub fn can_hold(&self, rule: Option<&Rule>) -> bool {
        !self.draining
            && rule.is_none_or(|rule| rule.requires.iter().all(|(name, value)| self.labels.get(name) == Some(value)))
    }
}

/// Where one partition may or should be. Partitions without a rule may be anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The place of the partition in the list.
    pub partition: usize,
    /// The labels that its worker must have. Where no worker has them all, the partition stays unassigned.
    pub requires: Labels,
    /// The worker that is to hold it, whatever the balance. Where that worker is not there, is leaving, or lacks a
    /// required label, the partition is placed as if it had no pin.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// Partitions without a holder are placed, and the load is balanced.
    #[default]
    Planned,
    /// Only partitions without a holder are placed: no partition of a worker that stays moves.
    Emergency,
}

/// What is there: workers, partitions, and who holds what.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    workers: Vec<&'a WorkerInput>,
    partitions: &'a PartitionList,
    holders: &'a [Option<Slot>],
    rules: Vec<&'a Rule>,
    options: Options,
    survey: Survey,
    groups: OnceCell<Groups>,
    bounds: OnceCell<Bounds>,
    least_staying_moves: OnceCell<usize>,
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
        let survey = Survey::new(&workers, partitions, holders);
        Ok(Self {
            workers,
            partitions,
            holders,
            rules: Vec::new(),
            options: Options::default(),
            survey,
            groups: OnceCell::new(),
            bounds: OnceCell::new(),
            least_staying_moves: OnceCell::new(),
        })
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
            Some(_) | None => Ok(Self { rules, ..self }.forget()),
        }
    }

    /// The same problem with other options.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }.forget()
    }

    /// Forgets what was found out under other rules or options.
    fn forget(self) -> Self {
        Self { groups: OnceCell::new(), bounds: OnceCell::new(), least_staying_moves: OnceCell::new(), ..self }
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

    fn weight(&self, partition: usize) -> u64 {
        u64::from(self.survey.weights[partition])
    }

    /// The hash of the id of a partition; of the list where there is no seed.
    fn hash(&self, partition: usize) -> u64 {
        match self.options.seed {
            0 => self.partitions.hashes()[partition],
            seed => xxh3_64_with_seed(self.partitions.as_slice()[partition].id.as_str().as_bytes(), seed),
        }
    }

    /// Which partitions may be where; found when first asked for.
    fn groups(&self) -> &Groups {
        self.groups.get_or_init(|| Groups::new(self))
    }

    /// What each worker should hold; found when first asked for.
    fn bounds(&self) -> &Bounds {
        self.bounds.get_or_init(|| Bounds::new(self))
    }

    /// As [`Figures::least_moves`] tells it, of the partitions whose holder stays.
    fn least_staying_moves(&self) -> usize {
        *self.least_staying_moves.get_or_init(|| least::staying_moves(self))
    }

    /// The worker to which the partition of `rule` is pinned, if it can hold it.
    pub fn pinned(&self, rule: &Rule) -> Option<&'a WorkerInput> {
        rule.pin.and_then(|slot| self.worker(slot)).filter(|worker| worker.can_hold(Some(rule)))
    }
}

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

/// Owners by slot, as a user's strategy names them, or by index among the workers that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owners {
    Slots(Vec<Option<Slot>>),
    Seats(Vec<u32>),
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

    /// An answer that names owners by their index, and is trusted to be valid and within the step and the budget.
    fn of_seats(owners: Vec<u32>, another_round: bool) -> Self {
        Self { owners: Owners::Seats(owners), another_round }
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
    partitions: PartitionList,
}

/// One partition that changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its place in the list.
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
    /// Its holder lacks a label that it asks for.
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
    let (owners, another_round) = match owners {
        Owners::Slots(slots) => {
            let mut owners = seats(problem, &slots)?;
            let limited = limit(problem, &mut owners);
            (owners, another_round || limited)
        }
        Owners::Seats(owners) => (owners, another_round),
    };
    // With nobody after the last worker, so that there is no branch.
    let slots: Vec<_> = problem.survey.roster.slots().iter().copied().map(Some).chain([None]).collect();
    let changes = Changes::new(problem, &owners, &slots);
    let figures = Figures::new(problem, &changes);
    let mut owners = problem.holders.to_vec();
    for step in &changes.moves {
        owners[step.partition] = step.to;
    }
    Ok(Plan { owners, moves: changes.moves, figures, another_round, partitions: problem.partitions.clone() })
}

/// Checks an answer: an owner or none for every partition, and only owners that can hold it. A partition that stays
/// where it is passes even if a label that it asks for is gone: whether and when it moves is the strategy's business.
///
/// # Errors
///
/// [`AuditError`] with the first partition, in the order of the list, whose owner cannot hold it.
pub fn audit(problem: &Problem<'_>, owners: &[Option<Slot>]) -> Result<(), AuditError> {
    seats(problem, owners).map(|_| ())
}

/// The index of each owner, once the audit has passed.
fn seats(problem: &Problem<'_>, owners: &[Option<Slot>]) -> Result<Vec<u32>, AuditError> {
    let survey = &problem.survey;
    if owners.len() != survey.seats.len() {
        return Err(AuditError::Length { owners: owners.len(), partitions: survey.seats.len() });
    }
    let checked = |(partition, (&owner, &holder)): (usize, (&Option<Slot>, &Option<Slot>))| match owner {
        None => Ok(NOBODY),
        Some(_) if owner == holder && survey.seats[partition] != NOBODY => Ok(survey.seats[partition]),
        Some(slot) => seat(problem, partition, slot),
    };
    owners.iter().zip(problem.holders).enumerate().map(checked).collect()
}

/// The index of the new owner of one partition.
fn seat(problem: &Problem<'_>, index: usize, slot: Slot) -> Result<u32, AuditError> {
    let partition = || problem.partitions.as_slice()[index].id.clone();
    let seat = problem.survey.roster.index(slot);
    if seat == NOBODY {
        return Err(match problem.worker(slot) {
            Some(_) => AuditError::Draining { partition: partition(), slot },
            None => AuditError::UnknownWorker { partition: partition(), slot },
        });
    }
    let Some(rule) = problem.rule(index) else { return Ok(seat) };
    match problem.worker(slot) {
        Some(worker) if !worker.can_hold(Some(rule)) => Err(AuditError::Label { partition: partition(), slot }),
        Some(_) | None => Ok(seat),
    }
}

/// Puts back what moves too much; whether there was anything.
fn limit(problem: &Problem<'_>, owners: &mut [u32]) -> bool {
    let survey = &problem.survey;
    let mut left = match problem.options.step {
        Step::Planned => figures::budget(problem, survey.seats.len() - survey.homeless),
        Step::Emergency => 0,
    };
    let mut limited = false;
    for (&seat, owner) in survey.seats.iter().zip(owners) {
        if seat == NOBODY || seat == *owner {
            continue;
        }
        if left == 0 {
            *owner = seat;
            limited = true;
        } else {
            left -= 1;
        }
    }
    limited
}

/// What changes hands, and what that makes of the loads.
struct Changes {
    moves: Vec<Move>,
    /// How many of the moves are of partitions with a staying holder.
    staying_moved: usize,
    /// How many of the moves leave a partition without an owner.
    left_out: usize,
    /// The loads of the workers that stay, after the moves.
    loads: Vec<u64>,
}

impl Changes {
    /// `slots` are of the workers that stay, and at last nobody's.
    fn new(problem: &Problem<'_>, owners: &[u32], slots: &[Option<Slot>]) -> Self {
        let Survey { seats, weights, roster, .. } = &problem.survey;
        let changed = changed(seats, owners);
        let mut moves = Vec::with_capacity(changed.len());
        let mut loads = problem.survey.loads.clone();
        loads.push(0);
        let nobody = roster.len();
        let (mut staying_moved, mut left_out) = (0, 0);
        for &partition in &changed {
            let partition = partition as usize;
            let (from, seat) = (problem.holders[partition], seats[partition]);
            let owner = place(owners[partition], nobody);
            let to = slots[owner];
            loads[owner] += u64::from(weights[partition]);
            let reason = match from {
                // A partition that had no holder and gets none is not a move.
                None if to.is_none() => continue,
                None => MoveReason::New,
                Some(slot) if seat == NOBODY => roster.reason_without_seat(slot),
                Some(_) => {
                    loads[seat as usize] -= u64::from(weights[partition]);
                    staying_moved += 1;
                    reason_to_leave(problem, partition, to)
                }
            };
            left_out += usize::from(to.is_none());
            moves.push(Move { partition, from, to, reason });
        }
        loads.truncate(nobody);
        Self { moves, staying_moved, left_out, loads }
    }
}

/// The partitions that have another owner than before or none, in order.
fn changed(seats: &[u32], owners: &[u32]) -> Vec<u32> {
    let mut changed = Vec::with_capacity(seats.len());
    let mut sieve = Sieve::new();
    for (nth, (seats, owners)) in seats.chunks(CHUNK).zip(owners.chunks(CHUNK)).enumerate() {
        let moves = seats.iter().zip(owners).map(|(seat, owner)| seat != owner || *owner == NOBODY);
        changed.extend_from_slice(sieve.passing(nth * CHUNK, moves));
    }
    changed
}

/// Why a partition leaves a worker that stays.
fn reason_to_leave(problem: &Problem<'_>, partition: usize, to: Option<Slot>) -> MoveReason {
    let Some(rule) = problem.rule(partition) else { return MoveReason::Balance };
    let holder = problem.holders[partition].and_then(|slot| problem.worker(slot));
    if holder.is_some_and(|holder| !holder.can_hold(Some(rule))) {
        MoveReason::Label
    } else if to.is_some() && rule.pin == to {
        MoveReason::Pinned
    } else {
        MoveReason::Balance
    }
}
