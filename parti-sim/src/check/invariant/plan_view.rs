//! What the plan in the store says, and which moves each of its writes makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parti_core::{
    AssignmentRecord, Control, Generation, Key, MemberPhase, Outcome, PartitionId, Record, Slot, Tenure, Term, Write,
};

use super::Scene;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// A record that is replaced sooner than this may never have been shown to the leader.
const SHOWN: Duration = Duration::from_secs(1);

/// The assignment records and the members, as last committed.
#[derive(Clone, Debug, Default)]
pub(super) struct PlanView {
    assignments: BTreeMap<Slot, Arc<AssignmentRecord>>,
    /// Of each slot, the tenure that its record says that it continues, and the phase.
    members: BTreeMap<Slot, (Option<Tenure>, MemberPhase)>,
    /// Since when the record of a slot says that its process restarts.
    restarting_since: BTreeMap<Slot, Moment>,
    /// Of each slot, the process that its record names: it writes it itself.
    processes: BTreeMap<Slot, ProcessId>,
    /// Of each slot, what its application has given up.
    given_up: BTreeMap<Slot, Vec<PartitionId>>,
    /// The slots that were ever drained, by an operator or their own application: what they give up may be because of
    /// that, also when it was taken back meanwhile.
    drained: BTreeSet<Slot>,
    /// Of each slot, how many of its processes were ever evicted, or replaced in their tenure without having said, for long
    /// enough to be heard, that they restart: from the second on, who is there rests, and what it has goes to others.
    deaths: BTreeMap<Slot, u32>,
    /// The newest plan, and which one that was when the process of a slot was last replaced in its tenure: that plan was made
    /// while nobody was there.
    head: (Term, Generation),
    replaced_in: BTreeMap<Slot, (Term, Generation)>,
    /// The partitions that were once taken from the list, until something is seen of their being given up: they may be in
    /// the list again by then.
    unlisted: BTreeSet<PartitionIndex>,
}

/// The partitions that one write takes away from a worker that stays.
#[derive(Debug)]
pub(super) struct Moves {
    /// The plan that makes them.
    pub(super) plan: (Term, Generation),
    pub(super) slot: Slot,
    pub(super) partitions: Vec<PartitionIndex>,
}

impl PlanView {
    /// Takes in a write; returns the moves that it makes, if it makes any.
    pub(super) fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Option<Moves> {
        if let Fact::PlanRegressed { .. } = fact {
            let (drained, unlisted) = (std::mem::take(&mut self.drained), std::mem::take(&mut self.unlisted));
            *self = Self { drained, unlisted, deaths: std::mem::take(&mut self.deaths), ..Self::default() };
        }
        if let Fact::Wished { control: Control::Drain(slot), .. } = fact {
            self.drained.insert(*slot);
        }
        if let Fact::Listed { partition, listed: false } = fact {
            self.unlisted.insert(*partition);
        }
        let Fact::Stored { process, write, outcome: Outcome::Committed(_), .. } = fact else { return None };
        match (write.key(), record_of(write)) {
            (Key::Slot(slot), Some(Record::Member(record))) => {
                if record.phase == MemberPhase::Draining {
                    self.drained.insert(slot);
                }
                let before = self.members.insert(slot, (record.tenure, record.phase));
                let other = self.processes.insert(slot, *process).is_some_and(|was| was != *process);
                let since = self
                    .restarting_since
                    .get(&slot)
                    .filter(|_| before.is_some_and(|(_, phase)| phase == MemberPhase::Restarting));
                let restarts = since.is_some_and(|since| scene.now.since(*since) >= SHOWN);
                match record.phase {
                    MemberPhase::Restarting => _ = self.restarting_since.entry(slot).or_insert(scene.now),
                    MemberPhase::Active | MemberPhase::Draining => _ = self.restarting_since.remove(&slot),
                }
                if other && record.tenure.is_some() && !restarts {
                    self.count_death(slot);
                    self.replaced_in.insert(slot, self.head);
                }
                self.given_up.insert(slot, record.unwanted.clone());
                None
            }
            (Key::Slot(slot), None) => {
                if self.processes.get(&slot).is_some_and(|named| named != process) {
                    self.count_death(slot);
                }
                self.members.remove(&slot);
                self.processes.remove(&slot);
                None
            }
            (Key::Assign(slot), Some(Record::Assignment(record))) => {
                let before = self.assignments.insert(slot, Arc::clone(record))?;
                let active = self.members.get(&slot) == Some(&(Some(record.tenure), MemberPhase::Active));
                let stays = before.tenure == record.tenure && active && !self.drained.contains(&slot);
                let rests = self.deaths.get(&slot).is_some_and(|deaths| *deaths > 1);
                let was_gone = self.replaced_in.get(&slot) == Some(&(record.term, record.generation));
                let stays = stays && !rests && !was_gone;
                let mut moves = stays.then(|| moves(slot, &before, record, scene)).flatten()?;
                let given_up: Vec<_> =
                    self.given_up.get(&slot).into_iter().flatten().filter_map(|id| scene.index_of(id)).collect();
                moves.partitions.retain(|moved| !self.unlisted.remove(moved) && !given_up.contains(moved));
                // Who goes on in the slot of another may be in another zone.
                let zone = self.processes.get(&slot).and_then(|process| scene.ownership.zone_of(*process));
                moves.partitions.retain(|moved| scene.zone_for(*moved).is_none_or(|asked| zone == Some(asked)));
                (!moves.partitions.is_empty()).then_some(moves)
            }
            (Key::Cluster, Some(Record::Cluster(head))) => {
                self.head = (head.term, head.generation);
                None
            }
            (Key::Assign(slot), None) => {
                self.assignments.remove(&slot);
                None
            }
            _ => None,
        }
    }
}

impl PlanView {
    fn count_death(&mut self, slot: Slot) {
        *self.deaths.entry(slot).or_default() += 1;
    }
}

fn moves(slot: Slot, before: &AssignmentRecord, after: &AssignmentRecord, scene: &Scene<'_>) -> Option<Moves> {
    let was_owned = |id: &PartitionId| before.owned.binary_search_by(|grant| grant.partition.cmp(id)).is_ok();
    // What some list lacks, a leader that has that list takes away.
    let in_all = |index: PartitionIndex| scene.options.mix.is_in_all_lists(index);
    let listed = |index: &PartitionIndex| scene.ownership.is_listed(*index) && in_all(*index);
    let partitions: Vec<_> =
        after.releasing.iter().filter(|id| was_owned(id)).filter_map(|id| scene.index_of(id)).filter(listed).collect();
    (!partitions.is_empty()).then_some(Moves { plan: (after.term, after.generation), slot, partitions })
}

fn record_of(write: &Write) -> Option<&Record> {
    match write {
        Write::Create { record, .. } | Write::Update { record, .. } | Write::Append { record, .. } => Some(record),
        Write::Delete { .. } => None,
    }
}
