//! What can be done to the world: by operators, by faults, by time.

use std::collections::BTreeMap;
use std::time::Duration;

use parti_core::{
    Bucket, Command, Control, ControlRecord, Event, FORMAT_VERSION, Generation, Instance, Key, MemberPhase, Position,
    Record, Revision, Slot, Tenure, Write,
};

use crate::fault::plant::Around;
use crate::setting::birth::Birth;
use crate::told::fact::{Fact, Forgotten, ProcessId};
use crate::world::World;
use crate::world::clock::Moment;
use crate::world::event::What;
use crate::world::process::{Life, Process};
use crate::world::store::{Entry, Store, Stored};

impl World {
    /// Tells a worker what its operator wants.
    pub(crate) fn command(&mut self, process: ProcessId, command: Command) {
        if self.process(process).life != Life::Running {
            return;
        }
        let leaves = command == Command::Restart && self.options.has(Around::RestartLeaves);
        let command = if leaves { Command::Leave } else { command };
        self.feed(process, Event::Command(command));
    }

    /// A worker's application cannot work on one of its partitions, counted around and around.
    pub(crate) fn give_up(&mut self, process: ProcessId, which: u32) {
        let worker = &self.process(process).worker;
        let held: Vec<_> = worker.held().map(|(partition, token)| (partition.clone(), token)).collect();
        if self.process(process).life != Life::Running || held.is_empty() {
            return;
        }
        let (partition, token) = held[which as usize % held.len()].clone();
        self.feed(process, Event::GivenUp { partition, token });
    }

    /// An operator makes a wish, or takes it back.
    pub(crate) fn wish(&mut self, control: Control, wanted: bool) {
        let key = Key::Control(control);
        if wanted {
            let record = Record::Control(ControlRecord::default().into());
            self.store.put_bytes(key, &record.encode());
            self.tell(&Fact::Wished { control, wanted });
            self.notify(key);
        } else if let Some(Entry { revision: expected, value: Stored::Bytes(_) }) = self.store.entry(key) {
            self.store.write(&Write::Delete { key, expected: *expected });
            self.tell(&Fact::Wished { control, wanted });
            self.notify(key);
        }
    }

    /// Operators want nothing any more, and every worker takes part.
    pub(crate) fn take_back_wishes(&mut self) {
        let drains = (0..self.options.worker.slots).map(|slot| Control::Drain(Slot::new(slot)));
        for control in drains.chain([Control::Pause, Control::Maintenance, Control::Rebalance]) {
            self.wish(control, false);
        }
        let drains = self.store.entries(Bucket::Members).values().any(
            |entry| matches!(&entry.value, Stored::Record(Record::Member(record)) if record.phase == MemberPhase::Draining),
        );
        if drains {
            self.tell(&Fact::Operated { what: "who was drained takes part again", may_move: true });
        }
        let living: Vec<_> = self.living().map(|(process, _)| process).collect();
        for process in living {
            self.command(process, Command::Undrain);
        }
    }

    /// Restarts a worker: when it has halted, and `gap` has passed, another process takes its place.
    pub(crate) fn restart(&mut self, process: ProcessId, gap: Duration, birth: Birth) {
        if self.stored_phase(process) == Some(MemberPhase::Draining) {
            self.tell(&Fact::Operated {
                what: "its drain ends with a process, and the next one takes part",
                may_move: true,
            });
        }
        self.process_mut(process).successor = Some((gap, birth));
        self.command(process, Command::Restart);
    }

    /// Ends a process without a word. What it had sent is still under way.
    pub(crate) fn crash(&mut self, process: ProcessId) {
        if self.process(process).life == Life::Ended {
            return;
        }
        self.change_work(process, |app| app.set_frozen(true));
        self.tell(&Fact::Crashed { process });
        self.handlers.crashed(process);
        self.end(process);
    }

    /// Stops a process for a while, in which the other side closes its connection.
    pub(crate) fn freeze(&mut self, process: ProcessId, time: Duration) {
        self.pause(process, time);
        self.isolate(process, Some(time / 2), true);
    }

    /// Stops a process for a while; its clock goes on.
    pub(crate) fn pause(&mut self, process: ProcessId, time: Duration) {
        if self.process(process).life != Life::Running {
            return;
        }
        let until = self.now + time;
        self.change_work(process, |app| app.set_frozen(true));
        self.process_mut(process).life = Life::Paused { until };
        self.tell(&Fact::Paused { process });
        self.schedule.push(until, What::Wake { process });
    }

    /// A paused process runs again. A thread that was about to write does so before it can learn how late it is; all
    /// others ask whether their partition is still theirs, which the worker answers from its deadline.
    pub(crate) fn wake(&mut self, process: ProcessId) {
        let Life::Paused { until } = self.process(process).life else { return };
        if until > self.now {
            return;
        }
        self.process_mut(process).life = Life::Running;
        self.tell(&Fact::Woke { process });
        if !self.process(process).app.is_suspended() {
            self.write_for_any(process);
        }
        if let Some(since) = self.process_mut(process).sleeps_since.take() {
            return self.wake_from_sleep(process, since);
        }
        self.feed(process, Event::Timeout);
        if std::mem::take(&mut self.process_mut(process).missed_list) {
            self.give_list(process);
        }
        self.change_work(process, |app| app.set_frozen(false));
    }

    /// The worker is done, and its process ends.
    pub(crate) fn halt(&mut self, process: ProcessId, resurrected: bool) {
        if resurrected {
            self.resurrect(process);
            return;
        }
        self.change_work(process, |app| app.set_frozen(true));
        self.tell(&Fact::Halted { process });
        self.handlers.stopped(self.now, process);
        if !self.has_said_goodbye(process) {
            let what = "a worker halts that could not say so";
            self.tell(&Fact::Operated { what, may_move: true });
        }
        self.end(process);
        if let Some((gap, birth)) = self.process_mut(process).successor.take() {
            self.schedule.push(self.now + gap, What::Start { birth });
        }
    }

    /// Whether the store knows that the worker has gone: its record says so, or is not its own any more.
    fn has_said_goodbye(&self, process: ProcessId) -> bool {
        self.stored_phase(process).is_none_or(|phase| phase == MemberPhase::Restarting)
    }

    /// What the record of a process in the store says of it, if it has one.
    fn stored_phase(&self, process: ProcessId) -> Option<MemberPhase> {
        let status = &self.process(process).status;
        match &self.store.entry(Key::Slot(status.slot?))?.value {
            Stored::Record(Record::Member(record)) if record.instance == status.instance => Some(record.phase),
            _ => None,
        }
    }

    fn end(&mut self, process: ProcessId) {
        self.process_mut(process).life = Life::Ended;
        self.process_mut(process).link.held.retain(|held| matches!(held, What::Arrive { .. }));
        for bucket in Bucket::ALL {
            self.watches_of(bucket).remove(process);
        }
        if self.observers.has_regressed() {
            self.tell_what_is_remembered();
        }
    }

    /// Nothing gets through to or from a process, for a while or until it is mended. What overlaps ends with the last.
    pub(crate) fn isolate(&mut self, process: ProcessId, time: Option<Duration>, closed: bool) {
        self.break_link(process, closed);
        if let Some(time) = time {
            let until = self.now + time;
            let link = &mut self.process_mut(process).link;
            link.broken_until = link.broken_until.max(until);
            let epoch = link.epoch;
            self.schedule.push(until, What::Mend { process, epoch });
        }
    }

    /// The store answers nobody for a while.
    pub(crate) fn store_down(&mut self, time: Duration) {
        self.store_down_until = self.store_down_until.max(self.now + time);
    }

    /// The store takes no write for a while, and says so.
    pub(crate) fn store_full(&mut self, time: Duration) {
        self.store_full_until = self.store_full_until.max(self.now + time);
    }

    /// The store's server is gone for a while, and every connection with it.
    pub(crate) fn server_down(&mut self, time: Duration) {
        self.store_down(time);
        self.isolate_all(time, true);
    }

    /// Nothing gets through to or from anybody for a while, those included who start meanwhile.
    pub(crate) fn isolate_all(&mut self, time: Duration, closed: bool) {
        self.all_cut_off_until = self.all_cut_off_until.max(self.now + time);
        let living: Vec<_> = self.living().map(|(process, _)| process).collect();
        for process in living {
            self.isolate(process, Some(time), closed);
        }
    }

    /// The store's server restarts and has lost its last writes.
    pub(crate) fn roll_back(&mut self, bucket: Bucket, writes: usize, time: Duration) {
        self.lose_writes(bucket, time, |store| {
            store.roll_back(bucket, writes);
        });
    }

    /// The store's server restarts with an older disk: a former life of a bucket is back, as it was `without` its last
    /// writes; where there was none, only those are lost.
    pub(crate) fn bring_back(&mut self, bucket: Bucket, without: usize, time: Duration) {
        self.lose_writes(bucket, time, |store| {
            if !store.bring_back(bucket, without) {
                store.roll_back(bucket, without);
            }
        });
    }

    fn lose_writes(&mut self, bucket: Bucket, time: Duration, lose: impl FnOnce(&mut Store)) {
        self.forget_writes(bucket, lose);
        self.server_down(time);
    }

    /// The last writes of a bucket are gone; everybody is still connected.
    pub(crate) fn forget_last(&mut self, bucket: Bucket, writes: usize) {
        self.forget_writes(bucket, |store| {
            store.roll_back(bucket, writes);
        });
    }

    fn forget_writes(&mut self, bucket: Bucket, lose: impl FnOnce(&mut Store)) {
        let (before, unseen) = (self.slot_holders(), self.unseen_grants());
        lose(&mut self.store);
        self.lost_writes_at.insert(bucket, self.now);
        let after = self.slot_holders();
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
        for (slot, (instance, revision)) in unseen {
            let stands =
                self.store.entries(Bucket::Plan).get(&Key::Assign(slot)).is_some_and(|now| now.revision == revision);
            if !stands {
                self.tell_forgotten(instance, Forgotten::Grant);
            }
        }
        if bucket == Bucket::Plan {
            let generation = self.store.generations(Bucket::Plan).max().unwrap_or_default();
            self.tell(&Fact::PlanBroughtBack { generation });
        }
        self.plan_regressed();
    }

    /// A bucket is deleted and made anew, by somebody who knows of its lives before, or does not.
    pub(crate) fn recreate(&mut self, bucket: Bucket, unknowing: bool) {
        if unknowing {
            self.store.recreate_unknowing(bucket);
        } else {
            self.store.recreate(bucket);
        }
        self.lost_writes_at.insert(bucket, self.now);
        self.empty(bucket);
    }

    /// An operator purges a bucket: no marker is left, and its life goes on.
    pub(crate) fn purge(&mut self, bucket: Bucket) {
        let holders = self.slot_holders();
        self.store.purge(bucket);
        if bucket == Bucket::Members {
            for (slot, (instance, _)) in holders {
                self.tell_forgotten(instance, Forgotten::Claim(slot));
            }
        }
        self.empty(bucket);
    }

    fn empty(&mut self, bucket: Bucket) {
        self.emptied_at.insert(bucket, self.now);
        let recent = |at: &Moment| self.now < *at + self.options.observed_lease();
        if Bucket::ALL.iter().all(|bucket| self.emptied_at.get(bucket).is_some_and(recent)) {
            // Who was there remembers, but a newcomer need not hear of it in time.
            self.tell_what_is_stored();
            for process in self.living().map(|(process, _)| process).collect::<Vec<_>>() {
                self.tell(&Fact::Forgotten { process, what: Forgotten::Everything });
            }
        } else if bucket == Bucket::Members {
            // A newcomer may lead before one of those who remember has a record again.
            self.tell_what_is_stored();
        }
        self.plan_regressed();
    }

    /// Where the assignment of each slot is one that the record there does not say that its process has applied: the process,
    /// and the revision of the assignment.
    fn unseen_grants(&self) -> BTreeMap<Slot, (Instance, Revision)> {
        let grants = self.store.entries(Bucket::Plan).iter().filter_map(|(key, entry)| match key {
            Key::Assign(slot) => Some((*slot, entry.revision)),
            _ => None,
        });
        let unseen = grants.filter_map(|(slot, revision)| {
            let Stored::Record(Record::Member(record)) =
                &self.store.entries(Bucket::Members).get(&Key::Slot(slot))?.value
            else {
                return None;
            };
            (record.applied.revision < revision).then_some((slot, (record.instance, revision)))
        });
        unseen.collect()
    }

    /// Whose record is in each slot, and where its tenure began.
    fn slot_holders(&self) -> BTreeMap<Slot, (Instance, Position)> {
        let incarnation = self.store.incarnation(Bucket::Members);
        let holders = self.store.entries(Bucket::Members).iter().filter_map(|(key, entry)| match (key, &entry.value) {
            (Key::Slot(slot), Stored::Record(Record::Member(record))) => {
                let written = Position { incarnation, revision: entry.revision };
                Some((*slot, (record.instance, record.tenure.map_or(written, Tenure::begun))))
            }
            _ => None,
        });
        holders.collect()
    }

    fn tell_forgotten(&mut self, instance: Instance, what: Forgotten) {
        if let Some(process) = self.by_instance.get(&instance).copied() {
            self.tell(&Fact::Forgotten { process, what });
        }
    }

    fn plan_regressed(&mut self) {
        let last = self.store.last_revision(Bucket::Plan);
        let generation = self.store.generations(Bucket::Plan).max().unwrap_or_default();
        self.tell(&Fact::PlanRegressed { last, generation });
        self.tell_what_is_remembered();
    }

    fn tell_what_is_stored(&mut self) {
        let generation = self.stored_generation();
        self.tell(&Fact::Remembered { era: self.store.era(), generation });
    }

    pub(crate) fn tell_what_is_remembered(&mut self) {
        // Only a member record tells others; who stands by may stand by for long.
        let tells =
            |process: &Process| process.life == Life::Running && !process.link.broken && process.status.slot.is_some();
        let heard = self.living().filter(|(_, process)| tells(process));
        let (mut era, mut generation) = (self.store.era(), self.stored_generation());
        for (of_era, of_plan) in heard.map(|(_, process)| process.worker.heard_of_plans()) {
            (era, generation) = (era.max(of_era), generation.max(of_plan));
        }
        self.tell(&Fact::Remembered { era, generation });
    }

    /// The newest plan of which a record is left.
    fn stored_generation(&self) -> Generation {
        let stored = Bucket::ALL.into_iter().flat_map(|bucket| self.store.generations(bucket));
        stored.max().unwrap_or_default()
    }

    /// Somebody writes something that is not a record.
    pub(crate) fn write_garbage(&mut self, key: Key) {
        // What a plan that has lost writes no longer says, only its holder's record tells.
        if let Key::Slot(slot) = key
            && let Some((instance, _)) = self.slot_holders().get(&slot)
            && self.observers.has_regressed()
        {
            self.tell_forgotten(*instance, Forgotten::Everything);
        }
        self.store.put_bytes(key, b"not a record");
        self.garbage.push(key);
        self.plan_regressed();
        self.notify(key);
    }

    /// A worker or an operator of a newer version writes what nobody of this one can read; it changes with `beat`.
    pub(crate) fn write_newer(&mut self, key: Key, beat: u64) -> Revision {
        let record = format!(r#"{{"v":{},"beat":{beat}}}"#, FORMAT_VERSION + 1);
        let revision = self.store.put_bytes(key, record.as_bytes());
        self.notify(key);
        revision
    }

    /// An operator deletes what is not a record, when whoever held the slot has certainly stopped.
    pub(crate) fn clear_garbage(&mut self) {
        for key in std::mem::take(&mut self.garbage) {
            if let Some(Entry { revision, value: Stored::Bytes(_) }) = self.store.entry(key) {
                self.store.write(&Write::Delete { key, expected: *revision });
                self.tell(&Fact::Operated { what: "deletes what is not a record", may_move: true });
                self.notify(key);
            }
        }
    }

    /// A process is born some time from now.
    pub(crate) fn start_later(&mut self, after: Duration, birth: Birth) {
        self.schedule.push(self.now + after, What::Start { birth });
    }

    /// Ends every fault: links are mended, watches speak, the store answers, probes tell the truth, messages arrive,
    /// applications finish in time.
    pub(crate) fn heal(&mut self) {
        self.store_down_until = self.now;
        self.store_full_until = self.now;
        self.all_cut_off_until = self.now;
        let network = &mut self.options.network;
        for rate in [
            &mut network.slow_ppm,
            &mut network.request_lost_ppm,
            &mut network.reply_lost_ppm,
            &mut network.refused_ppm,
            &mut network.false_conflict_ppm,
            &mut network.probe_lost_ppm,
            &mut network.shown_twice_ppm,
            &mut network.stale_read_ppm,
            &mut network.partial_members_ppm,
            &mut network.partial_plan_ppm,
            &mut network.mixed_listing_ppm,
            &mut network.missed_ppm,
            &mut network.waits_in_queue_ppm,
            &mut network.listens_late_ppm,
        ] {
            *rate = 0;
        }
        self.heal_servers();
        let living: Vec<_> = self.living().map(|(process, _)| process).collect();
        for process in living {
            self.process_mut(process).link.notices_at = self.now;
            self.mend(process);
            self.heal_ear(process);
            self.process_mut(process).falsely_gone_until = Moment::START;
            let link = &mut self.process_mut(process).link;
            (link.store_away_until, link.read_only_until) = (Moment::START, Moment::START);
            self.process_mut(process).drain_percent = 100;
            for bucket in Bucket::ALL {
                self.silence_watch(process, bucket, Moment::START);
            }
            if let Life::Paused { .. } = self.process(process).life {
                self.process_mut(process).life = Life::Paused { until: self.now };
                self.schedule.push(self.now, What::Wake { process });
            }
        }
        self.schedule.push(self.now + self.options.observed_lease() * 2, What::ClearGarbage);
        self.tell(&Fact::Healed);
    }
}
