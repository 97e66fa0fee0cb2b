//! What users bring into a world under test: handlers that run, and a source of the list.

use parti_core::{Event, Mode, WorkerState};

use super::clock::Moment;
use super::event::What;
use super::process::Life;
use super::{Messages, World};
use crate::kit::Deed;
use crate::told::fact::{Fact, ProcessId};

impl World {
    /// When something of theirs is due though nothing else happens.
    pub(super) fn users_due(&self) -> Option<Moment> {
        [self.applications.handlers.next_due(), self.lists.next_due()].into_iter().flatten().min()
    }

    /// Does what is due now.
    pub(super) fn ring_users(&mut self) {
        let Self { ground, applications, lists, .. } = self;
        let asleep = |process| match ground.process(process).life {
            Life::Paused { until } => Some(until),
            Life::Running | Life::Ended => None,
        };
        let offered = applications.handlers.ring(ground.now, asleep);
        let listed = lists.read_if_due(ground.now, |id| ground.observers.index_of(id));
        for (process, partition) in offered {
            let begun = self.applications.handlers.task_of(process, &partition);
            if let (Some(begun), Some(mut delivering)) = (begun, self.delivering()) {
                delivering.offered(process, &partition, begun);
            }
        }
        let (Some(listed), ground) = (listed, &mut self.ground) else { return };
        let same = |index| ground.observers.ownership.is_listed(index) == listed.contains(&index);
        if ground.observers.indices().all(same) {
            return;
        }
        let what = format!("the source changes the list to {} partitions", listed.len());
        ground.tell(&Fact::Operated { what: &what, may_move: true });
        self.set_list(|partition| listed.contains(&partition));
    }

    /// Lets the handlers go on that have something to go on with.
    pub(super) fn attend_users(&mut self) {
        if let Some(mut delivering) = self.delivering() {
            delivering.catch_up();
        }
        loop {
            let processes = &self.ground.processes;
            let runs = |process: ProcessId| processes[process.index()].life == Life::Running;
            let Some((task, process)) = self.applications.handlers.next_woken(runs) else { return };
            let until = self.right_until(process);
            let stops = self.ground.process(process).status.state == WorkerState::Shutdown;
            let deeds = self.applications.handlers.go_on(self.ground.now, task, until, stops);
            self.follow_mail();
            for deed in deeds {
                self.follow(deed);
            }
        }
    }

    /// Does what handlers have said of their messages.
    fn follow_mail(&mut self) {
        let mail = self.messages.as_deref().and_then(Messages::mail);
        for (task, say) in mail.map(|mail| mail.take_said()).unwrap_or_default() {
            let killed = self.delivering().and_then(|mut delivering| delivering.said(task, say));
            if let Some(process) = killed {
                self.killed_by_message(process);
            }
        }
    }

    fn follow(&mut self, deed: Deed) {
        if let Some(mut delivering) = self.delivering() {
            match &deed {
                Deed::Finished { process, partition, token } => {
                    return delivering.handler_ended(*process, partition, *token, false);
                }
                Deed::Left { process, partition, token } => delivering.handler_ended(*process, partition, *token, true),
                Deed::GivesUp { .. } | Deed::Weighs { .. } => {}
            }
        }
        match deed {
            Deed::Left { .. } => {}
            Deed::Finished { process, partition, token } => {
                let Some(partition) = self.ground.observers.index_of(&partition) else { return };
                self.ground.schedule.push(self.ground.now, What::Drained { process, partition, token });
            }
            Deed::GivesUp { process, partition, token } => self.feed(process, Event::GivenUp { partition, token }),
            Deed::Weighs { process, partition, token, units } => {
                self.feed(process, Event::Load { partition, token, units });
            }
        }
    }

    /// Until when the application of a process may work, by what its worker has last said.
    pub(crate) fn right_until(&self, process: ProcessId) -> Moment {
        let one = self.ground.process(process);
        let available = one.birth.mode.map_or(self.ground.options.worker.available, |mode| mode == Mode::Available);
        if available {
            return Moment::NEVER;
        }
        one.status.lease_until.map_or(Moment::START, |until| one.clock.when(until))
    }
}
