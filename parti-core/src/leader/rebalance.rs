//! Leader: when to plan.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::{PlanReason, WaitReason};
use crate::assign::Step;
use crate::context::Context;
use crate::ids::{Instance, Slot, Tenure};
use crate::labels::Labels;
use crate::leader::handoff::Handoff;
use crate::leader::strain::Strain;
use crate::member::membership::{MemberContent, Membership};
use crate::partition::{PartitionId, PartitionList};
use crate::stored::key::Control;
use crate::stored::record::MemberPhase;
use crate::time::Instant;

/// The most that a worker takes; none where there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) load: Option<u64>,
    pub(crate) partitions: Option<u32>,
}

impl Limits {
    /// Whether one more partition of this weight fits beside so many that weigh so much.
    pub(crate) fn allow(&self, (partitions, load): (u64, u64), weight: u64) -> bool {
        self.load.is_none_or(|most| load + weight <= most)
            && self.partitions.is_none_or(|most| partitions < u64::from(most))
    }
}

/// The workers that share the work: those that work, and those that are about to come back from a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Roster {
    /// By slot: the tenure and the capacity.
    pub(crate) workers: BTreeMap<Slot, (Tenure, u32)>,
    /// The workers that leave, or that an operator drains.
    pub(crate) draining: BTreeMap<Slot, (Tenure, u32)>,
    /// Those of them that an operator drains.
    pub(crate) drained: BTreeSet<Slot>,
    /// The workers that are away: restarting, silent for a lease, or in another slot. What they have is held for them, and
    /// they are given no more.
    pub(crate) away: BTreeSet<Slot>,
    /// The workers that get no new work for now, since their processes die soon after each start.
    pub(crate) resting: BTreeSet<Slot>,
    /// The slots of which it is not certain who is there: this version cannot read their records, or the process that
    /// they name is in another slot too, and somebody may have taken its place. What they have stays with them, and they
    /// are given no more.
    pub(crate) uncertain: BTreeSet<Slot>,
    /// The labels of those that have any.
    pub(crate) labels: BTreeMap<Slot, Labels>,
    /// The limits of those that have any.
    pub(crate) limits: BTreeMap<Slot, Limits>,
    /// The partitions that applications cannot work on, by the slot of the worker that says so.
    pub(crate) unwanted: BTreeMap<Slot, Vec<PartitionId>>,
    /// Whether an operator wants nothing to move for the sake of balance.
    pub(crate) paused: bool,
}

impl Roster {
    /// Everyone who has a record now. Those that are `silent` are away. O(members), and O(P) while workers die again and
    /// again.
    pub(crate) fn of(membership: &Membership, silent: &[Slot], strain: &Strain, list: Option<&PartitionList>) -> Self {
        let mut roster = Self { paused: membership.is_wanted(Control::Pause), ..Self::default() };
        let lives = newest_slots(membership);
        for (slot, member) in membership.members() {
            if matches!(member.content, MemberContent::Unreadable { .. }) && !member.broken {
                roster.uncertain.insert(slot);
            }
            let (Some(record), Some(tenure)) = (member.record(), membership.tenure_of(member)) else { continue };
            if lives.get(&record.instance).is_some_and(|(_, newest)| *newest != slot) {
                roster.uncertain.insert(slot);
                roster.away.insert(slot); // also what is yet to come to it
                continue;
            }
            let entry = (tenure, record.capacity);
            if !record.labels.is_empty() {
                roster.labels.insert(slot, record.labels.clone());
            }
            let limits = Limits { load: record.max_load, partitions: record.max_partitions };
            if limits != Limits::default() {
                roster.limits.insert(slot, limits);
            }
            if !record.unwanted.is_empty() {
                roster.unwanted.insert(slot, record.unwanted.clone());
            }
            match record.phase {
                MemberPhase::Active | MemberPhase::Restarting if membership.is_wanted(Control::Drain(slot)) => {
                    roster.drained.insert(slot);
                    roster.draining.insert(slot, entry)
                }
                MemberPhase::Active | MemberPhase::Restarting => roster.workers.insert(slot, entry),
                MemberPhase::Draining => roster.draining.insert(slot, entry),
            };
            if record.phase == MemberPhase::Restarting || silent.contains(&slot) {
                roster.away.insert(slot);
            }
        }
        roster.spare(strain, list);
        roster
    }

    /// Workers that have died again and again get work later, as long as most can take it, the others have room for all,
    /// and there is nothing that only they can have.
    fn spare(&mut self, strain: &Strain, list: Option<&PartitionList>) {
        let mut resting: BTreeSet<Slot> = strain.resting().filter(|slot| self.workers.contains_key(slot)).collect();
        if resting.is_empty() {
            return;
        }
        let works = |slot: &Slot| !self.away.contains(slot) && !resting.contains(slot);
        let working: Vec<Slot> = self.workers.keys().copied().filter(works).collect();
        let placements = list.iter().flat_map(|list| list.as_slice()).filter_map(|of| of.placement.as_ref());
        let mut scarce: BTreeSet<&Labels> = placements.map(|placement| &placement.requires).collect();
        scarce.retain(|requires| !working.iter().any(|slot| self.has_labels(*slot, requires)));
        resting.retain(|slot| !scarce.iter().any(|requires| self.has_labels(*slot, requires)));
        if working.len() < resting.len().max(1) || list.is_some_and(|list| !self.has_room(&working, list)) {
            return;
        }
        self.resting.clone_from(&resting);
        for slot in resting {
            if strain.keeps(slot) {
                self.away.insert(slot);
            } else if let Some(entry) = self.workers.remove(&slot) {
                self.draining.insert(slot, entry);
            }
        }
    }

    /// Whether the limits of these workers leave room for the whole list.
    fn has_room(&self, workers: &[Slot], list: &PartitionList) -> bool {
        // As soon as one has no limit, there is none.
        let most = |of: fn(&Limits) -> Option<u64>| {
            let limits = workers.iter().map(|slot| self.limits.get(slot).and_then(of));
            limits.sum::<Option<u64>>()
        };
        let load: u64 = list.iter().map(|partition| u64::from(partition.weight.get())).sum();
        most(|limits| limits.load).is_none_or(|most| load <= most)
            && most(|limits| limits.partitions.map(u64::from)).is_none_or(|most| list.len() as u64 <= most)
    }

    /// Whether the worker in `slot` has all labels that a partition asks for.
    pub(crate) fn has_labels(&self, slot: Slot, requires: &Labels) -> bool {
        let labels = self.labels.get(&slot);
        requires.iter().all(|(name, value)| labels.is_some_and(|labels| labels.get(name) == Some(value)))
    }

    /// Whether there is anybody to whom something could be given.
    fn has_takers(&self) -> bool {
        self.workers.keys().any(|slot| !self.away.contains(slot))
    }

    pub(crate) fn tenure(&self, slot: Slot) -> Option<Tenure> {
        self.workers.get(&slot).map(|(tenure, _)| *tenure)
    }
}

/// In which slot each process is, and the count of its writes there. A claim that was given up long ago may come late, and
/// leave a record in another slot: of those of one process the one with the most writes counts. O(members).
fn newest_slots(membership: &Membership) -> BTreeMap<Instance, (u64, Slot)> {
    let mut newest = BTreeMap::new();
    for (slot, member) in membership.members() {
        if let Some(record) = member.record() {
            let known = newest.entry(record.instance).or_insert((record.beat, slot));
            *known = (*known).max((record.beat, slot));
        }
    }
    newest
}

/// When to plan, from which workers came and went, and what the list and the last plan ask for.
#[allow(clippy::struct_excessive_bools)] // Independent facts, each with a life of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rebalance {
    /// The tenures that the current plan is for.
    planned: BTreeMap<Slot, Tenure>,
    /// The labels that they had; none before the first plan.
    labels: Option<BTreeMap<Slot, Labels>>,
    /// The partitions that they had given up.
    unwanted: BTreeMap<Slot, Vec<PartitionId>>,
    /// The capacities that they had.
    capacities: BTreeMap<Slot, u32>,
    /// The limits that they had.
    limits: BTreeMap<Slot, Limits>,
    window: Option<Window>,
    next_round: bool,
    /// Whether the next round goes on with what workers that came, or somebody who asked, have begun.
    goes_on: bool,
    /// Whether the next round goes on with evening out a measured load.
    load_goes_on: bool,
    /// When a plan may be made because a measured load is uneven, if one is.
    uneven: Option<Instant>,
    /// The workers that were away when the last plan was made, and still are: once one is back, another round is due.
    left_out: BTreeSet<Slot>,
    /// When the last plan of any kind was made, or this worker began to lead.
    last_plan_at: Instant,
    /// When the last plan was made that moves partitions for the sake of balance, the first assignment not counted.
    last_balance_at: Option<Instant>,
    list_changed: bool,
    requested: bool,
}

/// Quiet time is waited for after a join, up to a maximum.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Window {
    opened_at: Instant,
    last_join_at: Instant,
    workers: usize,
}

/// The planner's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Plan(PlanReason, Step),
    Wait(WaitReason, Option<Instant>),
    /// There was no plan; that is tried again then.
    Refused(Instant),
    Idle,
}

impl Rebalance {
    /// A new leader: `planned` are the tenures that have an assignment. Whether they are in balance is looked at after
    /// one rebalance interval.
    pub(crate) fn new(planned: BTreeMap<Slot, Tenure>, now: Instant) -> Self {
        let next_round = !planned.is_empty();
        Self {
            planned,
            labels: None,
            unwanted: BTreeMap::new(),
            capacities: BTreeMap::new(),
            limits: BTreeMap::new(),
            window: None,
            next_round,
            goes_on: false,
            load_goes_on: false,
            uneven: None,
            left_out: BTreeSet::new(),
            last_plan_at: now,
            last_balance_at: None,
            list_changed: false,
            requested: false,
        }
    }

    /// The tenure of `slot` that the current plan is for.
    pub(crate) fn planned_tenure(&self, slot: Slot) -> Option<Tenure> {
        self.planned.get(&slot).copied()
    }

    /// The list of partitions has changed.
    pub(crate) fn observe_list(&mut self) {
        self.list_changed = true;
    }

    /// Someone wants a plan now.
    pub(crate) fn observe_request(&mut self) {
        self.requested = true;
    }

    /// A measured load is so uneven that a plan may be made from then on, or is not; true if that is news.
    pub(crate) fn observe_load(&mut self, uneven: Option<Instant>) -> bool {
        core::mem::replace(&mut self.uneven, uneven) != uneven
    }

    /// Whether what a plan for this reason does to even out a measured load must be worth it.
    pub(crate) fn is_judged(&self, reason: PlanReason) -> bool {
        match reason {
            PlanReason::LoadShifted => true,
            PlanReason::NextRound => !self.goes_on,
            PlanReason::Emergency
            | PlanReason::ColdStart
            | PlanReason::PartitionsChanged
            | PlanReason::WorkerLeaving
            | PlanReason::WorkersJoined
            | PlanReason::Requested
            | PlanReason::GivenUp => false,
        }
    }

    /// A plan was made for `roster`. It was published, or there was nothing to change. O(workers).
    pub(crate) fn observe_planned(
        &mut self,
        now: Instant,
        roster: &Roster,
        reason: PlanReason,
        step: Step,
        another_round: bool,
    ) {
        self.planned.retain(|slot, _| roster.uncertain.contains(slot));
        self.planned.extend(roster.workers.iter().map(|(slot, (tenure, _))| (*slot, *tenure)));
        self.list_changed = false;
        self.last_plan_at = now;
        self.labels = Some(roster.labels.clone());
        self.unwanted.clone_from(&roster.unwanted);
        self.limits.clone_from(&roster.limits);
        self.capacities = roster.workers.iter().map(|(slot, (_, capacity))| (*slot, *capacity)).collect();
        self.left_out.clone_from(&roster.away);
        // An emergency leaves the balance for later.
        self.next_round = another_round || step == Step::Emergency;
        self.load_goes_on = another_round && reason == PlanReason::LoadShifted;
        self.goes_on = step == Step::Planned && another_round && !self.is_judged(reason);
        if step == Step::Planned {
            self.uneven = None;
            self.last_balance_at = if reason == PlanReason::ColdStart { None } else { Some(now) };
            self.window = None;
            self.requested = false;
        }
    }

    /// Whether partitions are planned for a tenure that is not there, or that leaves, or are yet to come to one that is
    /// away. O(workers), and O(P) while somebody is away.
    pub(crate) fn has_homeless(&self, roster: &Roster, handoff: &Handoff) -> bool {
        let certain = |slot: &&Slot| !roster.uncertain.contains(slot);
        let is_gone = |slot: &Slot| roster.tenure(*slot) != self.planned_tenure(*slot);
        handoff.owners().iter().filter(certain).any(is_gone)
            || !roster.away.is_empty() && handoff.expected_by(|slot| roster.away.contains(&slot)).next().is_some()
    }

    /// By place in the list: the slot that should own the partition, if the tenure there is still the one planned for.
    /// O(P).
    pub(crate) fn current_owners(&self, roster: &Roster, handoff: &Handoff) -> Vec<Option<Slot>> {
        let draining = |slot: &Slot| roster.draining.get(slot).map(|(tenure, _)| *tenure);
        let stays = |slot: &Slot| roster.tenure(*slot).or(draining(slot)) == self.planned_tenure(*slot);
        let stays = |slot: &Slot| roster.uncertain.contains(slot) || stays(slot);
        let gone: BTreeSet<Slot> = handoff.owners().iter().copied().filter(|slot| !stays(slot)).collect();
        let mut owners: Vec<Option<Slot>> =
            handoff.targets().iter().map(|target| target.filter(|slot| !gone.contains(slot))).collect();
        for place in handoff.expected_by(|slot| roster.away.contains(&slot)) {
            owners[place] = None;
        }
        owners
    }

    /// Decides what to do now. `homeless` tells whether partitions are planned for nobody who is there. O(workers).
    pub(crate) fn decide(&mut self, context: &Context, roster: &Roster, homeless: bool) -> Verdict {
        if !roster.has_takers() {
            self.window = None;
            return Verdict::Idle;
        }
        let waits_for = self.left_out.len();
        self.left_out.retain(|slot| roster.away.contains(slot));
        self.next_round |= self.left_out.len() < waits_for;
        let is_planned = |(slot, (tenure, _)): (&Slot, &(Tenure, u32))| self.planned.get(slot) == Some(tenure);
        let all_planned = roster.workers.iter().all(is_planned);
        let of_plan = roster.workers.iter().chain(&roster.draining).any(is_planned);
        if !all_planned {
            self.note_join(context.now, roster.workers.len());
        }
        if !of_plan {
            return self.cold_start(context, roster.workers.len());
        }
        if homeless {
            let drains = roster.draining.keys().any(|slot| self.planned.contains_key(slot));
            let reason = match (self.list_changed, drains) {
                (true, _) => PlanReason::PartitionsChanged,
                (false, true) => PlanReason::WorkerLeaving,
                (false, false) => PlanReason::Emergency,
            };
            return Verdict::Plan(reason, Step::Emergency);
        }
        if self.list_changed {
            return Verdict::Plan(PlanReason::PartitionsChanged, Step::Emergency);
        }
        // A worker that has restarted with other labels may no longer own what it has.
        self.next_round |= self.labels.as_ref().is_some_and(|labels| *labels != roster.labels);
        // One that wants again what it had given up may own it to even out the load.
        self.next_round |= self.labels.is_some() && self.unwanted != roster.unwanted;
        // And one that goes on in the slot of another may take more or less than that one.
        let differs = |(slot, (_, capacity)): (&Slot, &(Tenure, u32))| {
            let planned = self.capacities.get(slot);
            planned.is_some_and(|planned| planned != capacity || self.limits.get(slot) != roster.limits.get(slot))
        };
        self.next_round |= roster.workers.iter().any(differs);
        if roster.paused { Verdict::Wait(WaitReason::Paused, None) } else { self.planned_change(context) }
    }

    fn note_join(&mut self, now: Instant, workers: usize) {
        match &mut self.window {
            Some(window) if window.workers == workers => {}
            Some(window) => {
                window.last_join_at = if workers > window.workers { now } else { window.last_join_at };
                window.workers = workers;
            }
            None => self.window = Some(Window { opened_at: now, last_join_at: now, workers }),
        }
    }

    fn cold_start(&self, context: &Context, workers: usize) -> Verdict {
        let Some(window) = self.window else { return Verdict::Idle };
        let due = window.closes_at(context.config.settle_window, context.config.cold_start_window);
        let complete = context.config.expected_workers.is_some_and(|expected| workers >= expected as usize);
        if complete || context.now >= due {
            Verdict::Plan(PlanReason::ColdStart, Step::Planned)
        } else {
            Verdict::Wait(WaitReason::ColdStart, Some(due))
        }
    }

    fn planned_change(&self, context: &Context) -> Verdict {
        if self.requested {
            return Verdict::Plan(PlanReason::Requested, Step::Planned);
        }
        if let Some(window) = self.window {
            let due = window.closes_at(context.config.settle_window, context.config.planned_scale_window);
            let allowed_at = self.last_balance_at.map_or(due, |at| at + context.config.rebalance_interval);
            return if context.now >= due.max(allowed_at) {
                Verdict::Plan(PlanReason::WorkersJoined, Step::Planned)
            } else if context.now >= due {
                Verdict::Wait(WaitReason::RebalanceInterval, Some(allowed_at))
            } else {
                Verdict::Wait(WaitReason::WorkersJoined, Some(due.max(allowed_at)))
            };
        }
        let allowed_at = self.last_plan_at + context.config.rebalance_interval;
        let (reason, allowed_at) = match (self.next_round, self.uneven) {
            (true, _) if self.load_goes_on => (PlanReason::LoadShifted, allowed_at),
            (true, _) => (PlanReason::NextRound, allowed_at),
            (false, Some(due)) => (PlanReason::LoadShifted, allowed_at.max(due)),
            (false, None) => return Verdict::Idle,
        };
        if context.now >= allowed_at {
            Verdict::Plan(reason, Step::Planned)
        } else {
            Verdict::Wait(WaitReason::RebalanceInterval, Some(allowed_at))
        }
    }
}

impl Window {
    fn closes_at(&self, settle: Duration, at_most: Duration) -> Instant {
        (self.last_join_at + settle).min(self.opened_at + at_most)
    }
}
