//! What a worker does while it leads: evict, plan, hand over.

mod causes;
mod eviction;
mod given_up;
mod handoff;
mod measured;
mod office;
mod planner;
mod rebalance;
mod recovery;
mod said;
mod size;
mod strain;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{EvictReason, Notice, PlanReason, WaitReason};
use crate::assign::Step;
use crate::context::Context;
use crate::event::Outcome;
use crate::fleet::Fleet;
use crate::ids::{Heard, OperationId, Position, Slot, Term};
use crate::member::membership::Membership;
use crate::outbox::Outbox;
use crate::partition::PartitionList;
use crate::planted::PlantedBug;
use crate::state::PlannerPhase;
use crate::stored::history::{PlanHistory, PlanMoves};
use crate::stored::key::{Control, Key};
use crate::stored::plan_log::PlanLog;
use crate::stored::record::{ClusterRecord, MemberRecord, Record};
use crate::time::{Duration, Instant, earliest};
use causes::Causes;
use eviction::Eviction;
use given_up::GivenUp;
use handoff::{Edition, Handoff};
use measured::Measured;
pub(crate) use office::Office;
use planner::{Planned, Planner};
use rebalance::{Rebalance, Roster, Verdict};
use recovery::Recovery;
use said::Said;
use strain::Strain;

/// When a plan that was refused is tried again though nothing has changed: what refuses it may have.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// The history of moves takes at most this part of what a record may have: the head of the plan has more to say.
const SHARE_OF_HISTORY: usize = 4;

/// The state of one leadership. All of it is read from the store when the leadership begins, so that a leader that dies
/// between two steps loses nothing.
#[allow(clippy::struct_excessive_bools)] // Independent facts, each with a life of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Leader {
    term: Term,
    /// How far plans have come: this leader's own, and whatever anybody has told of.
    reached: Heard,
    /// The last write of `control.rebalance` that was acted on.
    rebalanced: Option<Position>,
    recovery: Recovery,
    eviction: Eviction,
    /// The workers that have died again and again.
    strain: Strain,
    /// The slots that were silent when the roster was made.
    silent: Vec<Slot>,
    rebalance: Rebalance,
    /// None until the list of partitions has come.
    handoff: Option<Handoff>,
    measured: Measured,
    roster: Roster,
    /// The shortest wait for a silent holder that anybody's lease asks for.
    shortest_observed_lease: Duration,
    given_up: GivenUp,
    roster_of: Option<u64>,
    /// Whether something has changed since it was last decided whether to plan.
    plan_due: bool,
    /// Whether there is a record of every tenure that the plan names; nothing is planned while there is not.
    accounted: bool,
    verdict: Verdict,
    last_reason: PlanReason,
    said: Said,
    /// The phase that the head of the plan says.
    published: PlannerPhase,
    /// What the last plans moved, as the head of the plan says.
    history: PlanHistory,
}

impl Leader {
    pub(crate) fn new(context: &Context, term: Term, list: Option<&PartitionList>, plan: &PlanLog) -> Self {
        let mut leader = Self {
            term,
            reached: Heard { era: plan.last_era(), generation: plan.last_generation() },
            rebalanced: None,
            recovery: Recovery::default(),
            eviction: Eviction::default(),
            strain: Strain::default(),
            silent: Vec::new(),
            rebalance: Rebalance::new(BTreeMap::new(), context.now),
            handoff: None,
            measured: Measured::default(),
            roster: Roster::default(),
            shortest_observed_lease: Duration::MAX,
            given_up: GivenUp::default(),
            roster_of: None,
            plan_due: false,
            accounted: false,
            verdict: Verdict::Idle,
            last_reason: PlanReason::NextRound,
            said: Said::default(),
            published: PlannerPhase::Idle,
            history: plan.history(),
        };
        if let Some(list) = list {
            let handoff = Handoff::new(list.clone(), plan);
            leader.rebalance = Rebalance::new(handoff.tenures().collect(), context.now);
            leader.take_over(context, handoff, plan);
        }
        leader
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// The shortest wait for a silent holder that anybody's lease asks for.
    pub(crate) fn shortest_observed_lease(&self) -> Duration {
        self.shortest_observed_lease
    }

    /// How far plans have come, as far as it has made, read or heard of them.
    pub(crate) fn reached(&self) -> Heard {
        self.reached
    }

    /// The list of partitions has come or changed.
    pub(crate) fn observe_list(&mut self, context: &Context, list: &PartitionList, plan: &PlanLog) {
        if self.handoff.as_ref().is_some_and(|handoff| handoff.list() == list) {
            return;
        }
        let first = self.handoff.is_none();
        let handoff = Handoff::new(list.clone(), plan);
        if first {
            self.rebalance = Rebalance::new(handoff.tenures().collect(), context.now);
        } else {
            self.rebalance.observe_list();
        }
        self.take_over(context, handoff, plan);
    }

    fn take_over(&mut self, context: &Context, mut handoff: Handoff, plan: &PlanLog) {
        if handoff.targets().iter().any(Option::is_none) {
            self.rebalance.observe_list();
        }
        self.history = self.history.begun(|moved| handoff.has_begun(moved));
        self.measured = self.measured.of_list(context, handoff.list(), plan);
        if self.measured.is_on() {
            handoff.weigh(self.measured.weighed(handoff.list()));
        }
        self.handoff = Some(handoff);
        self.roster_of = None;
    }

    /// Takes in the outcome of an eviction.
    pub(crate) fn observe_done(
        &mut self,
        context: &Context,
        (operation, outcome): (OperationId, Outcome),
        membership: &mut Membership,
    ) {
        let Some((slot, reason)) = self.eviction.observe_done(context, operation, outcome, membership) else {
            return;
        };
        if let (Outcome::Committed(_), EvictReason::LeaseRanOut | EvictReason::NobodyListens) = (outcome, reason) {
            self.strain.observe_death(context.now, slot);
        }
        if let (Outcome::Committed(_) | Outcome::Unknown, EvictReason::NoRecord) = (outcome, reason) {
            // There really was no record, as far as is known: whoever had it has not noticed yet, or is gone.
            self.recovery.wait_until(context.now + membership.longest_observed_lease());
        }
        self.observe_member(slot);
    }

    /// Says whose tenures it has ended.
    pub(crate) fn tell_evicted(&mut self, outbox: &mut Outbox) {
        self.eviction.tell_evicted(outbox);
    }

    /// The process in `slot` has applied or released something. That changes nothing but what can be handed over, unless
    /// it tells of something that the plan does not have.
    pub(crate) fn observe_acknowledgement(&mut self, slot: Slot, record: &MemberRecord, plan: &PlanLog) {
        self.observe_member(slot);
        self.measured.observe_change();
        let tells_more = record.heard().max(self.reached) != self.reached;
        if tells_more || self.recovery.concerns(plan, slot, record) {
            self.roster_of = None;
        }
    }

    /// Something other than a plain renewal was seen of `slot`.
    pub(crate) fn observe_member(&mut self, slot: Slot) {
        if let Some(handoff) = &mut self.handoff {
            handoff.observe_member(slot);
        }
    }

    pub(crate) fn observe_request(&mut self) {
        self.rebalance.observe_request();
        self.roster_of = None;
    }

    /// The store takes larger or smaller records than before: what was refused may be possible.
    pub(crate) fn observe_record_limit(&mut self) {
        self.roster_of = None;
    }

    /// Evicts who has stopped, plans if it is time, and writes what can be written.
    pub(crate) fn decide(
        &mut self,
        view: &Office<'_>,
        membership: &mut Membership,
        plan: &mut PlanLog,
        outbox: &mut Outbox,
    ) {
        let context = view.context;
        let now = context.now;
        // Evictions come first: what they free may be granted by the very plan that follows.
        if view.heard {
            self.end_garbled(context, membership, outbox);
            let surroundings = eviction::Judge { context, own_slot: view.own_slot, plan, probing: view.probing };
            self.eviction.decide(&surroundings, membership, outbox);
        }
        if self.recovery.end_wait(now) {
            self.roster_of = None;
        }
        for slot in self.recovery.clear_up(view.lease, membership) {
            self.roster_of = None;
            self.observe_member(slot);
        }
        self.strain.decide(now, membership);
        // Renewals, which are nearly all that is heard, change nothing of this: the roll is called only for the rest.
        let is_current = self.silent == self.eviction.silent() && self.strain.is_unchanged();
        if self.roster_of != Some(membership.changes()) || !is_current {
            self.plan_due = true;
            self.call_the_roll(now, membership, outbox);
            self.roster_of = Some(membership.changes());
            self.accounted = eviction::all_have_records(plan, membership);
            self.listen(view, membership, plan);
            self.recovery.look(context, view.store_regressed, membership, plan, self.handoff.as_ref());
            // Whether the load is even depends on who is there.
            self.measured.observe_change();
            self.look_for_request(membership, plan);
        }
        self.recovery.tell(outbox);
        // On top of an append whose outcome is not known nothing is decided: acknowledgements are of records that are
        // really there, and a plan that was broken into is another leader's by now.
        let waits = self.recovery.grants_nothing(context) || self.eviction.asks_for_record();
        if !plan.is_settled() || plan.broken().is_some() || waits {
            return;
        }
        self.plan_due |= self.deadline_of_plan().is_some_and(|at| at <= now);
        if self.measured.is_due(now) {
            self.weigh(context, membership, plan);
        }
        // While some tenure in the plan has no record, nobody knows whether it still works, and so whose its partitions are.
        if self.accounted && core::mem::take(&mut self.plan_due) {
            self.plan(view, plan, outbox);
        }
        self.hand_over(context, membership, plan, outbox);
        self.publish_phase(view, plan, outbox);
    }

    /// Takes in what workers tell of their loads. Where the load is uneven, it is planned anew once that may be.
    fn weigh(&mut self, context: &Context, membership: &Membership, plan: &PlanLog) {
        let Some(handoff) = &mut self.handoff else { return };
        handoff.weigh(self.measured.look(context, handoff.list(), membership, plan));
        let plan_at = self.measured.plan_at(context, &self.roster, handoff);
        self.plan_due |= self.rebalance.observe_load(plan_at);
    }

    /// Ends the tenures that garbage has broken off, once their holders have stopped.
    fn end_garbled(&mut self, context: &Context, membership: &mut Membership, outbox: &mut Outbox) {
        for slot in membership.end_garbled(context) {
            outbox.notice(Notice::Evicted { slot, reason: EvictReason::Garbled });
            self.observe_member(slot);
        }
    }

    /// Finds out who is there. Who comes back may be given what has waited for it.
    fn call_the_roll(&mut self, now: Instant, membership: &Membership, outbox: &mut Outbox) {
        self.silent = self.eviction.silent().to_vec();
        self.shortest_observed_lease = membership.shortest_observed_lease();
        let list = self.handoff.as_ref().map(Handoff::list);
        let roster = Roster::of(membership, &self.silent, &self.strain, list);
        let before = core::mem::replace(&mut self.roster, roster);
        for slot in before.away.iter().filter(|slot| !self.roster.away.contains(slot)) {
            if let Some(handoff) = &mut self.handoff {
                handoff.observe_member(*slot);
            }
        }
        for slot in self.roster.resting.difference(&before.resting) {
            if let Some((deaths, rest)) = self.strain.rest_of(*slot, now) {
                outbox.notice(Notice::Resting { slot: *slot, deaths, rest });
            }
        }
    }

    /// Each write of `control.rebalance` asks for one plan, whoever leads.
    fn look_for_request(&mut self, membership: &Membership, plan: &PlanLog) {
        let incarnation = membership.incarnation();
        let asked = membership.control(Control::Rebalance).map(|(revision, _)| Position { incarnation, revision });
        let acted_on = *self.rebalanced.get_or_insert_with(|| plan.rebalanced(incarnation));
        // One with a lower number is a later one as well, where the store has lost writes.
        if let Some(asked) = asked.filter(|asked| *asked != acted_on) {
            self.rebalanced = Some(asked);
            self.rebalance.observe_request();
        }
    }

    /// Takes in what members have heard of plans: the next plan goes beyond all of it.
    fn listen(&mut self, view: &Office<'_>, membership: &Membership, plan: &PlanLog) {
        let records = membership.members().filter_map(|(_, member)| member.record());
        let told = records.map(|record| record.heard()).fold(view.heard_of, Heard::max);
        if !view.context.has(PlantedBug::ForgetGeneration) {
            self.reached.generation = self.reached.generation.max(told.generation);
        }
        let lives = plan.incarnation().max(membership.incarnation());
        let forgets = view.context.has(PlantedBug::ForgetEra);
        self.reached.era = if forgets { lives } else { self.reached.era.max(lives).max(told.era) };
    }

    /// Whether this leader waits for everyone to have noticed that the store has lost writes.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovery.is_under_way()
    }

    fn plan(&mut self, view: &Office<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        // Until the list has come there is nothing to plan.
        let Some(mut handoff) = self.handoff.take() else {
            return self.wait(Verdict::Wait(WaitReason::NoPartitions, None), outbox);
        };
        let homeless = self.rebalance.has_homeless(&self.roster, &handoff);
        self.given_up = GivenUp::of(&self.roster, &handoff);
        match self.rebalance.decide(view.context, &self.roster, homeless) {
            Verdict::Plan(reason, step) => self.make_plan(view, reason, step, &mut handoff, plan, outbox),
            Verdict::Wait(..) | Verdict::Idle | Verdict::Refused(_) if !self.given_up.leaving.is_empty() => {
                self.make_plan(view, PlanReason::GivenUp, Step::Emergency, &mut handoff, plan, outbox);
            }
            verdict @ (Verdict::Wait(..) | Verdict::Idle | Verdict::Refused(_)) => self.wait(verdict, outbox),
        }
        self.handoff = Some(handoff);
    }

    fn make_plan(
        &mut self,
        view: &Office<'_>,
        reason: PlanReason,
        step: Step,
        handoff: &mut Handoff,
        plan: &mut PlanLog,
        outbox: &mut Outbox,
    ) {
        let mut current = self.rebalance.current_owners(&self.roster, handoff);
        for at in &self.given_up.leaving {
            current[*at] = None;
        }
        let avoids = &self.given_up.avoids;
        let calculator = Planner { strategy: view.strategy, context: view.context, roster: &self.roster, avoids, step };
        let planned = match calculator.plan(handoff.weighed(), &current) {
            Ok(planned) => self.judged(view.context, reason, (handoff.weighed(), &current), planned),
            Err(error) => {
                return self.refuse(view.context.now, error.to_string(), outbox);
            }
        };
        if let Some(at) = self.given_up.leaving.iter().find(|at| planned.owners[**at] == handoff.targets()[**at]) {
            let stays = format!("{:?} was given up, but stays where it is", handoff.list().as_slice()[*at].id);
            return self.refuse(view.context.now, stays, outbox);
        }
        if let Err(too_large) = handoff.check_sizes(&planned.owners, self.reached.generation.next(), view.record_limit)
        {
            return self.refuse(view.context.now, too_large.to_string(), outbox);
        }
        self.said.forget_refusal();
        self.rebalance.observe_planned(view.context.now, &self.roster, reason, step, planned.another_round);
        // What the next decision waits for is not known yet: it is looked at again at once.
        self.verdict = Verdict::Plan(reason, step);
        self.last_reason = reason;
        if planned.unplaced > 0 {
            outbox.notice(Notice::Unplaced { partitions: planned.unplaced });
        }
        self.said.tell_room(&planned.without_room, outbox);
        // What was removed from the list is being released, and the head of the plan is to speak of the new list.
        let removes = reason == PlanReason::PartitionsChanged && handoff.has_unwritten();
        let changes = planned.owners.as_slice() != handoff.targets() || planned.placed > 0 || removes;
        if changes {
            let edition = Edition { term: self.term, reached: self.reached };
            handoff.write_revoked(view.context, edition, plan, outbox);
        }
        if changes {
            self.reached.generation = self.reached.generation.next();
            self.remember(view, handoff, &current, &planned, reason);
        }
        handoff.retarget(view.context, planned.owners, self.roster.workers.keys().copied());
        if changes {
            outbox.notice(Notice::Planned {
                generation: self.reached.generation,
                reason,
                moved: planned.moved,
                placed: planned.placed,
                another_round: planned.another_round,
            });
            let phase =
                if reason == PlanReason::Emergency { PlannerPhase::Emergency } else { PlannerPhase::Rebalancing };
            self.publish(phase, view, handoff.list(), plan, outbox);
        }
    }

    /// What only evens out a measured load has to be worth it, unless workers came or somebody asks for it.
    fn judged(
        &mut self,
        context: &Context,
        reason: PlanReason,
        (list, current): (&PartitionList, &[Option<Slot>]),
        mut planned: Planned,
    ) -> Planned {
        if self.measured.is_on() {
            if self.rebalance.is_judged(reason) {
                self.measured.judge(context, (&self.roster, list), current, &mut planned);
            }
            self.measured.observe_moved(context, reason, planned.reasons.keys().map(|at| &list.as_slice()[*at].id));
        }
        planned
    }

    /// Puts what a plan moves, and why, beside what those before it moved.
    fn remember(
        &mut self,
        view: &Office<'_>,
        handoff: &Handoff,
        current: &[Option<Slot>],
        planned: &Planned,
        reason: PlanReason,
    ) {
        let (context, roster, given_up) = (view.context, &self.roster, &self.given_up);
        let causes = Causes { context, roster, given_up, handoff, current, planned, reason };
        let moves =
            PlanMoves { generation: self.reached.generation, at_ms: context.calendar_ms(), causes: causes.moves() };
        if !context.has(PlantedBug::ForgetMoves) {
            self.history = self.history.with(moves, view.record_limit / SHARE_OF_HISTORY);
        }
    }

    /// There is no plan: everything stays as it is until something changes, or it is tried again.
    fn refuse(&mut self, now: Instant, reason: String, outbox: &mut Outbox) {
        self.verdict = Verdict::Refused(now + AFTER_REFUSAL);
        self.said.tell_refusal(reason, outbox);
    }

    fn wait(&mut self, verdict: Verdict, outbox: &mut Outbox) {
        if let Verdict::Wait(reason, _) = verdict
            && !matches!(self.verdict, Verdict::Wait(before, _) if before == reason)
        {
            outbox.notice(Notice::Waiting { reason });
        }
        self.verdict = verdict;
    }

    fn hand_over(&mut self, context: &Context, membership: &Membership, plan: &mut PlanLog, outbox: &mut Outbox) {
        let Some(handoff) = self.handoff.as_mut().filter(|handoff| handoff.has_work()) else { return };
        let rebalance = &self.rebalance;
        let roster = &self.roster;
        let planned = |slot| rebalance.planned_tenure(slot).filter(|_| !roster.away.contains(&slot));
        let incarnation = plan.incarnation();
        let edition = Edition { term: self.term, reached: self.reached };
        let view =
            handoff::Basis { context, edition, incarnation, membership, planned: &planned, limits: &roster.limits };
        handoff.decide(&view, plan, outbox);
    }

    /// The group in numbers. O(1).
    pub(crate) fn fleet(&self) -> Fleet {
        let list = self.handoff.as_ref().map(Handoff::list);
        Fleet {
            workers: self.roster.workers.len(),
            partitions: list.map_or(0, |list| list.as_slice().len()),
            unowned: self.handoff.as_ref().map_or(0, Handoff::unowned_count),
            without_room: self.said.without_room(),
            refused: self.said.is_refused(),
        }
    }

    /// The slots whose processes have died soon after their start, whether another is there now or not.
    pub(crate) fn resting(&self) -> Vec<Slot> {
        self.strain.tired().collect()
    }

    /// The planner's phase, as status and plan show it.
    pub(crate) fn phase(&self) -> PlannerPhase {
        let Some(handoff) = &self.handoff else { return PlannerPhase::Idle };
        if self.published != PlannerPhase::Idle || !handoff.is_settled() {
            return if self.last_reason == PlanReason::Emergency {
                PlannerPhase::Emergency
            } else {
                PlannerPhase::Rebalancing
            };
        }
        if self.eviction.waits() {
            return PlannerPhase::Scaling;
        }
        match self.verdict {
            Verdict::Wait(WaitReason::ColdStart | WaitReason::WorkersJoined | WaitReason::Restart, _) => {
                PlannerPhase::Scaling
            }
            Verdict::Wait(
                WaitReason::RebalanceInterval
                | WaitReason::NoPartitions
                | WaitReason::PlanUnreadable
                | WaitReason::StoreRegressed
                | WaitReason::Maintenance
                | WaitReason::Paused,
                _,
            )
            | Verdict::Plan(..)
            | Verdict::Refused(_)
            | Verdict::Idle => PlannerPhase::Idle,
        }
    }

    /// Says in the plan that a rebalance is over.
    fn publish_phase(&mut self, view: &Office<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        let over = match self.published {
            PlannerPhase::Rebalancing | PlannerPhase::Emergency => plan.is_settled(),
            PlannerPhase::Idle | PlannerPhase::Scaling => false,
        };
        if let Some(handoff) = self.handoff.as_ref().filter(|handoff| over && handoff.is_settled()) {
            let list = handoff.list().clone();
            self.publish(PlannerPhase::Idle, view, &list, plan, outbox);
        }
    }

    fn publish(
        &mut self,
        phase: PlannerPhase,
        view: &Office<'_>,
        list: &PartitionList,
        plan: &mut PlanLog,
        outbox: &mut Outbox,
    ) {
        let rebalanced = self.rebalanced.unwrap_or_default();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let record = ClusterRecord {
            term: self.term,
            generation: self.reached.generation,
            era: self.reached.era,
            leader: view.own_slot,
            instance: view.own,
            phase,
            workers: count(self.roster.workers.len()),
            partitions: count(list.len()),
            rebalanced: rebalanced.revision,
            rebalanced_in: rebalanced.incarnation,
            digest: list.digest(),
            moves: self.history.clone(),
        };
        plan.append(view.context, Key::Cluster, Record::Cluster(Arc::new(record)), outbox);
        self.published = phase;
    }

    fn deadline_of_plan(&self) -> Option<Instant> {
        match self.verdict {
            Verdict::Wait(_, until) => until,
            Verdict::Plan(..) => Some(Instant::ORIGIN),
            Verdict::Refused(until) => Some(until),
            Verdict::Idle => None,
        }
    }

    /// When something is due if nothing happens before. Nobody is judged, and so no judgement is due, by a worker that
    /// does not hear others, see [`Office::heard`].
    pub(crate) fn deadline(&self, heard: bool, membership: &Membership, plan: &PlanLog) -> Option<Instant> {
        let may_plan = self.accounted && plan.is_settled() && plan.broken().is_none() && !self.is_recovering();
        let planning = self.deadline_of_plan().filter(|_| may_plan && !self.eviction.asks_for_record());
        let judging = self.eviction.deadline(membership).filter(|_| heard);
        let rested = self.strain.deadline();
        let weighing = self.measured.deadline().filter(|_| may_plan && !self.eviction.asks_for_record());
        earliest([planning, judging, self.recovery.deadline(), rested, weighing])
    }
}
