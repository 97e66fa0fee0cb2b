//! Who really works on what, and for how long nobody or more than one did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parti_core::{Control, Slot, Token, WorkerState};

use crate::check::mark::Mark;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// Who works on what, kept up with every [`Fact`].
#[derive(Clone, Debug)]
pub(crate) struct Ownership {
    partitions: Vec<Worked>,
    /// The slot that each process has, or had last.
    slots: Vec<Option<Slot>>,
    /// How much load each process takes compared with others; 0 once it has ended.
    capacities: Vec<u32>,
    /// Whether each process has its slot still.
    holding: Vec<bool>,
    /// The zone that each process is in, where there are zones.
    zones: Vec<Option<u32>>,
    /// Who goes on without a lease, where not everybody does.
    available: BTreeSet<ProcessId>,
    /// The processes whose application wants nothing, and the slots that an operator drains or whose processes rest.
    declining: BTreeSet<ProcessId>,
    drained: BTreeSet<Slot>,
    resting: BTreeSet<Slot>,
    unowned: usize,
    shared: usize,
    last_change: Moment,
    window: Window,
}

/// Who works on one partition.
#[derive(Clone, Debug)]
struct Worked {
    weight: u32,
    listed: bool,
    by: Vec<(ProcessId, Token)>,
    /// When this last changed.
    since: Moment,
    /// The slot of the one who worked on it last.
    last_slot: Option<Slot>,
    /// `last_slot` when the window was opened.
    slot_before: Option<Slot>,
}

/// How much a worker has, and how much it takes compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) load: u64,
    pub(crate) capacity: u32,
}

/// What adds up while figures are taken.
#[derive(Clone, Debug)]
struct Window {
    from: Moment,
    orphan: Duration,
    longest_orphan: Duration,
    duplicate: Duration,
    last_uneven: Moment,
}

/// What the window has added up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct WindowFigures {
    /// Until the last moment at which some partition did not have exactly one owner.
    pub(crate) recovery: Duration,
    /// Summed over partitions, the time that nobody worked on one.
    pub(crate) orphan: Duration,
    /// The longest such time.
    pub(crate) longest_orphan: Duration,
    /// Summed over partitions and owners too many, the time that more than one worked on one.
    pub(crate) duplicate: Duration,
    /// How many partitions are now elsewhere, although their worker's slot still has a worker.
    pub(crate) moved: usize,
    /// How many partitions had an owner whose slot still has a worker.
    pub(crate) staying: usize,
}

impl Ownership {
    pub(crate) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let worked = |weight| Worked {
            weight,
            listed: true,
            by: Vec::new(),
            since: Moment::START,
            last_slot: None,
            slot_before: None,
        };
        let partitions: Vec<_> = weights.map(worked).collect();
        Self {
            unowned: partitions.len(),
            partitions,
            slots: Vec::new(),
            capacities: Vec::new(),
            holding: Vec::new(),
            zones: Vec::new(),
            available: BTreeSet::new(),
            declining: BTreeSet::new(),
            drained: BTreeSet::new(),
            resting: BTreeSet::new(),
            shared: 0,
            last_change: Moment::START,
            window: Window::opened(Moment::START),
        }
    }

    pub(crate) fn observe(&mut self, now: Moment, fact: &Fact<'_>) {
        match *fact {
            Fact::Started { process, capacity, zone } => {
                self.zones.resize(process.index() + 1, None);
                self.zones[process.index()] = zone;
                self.holding.resize(process.index() + 1, false);
                self.slots.resize(process.index() + 1, None);
                self.capacities.resize(process.index() + 1, 0);
                self.capacities[process.index()] = capacity;
            }
            Fact::Reached { process, mark: Mark::AvailableWorker } => {
                self.available.insert(process);
            }
            Fact::Crashed { process } | Fact::Halted { process } => self.capacities[process.index()] = 0,
            Fact::Status { process, after, .. } => {
                self.holding[process.index()] = after.slot.is_some();
                if after.slot.is_some() {
                    self.slots[process.index()] = after.slot;
                }
                set(&mut self.declining, process, after.draining || after.state == WorkerState::Shutdown);
                if after.leader {
                    self.resting = after.resting.iter().copied().collect();
                }
            }
            Fact::Wished { control: Control::Drain(slot), wanted } => set(&mut self.drained, slot, wanted),
            Fact::Works { process, partition, token } => self.change(now, partition, |worked, slots| {
                worked.by.push((process, token));
                worked.last_slot = slots[process.index()];
            }),
            Fact::Stops { process, partition, .. } => self.change(now, partition, |worked, slots| {
                worked.by.retain(|(holder, _)| *holder != process);
                if let Some((holder, _)) = worked.by.last() {
                    worked.last_slot = slots[holder.index()];
                }
            }),
            Fact::Listed { partition, listed } => self.change(now, partition, |worked, _| worked.listed = listed),
            Fact::Paused { .. }
            | Fact::Woke { .. }
            | Fact::Handed { .. }
            | Fact::Asked { .. }
            | Fact::Stored { .. }
            | Fact::Acquired { .. }
            | Fact::Draining { .. }
            | Fact::Released { .. }
            | Fact::Suspended { .. }
            | Fact::Resumed { .. }
            | Fact::Wrote { .. }
            | Fact::Disturbed { .. }
            | Fact::Operated { .. }
            | Fact::Healed
            | Fact::Forgotten { .. }
            | Fact::PlanRegressed { .. }
            | Fact::PlanBroughtBack { .. }
            | Fact::MembersBroughtBack { .. }
            | Fact::Wished { .. }
            | Fact::Mishap { .. }
            | Fact::Reached { .. }
            | Fact::Message { .. }
            | Fact::Remembered { .. } => {}
        }
    }

    /// Who works on `partition`.
    pub(crate) fn workers_on(&self, partition: PartitionIndex) -> &[(ProcessId, Token)] {
        &self.partitions[partition.index()].by
    }

    /// Whether a partition is in the list now.
    pub(crate) fn is_listed(&self, partition: PartitionIndex) -> bool {
        self.partitions[partition.index()].listed
    }

    /// How many partitions are in the list now.
    pub(crate) fn listed(&self) -> usize {
        self.partitions.iter().filter(|worked| worked.listed).count()
    }

    /// The weight of the heaviest listed partition.
    pub(crate) fn heaviest(&self) -> u64 {
        let listed = self.partitions.iter().filter(|worked| worked.listed);
        listed.map(|worked| u64::from(worked.weight)).max().unwrap_or(0)
    }

    /// How many listed partitions nobody works on.
    pub(crate) const fn unowned(&self) -> usize {
        self.unowned
    }

    /// The listed partitions that nobody works on, and since when.
    pub(crate) fn all_unowned(&self) -> impl Iterator<Item = (PartitionIndex, Moment)> {
        let unowned = self.partitions.iter().enumerate().filter(|(_, worked)| worked.listed && worked.by.is_empty());
        unowned.map(|(place, worked)| (PartitionIndex::new(place), worked.since))
    }

    /// Whether a worker that has a slot is in this zone.
    pub(crate) fn has_zone(&self, zone: u32) -> bool {
        self.living_slots().any(|(process, ..)| self.holding[process] && self.zones[process] == Some(zone))
    }

    /// The zone that a process is in, where there are zones.
    pub(crate) fn zone_of(&self, process: ProcessId) -> Option<u32> {
        self.zones[process.index()]
    }

    /// How many partitions more than one work on.
    pub(crate) const fn shared(&self) -> usize {
        self.shared
    }

    /// Whether a process goes on without a lease, where not everybody does.
    pub(crate) fn is_available(&self, process: ProcessId) -> bool {
        self.available.contains(&process)
    }

    /// The slot that a process has, or had last.
    pub(crate) fn slot_of(&self, process: ProcessId) -> Option<Slot> {
        self.slots[process.index()]
    }

    /// Whether every listed partition has exactly one owner.
    pub(crate) const fn is_even(&self) -> bool {
        self.unowned == 0 && self.shared == 0
    }

    /// When anyone last began or stopped to work on anything.
    pub(crate) const fn last_change(&self) -> Moment {
        self.last_change
    }

    /// The load of each slot that has a worker.
    pub(crate) fn loads(&self) -> BTreeMap<Slot, Load> {
        let mut loads = BTreeMap::new();
        for (_, slot, capacity) in self.living_slots().filter(|(process, ..)| self.holding[*process]) {
            loads.entry(slot).or_insert(Load { load: 0, capacity });
        }
        for worked in &self.partitions {
            for (process, _) in &worked.by {
                if let Some(load) = self.slots[process.index()].and_then(|slot| loads.get_mut(&slot)) {
                    load.load += u64::from(worked.weight);
                }
            }
        }
        loads
    }

    /// The slots whose workers are given work, and how many of the partitions that are asked for each has, and what they weigh.
    pub(crate) fn taking(&self, counts: impl Fn(PartitionIndex) -> bool) -> BTreeMap<Slot, (usize, u64)> {
        let takes = |&(process, slot, _): &(usize, Slot, u32)| {
            let declines = self.declining.contains(&ProcessId::new(process));
            self.holding[process] && !declines && !self.drained.contains(&slot) && !self.resting.contains(&slot)
        };
        let mut taking: BTreeMap<_, _> = self.living_slots().filter(takes).map(|(_, slot, _)| (slot, (0, 0))).collect();
        let counted = self.partitions.iter().enumerate().filter(|(place, _)| counts(PartitionIndex::new(*place)));
        for (_, worked) in counted {
            for slot in worked.by.iter().filter_map(|(process, _)| self.slots[process.index()]) {
                if let Some((count, load)) = taking.get_mut(&slot) {
                    (*count, *load) = (*count + 1, *load + u64::from(worked.weight));
                }
            }
        }
        taking
    }

    /// Begins to take figures.
    pub(crate) fn open_window(&mut self, now: Moment) {
        self.window = Window::opened(now);
        for worked in &mut self.partitions {
            worked.slot_before = worked.last_slot;
        }
    }

    /// What the window has added up to by `now`.
    pub(crate) fn figures(&self, now: Moment) -> WindowFigures {
        let mut window = Window { ..self.window };
        for worked in &self.partitions {
            window.add(worked, now);
        }
        if !self.is_even() {
            window.last_uneven = now;
        }
        let living: BTreeSet<Slot> = self.living_slots().map(|(_, slot, _)| slot).collect();
        let stays = |worked: &&Worked| worked.listed && worked.slot_before.is_some_and(|slot| living.contains(&slot));
        let staying = self.partitions.iter().filter(stays);
        WindowFigures {
            recovery: window.last_uneven.since(window.from),
            orphan: window.orphan,
            longest_orphan: window.longest_orphan,
            duplicate: window.duplicate,
            moved: staying.clone().filter(|worked| worked.last_slot != worked.slot_before).count(),
            staying: staying.count(),
        }
    }

    /// The slots that have a worker: its place in the order of starts, and its capacity.
    fn living_slots(&self) -> impl Iterator<Item = (usize, Slot, u32)> {
        let living = self.slots.iter().zip(&self.capacities).enumerate().filter(|(_, (_, capacity))| **capacity > 0);
        living.filter_map(|(process, (slot, capacity))| Some((process, (*slot)?, *capacity)))
    }

    /// Changes one partition, and keeps the sums right.
    fn change(&mut self, now: Moment, partition: PartitionIndex, apply: impl FnOnce(&mut Worked, &[Option<Slot>])) {
        if !self.is_even() {
            self.window.last_uneven = now;
        }
        let worked = &mut self.partitions[partition.index()];
        let (unowned, shared) = worked.faults();
        self.window.add(worked, now);
        apply(worked, &self.slots);
        worked.since = now;
        let (unowned_after, shared_after) = worked.faults();
        self.unowned = self.unowned + unowned_after - unowned;
        self.shared = self.shared + shared_after - shared;
        self.last_change = now;
    }
}

fn set<T: Ord>(all: &mut BTreeSet<T>, one: T, is_in: bool) {
    if is_in {
        all.insert(one);
    } else {
        all.remove(&one);
    }
}

impl Worked {
    /// 1 if nobody works on it though somebody should; 1 if more than one does.
    fn faults(&self) -> (usize, usize) {
        (usize::from(self.listed && self.by.is_empty()), usize::from(self.by.len() > 1))
    }
}

impl Window {
    const fn opened(now: Moment) -> Self {
        Self {
            from: now,
            orphan: Duration::ZERO,
            longest_orphan: Duration::ZERO,
            duplicate: Duration::ZERO,
            last_uneven: now,
        }
    }

    /// Adds how long `worked` has been as it is.
    fn add(&mut self, worked: &Worked, now: Moment) {
        let lasted = now.since(worked.since.max(self.from));
        match worked.by.len() {
            0 if worked.listed => {
                self.orphan += lasted;
                self.longest_orphan = self.longest_orphan.max(lasted);
            }
            0 | 1 => {}
            owners => self.duplicate += lasted * u32::try_from(owners - 1).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_an_owner_and_time_with_two_add_up() {
        let mut ownership = Ownership::new([1, 1].into_iter());
        let (a, b) = (ProcessId::new(0), ProcessId::new(1));
        let mut tell = |at, fact: Fact<'_>| ownership.observe(Moment::from_millis(at), &fact);
        tell(0, Fact::Started { process: a, capacity: 1, zone: None });
        tell(0, Fact::Started { process: b, capacity: 1, zone: None });
        tell(100, works(a, 0));
        tell(200, works(a, 1));
        tell(300, works(b, 1));
        tell(350, stops(a, 1));
        let figures = ownership.figures(Moment::from_millis(1_000));
        assert_eq!(figures.orphan, Duration::from_millis(300));
        assert_eq!(figures.longest_orphan, Duration::from_millis(200));
        assert_eq!(figures.duplicate, Duration::from_millis(50));
        assert_eq!(figures.recovery, Duration::from_millis(350));
    }

    #[test]
    fn a_partition_that_leaves_the_list_is_nobodys_duty() {
        let mut ownership = Ownership::new([1].into_iter());
        assert_eq!(ownership.unowned(), 1);
        ownership.observe(Moment::from_millis(5), &Fact::Listed { partition: PartitionIndex::new(0), listed: false });
        assert!(ownership.is_even());
        assert_eq!(ownership.figures(Moment::from_millis(9)).orphan, Duration::from_millis(5));
    }

    fn works(process: ProcessId, partition: usize) -> Fact<'static> {
        Fact::Works { process, partition: PartitionIndex::new(partition), token: Token::default() }
    }

    fn stops(process: ProcessId, partition: usize) -> Fact<'static> {
        Fact::Stops { process, partition: PartitionIndex::new(partition) }
    }
}
