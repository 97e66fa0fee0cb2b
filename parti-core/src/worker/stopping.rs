//! How a worker stops: what it releases when, and for what it waits.

use super::departure::{Parting, Stop};
use super::link::Watched;
use super::mind::{Mind, Standing};
use crate::action::ReleaseReason;
use crate::config::Mode;
use crate::member::lease::Lease;
use crate::member::membership::{Member, MemberContent};
use crate::outbox::Outbox;
use crate::stored::record::MemberPhase;
use crate::time::{Instant, earliest};

impl Mind {
    /// Releases what is to be released before this worker can go.
    pub(super) fn advance_stop(&mut self, outbox: &mut Outbox) {
        let Some(mut stop) = self.departure.stop else { return };
        if self.is_store_away() {
            // Nobody can take over, and what is released now needs no release when the store is back.
            stop.patience_until = stop.patience_until.min(self.context.now);
            self.departure.stop = Some(stop);
        }
        let reason = match stop.parting {
            Parting::Restart => Some(ReleaseReason::Restarting),
            Parting::Leave if stop.is_impatient(self.context.now) || self.is_alone() => Some(ReleaseReason::Leaving),
            Parting::Leave => None,
        };
        let expired = self.lease().is_some_and(|lease| !lease.is_valid(self.context.now));
        match reason {
            // There is no right to any of it: nobody has time to finish.
            Some(_) if expired && self.context.config.mode == Mode::Strict => {
                self.ownership.cut_off(&self.context, outbox);
            }
            Some(reason) => self.ownership.release_all(&self.context, reason, outbox),
            None => {}
        }
        let searching = matches!(self.standing, Standing::Seeking(ref search) if !search.is_claiming());
        let gives_up = self.context.now >= stop.give_up_at;
        let nothing_left = self.ownership.is_empty() && (searching || self.has_nothing_to_tell());
        if gives_up && stop.cancelled || nothing_left {
            self.halt(outbox);
        } else if gives_up {
            // Both from now on: a process that was frozen may have told its application nothing before.
            self.ownership.cancel_all(outbox);
            self.departure.stop =
                Some(Stop { give_up_at: self.context.now + self.context.timing.last_wait, cancelled: true, ..stop });
        }
    }

    /// Whether writes do not get through, as far as this worker knows.
    fn is_store_away(&self) -> bool {
        !self.link.connected || self.lease().is_some_and(|lease| !lease.is_fresh(&self.context))
    }

    /// Whether the lease is over while writes do not get through: there is nothing to protect, and nobody to tell.
    fn has_nothing_to_tell(&self) -> bool {
        let Some(lease) = self.lease() else { return false };
        self.is_store_away() && lease.over_at(&self.context).map_or(!self.link.connected, |at| self.context.now >= at)
    }

    /// When a stop is to be looked at again if nothing happens.
    pub(super) fn stop_deadline(&self, stop: &Stop) -> Option<Instant> {
        let lease = self.lease();
        let fresh_until = lease.and_then(Lease::fresh_until);
        let over_at = lease.and_then(|lease| lease.over_at(&self.context));
        let later = |at: &Instant| *at > self.context.now;
        let patience = Some(stop.patience_until).filter(later);
        earliest([patience, Some(stop.give_up_at), fresh_until.filter(later), over_at.filter(later)])
    }

    /// Whether no other worker is there to take over, as far as the whole list of members tells.
    pub(super) fn is_alone(&self) -> bool {
        let Some(own) = self.lease().map(|lease| lease.slot) else { return true };
        let all_listed = self.link.members.as_ref().is_some_and(Watched::has_listed_all);
        let works = |slot| !self.membership.has_expired(self.context.now, slot);
        let others = self.membership.members().filter(|(slot, _)| *slot != own);
        let may_take_over = |member: &Member| match &member.content {
            MemberContent::Record(record) => record.phase == MemberPhase::Active,
            MemberContent::Unreadable { .. } => true,
            MemberContent::Deleted => false,
        };
        all_listed && !others.filter(|(_, member)| may_take_over(member)).map(|(slot, _)| slot).any(works)
    }
}
