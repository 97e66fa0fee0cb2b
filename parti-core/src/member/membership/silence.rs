//! Who is silent, for how long, and since when that means something.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{LeaderKey, Member, MemberContent, Membership};
use crate::config::{MAX_DURATION, observed_lease};
use crate::context::Context;
use crate::ids::Slot;
use crate::planted::PlantedBug;
use crate::stored::record::MemberPhase;
use crate::time::{Duration, Instant};

/// What silence is judged by.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Silence {
    /// The slots with garbage under them: neither a record of this version nor of a newer one.
    pub(super) garbled: BTreeSet<Slot>,
    /// The longest wait for a silent holder that any record has asked for.
    pub(super) longest_observed_lease: Duration,
    /// Silence before this instant proves nothing: this worker could not have heard it broken.
    deaf_until: Instant,
    /// The slot of which that does not hold.
    always_heard: Option<Slot>,
    /// No lease runs out before this instant; a lower bound, made exact when it is reached.
    pub(super) next_expiry: Option<Instant>,
}

impl Silence {
    pub(super) fn new(context: &Context) -> Self {
        Self { longest_observed_lease: context.timing.observed_lease(), ..Self::default() }
    }
}

impl Membership {
    /// The shortest wait for a silent holder that any record asks for now. O(members).
    pub(crate) fn shortest_observed_lease(&self) -> Duration {
        let held = self.slots.values().filter(|member| member.record().is_some());
        held.map(|member| member.observed_lease).min().unwrap_or(Duration::MAX)
    }

    /// How long to wait until everyone who was here has stopped or renewed, whoever that was.
    pub(crate) fn longest_observed_lease(&self) -> Duration {
        self.silence.longest_observed_lease
    }

    /// For how long the writer of this may be silent. What cannot be read does not say: it is given as long as the one
    /// before it, or as anybody.
    pub(super) fn observed_lease_of(&self, context: &Context, slot: Slot, seen: &MemberContent) -> Duration {
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
                before.map_or(self.silence.longest_observed_lease, |member| member.observed_lease)
            }
            MemberContent::Deleted => own,
        }
    }

    /// Silence up to now proves nothing: this worker was cut off, could not write itself, or was not to judge others.
    /// It does prove something of `except`, which this worker has watched all the time.
    pub(crate) fn start_anew(&mut self, context: &Context, except: Option<Slot>) {
        if context.has(PlantedBug::JudgeByOldSilence) {
            return;
        }
        self.silence.deaf_until = context.now;
        self.silence.always_heard = except;
        self.silence.next_expiry = None;
    }

    /// Since when the holder of this record has been silent in a way that this worker could have heard broken.
    pub(crate) fn silent_since(&self, slot: Slot, member: &Member) -> Instant {
        if self.silence.always_heard == Some(slot) {
            member.observed_at
        } else {
            member.observed_at.max(self.silence.deaf_until)
        }
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
        let ended: Vec<Slot> = self.silence.garbled.iter().copied().filter(over).collect();
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
        let members = self.silence.garbled.iter().filter_map(|slot| Some((*slot, self.slots.get(slot)?)));
        members.filter(|(_, member)| !member.broken).map(|(slot, member)| self.silent_for_good_at(slot, member)).min()
    }

    /// When a leader record that cannot be read no longer keeps others from leading; none if there is none. Nobody renews
    /// that record. But where it is from a newer version, a worker of that version that renews its own may lead by it.
    pub(crate) fn unread_leader_until(&self) -> Option<Instant> {
        let LeaderKey::Unreadable { newer, seen_at, .. } = self.leader else { return None };
        let newer_record = |member: &Member| member.content == MemberContent::Unreadable { newer: true };
        let newcomers = self.slots.iter().filter(|(_, member)| newer && newer_record(member));
        let silent_at = newcomers.map(|(slot, member)| self.silent_for_good_at(*slot, member));
        silent_at.chain([seen_at.max(self.silence.deaf_until) + self.silence.longest_observed_lease]).max()
    }

    /// The slots whose lease has run out and whose holders have not said that they restart. O(1) most of the time.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Slot> {
        if self.silence.next_expiry.is_some_and(|next| now < next) {
            return Vec::new();
        }
        let active = |member: &Member| member.record().is_some_and(|record| record.phase != MemberPhase::Restarting);
        let holders = self.slots.iter().filter(|(_, member)| active(member));
        let expiries = holders.map(|(slot, member)| (*slot, self.silent_for_good_at(*slot, member)));
        let (expired, alive): (Vec<_>, Vec<_>) = expiries.partition(|(_, at)| *at <= now);
        self.silence.next_expiry = if expired.is_empty() { alive.iter().map(|(_, at)| *at).min() } else { None };
        expired.into_iter().map(|(slot, _)| slot).collect()
    }

    /// When [`expired`](Self::expired) should be asked again, if it was asked.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.silence.next_expiry
    }
}
