//! Leader: workers that die again and again are given work later each time.
//!
//! A process in a crash loop takes its share of the partitions in every life and leaves it without an owner at every death.
//! The first pause is shorter than most restarts take, so that a worker that dies once hardly notices.

use alloc::collections::BTreeMap;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::MAX_DURATION;
use crate::ids::{Instance, Slot};
use crate::member::membership::Membership;
use crate::stored::record::MemberPhase;
use crate::time::Instant;

/// A process that has lived for this long did not die of its start.
const YOUNG: Duration = Duration::from_secs(60);
/// How long a worker gets no work after its first early death.
const FIRST_REST: Duration = Duration::from_secs(10);
/// How long it gets no work at most, however often it has died.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Who has died early, how often, and who therefore gets no work for now.
///
/// It is kept by the leader alone: another leader begins to count anew, so that each change of the leader gives a worker in
/// a crash loop one more chance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Strain {
    lives: BTreeMap<Slot, Life>,
    deaths: BTreeMap<Slot, Deaths>,
    looked_at: Option<u64>,
    changed: bool,
}

/// A process that this leader has seen in a slot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Life {
    instance: Instance,
    /// When it began at the earliest, as a time before the leader has seen it and one after.
    age: Duration,
    seen_at: Instant,
    restarting: bool,
    /// Whether its record is gone: whether it has died shows with the outcome of the eviction, which may come after that.
    gone: bool,
}

/// The early deaths of one slot in a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Deaths {
    count: u32,
    /// The last process that died.
    instance: Instance,
    last: Instant,
    /// Whether the rest after the last one is over.
    rested: bool,
}

impl Deaths {
    fn rest(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.count.saturating_sub(1)).unwrap_or(u32::MAX);
        FIRST_REST.saturating_mul(doubled).min(LONGEST_REST)
    }
}

impl Strain {
    /// Takes in who is there, and ends the rests that are over. O(1) where nothing has changed.
    pub(crate) fn decide(&mut self, now: Instant, membership: &Membership) {
        if self.looked_at != Some(membership.changes()) {
            self.looked_at = Some(membership.changes());
            self.look(now, membership);
        }
        if self.deadline().is_some_and(|at| at <= now) {
            self.changed = true;
            for deaths in self.deaths.values_mut() {
                deaths.rested |= deaths.last + deaths.rest() <= now;
            }
            self.deaths.retain(|_, deaths| now < deaths.last + YOUNG + LONGEST_REST || !deaths.rested);
        }
    }

    fn look(&mut self, now: Instant, membership: &Membership) {
        for (slot, member) in membership.members() {
            let Some(record) = member.record() else { continue };
            let restarting = record.phase == MemberPhase::Restarting;
            let before = self.lives.get_mut(&slot);
            if let Some(life) = before.filter(|life| life.instance == record.instance) {
                (life.restarting, life.gone) = (restarting, false);
                continue;
            }
            // Another process goes on in the tenure of one that has not said that it stops.
            if self.lives.get(&slot).is_some_and(|life| !life.restarting && !life.gone) && record.tenure.is_some() {
                self.observe_death(now, slot);
            }
            let beats = u32::try_from(record.beat.saturating_sub(1)).unwrap_or(u32::MAX);
            // A process writes at least every quarter of its lease.
            let age = (member.observed_lease * 2 / 9).saturating_mul(beats).min(MAX_DURATION);
            self.revive(slot, record.instance);
            self.lives.insert(slot, Life { instance: record.instance, age, seen_at: now, restarting, gone: false });
        }
        for (slot, life) in &mut self.lives {
            life.gone = membership.member(*slot).is_none_or(|member| member.record().is_none());
        }
    }

    /// A process that was taken for dead and is back had not died.
    fn revive(&mut self, slot: Slot, instance: Instance) {
        if let Some(deaths) = self.deaths.get_mut(&slot).filter(|deaths| deaths.instance == instance) {
            deaths.count -= 1;
            deaths.rested = true;
            self.changed = true;
        }
        self.deaths.retain(|_, deaths| deaths.count > 0);
    }

    /// The process in this slot has died.
    pub(crate) fn observe_death(&mut self, now: Instant, slot: Slot) {
        let Some(life) = self.lives.remove(&slot) else { return };
        self.changed = true;
        if life.age + now.since(life.seen_at) >= YOUNG {
            self.deaths.remove(&slot);
            return;
        }
        let count = self.deaths.get(&slot).map_or(0, |deaths| deaths.count).saturating_add(1);
        let deaths = Deaths { count, instance: life.instance, last: now, rested: false };
        self.deaths.insert(slot, deaths);
    }

    /// Who gets no new work for now.
    pub(crate) fn resting(&self) -> impl Iterator<Item = Slot> {
        self.tired().filter(|slot| self.lives.get(slot).is_some_and(|life| !life.gone))
    }

    /// The slots in which whoever is there gets no new work for now.
    pub(crate) fn tired(&self) -> impl Iterator<Item = Slot> {
        self.deaths.iter().filter(|(_, deaths)| !deaths.rested).map(|(slot, _)| *slot)
    }

    /// How often this slot's processes have died early in a row, and how long it gets no work from now on because of that.
    pub(crate) fn rest_of(&self, slot: Slot, now: Instant) -> Option<(u32, Duration)> {
        let deaths = self.deaths.get(&slot).filter(|deaths| !deaths.rested)?;
        Some((deaths.count, (deaths.last + deaths.rest()).since(now)))
    }

    /// Whether it keeps what its predecessor had meanwhile: after its first early death.
    pub(crate) fn keeps(&self, slot: Slot) -> bool {
        self.deaths.get(&slot).is_none_or(|deaths| deaths.count < 2)
    }

    /// Whether the same workers rest as when this was last asked.
    pub(crate) fn is_unchanged(&mut self) -> bool {
        !core::mem::take(&mut self.changed)
    }

    /// When the next rest is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let resting = self.deaths.values().filter(|deaths| !deaths.rested);
        resting.map(|deaths| deaths.last + deaths.rest()).min()
    }
}
