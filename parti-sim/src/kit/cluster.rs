//! The cluster of a test: time passes, and the test looks at what came of it.

use std::time::Duration;

use parti_core::{Config, PartitionId, Status};

use super::births::Births;
use super::failure::{Failure, Story};
use super::seen::Seen;
use crate::rng::Rng;
use crate::scenario::{Keep, Stage};
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::told::figures::Figures;
use crate::told::recording::Recording;
use crate::told::report::Drawing;
use crate::world::World;
use crate::world::clock::Moment;
use crate::world::process::Life;

/// Over how long the workers of a cluster start.
const START_SPREAD: Duration = Duration::from_secs(1);
/// How long a cluster may take to settle.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// A simulated cluster.
///
/// ```
/// use std::time::Duration;
/// use parti_sim::kit::{Cluster, Failure};
///
/// # fn main() -> Result<(), Failure> {
/// let mut cluster = Cluster::of(3).partition_ids((0..30).map(|n| format!("orders-{n}"))).start()?;
/// cluster.settle()?;
/// let owner = cluster.owner("orders-7")?.expect("everything has an owner");
/// cluster.measure();
/// cluster.crash(owner)?;
/// cluster.settle()?;
/// assert_ne!(cluster.owner("orders-7")?, Some(owner));
/// assert!(cluster.finish()?.longest_orphan < Duration::from_secs(15));
/// # Ok(())
/// # }
/// ```
///
/// Workers are named by number, 0 for the one that was started first. A worker that restarts keeps its number.
///
/// Calls that take time or need a running worker return a [`Failure`] when a guarantee of `parti` does not hold, and the
/// same again from then on.
#[derive(Debug)]
pub struct Cluster {
    pub(super) stage: Stage,
    pub(super) births: Births,
    pub(super) config: Config,
    /// How many workers there have been.
    pub(super) workers: u32,
    /// How many times the software was updated.
    pub(super) updates: u32,
    /// When the last fault that was begun ends.
    pub(super) faulty_until: Moment,
    pub(super) deeds: Vec<String>,
    pub(super) rng: Rng,
}

/// What happened since [`measure`](Cluster::measure), or since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Until the last moment at which some partition did not have exactly one owner.
    pub recovery: Duration,
    /// How many partitions are now elsewhere, although their worker's slot still has a worker.
    pub moved: usize,
    /// The longest time that one partition had no owner at work.
    pub longest_orphan: Duration,
    /// Summed over partitions, the time that nobody was at work on one.
    pub orphan: Duration,
    /// Summed over partitions, the time that more than one was at work on one. Zero, or [`Failure::Broken`] has said so.
    pub duplicate: Duration,
    /// How many plans were published.
    pub plans: u64,
    /// How many of them took something from a worker that stays.
    pub rebalances: u64,
    /// How many writes the store has taken.
    pub store_writes: u64,
}

impl Cluster {
    pub(super) fn begin(world: World, config: Config, births: Births) -> Result<Self, Failure> {
        let workers = world.ground.options.workers;
        let rng = Rng::for_purpose(world.ground.options.seed, "kit");
        let stage = Stage::of(world, Keep { trace: true, recording: true });
        let faulty_until = Moment::START;
        let mut cluster = Self { stage, births, config, workers: 0, updates: 0, faulty_until, deeds: Vec::new(), rng };
        cluster.operate(&format!("starts {workers} workers"), true);
        for number in 0..workers {
            cluster.bear(number);
            cluster.run_for(START_SPREAD / workers)?;
        }
        Ok(cluster)
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if a guarantee does not hold.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        self.stage.run_for(time);
        self.check()
    }

    /// Lets time pass until so long after the start; none if that is over.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if a guarantee does not hold.
    pub fn run_until(&mut self, at: Duration) -> Result<(), Failure> {
        self.run_for(at.saturating_sub(self.now()))
    }

    /// Lets the faults that were begun run out, then waits until every partition has one owner at work, every message is
    /// finished or given up, no worker has to
    /// wait for work because it has died again and again, and nothing has moved for longer than any window of the workers
    /// lasts.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if a guarantee does not hold; [`Failure::Unsettled`] if it takes too long.
    pub fn settle(&mut self) -> Result<(), Failure> {
        self.run_for(self.faulty_until.since(self.stage.world.ground.now))?;
        self.stage.calm();
        let (quiet, mut from) = (self.stage.quiet(), self.stage.world.ground.now);
        let settled = self.stage.run_until(PATIENCE, |world| {
            let ownership = &world.ground.observers.ownership;
            if world.ground.has_resting() {
                from = world.ground.now;
            }
            let is_quiet = ownership.is_even() && world.ground.now.since(ownership.last_change().max(from)) > quiet;
            is_quiet && world.ground.observers.messages.left() == 0
        });
        self.check()?;
        if settled {
            return Ok(());
        }
        let unowned = self.stage.world.ground.observers.ownership.unowned();
        Err(Failure::Unsettled { unowned, at: self.now(), patience: PATIENCE, story: Box::new(self.story()) })
    }

    /// Ends every fault, those of the network included, waits until all is settled, and checks what must hold in the
    /// end: everything has an owner, and the load is even.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if a guarantee does not hold; [`Failure::Unsettled`] if it takes too long.
    pub fn finish(mut self) -> Result<Measured, Failure> {
        self.stage.world.heal();
        self.faulty_until = self.stage.world.ground.now;
        self.settle()?;
        self.stage.world.ground.observers.finish(self.stage.world.ground.now);
        self.check()?;
        Ok(self.measured())
    }

    /// Begins to measure.
    pub fn measure(&mut self) {
        self.stage.measure();
    }

    /// What happened since [`measure`](Self::measure), or since the start.
    pub fn measured(&self) -> Measured {
        let window = self.stage.window();
        let counts = self.stage.world.ground.observers.counts;
        Measured {
            recovery: window.recovery,
            moved: window.moved,
            longest_orphan: window.longest_orphan,
            orphan: window.orphan,
            duplicate: window.duplicate,
            plans: counts.plans,
            rebalances: counts.rounds,
            store_writes: counts.store_writes,
        }
    }

    /// How long ago the cluster was started.
    pub fn now(&self) -> Duration {
        self.stage.world.ground.now.since(Moment::START)
    }

    /// The numbers of the workers that have a process, in order.
    pub fn running(&self) -> Vec<u32> {
        (0..self.workers).filter(|worker| self.process(*worker).is_some()).collect()
    }

    /// The worker that is at work on a partition now; none if nobody is.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownPartition`] if the cluster never had such a partition.
    pub fn owner(&self, partition: &str) -> Result<Option<u32>, Failure> {
        self.owner_at(partition, self.now())
    }

    /// The worker that was at work on a partition so long after the start; none if nobody was, or if that is still to
    /// come.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownPartition`] if the cluster never had such a partition.
    pub fn owner_at(&self, partition: &str, at: Duration) -> Result<Option<u32>, Failure> {
        let index = self.index_of(partition)?;
        let mut owner = None;
        let changes = self.stage.world.ground.observers.recording.iter().flat_map(|recording| &recording.changes);
        for change in changes.filter(|change| change.partition == index) {
            if change.at > Moment::START + at {
                break;
            }
            if change.works {
                owner = Some(change.process);
            } else if owner == Some(change.process) {
                owner = None;
            }
        }
        Ok(owner.filter(|_| at <= self.now()).map(|process| self.number(process)))
    }

    /// The partitions that a worker is at work on now, in order of their ids.
    pub fn owned_by(&self, worker: u32) -> Vec<PartitionId> {
        let Some(process) = self.process(worker) else { return Vec::new() };
        let observers = &self.stage.world.ground.observers;
        let ids = observers.partitions().as_slice().iter().enumerate();
        let works = |index: usize| {
            let at_work = observers.ownership.workers_on(PartitionIndex::new(index));
            at_work.iter().any(|(at_work, _)| *at_work == process)
        };
        ids.filter(|(index, _)| works(*index)).map(|(_, partition)| partition.id.clone()).collect()
    }

    /// The worker that leads, by its own account.
    pub fn leader(&self) -> Option<u32> {
        self.stage.leader().map(|process| self.number(process))
    }

    /// What a worker says of itself; none if no process of it runs.
    pub fn status(&self, worker: u32) -> Option<Status> {
        self.process(worker).map(|process| self.stage.world.ground.process(process).worker.status())
    }

    /// What all applications were told, and have said of their handlers, in order.
    pub fn seen(&self) -> &[Seen] {
        self.stage.world.applications.handlers.seen()
    }

    /// The same of one worker, all its processes in order.
    pub fn seen_by(&self, worker: u32) -> impl Iterator<Item = &Seen> {
        self.seen().iter().filter(move |seen| seen.life.worker == worker)
    }

    /// What went wrong when the [source](super::Setup::source) of the list was read last; none if nothing did.
    pub fn source_error(&self) -> Option<&str> {
        self.stage.world.lists.error()
    }

    /// A page that draws what has happened, with everything in it that it needs: who owned what when, load, faults,
    /// handovers, and what was measured since [`measure`](Self::measure). Write it to a file, and open it in a browser.
    pub fn report(&self, title: &str) -> String {
        let Stage { world, measured_from, .. } = &self.stage;
        let observers = &world.ground.observers;
        let nothing = Recording::default();
        let mut figures =
            Figures::take(title, &world.ground.options, &observers.ownership, &observers.counts, world.ground.now);
        figures.held = observers.violation.is_none();
        let drawing = Drawing {
            figures: &figures,
            shows: "",
            verdict: if figures.held { "held so far" } else { "DID NOT HOLD" },
            why: None,
            again: &format!("run the test again; its cluster has .seed({})", world.ground.options.seed),
            measured_from: *measured_from,
            ends: world.ground.now,
            expectations: &[],
            violation: observers.violation.as_ref(),
            recording: observers.recording.as_ref().unwrap_or(&nothing),
            timeline: &observers.timeline,
            partitions: observers.partitions(),
        };
        drawing.page()
    }

    /// What has happened so far, as a failure tells it.
    pub fn story(&self) -> Story {
        let observers = &self.stage.world.ground.observers;
        let lines = observers.trace.as_ref().map(crate::told::trace::Trace::lines).unwrap_or_default();
        Story::tell(&self.deeds, lines, self.stage.options().seed, observers.violation.as_ref())
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(partition) = self.stage.world.lists.unknown() {
            return Err(Failure::UnknownPartition { partition: partition.clone() });
        }
        match &self.stage.world.ground.observers.violation {
            None => Ok(()),
            Some(violation) => {
                Err(Failure::Broken { violation: Box::new(violation.clone()), story: Box::new(self.story()) })
            }
        }
    }

    /// Somebody does something on purpose.
    pub(super) fn operate(&mut self, what: &str, may_move: bool) {
        self.note(what);
        self.stage.operate(what, may_move);
    }

    /// Something goes wrong, until it ends by itself.
    pub(super) fn disturb(&mut self, what: &str, may_move: bool, time: Duration) {
        self.note(what);
        self.stage.disturb(what, may_move);
        self.faulty_until = self.faulty_until.max(self.stage.world.ground.now + time);
    }

    pub(super) fn note(&mut self, what: &str) {
        self.deeds.push(format!("{:>10.3} s  {what}", self.now().as_secs_f64()));
    }

    /// Starts a process of the worker with this number.
    pub(super) fn bear(&mut self, number: u32) {
        let birth = self.births.of(number, &self.software());
        self.workers = self.workers.max(number + 1);
        self.stage.world.start(birth);
    }

    /// The version of the software that processes have which start now.
    pub(super) fn software(&self) -> String {
        match self.updates {
            0 => self.config.software.clone(),
            updates => format!("{}+{updates}", self.config.software),
        }
    }

    /// The process of a worker that has not ended: the newest, where there are two.
    pub(super) fn process(&self, worker: u32) -> Option<ProcessId> {
        let process = self.stage.world.applications.handlers.latest_of(worker)?;
        (self.stage.world.ground.process(process).life != Life::Ended).then_some(process)
    }

    /// The number of the worker whose process it is.
    pub(super) fn number(&self, process: ProcessId) -> u32 {
        self.stage.world.ground.process(process).birth.number
    }

    pub(super) fn index_of(&self, partition: &str) -> Result<PartitionIndex, Failure> {
        let id = PartitionId::new(partition)?;
        self.stage.world.ground.observers.index_of(&id).ok_or(Failure::UnknownPartition { partition: id })
    }
}

impl Drop for Cluster {
    /// A test that fails by an assertion of its own tells what led to it.
    #[expect(clippy::print_stderr, reason = "the test harness shows it beside the assertion that failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the cluster at {:?}:\n{}", self.now(), self.story());
        }
    }
}
