//! How a worker comes to a slot, keeps it, and loses it.

use alloc::vec::Vec;

use super::departure::{Parting, Stop};
use super::mind::{Mind, Standing};
use crate::action::{ClaimKind, Notice};
use crate::ids::{Heard, Position, Revision};
use crate::leader::Leader;
use crate::member::lease::{Lease, WriteKind};
use crate::member::presence::Evidence;
use crate::member::slot::{self, SlotSearch, Won, is_own};
use crate::outbox::Outbox;
use crate::stored::key::{Bucket, Key};
use crate::stored::record::{MemberPhase, MemberRecord};
use crate::time::Instant;

impl Mind {
    pub(super) fn give_up_lost_slot(&mut self, outbox: &mut Outbox) {
        let Some(lease) = self.lease().filter(|lease| lease.is_lost()) else { return };
        let slot = lease.slot;
        let left = |stop: Stop| stop.parting == Parting::Leave && self.ownership.is_empty();
        if self.departure.stop.is_some_and(left) {
            // Its own deletion, whose outcome is still on its way, or a leader's: there is nothing left to do.
            return self.halt(outbox);
        }
        outbox.notice(Notice::SlotLost { slot });
        self.leadership.lose_slot(&mut self.plan, outbox);
        self.leader = None;
        self.ownership.cut_off(&self.context, outbox);
        if self.lease().is_some_and(Lease::is_forgotten) {
            self.notice_regression(Bucket::Members, "a committed renewal is gone", outbox);
        }
        self.seek_anew();
    }

    /// Claims a slot anew. Silence up to now proves nothing: this worker may have lost its slot because it was cut off.
    pub(super) fn seek_anew(&mut self) {
        self.membership.start_anew(&self.context, None);
        self.standing = Standing::Seeking(SlotSearch::default());
        self.link.members = None;
        self.link.plan = None;
        self.link.read_plan_at = None;
        self.loss.starting_over = false;
    }

    pub(super) fn seek_slot(&mut self, outbox: &mut Outbox) {
        let absent = self.is_absent();
        let Standing::Seeking(search) = &mut self.standing else { return };
        if !search.has_listened() {
            return;
        }
        let own = self.membership.members().find(|(_, member)| is_own(member, self.own.instance));
        // An earlier write of the record that is still on its way would be followed by another one.
        let own = own.filter(|(slot, _)| !outbox.is_writing(Key::Slot(*slot)));
        let had_begun = self.ownership.has_begun();
        let adopted = own
            .and_then(|(slot, member)| search.adopt(&self.context, slot, self.membership.tenure_of(member)?, member));
        if let Some(won) = adopted {
            self.take_slot(won, outbox);
            // Who has held it before lost it since: the store has forgotten that.
            self.loss.starting_over |= had_begun;
            return;
        }
        // Who cannot be present could work on nothing that it is given.
        let present = !self.context.timing.needs_presence || self.presence.evidence().is_some();
        if self.link.connected && !self.link.was_cut_off && self.departure.stop.is_none() && !absent && present {
            let Heard { era, generation } = self.ownership.heard();
            let (context, own, presence) = (&self.context, &self.own, &self.presence);
            let first = || MemberRecord { beat: own.beat + 1, ..own.record(context, presence, MemberPhase::Active) };
            let record = |tenure| MemberRecord { tenure, generation, era, ..first() };
            let claimed = search.is_claiming();
            let view = slot::Seeker {
                context: &self.context,
                membership: &self.membership,
                probing: &self.probing,
                dead: self.predecessor.dead,
                evidence: self.presence.evidence(),
                record: &record,
            };
            search.decide(&view, &mut self.rng, outbox);
            self.own.beat += u64::from(search.is_claiming() && !claimed);
        }
    }

    pub(super) fn take_slot(&mut self, won: Won, outbox: &mut Outbox) {
        // After a loss of writes a record that was there, and the assignment that names it, may be from before what was
        // lost: claims of the same tenure that came after it are forgotten, and their tokens would be given again.
        if won.shows_loss && !won.is_new {
            let detail = "a revision that was seen before is given again".into();
            outbox.notice(Notice::StoreRegressed { bucket: Bucket::Members, detail });
            self.loss.noticed_at = Some(self.context.now);
        }
        self.loss.starting_over = self.loss.noticed_at.is_some() && !won.is_new;
        outbox.notice(Notice::SlotClaimed { slot: won.lease.slot, how: won.kind });
        self.presence.start_over(won.evidence);
        self.ownership.begin(won.lease.tenure, won.applied, won.heard, outbox);
        self.loads.inherit(won.applied, won.load);
        let mut lease = won.lease;
        if self.presence.wants_renewal() {
            lease.renew_at_once(self.context.now);
        }
        self.standing = Standing::Holding(lease);
    }

    /// Another tenure has begun in the slot of this worker, which has given up everything. Its record was never gone: what
    /// it says of the newest plan is known to whoever leads meanwhile.
    pub(super) fn begin_anew(
        &mut self,
        revision: Revision,
        sent_at: Instant,
        evidence: Option<Evidence>,
        outbox: &mut Outbox,
    ) {
        let Some(slot) = self.lease().map(|lease| lease.slot) else { return };
        let written = Position { incarnation: self.membership.incarnation(), revision };
        let tenure =
            MemberRecord { beat: self.own.beat, ..MemberRecord::new(self.own.instance) }.tenure_if_written(written);
        self.seek_anew();
        let won = Won {
            lease: Lease::won(slot, tenure, revision, Some(sent_at), &self.context),
            is_new: true,
            kind: ClaimKind::Fresh,
            applied: Position::default(),
            heard: self.ownership.heard(),
            shows_loss: false,
            evidence,
            load: None,
        };
        self.take_slot(won, outbox);
    }

    pub(super) fn renew(&mut self, outbox: &mut Outbox) {
        let kind = self.write_kind();
        if kind == WriteKind::Renewal && self.is_absent() {
            return;
        }
        let Standing::Holding(lease) = &mut self.standing else { return };
        let urgent = kind != WriteKind::Renewal || self.ownership.has_news();
        // An earlier lease of the same slot may have left a write on its way.
        let blocked =
            !self.link.connected || self.link.was_cut_off || self.halted || outbox.is_writing(Key::Slot(lease.slot));
        if blocked || !lease.may_write(self.context.now, urgent) {
            return;
        }
        self.own.beat += 1;
        let phase = match (kind, self.departure.stop.map(|stop| stop.parting)) {
            (WriteKind::Restarting, _) => MemberPhase::Restarting,
            (WriteKind::Renewal | WriteKind::Anew | WriteKind::Deletion, Some(Parting::Leave)) => MemberPhase::Draining,
            (WriteKind::Renewal | WriteKind::Anew | WriteKind::Deletion, _) if self.departure.draining => {
                MemberPhase::Draining
            }
            (WriteKind::Renewal | WriteKind::Anew | WriteKind::Deletion, _) => MemberPhase::Active,
        };
        let (applied, releasing) = self.ownership.acknowledge();
        let planned = self.leader.as_ref().map(Leader::reached).unwrap_or_default();
        let Heard { era, generation } = self.ownership.heard().max(planned);
        let deputies = if self.leader.is_some() { self.own.deputies.clone() } else { Vec::new() };
        let unwanted = self.ownership.unwanted();
        let (list, limit) = (self.task.partitions.as_ref(), self.task.record_limit);
        let newest = self.ownership.newest();
        let load = match newest {
            Some(newest) => self.loads.tell(&self.context, newest, list, limit),
            None => self.loads.told(),
        };
        let record = self.own.record(&self.context, &self.presence, phase);
        let record = MemberRecord { generation, era, unwanted, deputies, load, ..record };
        let record = match kind {
            WriteKind::Anew => record,
            WriteKind::Renewal | WriteKind::Restarting | WriteKind::Deletion => {
                MemberRecord { tenure: Some(lease.tenure), applied, releasing, ..record }
            }
        };
        lease.write(self.context.now, kind, record, self.presence.evidence(), outbox);
    }

    /// What the next write of the member record is for.
    pub(super) fn write_kind(&self) -> WriteKind {
        if self.loss.starting_over && self.ownership.is_empty() {
            return if self.departure.stop.is_none() { WriteKind::Anew } else { WriteKind::Deletion };
        }
        let Some(stop) = self.departure.stop.filter(|_| self.ownership.is_empty()) else { return WriteKind::Renewal };
        match stop.parting {
            Parting::Restart => WriteKind::Restarting,
            Parting::Leave if stop.is_impatient(self.context.now) || self.is_alone() => WriteKind::Deletion,
            // What is still assigned is for the leader to take away, or others would wait for it in vain.
            Parting::Leave if self.ownership.assignment().is_none_or(|assignment| assignment.owned.is_empty()) => {
                WriteKind::Deletion
            }
            Parting::Leave => WriteKind::Renewal,
        }
    }

    /// Whether others would take this process for gone for as long as a lease lasts. Who stops has more to say, though.
    pub(super) fn is_absent(&self) -> bool {
        self.departure.stop.is_none() && self.presence.is_absent(&self.context)
    }
}
