//! What can be done to workers and to a whole world: by operators, by faults, by time.

use std::time::Duration;

use parti_core::{Bucket, Command, Event, MemberPhase};

use crate::fault::around::Around;
use crate::setting::birth::Birth;
use crate::told::fact::{Fact, ProcessId};
use crate::world::World;
use crate::world::applications::change_work;
use crate::world::clock::Moment;
use crate::world::event::What;
use crate::world::process::Life;

/// How soon another process takes the place of one that a message has ended.
const REPLACED_AFTER: Duration = Duration::from_millis(500);

impl World {
    /// Tells a worker what its operator wants.
    pub(crate) fn command(&mut self, process: ProcessId, command: Command) {
        if self.ground.process(process).life != Life::Running {
            return;
        }
        let leaves = command == Command::Restart && self.ground.options.has(Around::RestartLeaves);
        let command = if leaves { Command::Leave } else { command };
        self.feed(process, Event::Command(command));
    }

    /// A worker's application cannot work on one of its partitions, counted around and around.
    pub(crate) fn give_up(&mut self, process: ProcessId, which: u32) {
        let one = self.ground.process(process);
        let held: Vec<_> = one.worker.held().map(|(partition, token)| (partition.clone(), token)).collect();
        if one.life != Life::Running || held.is_empty() {
            return;
        }
        let (partition, token) = held[which as usize % held.len()].clone();
        self.feed(process, Event::GivenUp { partition, token });
    }

    /// Operators want nothing any more, and every worker takes part.
    pub(crate) fn take_back_wishes(&mut self) {
        self.at_store().take_back_wishes();
        for process in self.ground.all_living() {
            self.command(process, Command::Undrain);
        }
    }

    /// Restarts a worker: when it has halted, and `gap` has passed, another process takes its place.
    pub(crate) fn restart(&mut self, process: ProcessId, gap: Duration, birth: Birth) {
        let one = self.ground.process_mut(process);
        one.successor = Some((gap, birth));
        if self.kept.phase_of(&one.status) == Some(MemberPhase::Draining) {
            let what = "its drain ends with a process, and the next one takes part";
            self.ground.tell(&Fact::Operated { what, may_move: true });
        }
        self.command(process, Command::Restart);
    }

    /// Ends a process without a word. What it had sent is still under way.
    pub(crate) fn crash(&mut self, process: ProcessId) {
        if self.ground.process(process).life == Life::Ended {
            return;
        }
        change_work(&mut self.ground, process, |app| app.set_frozen(true));
        self.ground.tell(&Fact::Crashed { process });
        self.applications.handlers.crashed(process);
        self.end(process);
    }

    /// Stops a process for a while, in which the other side closes its connection.
    pub(crate) fn freeze(&mut self, process: ProcessId, time: Duration) {
        self.pause(process, time);
        self.links().isolate(process, Some(time / 2), true);
    }

    /// Stops a process for a while; its clock goes on.
    pub(crate) fn pause(&mut self, process: ProcessId, time: Duration) {
        if self.ground.process(process).life != Life::Running {
            return;
        }
        let until = self.ground.now + time;
        change_work(&mut self.ground, process, |app| app.set_frozen(true));
        self.ground.process_mut(process).life = Life::Paused { until };
        self.ground.tell(&Fact::Paused { process });
        self.ground.schedule.push(until, What::Wake { process });
    }

    /// A paused process runs again. A thread that was about to write does so before it can learn how late it is; all
    /// others ask whether their partition is still theirs, which the worker answers from its deadline.
    pub(crate) fn wake(&mut self, process: ProcessId) {
        let Life::Paused { until } = self.ground.process(process).life else { return };
        if until > self.ground.now {
            return;
        }
        self.ground.process_mut(process).life = Life::Running;
        self.ground.tell(&Fact::Woke { process });
        if !self.ground.process(process).app.is_suspended() {
            self.applications.write_for_any(&mut self.ground, process);
        }
        if let Some(since) = self.ground.process_mut(process).sleeps_since.take() {
            self.wake_from_sleep(process, since);
        } else {
            self.feed(process, Event::Timeout);
            self.catch_up_on_list(process);
            change_work(&mut self.ground, process, |app| app.set_frozen(false));
        }
        if let Some(mut delivering) = self.delivering() {
            delivering.woke(process);
        }
    }

    /// A process that did not run when the list changed is given it now.
    pub(super) fn catch_up_on_list(&mut self, process: ProcessId) {
        if std::mem::take(&mut self.ground.process_mut(process).missed_list) {
            self.give_list(process);
        }
    }

    /// The worker is done, and its process ends.
    pub(crate) fn halt(&mut self, process: ProcessId, resurrected: bool) {
        if resurrected {
            self.resurrect(process);
            return;
        }
        change_work(&mut self.ground, process, |app| app.set_frozen(true));
        self.ground.tell(&Fact::Halted { process });
        self.applications.handlers.stopped(self.ground.now, process);
        // The store knows that it has gone if its record says so, or is not its own any more.
        let phase = self.kept.phase_of(&self.ground.process(process).status);
        if phase.is_some_and(|phase| phase != MemberPhase::Restarting) {
            let what = "a worker halts that could not say so";
            self.ground.tell(&Fact::Operated { what, may_move: true });
        }
        self.end(process);
        if let Some((gap, birth)) = self.ground.process_mut(process).successor.take() {
            self.ground.after(gap, What::Start { birth });
        }
    }

    fn end(&mut self, process: ProcessId) {
        let one = self.ground.process_mut(process);
        one.life = Life::Ended;
        one.link.held.retain(What::is_request);
        self.watchers.remove(process);
        if let Some(mut delivering) = self.delivering() {
            delivering.ended(process);
        }
        if self.ground.observers.has_regressed() {
            self.at_store().tell_what_is_remembered();
        }
    }

    /// A connection ends without a word, and the client connects again at once, to this server.
    pub(crate) fn connect_to(&mut self, process: ProcessId, server: u32) {
        self.forget_tails(process);
        let listening = self.probing().connect_to(process, server);
        self.hand(process, listening);
    }

    /// A connection ends without a word, and the client connects again at once: only a counter tells.
    pub(crate) fn reconnect_unheard(&mut self, process: ProcessId) {
        self.forget_tails(process);
        let listening = self.probing().reconnect_unheard(process);
        self.hand(process, listening);
    }

    /// What showed a process its messages is gone with its connection, and nobody says so.
    fn forget_tails(&mut self, process: ProcessId) {
        if let Some(mut delivering) = self.delivering() {
            delivering.reconnected_unheard(process);
        }
    }

    /// A message has ended a process; another one takes its place.
    pub(crate) fn killed_by_message(&mut self, process: ProcessId) {
        self.ground.tell(&Fact::Disturbed { what: "a message ends its process", may_move: true });
        self.crash_and_replace(process, REPLACED_AFTER);
    }

    /// Ends every fault: links are mended, watches speak, the store answers, probes tell the truth, messages arrive,
    /// applications finish in time.
    pub(crate) fn heal(&mut self) {
        self.links().end_outages();
        self.ground.options.network.end_faults();
        if let Some(messages) = &mut self.ground.options.messages {
            messages.end_faults();
        }
        self.servers.heal();
        let now = self.ground.now;
        for process in self.ground.all_living() {
            self.ground.process_mut(process).link.notices_at = now;
            self.links().mend(process);
            let one = self.ground.process_mut(process);
            one.ear.refused_until = Moment::START;
            one.falsely_gone_until = Moment::START;
            (one.link.store_away_until, one.link.read_only_until) = (Moment::START, Moment::START);
            one.drain_percent = 100;
            for bucket in Bucket::ALL {
                self.watchers.silence(process, bucket, Moment::START);
            }
            if let Life::Paused { .. } = one.life {
                one.life = Life::Paused { until: now };
                self.ground.schedule.push(now, What::Wake { process });
            }
        }
        self.ground.after(self.ground.options.observed_lease() * 2, What::ClearGarbage);
        self.ground.tell(&Fact::Healed);
    }
}
