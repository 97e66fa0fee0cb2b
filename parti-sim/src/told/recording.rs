//! What the report draws: who worked on how much, when.

use parti_core::{Action, Generation, Notice, PlanReason, Slot};

use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// Every beginning and end of work, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    pub(crate) changes: Vec<WorkChange>,
    pub(crate) slots: Vec<SlotChange>,
    pub(crate) lives: Vec<LifeChange>,
    pub(crate) plans: Vec<PlanMade>,
    /// When which partition came into the list or left it.
    pub(crate) listed: Vec<(Moment, PartitionIndex, bool)>,
    /// How much load each process takes compared with others, in order of the starts.
    pub(crate) capacities: Vec<u32>,
}

/// A leader published a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanMade {
    pub(crate) at: Moment,
    pub(crate) generation: Generation,
    pub(crate) reason: PlanReason,
    pub(crate) moved: usize,
    pub(crate) placed: usize,
    pub(crate) another_round: bool,
}

/// A process began or stopped to work on a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkChange {
    pub(crate) at: Moment,
    pub(crate) process: ProcessId,
    pub(crate) partition: PartitionIndex,
    pub(crate) works: bool,
}

/// A process came to a slot or lost it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotChange {
    pub(crate) at: Moment,
    pub(crate) process: ProcessId,
    pub(crate) slot: Option<Slot>,
    pub(crate) leader: bool,
}

/// A process began or ended, paused or woke.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LifeChange {
    pub(crate) at: Moment,
    pub(crate) process: ProcessId,
    pub(crate) life: LifeMark,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LifeMark {
    Started,
    Crashed,
    Halted,
    Paused,
    Woke,
    Suspended,
    Resumed,
}

impl Recording {
    pub(crate) fn observe(&mut self, at: Moment, fact: &Fact<'_>) {
        match *fact {
            Fact::Works { process, partition, .. } => {
                self.changes.push(WorkChange { at, process, partition, works: true });
            }
            Fact::Stops { process, partition, .. } => {
                self.changes.push(WorkChange { at, process, partition, works: false });
            }
            Fact::Status { process, before, after } if (before.slot, before.leader) != (after.slot, after.leader) => {
                self.slots.push(SlotChange { at, process, slot: after.slot, leader: after.leader });
            }
            Fact::Started { process, capacity, .. } => {
                self.capacities.push(capacity);
                self.live(at, process, LifeMark::Started);
            }
            Fact::Asked { action: Action::Notice(notice), .. } => self.hear(at, notice),
            Fact::Listed { partition, listed } => self.listed.push((at, partition, listed)),
            Fact::Crashed { process } => self.live(at, process, LifeMark::Crashed),
            Fact::Halted { process } => self.live(at, process, LifeMark::Halted),
            Fact::Paused { process } => self.live(at, process, LifeMark::Paused),
            Fact::Woke { process } => self.live(at, process, LifeMark::Woke),
            Fact::Suspended { process, .. } => self.live(at, process, LifeMark::Suspended),
            Fact::Resumed { process } => self.live(at, process, LifeMark::Resumed),
            _ => {}
        }
    }

    fn hear(&mut self, at: Moment, notice: &Notice) {
        if let Notice::Planned { generation, reason, moved, placed, another_round } = *notice {
            self.plans.push(PlanMade { at, generation, reason, moved, placed, another_round });
        }
    }

    fn live(&mut self, at: Moment, process: ProcessId, life: LifeMark) {
        self.lives.push(LifeChange { at, process, life });
    }
}
