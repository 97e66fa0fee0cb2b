//! When a worker must not work for now, and when it may again.

use super::link::Watched;
use super::mind::{Mind, Standing};
use crate::action::SuspendReason;
use crate::config::Mode;
use crate::member::lease::Lease;
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::time::Instant;

impl Mind {
    /// Asks itself whether it is still where others would look for it, where they may act on that.
    pub(super) fn check_presence(&mut self, outbox: &mut Outbox) {
        if self.link.connected {
            self.presence.decide(&self.context, outbox);
        }
    }

    /// Without a right to act, members are listed before the next renewal, and in `Strict` mode nothing is worked on.
    pub(super) fn suspend_if_expired(&mut self, outbox: &mut Outbox) {
        let Some(until) = self.right_until() else { return };
        self.doubt_own_record(until);
        if self.context.config.mode != Mode::Strict {
            return;
        }
        let expired = self.lease().filter(|lease| !lease.is_valid(self.context.now)).map(why_it_ran_out);
        match expired {
            Some(reason) if !self.context.has(PlantedBug::OutliveLease) => self.suspend(reason, outbox),
            None if !self.has_right() => self.suspend(SuspendReason::NotPresent, outbox),
            Some(_) | None => {}
        }
    }

    /// From the end of its right on, others may have taken this worker's place: a store that has lost writes may since have
    /// given the revision of its last one to another process.
    fn doubt_own_record(&mut self, until: Instant) {
        let is_over = self.context.now >= until && !self.context.has(PlantedBug::RenewUnlisted);
        if is_over && self.link.doubted_after.replace(until) != Some(until) {
            self.link.was_cut_off = true;
            self.link.members = None;
        }
    }

    /// All work stops, and what this worker is to hold is read anew before it goes on.
    fn suspend(&mut self, reason: SuspendReason, outbox: &mut Outbox) {
        // A leader looks again as well, and takes over anew: the bucket may have been made anew meanwhile, and have the
        // very revision that its next append expects.
        if !self.ownership.is_suspended() {
            self.link.plan = None;
        }
        self.ownership.suspend(reason, outbox);
    }

    /// Work goes on when a renewal shows that nobody has taken over, and what this worker was told to give up meanwhile
    /// has been seen: a store that has lost writes may have forgotten that it had ended the tenure, and still know whose
    /// the partitions are.
    pub(super) fn resume(&mut self, outbox: &mut Outbox) {
        if !matches!(self.standing, Standing::Holding(_)) || !self.ownership.is_suspended() {
            return;
        }
        // A reply that was slow to be heard may renew a lease that has run out again meanwhile.
        let may_act = self.link.connected && self.has_right();
        let told = self.link.plan.as_ref().is_some_and(Watched::is_listed) && !self.ownership.is_doubtful();
        let told = told || self.context.has(PlantedBug::ResumeUnread);
        if may_act && told {
            // First what is to be given up.
            self.work(outbox);
            self.ownership.resume(outbox);
            self.work(outbox);
        }
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        match &self.standing {
            Standing::Seeking(_) => None,
            Standing::Holding(lease) => Some(lease),
        }
    }

    /// Whether this worker may decide anything for others: it has a valid lease, hears and is heard, and need not doubt
    /// what it knows.
    pub(super) fn may_lead(&self) -> bool {
        let sure = self.link.connected && !self.ownership.is_suspended();
        sure && self.has_right()
    }

    /// Until when this worker may act, in `Strict` mode and for others: to the end of its lease, and of its presence where
    /// others may end its tenure early. None without a slot, or before it has had both.
    pub(super) fn right_until(&self) -> Option<Instant> {
        let lease = self.lease().and_then(Lease::until)?;
        let presence = self.context.timing.needs_presence && !self.context.has(PlantedBug::OutlivePresence);
        if presence { self.presence.until().map(|until| until.min(lease)) } else { Some(lease) }
    }

    /// Whether this worker may take what it is given: nobody may have ended its tenure, in whatever mode it goes on.
    pub(super) fn may_take(&self) -> bool {
        let present = self.presence.until().is_some_and(|until| self.context.now < until);
        let nobody_asks = self.context.timing.confirm.is_none() || self.context.has(PlantedBug::TakeAbsent);
        self.has_right() && (present || nobody_asks)
    }

    pub(super) fn has_right(&self) -> bool {
        let lost = self.lease().is_none_or(Lease::is_lost);
        !lost && self.right_until().is_some_and(|until| self.context.now < until)
    }
}

/// Why no renewal was committed in time.
pub(super) fn why_it_ran_out(lease: &Lease) -> SuspendReason {
    if lease.is_refused() { SuspendReason::WritesRefused } else { SuspendReason::LeaseRanOut }
}
