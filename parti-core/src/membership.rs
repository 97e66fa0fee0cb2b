//! Who is alive, judged by revisions seen on this worker's own clock.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::config::{MAX_DURATION, observed_lease};
use crate::context::Context;
use crate::ids::{Incarnation, Instance, Position, Revision, Slot, Tenure};
use crate::key::{Bucket, Control, Key};
use crate::lease::is_lost_after;
use crate::planted::{Planted, PlantedBug};
use crate::record::{ControlRecord, LeaderRecord, MemberPhase, MemberRecord, Record};
use crate::time::{Instant, earliest};
use crate::wishes::Wishes;

/// This worker's view of the `members` bucket: as much of it as it watches.
///
/// It may lag and it may have gaps; nothing is granted or taken on its strength without a conditional write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    slots: BTreeMap<Slot, Member>,
    leader: LeaderKey,
    /// Whether the leader record was shown since the last complete listing began.
    leader_shown: bool,
    /// How many listings in a row have not shown it.
    leader_doubts: u32,
    /// What a conditional write has shown not to be in the store any more, although nothing newer was seen.
    refused: BTreeSet<Key>,
    /// The tenures whose beginning the store has certainly lost.
    forgotten: BTreeSet<(Slot, Tenure)>,
    /// The slots with garbage under them: neither a record of this version nor of a newer one.
    garbled: BTreeSet<Slot>,
    /// When everything should be listed anew because of a refusal, or because a listing has not shown what was there before.
    reading_at: Option<Instant>,
    /// The longest wait for a silent holder that any record has asked for.
    longest_observed_lease: Duration,
    planted: Planted,
    wishes: Wishes,
    incarnation: Incarnation,
    /// The highest revision of the bucket that was seen.
    newest: Revision,
    /// Silence before this instant proves nothing: this worker could not have heard it broken.
    deaf_until: Instant,
    /// The slot of which that does not hold.
    always_heard: Option<Slot>,
    /// No lease runs out before this instant; a lower bound, made exact when it is reached.
    next_expiry: Option<Instant>,
    /// Grows whenever something other than a renewal or an acknowledgement is seen.
    changes: u64,
}

/// The last that was seen under `slot.<n>`.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) revision: Revision,
    pub(crate) content: MemberContent,
    /// When this revision arrived here.
    pub(crate) observed_at: Instant,
    /// For how long the holder may be silent before it has certainly stopped: the lease by which it acts, and the margin.
    pub(crate) observed_lease: Duration,
    /// Whether this is garbage, and the holder before it has certainly stopped: its tenure is over, since nobody can
    /// renew what nobody can read.
    pub(crate) broken: bool,
    /// Whether a write was seen since this worker began to listen, or the process has answered a probe.
    pub(crate) heard: bool,
    /// When another process went on in this tenure in place of one that had not said that it stops, if that was seen.
    pub(crate) replaced_at: Option<Instant>,
    /// The revision that was shown since the last complete listing began; lower than what is known if the listing is
    /// stale or the store has lost writes.
    shown: Option<Revision>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberContent {
    Record(Arc<MemberRecord>),
    /// A delete marker: whatever tenure was there has ended.
    Deleted,
    /// Something that this version cannot read, and leaves alone.
    Unreadable {
        /// Whether it is from a newer version, whose worker may go on with it.
        newer: bool,
    },
}

/// What a worker's record says that it did not say before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberNews {
    /// Nothing: it is a plain renewal, or was known.
    None,
    /// The same process goes on as before, and has applied or released something.
    Acknowledged,
    /// Something else, such as another process.
    Changed,
}

/// The last that was seen under `leader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LeaderKey {
    /// Never written, as far as this worker knows.
    #[default]
    Absent,
    Deleted {
        revision: Revision,
    },
    Held {
        revision: Revision,
        record: LeaderRecord,
    },
    /// Something that this version cannot read.
    Unreadable {
        revision: Revision,
        /// Whether it is from a newer version.
        newer: bool,
        /// When this revision arrived here.
        seen_at: Instant,
    },
}

/// What is known of a tenure that a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TenureState {
    /// The slot's record continues it.
    Continues,
    /// It has ended, and never returns.
    Ended,
    /// No record was seen, or only that an earlier one was deleted. That proves nothing.
    NoRecord,
    /// What was seen is older than the tenure, or cannot be read.
    Unclear,
}

impl Member {
    pub(crate) fn record(&self) -> Option<&Arc<MemberRecord>> {
        match &self.content {
            MemberContent::Record(record) => Some(record),
            MemberContent::Deleted | MemberContent::Unreadable { .. } => None,
        }
    }
}

impl LeaderKey {
    pub(crate) fn revision(self) -> Revision {
        match self {
            Self::Absent => Revision::default(),
            Self::Deleted { revision } | Self::Held { revision, .. } | Self::Unreadable { revision, .. } => revision,
        }
    }

    pub(crate) fn record(self) -> Option<LeaderRecord> {
        match self {
            Self::Held { record, .. } => Some(record),
            Self::Absent | Self::Deleted { .. } | Self::Unreadable { .. } => None,
        }
    }
}

impl Membership {
    /// The view of a worker that has seen nothing yet.
    pub(crate) fn new(context: &Context) -> Self {
        Self { longest_observed_lease: context.timing.observed_lease(), planted: context.planted, ..Self::default() }
    }

    /// The store has lost writes: of what was seen, only the longest lease is still believed.
    pub(crate) fn forget_all(&mut self, context: &Context) {
        let longest_observed_lease = self.longest_observed_lease;
        *self = Self { longest_observed_lease, ..Self::new(context) };
    }

    /// The shortest wait for a silent holder that any record asks for now. O(members).
    pub(crate) fn shortest_observed_lease(&self) -> Duration {
        let held = self.slots.values().filter(|member| member.record().is_some());
        held.map(|member| member.observed_lease).min().unwrap_or(Duration::MAX)
    }

    /// How long to wait until everyone who was here has stopped or renewed, whoever that was.
    pub(crate) fn longest_observed_lease(&self) -> Duration {
        self.longest_observed_lease
    }

    /// For how long the writer of this may be silent. What cannot be read does not say: it is given as long as the one
    /// before it, or as anybody.
    fn observed_lease_of(&self, context: &Context, slot: Slot, seen: &MemberContent) -> Duration {
        // Where a record does not say by which lease its writer acts, that is as if it acted by this worker's own.
        let own = context.timing.observed_lease();
        match seen {
            MemberContent::Record(record) => match record.lease_ms {
                Some(_) if context.has(PlantedBug::JudgeByOwnLease) => own,
                Some(lease_ms) => observed_lease(Duration::from_millis(lease_ms).min(MAX_DURATION)),
                None => own,
            },
            MemberContent::Unreadable { .. } => {
                let before = self.slots.get(&slot).filter(|member| member.content != MemberContent::Deleted);
                before.map_or(self.longest_observed_lease, |member| member.observed_lease)
            }
            MemberContent::Deleted => own,
        }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (Slot, &Member)> {
        self.slots.iter().map(|(slot, member)| (*slot, member))
    }

    /// Those from one slot to another, both included.
    pub(crate) fn members_between(&self, first: Slot, last: Slot) -> impl Iterator<Item = (Slot, &Member)> {
        self.slots.range(first..=last).map(|(slot, member)| (*slot, member))
    }

    /// The revision of the slot's record that the listing under way, or the last one, has shown.
    pub(crate) fn shown(&self, slot: Slot) -> Option<Revision> {
        self.slots.get(&slot).and_then(|member| member.shown)
    }

    pub(crate) fn member(&self, slot: Slot) -> Option<&Member> {
        self.slots.get(&slot)
    }

    /// The tenure of a member's record: named in it, or by its own revision if it began the tenure.
    pub(crate) fn tenure_of(&self, member: &Member) -> Option<Tenure> {
        let written_at = Position { incarnation: self.incarnation, revision: member.revision };
        let tenure = member.record().map(|record| record.tenure_if_written(written_at));
        let unnamed = self.planted.has(PlantedBug::TenureByRevision);
        tenure.map(|tenure| if unnamed { tenure.with_writer(0) } else { tenure })
    }

    /// Whether the record of the slot that leads continues the tenure that leads.
    pub(crate) fn leader_continues(&self) -> bool {
        let leader = self.leader.record();
        leader.is_some_and(|held| self.tenure_state(held.slot, held.tenure) == TenureState::Continues)
    }

    pub(crate) fn leader(&self) -> LeaderKey {
        self.leader
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The highest revision of the bucket that was seen.
    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Grows whenever something other than a renewal or an acknowledgement is seen.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes in what a watch shows. Older news than what is known is ignored.
    pub(crate) fn observe_entry(
        &mut self,
        context: &Context,
        key: Key,
        revision: Revision,
        record: &Record,
        live: bool,
    ) -> MemberNews {
        if key.bucket() == Bucket::Members {
            self.newest = self.newest.max(revision);
        }
        match (key, record) {
            (Key::Slot(slot), Record::Member(record)) => {
                return self.observe_slot(context, slot, revision, MemberContent::Record(Arc::clone(record)), live);
            }
            (Key::Leader, Record::Leader(record)) => {
                self.observe_leader(LeaderKey::Held { revision, record: *record });
            }
            (Key::Control(control), Record::Control(record)) => {
                self.observe_control(control, revision, Some(Arc::clone(record)));
            }
            (Key::Slot(_) | Key::Leader | Key::Control(_) | Key::Assign(_) | Key::Cluster, _) => {}
        }
        MemberNews::None
    }

    pub(crate) fn observe_deleted(&mut self, context: &Context, key: Key, revision: Revision) {
        match key {
            Key::Slot(slot) => {
                self.observe_slot(context, slot, revision, MemberContent::Deleted, true);
            }
            Key::Leader => self.observe_leader(LeaderKey::Deleted { revision }),
            Key::Control(control) => self.observe_control(control, revision, None),
            Key::Assign(_) | Key::Cluster => {}
        }
    }

    pub(crate) fn observe_unreadable(&mut self, context: &Context, key: Key, revision: Revision, newer: bool) {
        match key {
            Key::Slot(slot) => {
                self.observe_slot(context, slot, revision, MemberContent::Unreadable { newer }, true);
            }
            Key::Leader => self.observe_leader(LeaderKey::Unreadable { revision, newer, seen_at: context.now }),
            // A wish that cannot be read is not acted on; what was wanted before it no longer holds.
            Key::Control(control) => self.observe_control(control, revision, None),
            Key::Assign(_) | Key::Cluster => {}
        }
    }

    fn observe_slot(
        &mut self,
        context: &Context,
        slot: Slot,
        revision: Revision,
        seen: MemberContent,
        live: bool,
    ) -> MemberNews {
        let refused = self.refused.contains(&Key::Slot(slot));
        if let Some(known) = self.slots.get_mut(&slot)
            && (revision == known.revision && seen == known.content || revision < known.revision && !refused)
        {
            known.shown = Some(revision);
            return MemberNews::None;
        }
        if refused {
            self.refused.remove(&Key::Slot(slot));
        }
        let observed_lease = self.observed_lease_of(context, slot, &seen);
        self.longest_observed_lease = self.longest_observed_lease.max(observed_lease);
        let member = Member {
            revision,
            content: seen,
            observed_at: context.now,
            observed_lease,
            heard: live,
            shown: Some(revision),
            broken: false,
            replaced_at: None,
        };
        let replaced_at = self.replaced_at(self.slots.get(&slot), &member);
        let member = Member { replaced_at, ..member };
        match member.content {
            MemberContent::Unreadable { newer: false } => self.garbled.insert(slot),
            MemberContent::Record(_) | MemberContent::Deleted | MemberContent::Unreadable { newer: true } => {
                self.garbled.remove(&slot)
            }
        };
        let news = self.news_of(self.slots.get(&slot), &member);
        self.slots.insert(slot, member);
        if news == MemberNews::Changed {
            self.changes += 1;
            self.next_expiry = None;
        }
        news
    }

    fn observe_leader(&mut self, seen: LeaderKey) {
        let known = self.leader.revision();
        if seen.revision() > known || seen.revision() < known && self.refused.remove(&Key::Leader) {
            self.leader = seen;
            self.changes += 1;
        }
        self.leader_shown |= seen.revision() == self.leader.revision();
    }

    fn observe_control(&mut self, control: Control, revision: Revision, record: Option<Arc<ControlRecord>>) {
        if self.wishes.observe(control, revision, record) {
            self.changes += 1;
        }
    }

    /// The record of an operator's wish, and the write that made it, if it holds.
    pub(crate) fn control(&self, control: Control) -> Option<(Revision, &ControlRecord)> {
        self.wishes.get(control)
    }

    /// Whether an operator wants this.
    pub(crate) fn is_wanted(&self, control: Control) -> bool {
        self.control(control).is_some()
    }

    /// What operators want now, in order.
    pub(crate) fn controls(&self) -> impl Iterator<Item = Control> {
        self.wishes.all()
    }

    /// How long a worker that is gone is to be waited for, while there is a maintenance.
    pub(crate) fn maintenance_hold(&self) -> Option<Duration> {
        let (_, record) = self.control(Control::Maintenance)?;
        Some(record.hold_ms.map_or(Duration::MAX, Duration::from_millis))
    }

    /// A process has answered a probe, so it is there. True if it had not been heard of.
    pub(crate) fn observe_answered(&mut self, slot: Slot, instance: Instance) -> bool {
        let member = self.slots.get_mut(&slot);
        let member = member.filter(|member| member.record().is_some_and(|record| record.instance == instance));
        member.is_some_and(|member| !core::mem::replace(&mut member.heard, true))
    }

    /// A complete listing begins. What is known is kept: a record that still has the revision seen long ago has not been
    /// renewed since.
    pub(crate) fn begin_listing(&mut self) {
        self.slots.values_mut().for_each(|member| member.shown = None);
        self.wishes.begin_listing();
        self.leader_shown = false;
        self.reading_at = None;
    }

    /// A complete listing of the keys that `covers` names ends. It may be stale: a record that it has not shown is not
    /// there any more if nothing was seen of its slot for the observed lease, or a conditional write says so. If it has
    /// shown an older one instead, that is read again, and believed.
    pub(crate) fn end_listing(&mut self, context: &Context, incarnation: Incarnation, covers: impl Fn(Key) -> bool) {
        let before = (self.slots.len(), self.leader);
        let refused = core::mem::take(&mut self.refused);
        let lives =
            |key, member: &Member| context.now < member.observed_at + member.observed_lease && !refused.contains(&key);
        let stays = |key, member: &Member| member.shown.is_some() || !covers(key) || lives(key, member);
        self.slots.retain(|slot, member| stays(Key::Slot(*slot), member));
        self.garbled.retain(|slot| self.slots.contains_key(slot));
        let is_shown = |member: &Member| member.shown == Some(member.revision);
        let unshown = self.slots.iter().filter(|(slot, member)| !is_shown(member) && covers(Key::Slot(**slot)));
        let (live, lost): (Vec<_>, Vec<_>) =
            unshown.partition(|(_, member)| context.now < member.observed_at + member.observed_lease);
        let silent_at = live.iter().map(|(_, member)| member.observed_at + member.observed_lease).max();
        self.refused = lost.iter().map(|(slot, _)| Key::Slot(**slot)).collect();
        let lost_at = lost.first().map(|_| context.now + context.timing.retry);
        let lost_wishes = self.wishes.end_listing(|control| covers(Key::Control(control)));
        let doubted_at = self.wishes.are_doubtful().then(|| context.now + context.timing.retry);
        self.reading_at = earliest([silent_at, lost_at, doubted_at]);
        if refused.contains(&Key::Leader) && !self.leader_shown {
            self.leader = LeaderKey::Absent;
        }
        self.doubt_leader(context, covers(Key::Leader));
        if before != (self.slots.len(), self.leader) || lost_wishes {
            self.changes += 1;
        }
        self.incarnation = incarnation;
        self.next_expiry = None;
    }

    /// What one listing does not show of the leader record may be news to a replica that lags; what several in a row do not
    /// show, the store has lost.
    fn doubt_leader(&mut self, context: &Context, covered: bool) {
        if self.leader_shown || !covered || self.leader == LeaderKey::Absent {
            self.leader_doubts = 0;
            return;
        }
        self.leader_doubts += 1;
        if is_lost_after(context, self.leader_doubts) {
            self.refused.insert(Key::Leader);
        }
        self.read_by(context.now + context.timing.retry);
    }

    /// A write on the revision of `key` that was thought to be the last was refused. If the last listing did not show
    /// that revision, then a later write is on its way here, or the store has lost this one: it is read anew, and
    /// believed even if it shows less.
    pub(crate) fn observe_refused(&mut self, context: &Context, key: Key, expected: Revision) {
        let doubtful = match key {
            Key::Slot(slot) => self
                .slots
                .get(&slot)
                .is_some_and(|member| member.revision == expected && member.shown != Some(expected)),
            Key::Leader => self.leader.revision() == expected && !self.leader_shown,
            Key::Control(_) | Key::Assign(_) | Key::Cluster => false,
        };
        if doubtful && !context.has(PlantedBug::NeverBelieve) {
            self.refused.insert(key);
            self.reading_at = Some(Instant::ORIGIN);
        }
    }

    /// Whether everything should be listed anew. Asking counts as reading.
    pub(crate) fn take_reading(&mut self, now: Instant) -> bool {
        self.reading_at.take_if(|at| *at <= now).is_some()
    }

    /// Everything is to be listed anew at this time, if not before.
    pub(crate) fn read_by(&mut self, at: Instant) {
        self.reading_at = Some(self.reading_at.map_or(at, |before| before.min(at)));
    }

    /// When everything should be listed anew.
    pub(crate) fn reading_at(&self) -> Option<Instant> {
        self.reading_at
    }

    /// Silence up to now proves nothing: this worker was cut off, could not write itself, or was not to judge others.
    /// It does prove something of `except`, which this worker has watched all the time.
    pub(crate) fn start_anew(&mut self, context: &Context, except: Option<Slot>) {
        if context.has(PlantedBug::JudgeByOldSilence) {
            return;
        }
        self.deaf_until = context.now;
        self.always_heard = except;
        self.next_expiry = None;
    }

    /// Since when the holder of this record has been silent in a way that this worker could have heard broken.
    pub(crate) fn silent_since(&self, slot: Slot, member: &Member) -> Instant {
        if self.always_heard == Some(slot) { member.observed_at } else { member.observed_at.max(self.deaf_until) }
    }

    /// When the holder of this record has certainly stopped if nothing more is heard of it.
    pub(crate) fn silent_for_good_at(&self, slot: Slot, member: &Member) -> Instant {
        self.silent_since(slot, member) + member.observed_lease
    }

    /// How many workers have not been heard for their lease and the margin, be it proof or not, and how many there are in
    /// all; those that have said that they restart count as neither. O(members).
    pub(crate) fn unheard(&self, now: Instant) -> (usize, usize) {
        let working = |member: &&Member| member.record().is_some_and(|record| record.phase != MemberPhase::Restarting);
        let unheard = |member: &&Member| now >= member.observed_at + member.observed_lease;
        let workers = || self.slots.values().filter(working);
        (workers().filter(unheard).count(), workers().count())
    }

    /// Whether the holder of the slot's record has stopped acting: its lease and the margin have passed without a renewal.
    pub(crate) fn has_expired(&self, now: Instant, slot: Slot) -> bool {
        let member = self.slots.get(&slot).filter(|member| member.content != MemberContent::Deleted);
        member.is_some_and(|member| now >= self.silent_for_good_at(slot, member))
    }

    /// The slots where garbage has taken the place of a record whose holder has stopped since: their tenures end here.
    /// It is left where it is. Nobody can go on from it, as a worker of a newer version could from a record of its own.
    pub(crate) fn end_garbled(&mut self, context: &Context) -> Vec<Slot> {
        let is_over = |slot: &Slot| self.slots.get(slot).is_some_and(|member| !member.broken);
        let at_once = context.has(PlantedBug::GarbageEndsTenure);
        let over = |slot: &Slot| is_over(slot) && (at_once || self.has_expired(context.now, *slot));
        let ended: Vec<Slot> = self.garbled.iter().copied().filter(over).collect();
        for slot in &ended {
            if let Some(member) = self.slots.get_mut(slot) {
                member.broken = true;
            }
            self.changes += 1;
        }
        ended
    }

    /// When the next tenure ends that garbage has broken.
    pub(crate) fn garbled_until(&self) -> Option<Instant> {
        let members = self.garbled.iter().filter_map(|slot| Some((*slot, self.slots.get(slot)?)));
        members.filter(|(_, member)| !member.broken).map(|(slot, member)| self.silent_for_good_at(slot, member)).min()
    }

    /// When a leader record that cannot be read no longer keeps others from leading; none if there is none. Nobody renews
    /// that record. But where it is from a newer version, a worker of that version that renews its own may lead by it.
    pub(crate) fn unread_leader_until(&self) -> Option<Instant> {
        let LeaderKey::Unreadable { newer, seen_at, .. } = self.leader else { return None };
        let newer_record = |member: &Member| member.content == MemberContent::Unreadable { newer: true };
        let newcomers = self.slots.iter().filter(|(_, member)| newer && newer_record(member));
        let silent_at = newcomers.map(|(slot, member)| self.silent_for_good_at(*slot, member));
        silent_at.chain([seen_at.max(self.deaf_until) + self.longest_observed_lease]).max()
    }

    /// The slots whose lease has run out and whose holders have not said that they restart. O(1) most of the time.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Slot> {
        if self.next_expiry.is_some_and(|next| now < next) {
            return Vec::new();
        }
        let active = |member: &Member| member.record().is_some_and(|record| record.phase != MemberPhase::Restarting);
        let expiries = self.slots.iter().filter(|(_, member)| active(member));
        let expiries = expiries.map(|(slot, member)| (*slot, self.silent_for_good_at(*slot, member)));
        let (expired, alive): (Vec<_>, Vec<_>) = expiries.partition(|(_, at)| *at <= now);
        self.next_expiry = if expired.is_empty() { alive.iter().map(|(_, at)| *at).min() } else { None };
        expired.into_iter().map(|(slot, _)| slot).collect()
    }

    /// When [`expired`](Self::expired) should be asked again, if it was asked.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// What is known of `tenure` of `slot`.
    pub(crate) fn tenure_state(&self, slot: Slot, tenure: Tenure) -> TenureState {
        let Some(member) = self.slots.get(&slot) else {
            let ended = self.planted.has(PlantedBug::AbsenceIsEnd);
            return if ended { TenureState::Ended } else { TenureState::NoRecord };
        };
        let begun = tenure.begun();
        let is_known = self.incarnation != Incarnation::default();
        let (same_life, other_life) =
            (begun.incarnation == self.incarnation, is_known && begun.incarnation != self.incarnation);
        match (&member.content, self.tenure_of(member)) {
            (MemberContent::Record(_), Some(seen)) if seen == tenure => TenureState::Continues,
            // A tenure is unbroken: what was written after its beginning and does not continue it has followed it.
            (MemberContent::Record(_) | MemberContent::Deleted, _) if same_life && member.revision > begun.revision => {
                TenureState::Ended
            }
            (MemberContent::Unreadable { .. }, _) if member.broken && same_life && member.revision > begun.revision => {
                TenureState::Ended
            }
            _ if self.forgotten.contains(&(slot, tenure)) => TenureState::Ended,
            // What is written in this life of the bucket does not continue what began in another one.
            _ if other_life => TenureState::Ended,
            (MemberContent::Record(_) | MemberContent::Unreadable { .. }, _) => TenureState::Unclear,
            (MemberContent::Deleted, _) => TenureState::NoRecord,
        }
    }

    /// The store has certainly forgotten how `tenure` of `slot` began.
    pub(crate) fn forget(&mut self, slot: Slot, tenure: Tenure) {
        self.forgotten.insert((slot, tenure));
    }

    /// Whether the store has forgotten how `tenure` of `slot` began: what is there instead began before, or with the same
    /// revision.
    pub(crate) fn was_forgotten(&self, slot: Slot, tenure: Tenure) -> bool {
        let seen = self.slots.get(&slot).and_then(|member| self.tenure_of(member));
        let is_older = seen.is_some_and(|seen| seen != tenure && !seen.begun().is_after(tenure.begun()));
        self.forgotten.contains(&(slot, tenure)) || is_older && self.tenure_state(slot, tenure) == TenureState::Ended
    }

    /// When a process that had not said that it stops was last replaced in the tenure of this record. A listing tells only
    /// where what was known before is no older than a lease.
    fn replaced_at(&self, before: Option<&Member>, after: &Member) -> Option<Instant> {
        let before = before.filter(|before| self.tenure_of(before) == self.tenure_of(after))?;
        let (was, is) = (before.record()?, after.record()?);
        let lately = after.heard || after.observed_at < before.observed_at + before.observed_lease;
        let replaced = was.instance != is.instance && was.phase != MemberPhase::Restarting;
        if replaced && lately { Some(after.observed_at) } else { before.replaced_at }
    }

    /// What `after` says that `before` did not.
    fn news_of(&self, before: Option<&Member>, after: &Member) -> MemberNews {
        let tenures = (before.and_then(|member| self.tenure_of(member)), self.tenure_of(after));
        let (Some(before), Some(after)) = (before.and_then(Member::record), after.record()) else {
            return MemberNews::Changed;
        };
        let goes_on = tenures.0 == tenures.1
            && before.instance == after.instance
            && before.phase == after.phase
            && before.capacity == after.capacity
            && before.labels == after.labels
            && before.unwanted == after.unwanted
            && before.shared == after.shared;
        match goes_on {
            false => MemberNews::Changed,
            true if before.applied == after.applied && before.releasing == after.releasing => MemberNews::None,
            true => MemberNews::Acknowledged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot::new(3);

    fn position(revision: u64) -> Position {
        Position { incarnation: Incarnation::new(1), revision: Revision::new(revision) }
    }

    /// What is known of a tenure that began with revision 10, by something else that was written under its slot.
    fn known_by(revision: u64, see: impl Fn(&mut Membership, &Context, Revision)) -> TenureState {
        let mut context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        membership.end_listing(&context, Incarnation::new(1), |_| true);
        see(&mut membership, &context, Revision::new(revision));
        context.now = context.now + context.timing.observed_lease() * 2;
        membership.end_garbled(&context);
        membership.tenure_state(SLOT, Tenure::new(position(10)))
    }

    #[test]
    fn what_is_older_than_a_tenure_does_not_end_it_and_what_is_later_does() {
        let record = |membership: &mut Membership, context: &_, revision| {
            let record = Record::Member(Arc::new(MemberRecord::new(Instance::new(1))));
            membership.observe_entry(context, Key::Slot(SLOT), revision, &record, true);
        };
        let marker = |membership: &mut Membership, context: &_, revision| {
            membership.observe_deleted(context, Key::Slot(SLOT), revision);
        };
        let garbage = |membership: &mut Membership, context: &_, revision| {
            membership.observe_unreadable(context, Key::Slot(SLOT), revision, false);
        };
        assert_eq!(known_by(9, record), TenureState::Unclear);
        assert_eq!(known_by(9, marker), TenureState::NoRecord);
        assert_eq!(known_by(9, garbage), TenureState::Unclear);
        assert_eq!(known_by(11, record), TenureState::Ended);
        assert_eq!(known_by(11, marker), TenureState::Ended);
        assert_eq!(known_by(11, garbage), TenureState::Ended);
    }

    #[test]
    fn garbage_ends_a_tenure_only_when_its_holder_has_certainly_stopped() {
        let mut context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        membership.observe_unreadable(&context, Key::Slot(SLOT), Revision::new(11), false);
        let over = Instant::ORIGIN + context.timing.observed_lease();
        let just_before = Instant::from_nanos(over.as_nanos() - 1);
        context.now = just_before;
        assert_eq!(membership.end_garbled(&context), []);
        context.now = over;
        assert_eq!(membership.end_garbled(&context), [SLOT]);
    }
}
