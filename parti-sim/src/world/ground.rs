//! What every part of a world stands on: its setting, time and what is to come, who there is, and who looks on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use parti_core::{Event, Instance, KvEvent, OperationId, Outcome, PartitionList};

use super::clock::Moment;
use super::event::What;
use super::process::{Life, Process};
use super::schedule::Schedule;
use crate::setting::options::Options;
use crate::told::fact::{Fact, ProcessId};
use crate::told::observers::Observers;

/// What every part of a world stands on.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) options: Options,
    pub(crate) now: Moment,
    pub(crate) schedule: Schedule<What>,
    /// Shared between copies of the world until one of them changes it.
    pub(crate) processes: Vec<Rc<Process>>,
    pub(crate) by_instance: BTreeMap<Instance, ProcessId>,
    pub(crate) observers: Observers,
}

impl Ground {
    /// Nobody is there yet; `all` are the partitions that there ever are.
    pub(super) fn new(options: &Options, all: &PartitionList) -> Self {
        Self {
            now: Moment::START,
            schedule: Schedule::new(),
            processes: Vec::new(),
            by_instance: BTreeMap::new(),
            observers: Observers::new(options, all),
            options: options.clone(),
        }
    }

    pub(crate) fn tell(&mut self, fact: &Fact<'_>) {
        self.observers.tell(self.now, fact);
    }

    /// Lets something happen some time from now.
    pub(crate) fn after(&mut self, time: Duration, what: What) {
        self.schedule.push(self.now + time, what);
    }

    pub(crate) fn process(&self, process: ProcessId) -> &Process {
        &self.processes[process.index()]
    }

    pub(crate) fn process_mut(&mut self, process: ProcessId) -> &mut Process {
        Rc::make_mut(&mut self.processes[process.index()])
    }

    /// The processes that have not ended, in order of their starts.
    pub(crate) fn living(&self) -> impl Iterator<Item = (ProcessId, &Process)> {
        let all = self.processes.iter().enumerate();
        let living = all.filter(|(_, process)| process.life != Life::Ended);
        living.map(|(index, process)| (ProcessId::new(index), process.as_ref()))
    }

    /// Whether a worker has to wait for work, because it or those before it have died again and again.
    pub(crate) fn has_resting(&self) -> bool {
        let resting = |slot| self.living().any(|(_, process)| process.status.resting.contains(&slot));
        self.living().filter_map(|(_, process)| process.status.slot).any(resting)
    }

    /// The names of those that have not ended.
    pub(crate) fn all_living(&self) -> Vec<ProcessId> {
        self.living().map(|(process, _)| process).collect()
    }

    /// What a worker learns of its request, unless it has learned it before.
    pub(super) fn answered(&mut self, process: ProcessId, operation: OperationId, outcome: Outcome) -> Option<Event> {
        let waited = self.process_mut(process).pending.remove(&operation);
        waited.then_some(Event::Kv(KvEvent::Done { operation, outcome }))
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.options.network.request_timeout_ms)
    }
}
