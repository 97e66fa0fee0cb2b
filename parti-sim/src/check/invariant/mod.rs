//! What must always hold, on what the simulated applications really do: one file, one guarantee, one planted bug each.

mod balance;
mod bounded;
mod commit_fenced;
mod contract;
mod ended_means_stopped;
mod in_order;
mod innocents_stay;
mod load_moves;
mod monotone;
mod move_budget;
mod moves_told;
mod no_duplicate;
mod no_message_skipped;
mod no_move_without_cause;
mod no_orphan;
mod no_repeat;
mod one_processor;
mod one_tenure;
mod one_writer;
mod plan_view;
mod poison_leaves;
mod position_monotone;
mod row_of_probes;
mod state_table;
mod tokens_increase;
mod within_limits;

use parti_core::{PartitionId, PartitionList};

use crate::check::messages::Messages;
use crate::check::ownership::Ownership;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::trace::TraceLine;
use crate::world::clock::Moment;

/// Something that must hold after every event.
pub(crate) trait Invariant: std::fmt::Debug + Copied {
    /// Its name, as planted bugs and failures cite it.
    fn name(&self) -> &'static str;

    /// The guarantee that it holds the project to.
    fn guarantee(&self) -> &'static str;

    /// Whether a breach is something bad that happened, or something good that did not.
    fn kind(&self) -> Kind {
        Kind::Safety
    }

    /// Whether it looks at facts of this kind.
    fn looks_at(&self, topic: Topic) -> bool;

    /// Takes in what happened. `scene` is as it is after the fact.
    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach>;

    /// Looks at how things ended, when the run is over and all faults were healed long enough ago.
    fn finish(&mut self, scene: &Scene<'_>) -> Result<(), Breach> {
        let _ = scene;
        Ok(())
    }
}

/// Copies an invariant with all that it has seen, for a search that goes on from one state in several ways.
pub(crate) trait Copied {
    fn copied(&self) -> Box<dyn Invariant>;
}

impl<T: Invariant + Clone + 'static> Copied for T {
    fn copied(&self) -> Box<dyn Invariant> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Invariant> {
    fn clone(&self) -> Self {
        self.as_ref().copied()
    }
}

/// What an invariant can look at.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) now: Moment,
    pub(crate) options: &'a Options,
    pub(crate) ownership: &'a Ownership,
    /// What became of each message.
    pub(crate) messages: &'a Messages,
    /// All partitions that the run ever has, in the order of their places.
    pub(crate) partitions: &'a PartitionList,
}

impl Scene<'_> {
    /// The place of a partition, if it is one that the run ever has.
    pub(crate) fn index_of(&self, id: &PartitionId) -> Option<PartitionIndex> {
        self.partitions.position(id).map(PartitionIndex::new)
    }

    /// Whether somebody should work on a partition, if it is listed: it is in every worker's list, there is a worker in the
    /// zone that it asks for, and what says who owns what has a place in the store, however few workers are left.
    pub(crate) fn is_owed(&self, partition: PartitionIndex) -> bool {
        let zone = self.zone_for(partition);
        let fits = !self.options.records_are_too_small();
        fits && self.options.mix.is_in_all_lists(partition) && zone.is_none_or(|zone| self.ownership.has_zone(zone))
    }

    /// Whether some worker that is given work has a partition, or has room for it if all that is less important made way.
    pub(crate) fn has_room(&self, partition: PartitionIndex) -> bool {
        let mix = &self.options.mix;
        if !mix.has_limits() || !self.ownership.workers_on(partition).is_empty() {
            return true;
        }
        let all = self.partitions.as_slice();
        let priority =
            |of: PartitionIndex| all[of.index()].placement.as_ref().map_or(0, |placement| placement.priority);
        let wanted = priority(partition);
        let weight = u64::from(all[partition.index()].weight.get());
        let kept = self.ownership.taking(|other| priority(other) >= wanted);
        kept.values().any(|(count, load)| mix.is_within_limits(count + 1, load + weight))
    }

    /// Whether a process goes on without a lease.
    pub(crate) fn is_available(&self, process: ProcessId) -> bool {
        self.options.worker.available || self.ownership.is_available(process)
    }

    /// The zone that a partition asks for, where there are zones.
    pub(crate) fn zone_for(&self, partition: PartitionIndex) -> Option<u32> {
        u32::try_from(partition.index()).ok().and_then(|number| number.checked_rem(self.options.zones))
    }

    /// The name of a partition.
    pub(crate) fn name(&self, partition: PartitionIndex) -> &PartitionId {
        &self.partitions.as_slice()[partition.index()].id
    }
}

/// Whether something bad happened, or something good did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something bad happened.
    Safety,
    /// Something good did not happen in time.
    Liveness,
}

/// How an invariant does not hold: one sentence with the values, and what it is about.
#[derive(Debug)]
pub(crate) struct Breach {
    pub(crate) sentence: String,
    pub(crate) process: Option<ProcessId>,
    pub(crate) partition: Option<PartitionIndex>,
}

/// A breach, of which invariant and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the invariant.
    pub invariant: &'static str,
    /// The guarantee that it holds the project to.
    pub guarantee: &'static str,
    /// Whether something bad happened, or something good did not.
    pub kind: Kind,
    /// What happened, in one sentence.
    pub sentence: String,
    /// When.
    pub at: Moment,
    /// The process that it is about, if it is about one.
    pub process: Option<ProcessId>,
    /// The partition that it is about, if it is about one.
    pub partition: Option<PartitionIndex>,
    /// The name of that partition.
    pub partition_id: Option<PartitionId>,
}

impl Violation {
    /// Whether a line of the trace touches the worker or the partition that this is about, or the whole world.
    pub fn concerns(&self, line: &TraceLine) -> bool {
        let process = self.process.is_some() && line.process == self.process;
        let partition = self.partition.is_some() && line.partition == self.partition;
        let named = self.partition_id.as_ref().is_some_and(|id| line.text.contains(id.as_str()));
        let about_nobody = self.process.is_none() && self.partition.is_none();
        about_nobody || process || partition || named || line.process.is_none()
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}) does not hold at {}: {}", self.invariant, self.guarantee, self.at, self.sentence)
    }
}

impl Breach {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), process: None, partition: None }
    }

    pub(crate) fn by(self, process: ProcessId) -> Self {
        Self { process: Some(process), ..self }
    }

    pub(crate) fn on(self, partition: PartitionIndex) -> Self {
        Self { partition: Some(partition), ..self }
    }
}

/// Something for each process, there once it is asked for.
#[derive(Clone, Default)]
pub(crate) struct PerProcess<T>(Vec<T>);

impl<T: Default> PerProcess<T> {
    fn of(&mut self, process: ProcessId) -> &mut T {
        if self.0.len() <= process.index() {
            self.0.resize_with(process.index() + 1, T::default);
        }
        &mut self.0[process.index()]
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().enumerate().map(|(index, one)| (ProcessId::new(index), one))).finish()
    }
}

/// All invariants, for a world with these options.
pub(crate) fn all(options: &Options) -> Vec<Box<dyn Invariant>> {
    let mut all: Vec<Box<dyn Invariant>> = vec![
        Box::new(no_duplicate::NoDuplicate::default()),
        Box::new(no_orphan::NoOrphan::default()),
        Box::new(tokens_increase::TokensIncrease::default()),
        Box::new(move_budget::MoveBudget::new(options)),
        Box::new(balance::Balance::default()),
        Box::new(moves_told::MovesTold::default()),
        Box::new(within_limits::WithinLimits::default()),
        Box::new(no_move_without_cause::NoMoveWithoutCause::default()),
        Box::new(one_writer::OneWriter::default()),
        Box::new(one_tenure::OneTenure::default()),
        Box::new(ended_means_stopped::EndedMeansStopped::default()),
        Box::new(row_of_probes::RowOfProbes::default()),
        Box::new(monotone::Monotone::default()),
        Box::new(state_table::StateTable::default()),
        Box::new(contract::Contract::default()),
        Box::new(bounded::Bounded::new(options)),
    ];
    if options.loads.are_measured() {
        all.push(Box::new(load_moves::LoadMoves::default()));
    }
    if options.messages.is_some() {
        all.extend(of_messages());
    }
    all
}

/// Those that are about messages.
fn of_messages() -> [Box<dyn Invariant>; 8] {
    [
        Box::new(no_message_skipped::NoMessageSkipped::default()),
        Box::new(in_order::InOrder),
        Box::new(one_processor::OneProcessor::default()),
        Box::new(commit_fenced::CommitFenced::default()),
        Box::new(position_monotone::PositionMonotone::default()),
        Box::new(no_repeat::NoRepeat::default()),
        Box::new(poison_leaves::PoisonLeaves::default()),
        Box::new(innocents_stay::InnocentsStay::default()),
    ]
}
