//! What can trouble one worker alone: sleep, a jump of its clock, and successors that are after one slot.

use std::time::Duration;

use crate::check::mark::Mark;
use crate::setting::birth::Birth;
use crate::told::fact::{Fact, ProcessId};
use crate::world::World;
use crate::world::applications::change_work;
use crate::world::clock::Moment;
use crate::world::event::What;
use crate::world::process::{Life, Process};

/// When a process is started that has to wait until another one has looked around.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl World {
    /// A machine sleeps for a while. The clock of its process goes on, as one does that counts the time asleep; its timer
    /// does not, and fires that much later.
    pub(crate) fn sleep(&mut self, process: ProcessId, time: Duration) {
        if self.ground.process(process).life != Life::Running {
            return;
        }
        self.ground.tell(&Fact::Reached { process, mark: Mark::Slept });
        self.pause(process, time);
        self.ground.process_mut(process).sleeps_since = Some(self.ground.now);
    }

    /// What was asleep runs again. Its application asks whether it may go on, and may not where its right is over, be it
    /// only before its late timer fires: not before its worker has heard of anything and found how late it is.
    pub(crate) fn wake_from_sleep(&mut self, process: ProcessId, since: Moment) {
        let armed = self.ground.process(process).armed;
        if armed != Moment::NEVER {
            let at = armed.max(since) + self.ground.now.since(since);
            self.ground.process_mut(process).armed = at;
            self.ground.schedule.push(at, What::Timer { process });
        }
        self.ground.process_mut(process).overslept = true;
        if self.may_work_by_its_clock(process) {
            change_work(&mut self.ground, process, |app| app.set_frozen(false));
            if let Some(until) = self.ground.process(process).status.lease_until {
                let at = self.ground.process(process).clock.when(until).max(self.ground.now);
                self.ground.schedule.push(at, What::RightEnds { process });
            }
        }
        self.catch_up_on_list(process);
    }

    /// The right of a process that was asleep may be over, and its worker may not know yet. Its application asks the
    /// clock.
    pub(crate) fn right_ends(&mut self, process: ProcessId) {
        if self.ground.process(process).overslept && !self.may_work_by_its_clock(process) {
            change_work(&mut self.ground, process, |app| app.set_frozen(true));
        }
    }

    /// Whether its application may work, by what its worker has last said and by the clock.
    fn may_work_by_its_clock(&self, process: ProcessId) -> bool {
        self.ground.now < self.right_until(process)
    }

    /// The clock of a process jumps forward.
    pub(crate) fn step_clock(&mut self, process: ProcessId, forward: Duration) {
        if self.ground.process(process).life != Life::Running {
            return;
        }
        self.ground.tell(&Fact::Reached { process, mark: Mark::ClockStepped });
        let one = self.ground.process_mut(process);
        one.clock = one.clock.stepped(forward);
        self.settle(process);
    }

    /// A process with a slot of its own ends without a word; another one takes its place, which knows that it is dead.
    pub(crate) fn crash_and_replace(&mut self, process: ProcessId, after: Duration) {
        let birth = self.ground.process(process).birth.clone();
        self.crash(process);
        let predecessor_is_dead = self.ground.options.mix.dead_predecessors && birth.preferred_slot.is_some();
        self.ground.after(after, What::Start { birth: Birth { predecessor_is_dead, ..birth } });
    }

    /// The same, and soon after the successor has looked around it is cut off for a while, and one more process starts
    /// that is after the same slot, and does not know who is dead.
    pub(crate) fn race_for_the_dead(&mut self, process: ProcessId, apart: Duration, cut_off: Duration) {
        let birth = self.ground.process(process).birth.clone();
        let Some(slot) = birth.preferred_slot.filter(|_| self.ground.options.mix.dead_predecessors) else { return };
        self.crash(process);
        if self.kept.is_anybodys(slot, &self.ground) {
            return;
        }
        let first = self.start(Birth { predecessor_is_dead: true, ..birth.clone() });
        self.ground.after(apart, What::Race { first, cut_off });
    }

    /// Cuts off the first of two that are after the slot of a dead one, if it has looked around and has not got it yet,
    /// and starts the second.
    pub(crate) fn race(&mut self, first: ProcessId, cut_off: Duration) {
        let one = self.ground.process(first);
        let is_after_it =
            one.life == Life::Running && one.status.slot.is_none() && self.watchers.has_looked_around(first);
        if is_after_it {
            self.ground.tell(&Fact::Reached { process: first, mark: Mark::RaceForTheDead });
            let birth = Birth { predecessor_is_dead: false, ..self.ground.process(first).birth.clone() };
            self.links().isolate(first, Some(cut_off), false);
            self.start(birth);
        }
    }

    /// A process begins when it is time: one that knows its predecessor dead only where that is so, and one that is after
    /// the slot of such a one not before that has looked around.
    pub(crate) fn start_in_turn(&mut self, birth: Birth) {
        let Some(slot) = birth.preferred_slot.filter(|_| self.ground.options.mix.dead_predecessors) else {
            self.start(birth);
            return;
        };
        let is_first_to_look = |(process, one): (ProcessId, &Process)| {
            one.birth.preferred_slot == Some(slot)
                && one.birth.predecessor_is_dead
                && !self.watchers.has_looked_around(process)
        };
        if self.ground.living().any(is_first_to_look) {
            self.ground.after(LOOKS_AGAIN_AFTER, What::Start { birth });
            return;
        }
        let predecessor_is_dead = birth.predecessor_is_dead && !self.kept.is_anybodys(slot, &self.ground);
        self.start(Birth { predecessor_is_dead, ..birth });
    }
}
