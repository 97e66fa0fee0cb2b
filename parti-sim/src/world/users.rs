//! What users bring into a world under test: handlers that run, and a source of the list.

use parti_core::{Event, Mode, WorkerState};

use super::World;
use super::clock::Moment;
use super::event::What;
use super::process::Life;
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
        applications.handlers.ring(ground.now, asleep);
        let Some(listed) = lists.read_if_due(ground.now, |id| ground.observers.index_of(id)) else { return };
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
        loop {
            let processes = &self.ground.processes;
            let runs = |process: ProcessId| processes[process.index()].life == Life::Running;
            let Some((task, process)) = self.applications.handlers.next_woken(runs) else { return };
            let until = self.right_until(process);
            let stops = self.ground.process(process).status.state == WorkerState::Shutdown;
            for deed in self.applications.handlers.go_on(self.ground.now, task, until, stops) {
                self.follow(deed);
            }
        }
    }

    fn follow(&mut self, deed: Deed) {
        match deed {
            Deed::Finished { process, partition, token } => {
                let Some(partition) = self.ground.observers.index_of(&partition) else { return };
                self.ground.schedule.push(self.ground.now, What::Drained { process, partition, token });
            }
            Deed::GivesUp { process, partition, token } => self.feed(process, Event::GivenUp { partition, token }),
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
