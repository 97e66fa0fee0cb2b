//! The plan: a log with one writer at a time.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::Write;
use crate::context::Context;
use crate::event::Outcome;
use crate::ids::{Generation, Incarnation, OperationId, Position, Revision, Slot, Term};
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::stored::history::PlanHistory;
use crate::stored::key::{Bucket, Key};
use crate::stored::record::{AssignmentRecord, ClusterRecord, Record};

/// This worker's view of the `plan` bucket: its own assignment record, or, where it leads, the whole of it with its own
/// appends on top.
///
/// Each append depends on the last revision of the bucket, so it commits only if its writer has seen every write before
/// it. One append is in flight at a time, the others wait for it. They must: an append says which revision it follows,
/// not which write. Were several under way when another leader's takeover takes the place of the first, the second
/// would find the very revision that it expects, and be accepted after the end of its writer's leadership.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PlanLog {
    assignments: BTreeMap<Slot, Assignment>,
    cluster: Option<(Revision, Arc<ClusterRecord>)>,
    /// The records that cannot be read, and whether that is because they are from a newer version.
    unreadable: BTreeMap<Key, (Revision, bool)>,
    /// Up to where every write of the bucket has been seen: as the last complete listing says, with this worker's own
    /// appends on top. A single change that is shown later does not count: those before it may have been missed.
    tail: Revision,
    incarnation: Incarnation,
    /// The last write of the bucket that this worker has ever known to be in it.
    seen: Position,
    /// Whether an append has shown that writes that this worker has known are gone.
    has_regressed: bool,
    /// The append in flight, and those that wait for it.
    chain: VecDeque<Append>,
    broken: Option<ChainBreak>,
    /// The term under which this worker appends, while it does.
    writer: Option<Term>,
}

/// An assignment record and the revision that wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) revision: Revision,
    pub(crate) record: Arc<AssignmentRecord>,
}

/// How much of the plan can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Legibility {
    Whole,
    /// Some record is not one.
    Broken,
    /// Some record is from a newer version, which could read it all.
    Newer,
}

/// An append whose outcome is not known yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Append {
    /// Its name, once it was sent.
    operation: Option<OperationId>,
    revision: Revision,
    key: Key,
    record: Record,
}

/// Why this worker's view of the plan, with its own appends on top, can no longer be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ChainBreak {
    /// Somebody else has written.
    Conflict,
    /// The store has refused an append, and not because of what it holds.
    Refused,
    /// An append may or may not have been applied.
    Unknown,
}

impl PlanLog {
    pub(crate) fn assignments(&self) -> impl Iterator<Item = (Slot, &Assignment)> {
        self.assignments.iter().map(|(slot, assignment)| (*slot, assignment))
    }

    /// Whether `applied`, a write of the slot's assignment record that somebody has seen, is not in the plan any more.
    pub(crate) fn has_lost(&self, slot: Slot, applied: Position) -> bool {
        let known = Position { incarnation: self.incarnation, revision: self.known(Key::Assign(slot)) };
        !known.has_reached(applied)
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The highest term in any record.
    pub(crate) fn last_term(&self) -> Term {
        let of_assignments = self.assignments.values().map(|assignment| assignment.record.term);
        let of_cluster = self.cluster.iter().map(|(_, cluster)| cluster.term);
        of_assignments.chain(of_cluster).max().unwrap_or_default()
    }

    /// The last write of `control.rebalance` that a leader has acted on. Older versions do not say in which life of
    /// `members` that was: then it was in this one.
    pub(crate) fn rebalanced(&self, members: Incarnation) -> Position {
        let Some((_, cluster)) = &self.cluster else { return Position::default() };
        let incarnation = Some(cluster.rebalanced_in).filter(|life| *life != Incarnation::default());
        Position { incarnation: incarnation.unwrap_or(members), revision: cluster.rebalanced }
    }

    /// What the last plans moved, as the head of the plan says.
    pub(crate) fn history(&self) -> PlanHistory {
        self.cluster.as_ref().map(|(_, cluster)| cluster.moves.clone()).unwrap_or_default()
    }

    /// The greatest era in any record.
    pub(crate) fn last_era(&self) -> Incarnation {
        let of_assignments = self.assignments.values().map(|assignment| assignment.record.era);
        let of_cluster = self.cluster.iter().map(|(_, cluster)| cluster.era);
        of_assignments.chain(of_cluster).max().unwrap_or_default()
    }

    /// The highest generation in any record.
    pub(crate) fn last_generation(&self) -> Generation {
        let of_assignments = self.assignments.values().map(|assignment| assignment.record.generation);
        let of_cluster = self.cluster.iter().map(|(_, cluster)| cluster.generation);
        of_assignments.chain(of_cluster).max().unwrap_or_default()
    }

    /// How much of the plan can be read. Who cannot read it all does not know who owns what, and must not write it.
    pub(crate) fn legibility(&self) -> Legibility {
        match self.unreadable.values().map(|(_, newer)| *newer).reduce(|some, other| some || other) {
            None => Legibility::Whole,
            Some(false) => Legibility::Broken,
            Some(true) => Legibility::Newer,
        }
    }

    /// Whether every append so far is known to be committed.
    pub(crate) fn is_settled(&self) -> bool {
        self.chain.is_empty()
    }

    pub(crate) fn broken(&self) -> Option<ChainBreak> {
        self.broken
    }

    /// From now on this worker appends, on top of what it has read, under `term`.
    pub(crate) fn open(&mut self, term: Term) {
        self.writer = Some(term);
        self.broken = None;
    }

    /// This worker appends no more; outcomes still to come are of no interest.
    pub(crate) fn close(&mut self) {
        self.writer = None;
        self.chain.clear();
        self.broken = None;
    }

    /// Appends `record` on top of everything that is known or on its way.
    pub(crate) fn append(&mut self, context: &Context, key: Key, record: Record, outbox: &mut Outbox) -> Revision {
        let revision = self.tail.next();
        self.store(key, revision, &record);
        self.tail = revision;
        self.chain.push_back(Append { operation: None, revision, key, record });
        self.send_next(context, outbox);
        revision
    }

    /// Takes in the outcome of an append; false if the operation is not one of this log's.
    pub(crate) fn observe_done(&mut self, context: &Context, operation: OperationId, outcome: Outcome) -> bool {
        let at = self.chain.iter().position(|append| append.operation == Some(operation));
        let Some(append) = at.and_then(|at| self.chain.remove(at)) else { return false };
        if outcome == Outcome::Conflict && context.has(PlantedBug::LeadThroughConflict) {
            self.try_again_on_top(append);
            return true;
        }
        match outcome {
            Outcome::Committed(revision) if revision == append.revision => self.observe_committed(context, revision),
            Outcome::Committed(_) | Outcome::Conflict => self.broken = Some(ChainBreak::Conflict),
            Outcome::Refused => self.broken = self.broken.or(Some(ChainBreak::Refused)),
            Outcome::Unknown => self.broken = self.broken.or(Some(ChainBreak::Unknown)),
        }
        if self.broken.is_some() {
            self.chain.clear(); // it would not follow what it was made to follow
        }
        true
    }

    /// An append that commits where a later write was known, or in another life of the bucket, tells that the store has
    /// lost that write: no listing that lags can make it commit.
    fn observe_committed(&mut self, context: &Context, revision: Revision) {
        let written = Position { incarnation: self.incarnation, revision };
        let in_other_life = written.incarnation != self.seen.incarnation && self.seen != Position::default();
        let tells = !context.has(PlantedBug::CommitTellsNothing);
        self.has_regressed |= (written <= self.seen || in_other_life) && tells;
        self.seen = written;
    }

    /// Sends the append whose turn has come.
    pub(crate) fn decide(&mut self, context: &Context, outbox: &mut Outbox) {
        self.send_next(context, outbox);
    }

    /// Whether an append has shown that writes are gone. Asking makes it forget that.
    pub(crate) fn take_regressed(&mut self) -> bool {
        core::mem::take(&mut self.has_regressed)
    }

    /// Sends the first append, if it was not sent yet.
    fn send_next(&mut self, context: &Context, outbox: &mut Outbox) {
        let at_once = if context.has(PlantedBug::AppendsPipelined) { self.chain.len() } else { 1 };
        for append in self.chain.iter_mut().take(at_once) {
            let Append { operation: operation @ None, revision, key, record } = append else { continue };
            let expected_last = Revision::new(revision.value() - 1);
            *operation = Some(outbox.request(Write::Append { key: *key, record: record.clone(), expected_last }));
        }
    }

    /// A planted bug: appends after what somebody else has written, whatever that was.
    fn try_again_on_top(&mut self, append: Append) {
        self.chain.push_front(Append { operation: None, ..append });
        self.chain.iter_mut().for_each(|append| append.revision = append.revision.next());
        self.tail = self.tail.next();
    }

    /// Takes in what a watch shows. Older news than what is known is ignored.
    pub(crate) fn observe_entry(&mut self, context: &Context, key: Key, revision: Revision, record: &Record) {
        let goes_on = context.has(PlantedBug::LeadThroughConflict);
        if self.writer.is_some() && revision > self.tail && !goes_on {
            // All of this worker's own writes are at or below the tail: somebody else has written.
            self.broken = Some(ChainBreak::Conflict);
            return;
        }
        self.store(key, revision, record);
        if context.has(PlantedBug::TailFromNews) {
            self.tail = self.tail.max(revision);
        }
    }

    pub(crate) fn observe_deleted(&mut self, key: Key, revision: Revision) {
        if self.writer.is_some() && revision > self.tail {
            self.broken = Some(ChainBreak::Conflict);
            return;
        }
        self.unreadable.retain(|other, (known, _)| *other != key || *known > revision);
        match key {
            Key::Assign(slot) if self.assignments.get(&slot).is_some_and(|known| known.revision < revision) => {
                self.assignments.remove(&slot);
            }
            Key::Cluster if self.cluster.as_ref().is_some_and(|(known, _)| *known < revision) => self.cluster = None,
            Key::Assign(_) | Key::Cluster | Key::Slot(_) | Key::Leader | Key::Control(_) => {}
        }
    }

    /// `newer` tells whether it is from a newer version.
    pub(crate) fn observe_unreadable(&mut self, key: Key, revision: Revision, newer: bool) {
        if key.bucket() != Bucket::Plan {
            return;
        }
        if self.writer.is_some() && revision > self.tail {
            self.broken = Some(ChainBreak::Conflict);
            return;
        }
        if revision > self.known(key) {
            self.unreadable.insert(key, (revision, newer));
        }
    }

    /// The revision of the record that is known of `key`.
    fn known(&self, key: Key) -> Revision {
        match key {
            Key::Assign(slot) => self.assignments.get(&slot).map(|known| known.revision).unwrap_or_default(),
            Key::Cluster => self.cluster.as_ref().map(|(known, _)| *known).unwrap_or_default(),
            Key::Slot(_) | Key::Leader | Key::Control(_) => Revision::default(),
        }
    }

    fn store(&mut self, key: Key, revision: Revision, record: &Record) {
        self.unreadable.retain(|other, (known, _)| *other != key || *known > revision);
        match (key, record) {
            (Key::Assign(slot), Record::Assignment(record)) => {
                if self.assignments.get(&slot).is_none_or(|known| known.revision < revision) {
                    self.assignments.insert(slot, Assignment { revision, record: Arc::clone(record) });
                }
            }
            (Key::Cluster, Record::Cluster(record)) => {
                if self.cluster.as_ref().is_none_or(|(known, _)| *known < revision) {
                    self.cluster = Some((revision, Arc::clone(record)));
                }
            }
            (Key::Assign(_) | Key::Cluster | Key::Slot(_) | Key::Leader | Key::Control(_), _) => {}
        }
    }

    /// A complete listing begins. Everything known is forgotten, this worker's own appends that may not have been
    /// applied included: only what the store shows counts. Who was appending must begin anew, on top of what is listed.
    pub(crate) fn begin_listing(&mut self) {
        let broken = self.writer.map(|_| ChainBreak::Unknown);
        let Self { incarnation, seen, has_regressed, writer, .. } = *self;
        *self = Self { incarnation, seen, has_regressed, broken, writer, ..Self::default() };
    }

    /// A complete listing ends. The last writes may be to keys that are not ours, which no watch shows.
    pub(crate) fn end_listing(&mut self, incarnation: Incarnation, last: Revision) {
        self.incarnation = incarnation;
        if self.writer.is_some() && last > self.tail {
            self.broken = Some(ChainBreak::Conflict);
        } else {
            self.tail = self.tail.max(last);
        }
        self.seen = self.seen.max(Position { incarnation, revision: last });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::action::Action;
    use crate::ids::{Instance, Tenure};
    use crate::state::PlannerPhase;
    use crate::stored::key::Key;
    use crate::time::Instant;

    fn head(term: u64) -> Record {
        let (leader, instance) = (Slot::new(0), Instance::new(term));
        let (generation, rebalanced, phase) = (Generation::default(), Revision::default(), PlannerPhase::Idle);
        let term = Term::new(term);
        let record = ClusterRecord {
            term,
            generation,
            era: Incarnation::default(),
            leader,
            instance,
            phase,
            workers: 0,
            partitions: 0,
            rebalanced,
            rebalanced_in: Incarnation::default(),
            digest: 0,
            moves: PlanHistory::default(),
        };
        Record::Cluster(Arc::new(record))
    }

    fn assignment() -> Record {
        let (owned, releasing, incoming) = (Vec::new(), Vec::new(), Vec::new());
        let (term, generation, tenure) = (Term::new(1), Generation::new(1), Tenure::default());
        let era = Incarnation::new(1);
        Record::Assignment(Arc::new(AssignmentRecord { term, generation, era, tenure, owned, releasing, incoming }))
    }

    fn appends(outbox: &mut Outbox) -> Vec<(OperationId, Revision)> {
        let mut appends = Vec::new();
        while let Some(action) = outbox.pop() {
            match action {
                Action::Kv(crate::action::Request { operation, write: Write::Append { expected_last, .. } }) => {
                    appends.push((operation, expected_last));
                }
                other => panic!("not an append: {other:?}"),
            }
        }
        appends
    }

    #[test]
    fn an_append_is_sent_only_when_the_one_before_is_committed() {
        let (mut plan, mut outbox) = (PlanLog::default(), Outbox::default());
        let context = Context::at(Instant::ORIGIN);
        plan.open(Term::new(1));
        plan.append(&context, Key::Cluster, head(1), &mut outbox);
        plan.append(&context, Key::Assign(Slot::new(0)), assignment(), &mut outbox);
        let first = appends(&mut outbox);
        assert_eq!(first.len(), 1);
        assert!(plan.observe_done(&context, first[0].0, Outcome::Committed(Revision::new(1))));
        plan.decide(&context, &mut outbox);
        assert_eq!(appends(&mut outbox).iter().map(|(_, last)| last.value()).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn nothing_follows_on_an_append_whose_place_another_writer_took() {
        let (mut plan, mut outbox) = (PlanLog::default(), Outbox::default());
        let context = Context::at(Instant::ORIGIN);
        plan.open(Term::new(1));
        plan.append(&context, Key::Cluster, head(1), &mut outbox);
        plan.append(&context, Key::Assign(Slot::new(0)), assignment(), &mut outbox);
        let first = appends(&mut outbox);
        plan.observe_done(&context, first[0].0, Outcome::Conflict);
        plan.decide(&context, &mut outbox);
        assert_eq!(appends(&mut outbox), []);
        assert_eq!(plan.broken(), Some(ChainBreak::Conflict));
    }
}
