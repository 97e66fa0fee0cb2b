//! Each move has a cause, the head of the plan tells it before it happens, and it is true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parti_core::{
    AssignmentRecord, ClusterRecord, Control, Key, MAX_REMEMBERED_PLANS, MemberPhase, MoveCause, MovedPartition,
    Outcome, PartitionId, Record, Slot, Write,
};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, ProcessId, Topic};

/// What is granted to a slot, the head of the plan said before to go there; and a worker that a cause names has done, at
/// some time, what the cause says.
#[derive(Clone, Debug, Default)]
pub(super) struct MovesTold {
    head: Option<Arc<ClusterRecord>>,
    /// Where each partition was ever told to go.
    told: BTreeSet<(PartitionId, Slot)>,
    assignments: BTreeMap<Slot, Arc<AssignmentRecord>>,
    processes: BTreeMap<Slot, ProcessId>,
    /// The slots of which each cause was ever true.
    has_been: BTreeSet<(Slot, MoveCause)>,
    /// Whether the store has ever forgotten something: what was told may be gone with it.
    regressed: bool,
}

impl Invariant for MovesTold {
    fn name(&self) -> &'static str {
        "moves-told"
    }

    fn guarantee(&self) -> &'static str {
        "each move has a cause"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        self.regressed |= matches!(fact, Fact::PlanRegressed { .. });
        if self.regressed {
            return Ok(());
        }
        if let Fact::Wished { control: Control::Drain(slot), .. } = fact {
            self.has_been.insert((*slot, MoveCause::Drain));
        }
        let Fact::Stored { process, write, outcome: Outcome::Committed(_), .. } = fact else { return Ok(()) };
        match (write.key(), write) {
            (Key::Slot(slot), Write::Delete { .. }) => self.note_end(slot),
            (
                Key::Slot(slot),
                Write::Create { record: Record::Member(record), .. }
                | Write::Update { record: Record::Member(record), .. },
            ) => {
                let other = self.processes.insert(slot, *process).is_some_and(|other| other != *process);
                if other || record.tenure.is_none() {
                    self.note_end(slot);
                }
                if record.phase == MemberPhase::Draining {
                    self.has_been.insert((slot, MoveCause::Leave));
                }
                if record.phase == MemberPhase::Restarting {
                    self.has_been.insert((slot, MoveCause::Away));
                }
                if !record.unwanted.is_empty() {
                    self.has_been.insert((slot, MoveCause::GivenUp));
                }
            }
            (Key::Cluster, Write::Append { record: Record::Cluster(head), .. }) => {
                let before = self.head.replace(Arc::clone(head));
                let moves = head.moves.plans().last().into_iter().flat_map(|plan| &plan.causes);
                let moves = moves.flat_map(|caused| &caused.moves);
                self.told.extend(moves.filter_map(|moved| Some((moved.partition.clone(), moved.to?))));
                return self.check_causes(head, before.as_deref(), scene);
            }
            (Key::Assign(slot), Write::Append { record: Record::Assignment(record), .. }) => {
                let before = self.assignments.insert(slot, Arc::clone(record));
                return self.check_grants(slot, record, before.as_deref(), scene);
            }
            _ => {}
        }
        Ok(())
    }
}

impl MovesTold {
    /// A process in this slot has ended, as far as the store knows.
    fn note_end(&mut self, slot: Slot) {
        self.has_been.extend([MoveCause::Crash, MoveCause::CrashLoop, MoveCause::Away].map(|cause| (slot, cause)));
    }

    /// What is granted anew, the head of the plan has told before.
    fn check_grants(
        &self,
        slot: Slot,
        record: &AssignmentRecord,
        before: Option<&AssignmentRecord>,
        scene: &Scene<'_>,
    ) -> Result<(), Breach> {
        let had = |id: &PartitionId| {
            let owned = before.map(|before| &before.owned);
            owned.is_some_and(|owned| owned.iter().any(|grant| grant.partition == *id))
        };
        let Some(history) = self.head.as_ref().map(|head| &head.moves) else { return Ok(()) };
        // What was told may be forgotten by now, or there may have been no room to name it.
        let is_whole = history.plans().len() < MAX_REMEMBERED_PLANS
            && scene.options.record_limit == 0
            && history.plans().iter().all(|plan| plan.unnamed() == 0);
        for grant in record.owned.iter().filter(|grant| is_whole && !had(&grant.partition)) {
            // Not only the last one: a leader that ends in the middle of a plan leaves some of it told and not begun, and what
            // an older plan had begun goes on.
            if !self.told.contains(&(grant.partition.clone(), slot)) {
                let told = history.of(&grant.partition).next().map(|(_, cause, moved)| (cause, moved));
                return Err(Breach::new(format!(
                    "{} is granted to {} in generation {}, but what the plan told of it last is {told:?}",
                    grant.partition,
                    slot.worker_name(),
                    record.generation
                )));
            }
        }
        Ok(())
    }

    /// The causes of the plan that a head tells first are true.
    fn check_causes(
        &self,
        head: &ClusterRecord,
        before: Option<&ClusterRecord>,
        scene: &Scene<'_>,
    ) -> Result<(), Breach> {
        let Some(plan) = head.moves.plans().last().filter(|plan| plan.generation == head.generation) else {
            return Ok(());
        };
        if before.is_some_and(|before| before.generation >= head.generation) {
            return Ok(());
        }
        for caused in &plan.causes {
            if let Some(moved) = caused.moves.iter().find(|moved| !self.is_true(caused.cause, moved, scene)) {
                return Err(Breach::new(format!(
                    "generation {} says that {:?} moves for the cause {}, which is not so",
                    plan.generation, moved, caused.cause
                )));
            }
        }
        Ok(())
    }

    fn is_true(&self, cause: MoveCause, moved: &MovedPartition, scene: &Scene<'_>) -> bool {
        match (cause, moved.from) {
            (MoveCause::List, from) => from.is_none(),
            (MoveCause::Room, from) => from.is_some() && scene.options.mix.has_limits(),
            (
                MoveCause::Balance
                | MoveCause::Load
                | MoveCause::Operator
                | MoveCause::Pin
                | MoveCause::Label
                | MoveCause::Preference
                | MoveCause::Apart,
                from,
            ) => from.is_some(),
            (cause, Some(from)) => self.has_been.contains(&(from, cause)),
            (_, None) => false,
        }
    }
}
