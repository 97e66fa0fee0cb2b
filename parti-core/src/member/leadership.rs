//! Follower or leader, the term, the takeover.

use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::{Notice, StepDownReason, WaitReason, Write};
use crate::context::Context;
use crate::event::Outcome;
use crate::ids::{Instance, OperationId, Revision, Slot, Term};
use crate::member::lease::Lease;
use crate::member::membership::{LeaderKey, Membership, TenureState};
use crate::member::probing::Probing;
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::state::PlannerPhase;
use crate::stored::key::Key;
use crate::stored::plan_log::{ChainBreak, Legibility, PlanLog};
use crate::stored::record::{ClusterRecord, LeaderRecord, MemberPhase, Record};
use crate::time::{Instant, earliest};

/// How many leases a worker leaves the leadership to others that can read the plan, before it claims it again.
const LEASES_FOR_OTHERS: u32 = 6;

/// This worker's part in who leads.
///
/// The leader record names a tenure; leadership lasts as long as that tenure's lease, so there is nothing else to renew.
/// Being named is not enough to write: a new leader first reads the whole plan and appends a record with its term to it,
/// which commits only if it has seen every write before, and after which no older leader can append.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Leadership {
    role: Role,
    not_before: Instant,
    /// The revision on which a claim was refused, and until when there is no use in another one on the same.
    refused: Option<(Revision, Instant)>,
    /// The slot of the leader that this worker has watched before it claimed.
    predecessor: Option<Slot>,
    /// Whether it has said that it cannot read the plan, since it was named.
    waits: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Role {
    #[default]
    Following,
    /// A claim of the leader record is on its way.
    Claiming { operation: OperationId, expected: Revision },
    /// Named as leader by this revision of the leader record; reads the plan.
    CatchingUp { named_at: Revision },
    /// The record with the new term is on its way.
    TakingOver { named_at: Revision, term: Term },
    /// The only one who can write the plan.
    Leading { named_at: Revision, term: Term },
    /// The leader record that names this worker is being deleted.
    Resigning { operation: OperationId, expected: Revision },
}

/// A worker that might lead: the parts from which its leadership is decided.
#[allow(clippy::struct_excessive_bools)] // Independent facts.
pub(crate) struct Candidate<'a> {
    pub(crate) context: &'a Context,
    pub(crate) probing: &'a Probing,
    /// Whether this worker has the right to act.
    pub(crate) may_act: bool,
    pub(crate) own: Instance,
    pub(crate) lease: &'a Lease,
    pub(crate) membership: &'a Membership,
    /// Whether the members that a follower watches have been listed.
    pub(crate) members_listed: bool,
    /// Whether all members, as they were when this worker was named or later, and the whole plan have been listed.
    pub(crate) all_listed: bool,
    /// Whether this worker leaves or restarts.
    pub(crate) stopping: bool,
}

impl Leadership {
    /// The term, if this worker leads.
    pub(crate) fn term(&self) -> Option<Term> {
        match self.role {
            Role::Leading { term, .. } => Some(term),
            Role::Following
            | Role::Claiming { .. }
            | Role::CatchingUp { .. }
            | Role::TakingOver { .. }
            | Role::Resigning { .. } => None,
        }
    }

    /// The revision that names this worker as leader, while it reads what it has to know. Its list of members has to be
    /// complete up to there: who claimed a slot before may work on what a store that has lost the plan tells nobody of.
    pub(crate) fn catches_up_with(&self) -> Option<Revision> {
        match self.role {
            Role::CatchingUp { named_at } => Some(named_at),
            Role::Following
            | Role::Claiming { .. }
            | Role::TakingOver { .. }
            | Role::Leading { .. }
            | Role::Resigning { .. } => None,
        }
    }

    /// The slot of the leader before this worker, if that was another one: the only one whose silence it has watched.
    pub(crate) fn predecessor(&self) -> Option<Slot> {
        self.predecessor
    }

    /// Whether this worker needs to see every member and the whole plan.
    pub(crate) fn needs_everything(&self) -> bool {
        match self.role {
            Role::CatchingUp { .. } | Role::TakingOver { .. } | Role::Leading { .. } => true,
            Role::Following | Role::Claiming { .. } | Role::Resigning { .. } => false,
        }
    }

    /// Takes in the outcome of a write of the leader record; false if the operation is not one of this part's.
    pub(crate) fn observe_done(
        &mut self,
        context: &Context,
        operation: OperationId,
        outcome: Outcome,
        membership: &mut Membership,
    ) -> bool {
        let (Role::Claiming { operation: own, expected } | Role::Resigning { operation: own, expected }) = self.role
        else {
            return false;
        };
        if own != operation {
            return false;
        }
        let claimed = matches!(self.role, Role::Claiming { .. });
        self.role = Role::Following;
        match outcome {
            Outcome::Committed(named_at) if claimed => self.role = Role::CatchingUp { named_at },
            Outcome::Committed(_) => {}
            Outcome::Conflict => {
                membership.observe_refused(context, Key::Leader, expected);
                self.refused = Some((expected, context.now + context.timing.retry));
            }
            Outcome::Refused | Outcome::Unknown => {
                self.not_before = self.not_before.max(context.now + context.timing.retry);
            }
        }
        true
    }

    /// Gives up what rests on the slot, which this worker no longer holds.
    pub(crate) fn lose_slot(&mut self, plan: &mut PlanLog, outbox: &mut Outbox) {
        self.step_down(StepDownReason::SlotLost, plan, outbox);
    }

    /// Claims, takes over, steps down or resigns.
    pub(crate) fn decide(&mut self, view: &Candidate<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        self.notice_loss(view, plan, outbox);
        if !view.may_act || outbox.is_writing(Key::Leader) {
            return;
        }
        match self.role {
            Role::Following if !view.stopping && self.may_claim(view) && view.members_listed => {
                self.claim(view, outbox);
            }
            // It has stepped down, or does not know that it was named; the others would wait for it until it has gone.
            Role::Following if view.stopping && self.may_claim(view) => {
                if let Some(named_at) = names_own_tenure(view) {
                    self.resign(named_at, StepDownReason::Leaving, plan, outbox);
                }
            }
            Role::CatchingUp { named_at } | Role::TakingOver { named_at, .. } | Role::Leading { named_at, .. }
                if view.stopping =>
            {
                self.resign(named_at, StepDownReason::Leaving, plan, outbox);
            }
            // An append of an earlier leadership may still be on its way.
            Role::CatchingUp { named_at } if view.all_listed && !outbox.is_appending() => match plan.legibility() {
                Legibility::Whole => self.take_over(named_at, view, plan, outbox),
                legibility @ (Legibility::Broken | Legibility::Newer) => {
                    self.wait(named_at, legibility, view, plan, outbox);
                }
            },
            Role::TakingOver { named_at, term } if plan.is_settled() => {
                self.role = Role::Leading { named_at, term };
                outbox.notice(Notice::LeadershipGained { term });
            }
            Role::Following
            | Role::Claiming { .. }
            | Role::CatchingUp { .. }
            | Role::TakingOver { .. }
            | Role::Leading { .. }
            | Role::Resigning { .. } => {}
        }
    }

    fn notice_loss(&mut self, view: &Candidate<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        let (Role::CatchingUp { named_at } | Role::TakingOver { named_at, .. } | Role::Leading { named_at, .. }) =
            self.role
        else {
            return;
        };
        let leader = view.membership.leader();
        if leader.revision() > named_at {
            let reason = match leader.record() {
                Some(record) => StepDownReason::Replaced { by: record.slot },
                None if matches!(leader, LeaderKey::Unreadable { .. }) => StepDownReason::RecordUnreadable,
                None => StepDownReason::RecordGone,
            };
            self.step_down(reason, plan, outbox);
            return;
        }
        match plan.broken() {
            None => {}
            // Others may be allowed what this worker is not.
            Some(ChainBreak::Refused) if view.lease.is_valid(view.context.now) => {
                self.not_before = self.not_before.max(view.context.now + view.context.timing.renewal);
                self.resign(named_at, StepDownReason::PlanRefused, plan, outbox);
            }
            // It may still be named, and then claims anew: that, too, is a conditional write.
            Some(ChainBreak::Conflict | ChainBreak::Refused | ChainBreak::Unknown) => {
                self.step_down(StepDownReason::PlanConflict, plan, outbox);
            }
        }
    }

    fn step_down(&mut self, reason: StepDownReason, plan: &mut PlanLog, outbox: &mut Outbox) {
        plan.close();
        match core::mem::take(&mut self.role) {
            Role::Leading { .. } => outbox.notice(Notice::LeadershipLost { reason }),
            Role::Following
            | Role::Claiming { .. }
            | Role::CatchingUp { .. }
            | Role::TakingOver { .. }
            | Role::Resigning { .. } => {}
        }
    }

    /// Does not write a plan that it cannot read. Where a newer version could, it makes room for a worker that has it.
    fn wait(
        &mut self,
        named_at: Revision,
        legibility: Legibility,
        view: &Candidate<'_>,
        plan: &mut PlanLog,
        outbox: &mut Outbox,
    ) {
        if !core::mem::replace(&mut self.waits, true) {
            outbox.notice(Notice::Waiting { reason: WaitReason::PlanUnreadable });
        }
        if legibility == Legibility::Newer {
            self.not_before = view.context.now + view.context.timing.lease * LEASES_FOR_OTHERS;
            self.resign(named_at, StepDownReason::Leaving, plan, outbox);
        }
    }

    /// A leaving leader deletes its record first, so that the next one takes over within a round trip.
    fn resign(&mut self, named_at: Revision, why: StepDownReason, plan: &mut PlanLog, outbox: &mut Outbox) {
        self.step_down(why, plan, outbox);
        let operation = outbox.request(Write::Delete { key: Key::Leader, expected: named_at });
        self.role = Role::Resigning { operation, expected: named_at };
    }

    /// Whether another try has a chance, and is due: who lost to a leader that leaves at once need not wait.
    fn may_claim(&self, view: &Candidate<'_>) -> bool {
        let known = view.membership.leader().revision();
        let refused = self.refused.is_some_and(|(expected, until)| known <= expected && view.context.now < until);
        view.context.now >= self.not_before && !refused
    }

    fn claim(&mut self, view: &Candidate<'_>, outbox: &mut Outbox) {
        let leader = view.membership.leader();
        match leader {
            LeaderKey::Absent | LeaderKey::Deleted { .. } => {}
            LeaderKey::Held { record: held, .. } if has_stopped_leading(held, view) => {}
            LeaderKey::Unreadable { revision, .. } if nobody_leads_unread(view) => {
                outbox.notice(Notice::UnreadableReplaced { key: Key::Leader, revision });
            }
            LeaderKey::Held { .. } | LeaderKey::Unreadable { .. } => return,
        }
        let record = LeaderRecord { slot: view.lease.slot, tenure: view.lease.tenure, instance: view.own };
        let (key, record, expected) = (Key::Leader, Record::Leader(record), leader.revision());
        let write = match leader {
            LeaderKey::Absent => Write::Create { key, record },
            // Where it was deleted, as good as a create, but a store need not look for the marker first.
            LeaderKey::Deleted { .. } | LeaderKey::Held { .. } | LeaderKey::Unreadable { .. } => {
                Write::Update { key, record, expected }
            }
        };
        let held = leader.record();
        self.predecessor = held.map(|held| held.slot).filter(|slot| *slot != view.lease.slot);
        self.waits = false;
        self.role = Role::Claiming { operation: outbox.request(write), expected };
    }

    fn take_over(&mut self, named_at: Revision, view: &Candidate<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        let term = plan.last_term().next();
        plan.open(term);
        let record = head_record(term, plan, view);
        plan.append(view.context, Key::Cluster, Record::Cluster(Arc::new(record)), outbox);
        self.role = Role::TakingOver { named_at, term };
    }

    /// When something is due: the end of the leader's lease, as seen from here, or another try.
    pub(crate) fn deadline(&self, now: Instant, membership: &Membership) -> Option<Instant> {
        if self.role != Role::Following {
            return None;
        }
        let record = membership.leader().record();
        let member = record.and_then(|record| Some((record.slot, membership.member(record.slot)?)));
        let expiry = member.map(|(slot, member)| membership.silent_for_good_at(slot, member));
        let again = self.refused.map(|(_, until)| until);
        let unread = membership.unread_leader_until();
        earliest([expiry, unread, again, Some(self.not_before)].map(|at| at.filter(|at| *at > now)))
    }
}

/// The head of the plan as a new leader writes it, before it knows more than that it leads.
fn head_record(term: Term, plan: &PlanLog, view: &Candidate<'_>) -> ClusterRecord {
    let rebalanced = plan.rebalanced(view.membership.incarnation());
    ClusterRecord {
        term,
        generation: plan.last_generation(),
        era: plan.last_era().max(plan.incarnation()).max(view.membership.incarnation()),
        leader: view.lease.slot,
        instance: view.own,
        phase: PlannerPhase::Idle,
        workers: 0,
        partitions: 0,
        rebalanced: rebalanced.revision,
        rebalanced_in: rebalanced.incarnation,
        digest: 0,
        moves: plan.history(),
    }
}

/// The revision of the leader record, if it names this worker's tenure.
fn names_own_tenure(view: &Candidate<'_>) -> Option<Revision> {
    let leader = view.membership.leader();
    let own = |held: LeaderRecord| (held.slot, held.tenure) == (view.lease.slot, view.lease.tenure);
    leader.record().filter(|held| own(*held)).map(|_| leader.revision())
}

/// Whether nobody can be leading by a leader record that cannot be read: nothing was heard for a lease and the margin.
fn nobody_leads_unread(view: &Candidate<'_>) -> bool {
    let until = view.membership.unread_leader_until();
    view.lease.is_fresh(view.context) && until.is_some_and(|until| until <= view.context.now)
}

/// Whether the tenure that leads has ended, its lease has run out or its process is gone as seen from here, or it is
/// this worker's own.
fn has_stopped_leading(held: LeaderRecord, view: &Candidate<'_>) -> bool {
    if names_own_tenure(view).is_some() {
        return true;
    }
    // Who could not write itself does not know whether others could.
    let silent = || view.lease.is_fresh(view.context) && view.membership.has_expired(view.context.now, held.slot);
    match view.membership.tenure_state(held.slot, held.tenure) {
        TenureState::Ended | TenureState::NoRecord if is_judged_by_what_is_there(held, view) => true,
        // The store has lost how the tenure began, or what tells; it does not go on in what is there, and that may be dead
        // as well.
        TenureState::Ended | TenureState::NoRecord | TenureState::Unclear => silent(),
        TenureState::Continues => {
            let member = view.membership.member(held.slot);
            let record = member.and_then(|member| member.record());
            let restarting = record.is_some_and(|record| record.phase == MemberPhase::Restarting);
            let replaced = record.is_some_and(|record| record.instance != held.instance);
            let gone = member.is_some_and(|member| view.probing.is_gone(view.context, held.slot, member));
            restarting || replaced || gone || silent()
        }
    }
}

/// Whether the last listing has shown this worker's own record, and what it knows of the leader's slot. A listing that
/// lacks its own may lack the leader's as well, and what is not shown any more may be lost: each of two candidates would
/// find that the other one is not there, and they would claim from each other until their renewals fail.
fn is_judged_by_what_is_there(held: LeaderRecord, view: &Candidate<'_>) -> bool {
    let is_shown = view.membership.shown(view.lease.slot).is_some();
    let is_doubtful = view.membership.member(held.slot).is_some_and(|member| member.is_doubtful(view.context));
    is_shown && !is_doubtful || view.context.has(PlantedBug::ClaimUnshown)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::action::Action;
    use crate::ids::{Incarnation, Position, Tenure};
    use crate::stored::record::MemberRecord;

    const OWN: Slot = Slot::new(0);
    const OTHER: Slot = Slot::new(1);

    /// A worker in a group, and what its leadership is decided from.
    struct Stage {
        context: Context,
        lease: Lease,
        membership: Membership,
        plan: PlanLog,
        leadership: Leadership,
        outbox: Outbox,
    }

    impl Stage {
        fn new() -> Self {
            let context = Context::at(Instant::ORIGIN);
            let mut membership = Membership::new(&context);
            membership.end_listing(&context, Incarnation::new(1), |_| true);
            Self {
                lease: Lease::won(OWN, tenure(5), Revision::new(5), Some(context.now), &context),
                membership,
                plan: PlanLog::default(),
                leadership: Leadership::default(),
                outbox: Outbox::default(),
                context,
            }
        }

        /// The worker in the other slot has written this record of the leader, and one of its own.
        fn other_leads(&mut self) {
            let member = MemberRecord { tenure: Some(tenure(6)), ..MemberRecord::new(Instance::new(2)) };
            let leader = LeaderRecord { slot: OTHER, tenure: tenure(6), instance: Instance::new(2) };
            let (member, leader) = (Record::Member(Arc::new(member)), Record::Leader(leader));
            self.membership.observe_entry(&self.context, Key::Slot(OTHER), Revision::new(7), &member, true);
            self.membership.observe_entry(&self.context, Key::Leader, Revision::new(8), &leader, true);
        }

        /// The writes that are asked for now.
        fn writes(&mut self, stopping: bool) -> Vec<(OperationId, Write)> {
            let view = Candidate {
                context: &self.context,
                probing: &Probing::default(),
                may_act: true,
                own: Instance::new(1),
                lease: &self.lease,
                membership: &self.membership,
                members_listed: true,
                all_listed: true,
                stopping,
            };
            self.leadership.decide(&view, &mut self.plan, &mut self.outbox);
            let request = |action| match action {
                Action::Kv(request) => Some((request.operation, request.write)),
                _ => None,
            };
            core::iter::from_fn(|| self.outbox.pop()).filter_map(request).collect()
        }

        fn is_done(&mut self, operation: OperationId, outcome: Outcome) {
            self.outbox.observe_done(operation);
            let taken = self.leadership.observe_done(&self.context, operation, outcome, &mut self.membership);
            assert!(taken || self.plan.observe_done(&self.context, operation, outcome));
        }
    }

    fn tenure(revision: u64) -> Tenure {
        Tenure::new(Position { incarnation: Incarnation::new(1), revision: Revision::new(revision) })
    }

    #[test]
    fn who_finds_no_leader_is_named_then_appends_its_term_and_only_then_leads() {
        let mut stage = Stage::new();
        let claim = stage.writes(false);
        let [(operation, Write::Create { key: Key::Leader, .. })] = claim[..] else { panic!("{claim:?}") };
        stage.is_done(operation, Outcome::Committed(Revision::new(9)));
        let takeover = stage.writes(false);
        let [(operation, Write::Append { key: Key::Cluster, .. })] = takeover[..] else { panic!("{takeover:?}") };
        assert_eq!(stage.leadership.term(), None, "it is named, and no more");
        stage.is_done(operation, Outcome::Committed(Revision::new(1)));
        assert_eq!(stage.writes(false), []);
        assert_eq!(stage.leadership.term(), Some(Term::new(1)));
    }

    #[test]
    fn a_leader_is_replaced_when_its_lease_and_the_margin_have_passed_in_silence_and_not_before() {
        let mut stage = Stage::new();
        stage.other_leads();
        let over = Instant::ORIGIN + stage.context.timing.observed_lease();
        stage.context.now = Instant::from_nanos(over.as_nanos() - 1);
        stage.lease = Lease::won(OWN, tenure(5), Revision::new(5), Some(stage.context.now), &stage.context);
        assert_eq!(stage.writes(false), []);
        stage.context.now = over;
        let claim = stage.writes(false);
        let [(_, Write::Update { key: Key::Leader, expected, .. })] = claim[..] else { panic!("{claim:?}") };
        assert_eq!(expected, Revision::new(8));
    }

    #[test]
    fn who_could_not_write_itself_replaces_nobody_for_its_silence() {
        let mut stage = Stage::new();
        stage.other_leads();
        stage.context.now = Instant::ORIGIN + stage.context.timing.observed_lease();
        assert_eq!(stage.writes(false), []);
    }

    #[test]
    fn a_leader_that_leaves_deletes_the_record_that_names_it() {
        let mut stage = Stage::new();
        let (operation, _) = stage.writes(false).remove(0);
        stage.is_done(operation, Outcome::Committed(Revision::new(9)));
        let resigns = stage.writes(true);
        let [(_, Write::Delete { key: Key::Leader, expected })] = resigns[..] else { panic!("{resigns:?}") };
        assert_eq!(expected, Revision::new(9));
    }
}
