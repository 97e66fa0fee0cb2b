//! A store that loses writes, is made anew or purged, and what it has forgotten then.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use parti_core::{Bucket, Generation, Instance, Key, Position, Record, Slot, Tenure};

use super::clock::Moment;
use super::process::{Life, Process};
use super::requests::AtStore;
use super::store::{Entry, Store, Stored};
use crate::told::fact::{Fact, Forgotten};

impl AtStore<'_> {
    /// The store's server restarts and has lost its last writes.
    pub(crate) fn roll_back(&mut self, bucket: Bucket, writes: usize, time: Duration) {
        self.forget_last(bucket, writes);
        self.links().server_down(time);
    }

    /// The store's server restarts with an older disk: a former life of a bucket is back, as it was `without` its last
    /// writes; where there was none, only those are lost.
    pub(crate) fn bring_back(&mut self, bucket: Bucket, without: usize, time: Duration) {
        self.forget_writes(bucket, |store| {
            if !store.bring_back(bucket, without) {
                store.roll_back(bucket, without);
            }
        });
        self.links().server_down(time);
    }

    /// The last writes of a bucket are gone; everybody is still connected.
    pub(crate) fn forget_last(&mut self, bucket: Bucket, writes: usize) {
        self.forget_writes(bucket, |store| {
            store.roll_back(bucket, writes);
        });
    }

    fn forget_writes(&mut self, bucket: Bucket, lose: impl FnOnce(&mut Store)) {
        let (before, garbled, granted) = (self.slot_holders(), self.garbled_holders(), self.last_grants());
        lose(&mut self.kept.store);
        self.kept.lost_writes_at.insert(bucket, self.ground.now);
        let after = self.slot_holders();
        for (slot, (instance, tenure)) in &after {
            if before.get(slot).is_none_or(|(_, was)| was != tenure) {
                self.tell_forgotten(*instance, Forgotten::End);
            }
        }
        for (slot, (instance, tenure)) in before {
            match after.get(&slot) {
                Some((other, same)) if *same == tenure && *other != instance => {
                    self.tell_forgotten(instance, Forgotten::Takeover);
                    self.tell_forgotten(*other, Forgotten::Replacement);
                }
                Some((_, same)) if *same == tenure => {}
                Some(_) | None => self.tell_forgotten(instance, Forgotten::Claim(slot)),
            }
        }
        let is_back = |slot: &Slot, instance: &Instance| after.get(slot).is_some_and(|(other, _)| other == instance);
        self.tell_lost_claims(garbled, is_back);
        self.tell_lost_grants(granted);
        match bucket {
            Bucket::Plan => {
                let generation = self.kept.store.generations(Bucket::Plan).max().unwrap_or_default();
                self.ground.tell(&Fact::PlanBroughtBack { generation });
            }
            Bucket::Members => {
                let last = self.kept.store.last_revision(Bucket::Members);
                self.ground.tell(&Fact::MembersBroughtBack { last });
            }
        }
        self.plan_regressed();
    }

    /// A bucket is deleted and made anew, by somebody who knows of its lives before, or does not.
    pub(crate) fn recreate(&mut self, bucket: Bucket, unknowing: bool) {
        let granted = self.last_grants();
        if unknowing {
            self.kept.store.recreate_unknowing(bucket);
        } else {
            self.kept.store.recreate(bucket);
        }
        self.kept.lost_writes_at.insert(bucket, self.ground.now);
        self.tell_lost_grants(granted);
        self.empty(bucket);
    }

    /// An operator purges a bucket: no marker is left, and its life goes on.
    pub(crate) fn purge(&mut self, bucket: Bucket) {
        let (holders, garbled, granted) = (self.slot_holders(), self.garbled_holders(), self.last_grants());
        self.kept.store.purge(bucket);
        self.tell_lost_grants(granted);
        if bucket == Bucket::Members {
            self.tell_lost_claims(garbled, |_, _| false);
            for (slot, (instance, _)) in holders {
                self.tell_forgotten(instance, Forgotten::Claim(slot));
            }
        }
        self.empty(bucket);
    }

    fn empty(&mut self, bucket: Bucket) {
        self.kept.emptied_at.insert(bucket, self.ground.now);
        let recent = |at: &Moment| self.ground.now < *at + self.ground.options.observed_lease();
        if Bucket::ALL.iter().all(|bucket| self.kept.emptied_at.get(bucket).is_some_and(recent)) {
            // Who was there remembers, but a newcomer need not hear of it in time.
            self.tell_what_is_stored();
            for process in self.ground.all_living() {
                self.ground.tell(&Fact::Forgotten { process, what: Forgotten::Everything });
            }
        } else if bucket == Bucket::Members {
            // A newcomer may lead before one of those who remember has a record again.
            self.tell_what_is_stored();
        }
        self.plan_regressed();
    }

    /// Who was in each slot under which there is garbage now: what keeps others from that slot is the garbage.
    fn garbled_holders(&self) -> BTreeMap<Slot, Instance> {
        let is_garbage = |slot: &Slot| {
            let entry = self.kept.store.entry(Key::Slot(*slot));
            entry.is_some_and(|entry| matches!(entry.value, Stored::Bytes(_)))
        };
        self.kept.garbled.iter().filter(|(slot, _)| is_garbage(slot)).map(|(slot, who)| (*slot, *who)).collect()
    }

    fn tell_lost_claims(&mut self, garbled: BTreeMap<Slot, Instance>, is_back: impl Fn(&Slot, &Instance) -> bool) {
        for (slot, instance) in garbled {
            if self.kept.store.entry(Key::Slot(slot)).is_none_or(|entry| !matches!(entry.value, Stored::Bytes(_)))
                && !is_back(&slot, &instance)
            {
                self.tell_forgotten(instance, Forgotten::Claim(slot));
            }
        }
    }

    /// The process in each slot, and the last assignment of which the plan, or what the record there says it has applied,
    /// tells.
    fn last_grants(&self) -> BTreeMap<Slot, (Instance, Position)> {
        let last = |(key, entry): (&Key, &Entry)| match (key, &entry.value) {
            (Key::Slot(slot), Stored::Record(Record::Member(record))) => {
                let (applied, planned) = (record.applied, self.planned(*slot));
                let has_it = planned.incarnation == applied.incarnation && planned.revision >= applied.revision;
                let last = if has_it || applied == Position::default() { planned } else { applied };
                Some((*slot, (record.instance, last)))
            }
            _ => None,
        };
        self.kept.store.entries(Bucket::Members).iter().filter_map(last).collect()
    }

    /// The write of the assignment of a slot, if there is one in the plan.
    fn planned(&self, slot: Slot) -> Position {
        let store = &self.kept.store;
        let revision = store.entries(Bucket::Plan).get(&Key::Assign(slot)).map(|entry| entry.revision);
        let incarnation = store.incarnation(Bucket::Plan);
        revision.map_or(Position::default(), |revision| Position { incarnation, revision })
    }

    /// Of what was granted before a loss, and neither bucket tells any more.
    fn tell_lost_grants(&mut self, before: BTreeMap<Slot, (Instance, Position)>) {
        let after = self.last_grants();
        for (slot, (instance, granted)) in before {
            let told = [self.planned(slot), after.get(&slot).map_or(Position::default(), |(_, last)| *last)];
            if !told.contains(&granted) {
                self.tell_forgotten(instance, Forgotten::Grant);
            }
        }
    }

    /// Whose record is in each slot, and where its tenure began.
    pub(super) fn slot_holders(&self) -> BTreeMap<Slot, (Instance, Position)> {
        let incarnation = self.kept.store.incarnation(Bucket::Members);
        let holders =
            self.kept.store.entries(Bucket::Members).iter().filter_map(|(key, entry)| match (key, &entry.value) {
                (Key::Slot(slot), Stored::Record(Record::Member(record))) => {
                    let written = Position { incarnation, revision: entry.revision };
                    Some((*slot, (record.instance, record.tenure.map_or(written, Tenure::begun))))
                }
                _ => None,
            });
        holders.collect()
    }

    pub(super) fn tell_forgotten(&mut self, instance: Instance, what: Forgotten) {
        if let Some(process) = self.ground.by_instance.get(&instance).copied() {
            self.ground.tell(&Fact::Forgotten { process, what });
        }
    }

    pub(super) fn plan_regressed(&mut self) {
        let last = self.kept.store.last_revision(Bucket::Plan);
        let generation = self.kept.store.generations(Bucket::Plan).max().unwrap_or_default();
        self.ground.tell(&Fact::PlanRegressed { last, generation });
        self.tell_what_is_remembered();
    }

    fn tell_what_is_stored(&mut self) {
        let generation = self.stored_generation();
        self.ground.tell(&Fact::Remembered { era: self.kept.store.era(), generation });
    }

    pub(crate) fn tell_what_is_remembered(&mut self) {
        // Only a member record tells others. Who has lost its own may be too late with the next one.
        // Only a member record tells others: who has lost its own may be too late with the next one.
        let tells = |process: &&Rc<Process>| process.life == Life::Running && !process.link.broken;
        let listed = self.slot_holders().into_values().filter_map(|(of, _)| self.ground.by_instance.get(&of));
        let heard = listed.map(|process| &self.ground.processes[process.index()]).filter(tells);
        let (mut era, mut generation) = (self.kept.store.era(), self.stored_generation());
        for (of_era, of_plan) in heard.map(|process| process.worker.heard_of_plans()) {
            (era, generation) = (era.max(of_era), generation.max(of_plan));
        }
        self.ground.tell(&Fact::Remembered { era, generation });
    }

    /// The newest plan of which a record is left.
    fn stored_generation(&self) -> Generation {
        let stored = Bucket::ALL.into_iter().flat_map(|bucket| self.kept.store.generations(bucket));
        stored.max().unwrap_or_default()
    }
}
