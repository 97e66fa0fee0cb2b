//! What a worker watches of each bucket.

use super::departure::Parting;
use super::link::{Needs, Watched};
use super::mind::{Mind, Standing};
use crate::member::membership::LeaderKey;
use crate::outbox::Outbox;
use crate::stored::key::{Bucket, Key};

impl Mind {
    /// Watches as much of each bucket as this worker's role needs, and reads anew what is in doubt.
    pub(super) fn watch_what_matters(&mut self, outbox: &mut Outbox) {
        if self.halted {
            return;
        }
        let doubt = match &mut self.standing {
            Standing::Seeking(search) => search.take_reading(self.context.now),
            Standing::Holding(lease) => lease.take_reading(&self.context),
        };
        let doubt = self.membership.take_reading(self.context.now) || doubt;
        let needs = self.members_needs();
        if self.link.members.as_ref().is_none_or(|watched| !watched.needs.will_do_for(needs) || doubt) {
            self.membership.begin_listing();
            self.link.members = Some(Watched::open(Bucket::Members, needs, outbox));
            if self.link.was_cut_off && self.link.connected {
                // Nothing is renewed before it is listed: a store that did not answer at first is soon asked again.
                let patience =
                    if needs == Needs::All { self.context.timing.renewal } else { self.context.timing.retry };
                self.membership.read_by(self.context.now + patience);
            }
        }
        let Some(needs) = self.plan_needs() else { return };
        // A leader, or who is about to be one, needs no second look: its next append tells.
        let due = self.link.read_plan_at.take_if(|at| *at <= self.context.now).is_some()
            && !self.leadership.needs_everything();
        if self.link.plan.as_ref().is_none_or(|watched| watched.needs != needs || due) {
            self.begin_plan_listing();
            self.link.plan = Some(Watched::open(Bucket::Plan, needs, outbox));
        }
    }

    /// What a listing that was broken off has shown says nothing of what the next one shows.
    pub(super) fn begin_plan_listing(&mut self) {
        self.plan.begin_listing();
        self.ownership.begin_listing();
    }

    /// Everyone, for who seeks a slot, leads, or leaves; else the leader and this worker.
    fn members_needs(&self) -> Needs {
        let leaves = self.departure.stop.is_some_and(|stop| stop.parting == Parting::Leave);
        // Whether anybody may lead by a record of a newer version, only the records of all workers tell.
        let unread = matches!(self.membership.leader(), LeaderKey::Unreadable { .. });
        let Some(lease) = self.lease().filter(|_| !leaves && !unread && !self.leadership.needs_everything()) else {
            return Needs::All;
        };
        let leader = self.membership.leader().record().map(|record| record.slot);
        let leader = leader.filter(|leader| *leader != lease.slot).map(Key::Slot);
        Needs::Keys([Some(Key::Leader), Some(Key::Slot(lease.slot)), leader])
    }

    /// The whole plan for who leads, this worker's own record for the rest.
    fn plan_needs(&self) -> Option<Needs> {
        let lease = self.lease()?;
        let all = self.leadership.needs_everything();
        Some(if all { Needs::All } else { Needs::Keys([Some(Key::Assign(lease.slot)), None, None]) })
    }
}
