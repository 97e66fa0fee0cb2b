//! How heavy the partitions really are, and what applications report of it.

use std::time::Duration;

use parti_core::{Event, PartitionList};

use super::World;
use super::event::What;
use super::ground::Ground;
use crate::check::mark::Mark;
use crate::rng::Rng;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};

/// What a partition of weight 1 really weighs.
const UNIT: u64 = 100;

impl World {
    /// Some partitions become so many times as heavy as the list says, and the others as heavy as it says.
    pub(crate) fn shift_loads(&mut self, times: u64, heavy: impl Fn(PartitionIndex) -> bool) {
        self.ground.tell(&Fact::Reached { process: ProcessId::new(0), mark: Mark::LoadShifted });
        self.loads.shift(self.ground.observers.partitions(), times, heavy);
    }
}

/// How heavy the partitions really are.
#[derive(Clone, Debug)]
pub(crate) struct Loads {
    rng: Rng,
    /// By the place of the partition.
    loads: Vec<u64>,
}

impl Loads {
    /// As heavy as the list says.
    pub(super) fn new(seed: u64, all: &PartitionList) -> Self {
        let loads = all.iter().map(|partition| u64::from(partition.weight.get()) * UNIT).collect();
        Self { rng: Rng::for_purpose(seed, "load"), loads }
    }

    /// How heavy a partition really is.
    pub(crate) fn of(&self, partition: PartitionIndex) -> u64 {
        self.loads[partition.index()]
    }

    /// From now on those of `heavy` are so many times as heavy as the list says, and the others as heavy as it says.
    fn shift(&mut self, all: &PartitionList, times: u64, heavy: impl Fn(PartitionIndex) -> bool) {
        for (at, (load, partition)) in self.loads.iter_mut().zip(all).enumerate() {
            let times = if heavy(PartitionIndex::new(at)) { times } else { 1 };
            *load = u64::from(partition.weight.get()) * UNIT * times;
        }
    }

    /// When an application reports for the next time, if it does.
    pub(super) fn schedule(&mut self, ground: &mut Ground, process: ProcessId) {
        if ground.options.loads.reports(process.index()) {
            let every_ms = ground.options.loads.report_every_ms;
            let pause = self.rng.between(every_ms - every_ms / 4, every_ms + every_ms / 4);
            ground.after(Duration::from_millis(pause), What::Report { process });
        }
    }

    /// What an application reports of all that it works on.
    pub(super) fn reports(&mut self, ground: &Ground, process: ProcessId) -> Vec<Event> {
        let app = &ground.process(process).app;
        let noise = u64::from(ground.options.loads.noise_percent.min(100));
        let works = app.works();
        let mut report = |at: PartitionIndex, token| {
            let percent = self.rng.between(100 - noise, 100 + noise);
            let units = self.loads[at.index()] * percent / 100;
            Event::Load { partition: ground.observers.partition(at).id.clone(), token, units }
        };
        let held = app.holds().filter(|(_, hold)| works && !hold.draining && !hold.idle);
        held.map(|(at, hold)| report(at, hold.token)).collect()
    }
}
