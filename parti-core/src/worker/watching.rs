//! What a worker watches of each bucket.

use super::mind::{Mind, Standing};
use super::stopping::Parting;
use crate::ids::{Revision, WatchId};
use crate::key::{Bucket, Interest, Key};
use crate::membership::LeaderKey;
use crate::outbox::Outbox;
use crate::time::Instant;

/// The way to the store, and what this worker watches of it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) connected: bool,
    /// Whether the connection was lost, and the members have not been listed since: a store that has lost writes may have
    /// given the revision of this worker's last one to another process.
    pub(super) was_cut_off: bool,
    pub(super) members: Option<Watched>,
    pub(super) plan: Option<Watched>,
    /// When to list the plan again, since the last listing has shown less than was applied.
    pub(super) read_plan_at: Option<Instant>,
}

impl Default for Link {
    fn default() -> Self {
        Self { connected: true, was_cut_off: false, members: None, plan: None, read_plan_at: None }
    }
}

/// A watch of one bucket.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) watch: WatchId,
    /// Up to which revision it has shown everything; none before the first complete listing.
    pub(super) listed_to: Option<Revision>,
    pub(super) interest: Interest,
    needs: Needs,
}

/// The keys of a bucket that a role needs to see. It is compared after every event, and so costs nothing to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    All,
    Keys([Option<Key>; 3]),
}

impl Needs {
    /// Whether a watch for these will do for others: it may show some keys more, but not all.
    fn will_do_for(self, others: Self) -> bool {
        match (self, others) {
            (Self::All, Self::All) => true,
            (Self::Keys(keys), Self::Keys(others)) => others.iter().flatten().all(|other| keys.contains(&Some(*other))),
            (Self::All, Self::Keys(_)) | (Self::Keys(_), Self::All) => false,
        }
    }
}

impl Watched {
    fn open(bucket: Bucket, needs: Needs, outbox: &mut Outbox) -> Self {
        let interest = match needs {
            Needs::All => Interest::All,
            Needs::Keys(keys) => Interest::Keys(keys.into_iter().flatten().collect()),
        };
        Self { watch: outbox.watch(bucket, interest.clone()), listed_to: None, interest, needs }
    }

    /// Everything up to this revision has been shown. True if nothing was before.
    pub(super) fn observe_listed(&mut self, last: Revision) -> bool {
        let is_first = self.listed_to.is_none();
        self.listed_to = self.listed_to.max(Some(last));
        is_first
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed_to.is_some()
    }

    /// Whether every key has been listed.
    pub(super) fn has_listed_all(&self) -> bool {
        self.is_listed() && self.interest == Interest::All
    }

    /// Whether every key has been listed, but not as far as this revision.
    pub(super) fn is_behind(&self, revision: Revision) -> bool {
        self.has_listed_all() && self.listed_to < Some(revision)
    }
}

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
            self.plan.begin_listing();
            self.link.plan = Some(Watched::open(Bucket::Plan, needs, outbox));
        }
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
