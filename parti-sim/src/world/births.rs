//! How processes come into the world: their clocks, their workers, and their lists of partitions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parti_core::assign::Strategy;
use parti_core::{Config, Event, Partition, PartitionList, Worker};

use super::clock::WorkerClock;
use super::ground::Ground;
use super::process::Process;
use crate::check::mark::Mark;
use crate::fault::around::Around;
#[cfg(feature = "planted-bugs")]
use crate::fault::plant::Plant;
use crate::rng::Rng;
use crate::setting::birth::Birth;
use crate::setting::mix::list_of;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};

/// How much clocks differ where a planted bug says that they differ too much, in parts per million.
const WILD_PPM: u64 = 400_000;

/// What a process gets when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Births {
    rng: Rng,
    config: Config,
    list: PartitionList,
    /// A user's own, of every worker.
    pub(crate) strategy: Option<Arc<dyn Strategy>>,
}

impl Births {
    pub(super) fn new(seed: u64, config: Config, list: PartitionList) -> Self {
        Self { rng: Rng::for_purpose(seed, "birth"), config, list, strategy: None }
    }

    /// A process begins.
    pub(super) fn begin(&mut self, ground: &mut Ground, birth: Birth) -> ProcessId {
        let process = ProcessId::new(ground.processes.len());
        let clock = self.clock(&ground.options);
        let worker = self.worker(ground, process, &birth, clock);
        ground.processes.push(Rc::new(Process::new(worker, clock, birth)));
        let Birth { capacity, labels, .. } = &ground.process(process).birth;
        let zone = labels.get("zone").filter(|_| ground.options.zones > 0).and_then(|zone| zone.parse().ok());
        ground.tell(&Fact::Started { process, capacity: (*capacity).max(1), zone });
        tell_how_it_differs(ground, process);
        process
    }

    /// Puts a new worker into a process whose worker has halted, which a planted bug does.
    pub(super) fn resurrect(&mut self, ground: &mut Ground, process: ProcessId) {
        let Process { clock, birth, .. } = ground.process(process);
        let (clock, birth) = (*clock, birth.clone());
        ground.process_mut(process).worker = self.worker(ground, process, &birth, clock);
    }

    fn worker(&mut self, ground: &mut Ground, process: ProcessId, birth: &Birth, clock: WorkerClock) -> Worker {
        let seed = self.rng.next_u64();
        let mut config = birth.config(&self.config);
        if has_other_lease(&ground.options, process) {
            config.lease = Duration::from_millis(ground.options.worker.other_lease_ms);
        }
        let worker = Worker::new(config, seed, clock.at(ground.now)).expect("the group's config was checked");
        let worker = match &self.strategy {
            Some(strategy) => worker.with_strategy(Arc::clone(strategy)),
            None => worker,
        };
        #[cfg(feature = "planted-bugs")]
        let worker = match ground.options.plant {
            Some(Plant::Core(bug)) => worker.with_planted_bug(bug),
            Some(Plant::Around(_)) | None => worker,
        };
        ground.by_instance.insert(worker.status().instance, process);
        worker
    }

    fn clock(&mut self, options: &Options) -> WorkerClock {
        let origin = self.rng.below(1_000_000_000_000);
        let most = if options.has(Around::WildClocks) { WILD_PPM } else { u64::from(options.clock_ppm) };
        let ppm = i64::try_from(self.rng.below(2 * most + 1)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
        WorkerClock::new(origin, i32::try_from(ppm).unwrap_or(0))
    }

    /// The list of partitions of a process, as its worker is given it.
    pub(super) fn list_for(&self, ground: &Ground, process: ProcessId) -> Event {
        Event::Partitions(list_of(ground.process(process).birth.list, &self.list, ground.observers.partitions()))
    }

    /// Another list: those of `listed`.
    pub(super) fn change_list(&mut self, ground: &mut Ground, listed: impl Fn(PartitionIndex) -> bool) {
        let all = ground.observers.partitions().clone();
        let mut kept: Vec<Partition> = Vec::new();
        for (index, partition) in all.as_slice().iter().enumerate() {
            let index = PartitionIndex::new(index);
            if listed(index) {
                kept.push(partition.clone());
            }
            if listed(index) != ground.observers.ownership.is_listed(index) {
                ground.tell(&Fact::Listed { partition: index, listed: listed(index) });
            }
        }
        self.list = PartitionList::new(kept).expect("part of a list");
    }
}

/// Whether a process acts by another lease than the rest.
const fn has_other_lease(options: &Options, process: ProcessId) -> bool {
    options.worker.other_lease_ms > 0 && process.index() % 2 == 1
}

/// Tells in which ways a process that begins differs from what the group's settings say.
fn tell_how_it_differs(ground: &mut Ground, process: ProcessId) {
    let Birth { strategy, mode, list, capacity, labels, predecessor_is_dead, .. } = &ground.process(process).birth;
    let differs = [
        (strategy.is_some() && ground.options.mix.strategies.len() > 1, Mark::OtherStrategy),
        (*list > 0, Mark::OtherList),
        (mode.is_some(), Mark::AvailableWorker),
        (*capacity > 1, Mark::OtherCapacity),
        (!labels.is_empty(), Mark::Labelled),
        (*predecessor_is_dead, Mark::KnownDead),
        (has_other_lease(&ground.options, process), Mark::OtherLease),
    ];
    for (_, mark) in differs.into_iter().filter(|(differs, _)| *differs) {
        ground.tell(&Fact::Reached { process, mark });
    }
}
