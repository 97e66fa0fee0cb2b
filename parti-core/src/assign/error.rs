//! What can be wrong with a problem, a strategy, or its answer.

use alloc::string::String;

use crate::ids::Slot;
use crate::partition::PartitionId;

/// Why a problem was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// The holders do not fit the partitions.
    #[error(
        "there must be one holder, or none, for each partition, but there are {holders} entries for {partitions} partitions: give one for each"
    )]
    Holders {
        /// How many entries there are.
        holders: usize,
        /// How many partitions there are.
        partitions: usize,
    },
    /// A slot stands among the workers twice.
    #[error("a slot must stand among the workers once, but {slot} comes twice: remove one")]
    SlotTwice {
        /// Which slot.
        slot: Slot,
    },
    /// A partition has two rules.
    #[error("a partition must have at most one rule, but the one at {partition} has two: merge them")]
    RuleTwice {
        /// The index of the partition in the list.
        partition: usize,
    },
    /// A rule is for a partition that is not there.
    #[error(
        "a rule must be for a partition of the list, but {partition} is not below {partitions}, the length of the list: remove it"
    )]
    RuleWithoutPartition {
        /// The index that the rule names.
        partition: usize,
        /// How many partitions there are.
        partitions: usize,
    },
}

/// Why a strategy has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the strategy has no answer: {reason}")]
pub struct StrategyError {
    /// What it says.
    pub reason: String,
}

/// What is wrong with a strategy's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The answer does not fit the partitions.
    #[error(
        "an answer must have one entry for each partition, but has {owners} for {partitions}: correct the strategy"
    )]
    Length {
        /// How many entries it has.
        owners: usize,
        /// How many partitions there are.
        partitions: usize,
    },
    /// A partition was given to a worker that is not there.
    #[error("an owner must be one of the workers, but {slot}, given {partition:?}, is not: correct the strategy")]
    UnknownWorker {
        /// Which partition.
        partition: PartitionId,
        /// Its owner in the answer.
        slot: Slot,
    },
    /// A partition was given to a worker that is leaving.
    #[error("an owner must not be leaving, but {slot}, given {partition:?}, is draining: correct the strategy")]
    Draining {
        /// Which partition.
        partition: PartitionId,
        /// Its owner in the answer.
        slot: Slot,
    },
    /// A partition was given to a worker that lacks a label that the partition asks for.
    #[error(
        "an owner must have the labels that its partition asks for, but {slot} lacks one that {partition:?} needs: correct the strategy"
    )]
    Label {
        /// Which partition.
        partition: PartitionId,
        /// Its owner in the answer.
        slot: Slot,
    },
    /// A partition was given to a worker that it avoids, such as one whose application has given it up.
    #[error(
        "an owner must not be one that its partition avoids, but {slot}, given {partition:?}, is: correct the strategy"
    )]
    Avoided {
        /// Which partition.
        partition: PartitionId,
        /// Its owner in the answer.
        slot: Slot,
    },
    /// A worker was given more than it can take.
    #[error(
        "a worker must not be given more than its limit, but {slot} would have {partitions} partitions of weight {load} \
         in all: use Balanced, or correct the strategy"
    )]
    Room {
        /// Which worker.
        slot: Slot,
        /// The load that it would have.
        load: u64,
        /// How many partitions it would have.
        partitions: u64,
    },
}

/// Why there is no plan; the current assignment should stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The strategy has no answer.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// The strategy's answer is wrong.
    #[error(transparent)]
    Audit(#[from] AuditError),
}
