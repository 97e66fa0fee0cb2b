//! Leader: when to plan.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::action::{PlanReason, WaitReason};
use crate::assign::Step;
use crate::context::Context;
use crate::ids::{Instance, Slot, Tenure};
use crate::labels::Labels;
use crate::leader::handoff::Handoff;
use crate::leader::strain::Strain;
use crate::member::membership::{MemberContent, Membership};
use crate::partition::PartitionId;
use crate::stored::key::Control;
use crate::stored::record::MemberPhase;
use crate::time::Instant;

/// The workers that share the work: those that work, and those that are about to come back from a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// The partitions that applications cannot work on, by the slot of the worker that says so.
    pub(crate) unwanted: BTreeMap<Slot, Vec<PartitionId>>,
    /// Whether an operator wants nothing to move for the sake of balance.
    pub(crate) paused: bool,
}

impl Roster {
    /// Everyone who has a record now. Those that are `silent` are away. O(members).
    pub(crate) fn of(membership: &Membership, silent: &[Slot], strain: &Strain) -> Self {
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
        roster.spare(strain);
        roster
    }

    /// Workers that have died again and again get work later, as long as most can take it.
    fn spare(&mut self, strain: &Strain) {
        let resting: BTreeSet<Slot> = strain.resting().filter(|slot| self.workers.contains_key(slot)).collect();
        let works = |slot: &&Slot| !self.away.contains(slot) && !resting.contains(slot);
        if self.workers.keys().filter(works).count() < resting.len().max(1) {
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
#[derive(Clone, Debug)]
pub(crate) struct Rebalance {
    /// The tenures that the current plan is for.
    planned: BTreeMap<Slot, Tenure>,
    /// The labels that they had; none before the first plan.
    labels: Option<BTreeMap<Slot, Labels>>,
    /// The partitions that they had given up.
    unwanted: BTreeMap<Slot, Vec<PartitionId>>,
    /// The capacities that they had.
    capacities: BTreeMap<Slot, u32>,
    window: Option<Window>,
    next_round: bool,
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
#[derive(Clone, Copy, Debug)]
struct Window {
    opened_at: Instant,
    last_join_at: Instant,
    workers: usize,
}

/// The planner's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            window: None,
            next_round,
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
        self.capacities = roster.workers.iter().map(|(slot, (_, capacity))| (*slot, *capacity)).collect();
        self.left_out.clone_from(&roster.away);
        // An emergency leaves the balance for later.
        self.next_round = another_round || step == Step::Emergency;
        if step == Step::Planned {
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
            self.capacities.get(slot).is_some_and(|planned| planned != capacity)
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
        match self.next_round {
            true if context.now >= allowed_at => Verdict::Plan(PlanReason::NextRound, Step::Planned),
            true => Verdict::Wait(WaitReason::RebalanceInterval, Some(allowed_at)),
            false => Verdict::Idle,
        }
    }
}

impl Window {
    fn closes_at(&self, settle: Duration, at_most: Duration) -> Instant {
        (self.last_join_at + settle).min(self.opened_at + at_most)
    }
}
