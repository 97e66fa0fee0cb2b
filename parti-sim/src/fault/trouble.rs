//! What can trouble one worker alone, and what somebody who is no worker can leave in the store.

use std::time::Duration;

use parti_core::{Key, Mode, Slot};

use crate::check::mark::Mark;
use crate::setting::birth::Birth;
use crate::told::fact::{Fact, ProcessId};
use crate::world::World;
use crate::world::clock::Moment;
use crate::world::event::What;
use crate::world::process::Life;
use crate::world::store::Stored;

/// When a process is started that has to wait until another one has looked around.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl World {
    /// The store is out of reach for one process, although its connection stands: what others publish still comes, and
    /// probes are answered.
    pub(crate) fn take_store_away(&mut self, process: ProcessId, time: Duration) {
        let until = self.now + time;
        let link = &mut self.process_mut(process).link;
        link.store_away_until = link.store_away_until.max(until);
    }

    /// The store takes no write of one process, which can read and watch.
    pub(crate) fn make_read_only(&mut self, process: ProcessId, time: Duration) {
        let until = self.now + time;
        let link = &mut self.process_mut(process).link;
        link.read_only_until = link.read_only_until.max(until);
    }

    /// A machine sleeps for a while. The clock of its process goes on, as one does that counts the time asleep; its timer
    /// does not, and fires that much later.
    pub(crate) fn sleep(&mut self, process: ProcessId, time: Duration) {
        if self.process(process).life != Life::Running {
            return;
        }
        self.tell(&Fact::Reached { process, mark: Mark::Slept });
        self.pause(process, time);
        self.process_mut(process).sleeps_since = Some(self.now);
    }

    /// What was asleep runs again. Its application asks whether it may go on, and may not where its right is over, be it
    /// only before its late timer fires: not before its worker has heard of anything and found how late it is.
    pub(crate) fn wake_from_sleep(&mut self, process: ProcessId, since: Moment) {
        let armed = self.process(process).armed;
        if armed != Moment::NEVER {
            let at = armed.max(since) + self.now.since(since);
            self.process_mut(process).armed = at;
            self.schedule.push(at, What::Timer { process });
        }
        self.process_mut(process).overslept = true;
        if self.may_work_by_its_clock(process) {
            self.change_work(process, |app| app.set_frozen(false));
            if let Some(until) = self.process(process).status.lease_until {
                let at = self.process(process).clock.when(until).max(self.now);
                self.schedule.push(at, What::RightEnds { process });
            }
        }
        if std::mem::take(&mut self.process_mut(process).missed_list) {
            self.give_list(process);
        }
    }

    /// The right of a process that was asleep may be over, and its worker may not know yet. Its application asks the
    /// clock.
    pub(crate) fn right_ends(&mut self, process: ProcessId) {
        if self.process(process).overslept && !self.may_work_by_its_clock(process) {
            self.change_work(process, |app| app.set_frozen(true));
        }
    }

    /// Whether its application may work, by what its worker has last said and by the clock.
    fn may_work_by_its_clock(&self, process: ProcessId) -> bool {
        let one = self.process(process);
        let available = one.birth.mode.map_or(self.options.worker.available, |mode| mode == Mode::Available);
        let local = one.clock.at(self.now);
        available || one.status.lease_until.is_some_and(|until| local < until)
    }

    /// The worker of a process that was asleep has handled something.
    pub(crate) fn end_sleep(&mut self, process: ProcessId) {
        if std::mem::take(&mut self.process_mut(process).overslept) {
            self.change_work(process, |app| app.set_frozen(false));
        }
    }

    /// The clock of a process jumps forward.
    pub(crate) fn step_clock(&mut self, process: ProcessId, forward: Duration) {
        if self.process(process).life != Life::Running {
            return;
        }
        self.tell(&Fact::Reached { process, mark: Mark::ClockStepped });
        let one = self.process_mut(process);
        one.clock = one.clock.stepped(forward);
        self.settle(process);
    }

    /// Somebody writes something that is not a record where it is not about who holds a slot: under `leader`, under a
    /// key of an operator, or in the plan.
    pub(crate) fn leave_garbage(&mut self, key: Key, stays: bool) {
        let mark = match key {
            Key::Slot(_) => None,
            Key::Leader => Some(Mark::GarbageUnderLeader),
            Key::Control(_) => Some(Mark::GarbageUnderControl),
            Key::Assign(_) | Key::Cluster => Some(Mark::GarbageInPlan),
        };
        let by = ProcessId::new(0);
        for mark in mark.into_iter().chain(stays.then_some(Mark::GarbageStays)) {
            self.tell(&Fact::Reached { process: by, mark });
        }
        match key {
            Key::Slot(_) | Key::Assign(_) | Key::Cluster => self.write_garbage(key),
            Key::Leader | Key::Control(_) => {
                self.store.put_bytes(key, b"not a record");
                self.garbage.push(key);
                self.notify(key);
            }
        }
        if stays {
            self.garbage.retain(|garbage| *garbage != key);
        }
    }

    /// A process with a slot of its own ends without a word; another one takes its place, which knows that it is dead.
    pub(crate) fn crash_and_replace(&mut self, process: ProcessId, after: Duration) {
        let birth = self.process(process).birth.clone();
        self.crash(process);
        let predecessor_is_dead = self.options.mix.dead_predecessors && birth.preferred_slot.is_some();
        self.start_later(after, Birth { predecessor_is_dead, ..birth });
    }

    /// The same, and soon after the successor has looked around it is cut off for a while, and one more process starts
    /// that is after the same slot, and does not know who is dead.
    pub(crate) fn race_for_the_dead(&mut self, process: ProcessId, apart: Duration, cut_off: Duration) {
        let birth = self.process(process).birth.clone();
        let Some(slot) = birth.preferred_slot.filter(|_| self.options.mix.dead_predecessors) else { return };
        self.crash(process);
        if self.is_anybodys(slot) {
            return;
        }
        let first = self.start(Birth { predecessor_is_dead: true, ..birth.clone() });
        self.schedule.push(self.now + apart, What::Race { first, cut_off });
    }

    /// Cuts off the first of two that are after the slot of a dead one, if it has looked around and has not got it yet,
    /// and starts the second.
    pub(crate) fn race(&mut self, first: ProcessId, cut_off: Duration) {
        let one = self.process(first);
        let is_after_it = one.life == Life::Running && one.status.slot.is_none() && self.has_looked_around(first);
        if is_after_it {
            self.tell(&Fact::Reached { process: first, mark: Mark::RaceForTheDead });
            let birth = Birth { predecessor_is_dead: false, ..self.process(first).birth.clone() };
            self.isolate(first, Some(cut_off), false);
            self.start(birth);
        }
    }

    /// Whether a process has seen who is there.
    fn has_looked_around(&self, process: ProcessId) -> bool {
        let [members, _] = &self.watches;
        members.get(process).is_some_and(|watch| watch.heard.is_some())
    }

    /// Whether a process that lives has a slot, in the store or by its own account, or is after it.
    fn is_anybodys(&self, slot: Slot) -> bool {
        let holder = self.store.entry(Key::Slot(slot)).and_then(|entry| match &entry.value {
            Stored::Record(parti_core::Record::Member(record)) => self.by_instance.get(&record.instance).copied(),
            Stored::Record(_) | Stored::Bytes(_) | Stored::Deleted => None,
        });
        self.living().any(|(process, one)| {
            Some(process) == holder || one.status.slot == Some(slot) || one.birth.preferred_slot == Some(slot)
        })
    }

    /// A process begins when it is time: one that knows its predecessor dead only where that is so, and one that is after
    /// the slot of such a one not before that has looked around.
    pub(crate) fn start_in_turn(&mut self, birth: Birth) {
        let Some(slot) = birth.preferred_slot.filter(|_| self.options.mix.dead_predecessors) else {
            self.start(birth);
            return;
        };
        let is_first_to_look = |(process, one): (ProcessId, &crate::world::process::Process)| {
            one.birth.preferred_slot == Some(slot) && one.birth.predecessor_is_dead && !self.has_looked_around(process)
        };
        if self.living().any(is_first_to_look) {
            self.start_later(LOOKS_AGAIN_AFTER, birth);
            return;
        }
        let predecessor_is_dead = birth.predecessor_is_dead && !self.is_anybodys(slot);
        self.start(Birth { predecessor_is_dead, ..birth });
    }

    /// Whether a process acts by another lease than the rest.
    pub(crate) fn has_other_lease(&self, process: ProcessId) -> bool {
        self.options.worker.other_lease_ms > 0 && process.index() % 2 == 1
    }

    /// Tells in which ways a process that begins differs from what the group's settings say.
    pub(crate) fn tell_how_it_differs(&mut self, process: ProcessId) {
        let Birth { strategy, mode, list, capacity, labels, predecessor_is_dead, .. } = &self.process(process).birth;
        let differs = [
            (strategy.is_some() && self.options.mix.strategies.len() > 1, Mark::OtherStrategy),
            (*list > 0, Mark::OtherList),
            (mode.is_some(), Mark::AvailableWorker),
            (*capacity > 1, Mark::OtherCapacity),
            (!labels.is_empty(), Mark::Labelled),
            (*predecessor_is_dead, Mark::KnownDead),
            (self.has_other_lease(process), Mark::OtherLease),
        ];
        for (_, mark) in differs.into_iter().filter(|(differs, _)| *differs) {
            self.tell(&Fact::Reached { process, mark });
        }
    }
}
