//! Leader: what to do about writes that the store has lost.
//!
//! Members then hold partitions that the plan knows nothing of. So the leader grants nothing
//!
//! - while a member has applied an assignment that the plan does not have (each such member notices by itself, and starts
//!   over);
//! - for a lease and the margin after this process has noticed that a bucket has lost writes;
//! - for as long after it has found a tenure with partitions that the members' bucket has forgotten, or after it has
//!   made sure that there is no record of one.
//!
//! By then, whoever holds what the plan has lost has said so with a renewal, or cannot renew since its record is lost, and
//! has stopped.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{Notice, WaitReason};
use crate::context::Context;
use crate::ids::{Position, Slot, Tenure};
use crate::leader::handoff::Handoff;
use crate::member::lease::Lease;
use crate::member::membership::{Membership, TenureState};
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::stored::plan_log::PlanLog;
use crate::stored::record::MemberRecord;
use crate::time::Instant;

/// The reasons for which a leader grants nothing after a loss, and until when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// Until when nothing is granted, since holders whose records the store has lost may not have noticed yet.
    quarantine_until: Option<Instant>,
    /// The tenures that the store has forgotten and that are waited for, or have been.
    forgotten: BTreeSet<Tenure>,
    /// The tenures that the plan names although what was seen of their slots is older, and since when that is known: a
    /// listing that lags looks the same as a loss.
    #[serde(with = "crate::pairs")]
    unclear: BTreeMap<(Slot, Tenure), Instant>,
    /// Whether some member has applied what the plan does not have.
    unsound: bool,
    /// Whether the leader has said that it waits.
    told: bool,
}

impl Recovery {
    /// Nothing is granted before this instant.
    pub(crate) fn wait_until(&mut self, until: Instant) {
        self.quarantine_until = self.quarantine_until.max(Some(until));
    }

    /// Ends the wait if its time is over; true if it is.
    pub(crate) fn end_wait(&mut self, now: Instant) -> bool {
        self.quarantine_until.take_if(|until| *until <= now).is_some()
    }

    /// Whether what this member has applied is a reason to look again.
    pub(crate) fn concerns(&self, plan: &PlanLog, slot: Slot, record: &MemberRecord) -> bool {
        self.unsound || has_lost(plan, slot, record)
    }

    /// Looks for what the store has lost. `noticed_at` is when this process noticed a loss by itself, if it has.
    pub(crate) fn look(
        &mut self,
        context: &Context,
        noticed_at: Option<Instant>,
        membership: &Membership,
        plan: &PlanLog,
        handoff: Option<&Handoff>,
    ) {
        let mut records = membership.members().filter_map(|(slot, member)| Some((slot, member.record()?)));
        self.unsound = records.any(|(slot, record)| has_lost(plan, slot, record));
        let patience = membership.longest_observed_lease();
        for (slot, tenure) in handoff.into_iter().flat_map(Handoff::tenures_with_partitions) {
            let in_other_life = tenure.begun().incarnation != membership.incarnation();
            // Each is waited for once: from when it was found out, however often the roll is called meanwhile.
            if (in_other_life || membership.was_forgotten(slot, tenure)) && self.forgotten.insert(tenure) {
                self.wait_until(context.now + patience);
            }
        }
        if let Some(until) = noticed_at.map(|at| at + patience).filter(|until| *until > context.now) {
            self.wait_until(until);
        }
        let known = core::mem::take(&mut self.unclear);
        let tenures = handoff.into_iter().flat_map(Handoff::tenures);
        let unclear = tenures.filter(|(slot, tenure)| is_unclear(membership, *slot, *tenure));
        self.unclear = unclear.map(|tenure| (tenure, known.get(&tenure).copied().unwrap_or(context.now))).collect();
    }

    /// Finds out what became of the tenures of which nothing certain is known. The store has forgotten one if it commits
    /// a write with a revision no higher than where the tenure began, and this worker knew of the tenure when it sent that
    /// write. Once any of them is clear, their slots are to be looked at again.
    pub(crate) fn clear_up(&mut self, lease: &Lease, membership: &mut Membership) -> Vec<Slot> {
        let incarnation = membership.incarnation();
        for ((slot, tenure), since) in &self.unclear {
            let written = lease.written_since(*since).map(|revision| Position { incarnation, revision });
            if written.is_some_and(|written| tenure.begun().has_reached(written)) {
                membership.forget(*slot, *tenure);
            }
        }
        if self.unclear.keys().all(|(slot, tenure)| is_unclear(membership, *slot, *tenure)) {
            return Vec::new();
        }
        core::mem::take(&mut self.unclear).into_keys().map(|(slot, _)| slot).collect()
    }

    /// Says so when the wait for everyone to have noticed a loss begins.
    pub(crate) fn tell(&mut self, outbox: &mut Outbox) {
        let waits = self.is_under_way();
        if !core::mem::replace(&mut self.told, waits) && waits {
            outbox.notice(Notice::Waiting { reason: WaitReason::StoreRegressed });
        }
    }

    /// Whether the leader waits for everyone to have noticed a loss.
    pub(crate) fn is_under_way(&self) -> bool {
        self.unsound || self.quarantine_until.is_some()
    }

    /// Whether it grants nothing because of that.
    pub(crate) fn grants_nothing(&self, context: &Context) -> bool {
        let unsound = self.unsound && !context.has(PlantedBug::GrantUnsound);
        let quarantine = self.quarantine_until.is_some() && !context.has(PlantedBug::GrantInQuarantine);
        (unsound || quarantine) && !context.has(PlantedBug::GrantWhileRecovering)
    }

    /// When the wait is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.quarantine_until
    }
}

/// Whether the worker has applied an assignment that the plan does not have.
fn has_lost(plan: &PlanLog, slot: Slot, record: &MemberRecord) -> bool {
    record.applied != Position::default() && plan.has_lost(slot, record.applied)
}

fn is_unclear(membership: &Membership, slot: Slot, tenure: Tenure) -> bool {
    membership.tenure_state(slot, tenure) == TenureState::Unclear
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::ids::{Incarnation, Instance, Revision};
    use crate::stored::key::Key;
    use crate::stored::record::Record;

    #[test]
    fn nothing_is_granted_for_a_lease_and_the_margin_after_a_loss_was_noticed() {
        let mut context = Context::at(Instant::ORIGIN);
        let (mut recovery, membership, plan) = (Recovery::default(), Membership::new(&context), PlanLog::default());
        recovery.look(&context, Some(context.now), &membership, &plan, None);
        assert!(recovery.grants_nothing(&context));
        let until = recovery.deadline().expect("it waits");
        assert_eq!(until, context.now + context.timing.observed_lease());
        assert!(!recovery.end_wait(context.now));
        context.now = until;
        assert!(recovery.end_wait(context.now) && !recovery.grants_nothing(&context));
    }

    #[test]
    fn nothing_is_granted_while_a_member_has_applied_what_the_plan_does_not_have_and_that_is_told_once() {
        let context = Context::at(Instant::ORIGIN);
        let (mut recovery, mut outbox) = (Recovery::default(), Outbox::default());
        let (mut membership, plan) = (Membership::new(&context), PlanLog::default());
        let applied = Position { incarnation: Incarnation::new(1), revision: Revision::new(9) };
        for (revision, applied, waits) in [(7, applied, true), (8, Position::default(), false)] {
            let record = Record::Member(Arc::new(MemberRecord { applied, ..MemberRecord::new(Instance::new(1)) }));
            membership.observe_entry(&context, Key::Slot(Slot::new(3)), Revision::new(revision), &record, true);
            recovery.look(&context, None, &membership, &plan, None);
            assert_eq!(recovery.grants_nothing(&context), waits);
            recovery.tell(&mut outbox);
            recovery.tell(&mut outbox);
            assert_eq!((outbox.pop().is_some(), outbox.pop()), (waits, None));
        }
    }
}
