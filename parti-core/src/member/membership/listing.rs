//! What a complete listing shows, and what it does not show any more.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{LeaderKey, Member, Membership};
use crate::context::Context;
use crate::ids::{Incarnation, Revision};
use crate::member::doubt::Doubt;
use crate::planted::PlantedBug;
use crate::stored::key::Key;
use crate::time::{Instant, earliest};

/// What is in doubt between one listing and the next.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Listing {
    /// Whether the leader record was shown since the last complete listing began.
    pub(super) leader_shown: bool,
    leader_doubt: Doubt,
    /// What a conditional write has shown not to be in the store any more, although nothing newer was seen.
    pub(super) refused: BTreeSet<Key>,
    /// When everything should be listed anew because of a refusal, or because a listing has not shown what was there before.
    reading_at: Option<Instant>,
}

impl Membership {
    /// A complete listing begins. What is known is kept: a record that still has the revision seen long ago has not been
    /// renewed since.
    pub(crate) fn begin_listing(&mut self) {
        self.slots.values_mut().for_each(|member| member.shown = None);
        self.wishes.begin_listing();
        self.listing.leader_shown = false;
        self.listing.reading_at = None;
    }

    /// A complete listing of the keys that `covers` names ends. It may be stale: a record that it has not shown is not
    /// there any more if nothing was seen of its slot for the observed lease, or a conditional write says so. If it has
    /// shown an older one instead, that is read again, and believed.
    pub(crate) fn end_listing(&mut self, context: &Context, incarnation: Incarnation, covers: impl Fn(Key) -> bool) {
        let before = (self.slots.len(), self.leader);
        let refused = core::mem::take(&mut self.listing.refused);
        let lives =
            |key, member: &Member| context.now < member.observed_at + member.observed_lease && !refused.contains(&key);
        // A holder renews within its lease: of one that was heard of so lately, a listing that does not show it is stale.
        let stays = |key, member: &Member| member.shown.is_some() || !covers(key) || lives(key, member);
        self.slots.retain(|slot, member| stays(Key::Slot(*slot), member));
        self.silence.garbled.retain(|slot| self.slots.contains_key(slot));
        // What has stayed but is shown older, or not at all, is either about to be shown or lost. A live holder settles that
        // by its next renewal, and is given its lease for it; of the others the next listing is believed, whatever it says.
        let (dropped, cleared) = (self.slots.len() < before.0, self.look_for_unshown(&covers));
        let unshown = self.slots.iter().filter(|(slot, member)| member.unshown && covers(Key::Slot(**slot)));
        let (live, lost): (Vec<_>, Vec<_>) =
            unshown.partition(|(_, member)| context.now < member.observed_at + member.observed_lease);
        let silent_at = live.iter().map(|(_, member)| member.observed_at + member.observed_lease).min();
        let silent_at = silent_at.map(|at| at.max(context.now + context.timing.retry));
        self.listing.refused = lost.iter().map(|(slot, _)| Key::Slot(**slot)).collect();
        let lost_at = (dropped || !lost.is_empty()).then(|| context.now + context.timing.retry);
        let lost_wishes = self.wishes.end_listing(context, |control| covers(Key::Control(control)));
        let doubted_at = self.wishes.are_doubtful().then(|| context.now + context.timing.retry);
        self.listing.reading_at = earliest([silent_at, lost_at, doubted_at]);
        // Nobody renews the leader record, so that silence says nothing of it: only a refused write does, or several
        // listings in a row.
        if refused.contains(&Key::Leader) && !self.listing.leader_shown {
            self.leader = LeaderKey::Absent;
        }
        self.doubt_leader(context, covers(Key::Leader));
        if before != (self.slots.len(), self.leader) || lost_wishes || cleared {
            self.changes += 1;
        }
        // Only now is it known of which life the records are: tenures are told apart by it.
        self.incarnation = incarnation;
        self.silence.next_expiry = None;
    }

    /// Notes which of the records that this listing covers it has not shown. True if one is shown again that was not.
    fn look_for_unshown(&mut self, covers: impl Fn(Key) -> bool) -> bool {
        let mut cleared = false;
        for (_, member) in self.slots.iter_mut().filter(|(slot, _)| covers(Key::Slot(**slot))) {
            let unshown = member.shown != Some(member.revision);
            cleared |= core::mem::replace(&mut member.unshown, unshown) && !unshown;
        }
        cleared
    }

    /// What one listing does not show of the leader record may be news to a replica that lags; what several in a row do not
    /// show, the store has lost.
    fn doubt_leader(&mut self, context: &Context, covered: bool) {
        let shows_less = !self.listing.leader_shown && covered && self.leader != LeaderKey::Absent;
        self.listing.leader_doubt.observe_listing(shows_less);
        if self.listing.leader_doubt.is_certain(context) {
            self.listing.refused.insert(Key::Leader);
        }
        if shows_less {
            self.read_by(context.now + context.timing.retry);
        }
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
            Key::Leader => self.leader.revision() == expected && !self.listing.leader_shown,
            Key::Control(_) | Key::Assign(_) | Key::Cluster => false,
        };
        if doubtful && !context.has(PlantedBug::NeverBelieve) {
            self.listing.refused.insert(key);
            self.listing.reading_at = Some(Instant::ORIGIN);
        }
    }

    /// Whether everything should be listed anew. Asking counts as reading.
    pub(crate) fn take_reading(&mut self, now: Instant) -> bool {
        self.listing.reading_at.take_if(|at| *at <= now).is_some()
    }

    /// Everything is to be listed anew at this time, if not before.
    pub(crate) fn read_by(&mut self, at: Instant) {
        self.listing.reading_at = Some(self.listing.reading_at.map_or(at, |before| before.min(at)));
    }

    /// When everything should be listed anew.
    pub(crate) fn reading_at(&self) -> Option<Instant> {
        self.listing.reading_at
    }
}
