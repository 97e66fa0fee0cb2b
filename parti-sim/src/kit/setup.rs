//! What a cluster is made of, before it starts.

use std::rc::Rc;
use std::time::Duration;

use parti_core::{Config, Partition, PartitionError, PartitionId, PartitionList, ReleaseReason, Token};

use super::births::Births;
use super::births::MAX_WORKERS;
use super::cluster::Cluster;
use super::failure::Failure;
use super::handler::{Handler, Handlers, Life, MakeHandler};
use crate::setting::options::{ApplicationOptions, NetworkOptions, Options, WorkerOptions};
use crate::world::World;

/// How often an application does a unit of work, unless told otherwise.
const WORK_EVERY: Duration = Duration::from_secs(1);

/// What a cluster is made of: as much of it as a test is about, the rest by default. [`Cluster::of`] begins one.
///
/// ```
/// use std::time::Duration;
/// use parti_core::Config;
/// use parti_sim::NetworkOptions;
/// use parti_sim::kit::{Cluster, Failure};
///
/// # fn main() -> Result<(), Failure> {
/// let mut cluster = Cluster::of(4)
///     .partition_ids((0..40).map(|n| format!("orders-{n}")))
///     .config(Config { lease: Duration::from_secs(20), ..Config::default() })
///     .network(NetworkOptions { reply_lost_ppm: 10_000, ..NetworkOptions::default() })
///     .drain_time(|_| Duration::from_millis(300))
///     .capacity(|worker| if worker == 0 { 2 } else { 1 })
///     .stateful_set()
///     .seed(7)
///     .start()?;
/// cluster.settle()?;
/// cluster.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Setup {
    workers: u32,
    partitions: Vec<Result<Partition, PartitionError>>,
    spare: Vec<Result<Partition, PartitionError>>,
    config: Config,
    seed: u64,
    make: MakeHandler,
    work_every: Duration,
    network: NetworkOptions,
    clock_ppm: u32,
    births: Births,
}

impl Cluster {
    /// Begins to say what a cluster of so many workers is made of.
    pub fn of(workers: u32) -> Setup {
        Setup::new(workers)
    }
}

impl Setup {
    fn new(workers: u32) -> Self {
        Self {
            workers,
            partitions: Vec::new(),
            spare: Vec::new(),
            config: Config::default(),
            seed: 1,
            make: Rc::new(|_| Box::new(Idle)),
            work_every: WORK_EVERY,
            network: NetworkOptions::default(),
            clock_ppm: 100,
            births: Births { ordinals: false, capacity: Rc::new(|_| 1) },
        }
    }

    /// Adds partitions of weight 1 with these ids; [`start`](Self::start) checks them.
    #[must_use]
    pub fn partition_ids(mut self, ids: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.partitions.extend(ids.into_iter().map(|id| PartitionId::new(id).map(Partition::new)));
        self
    }

    /// Adds partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = Partition>) -> Self {
        self.partitions.extend(partitions.into_iter().map(Ok));
        self
    }

    /// Adds partitions that are not in the list at first, for [`Cluster::set_partitions`] to bring in.
    #[must_use]
    pub fn spare_partition_ids(mut self, ids: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.spare.extend(ids.into_iter().map(|id| PartitionId::new(id).map(Partition::new)));
        self
    }

    /// The settings of every worker, as your service has them; the default ones otherwise. [`start`](Self::start)
    /// checks them. `preferred_slot`, `predecessor_is_dead` and `capacity` are set for each worker by
    /// [`stateful_set`](Self::stateful_set) and [`capacity`](Self::capacity).
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What decides everything that chance decides: delays, clocks, random faults. 1 otherwise.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Your application: `make` is called for each process that starts, those that replace others included.
    #[must_use]
    pub fn handler<H: Handler + 'static>(mut self, make: impl Fn(Life) -> H + 'static) -> Self {
        self.make = Rc::new(move |life| Box::new(make(life)));
        self
    }

    /// Where the time that a release takes is all that matters of your application: how long each partition takes. In
    /// place of a [`handler`](Self::handler).
    #[must_use]
    pub fn drain_time(self, time: impl Fn(&PartitionId) -> Duration + 'static) -> Self {
        let time = Rc::new(time);
        self.handler(move |_| Drains(time.clone()))
    }

    /// About how often each process does one unit of work, for one of its partitions; every second otherwise.
    #[must_use]
    pub const fn work_every(mut self, time: Duration) -> Self {
        self.work_every = time;
        self
    }

    /// The delays and losses between the workers and the store, when nothing worse happens; a good network otherwise.
    #[must_use]
    pub fn network(mut self, network: NetworkOptions) -> Self {
        self.network = network;
        self
    }

    /// How much each worker's clock may run fast or slow, in parts per million; 100 otherwise. More than 55 000 is more
    /// than the protocol allows for.
    #[must_use]
    pub const fn clock_drift_ppm(mut self, ppm: u32) -> Self {
        self.clock_ppm = ppm;
        self
    }

    /// Each worker asks for the slot of its number and knows that its predecessor is dead, as in a `StatefulSet`. Any
    /// slot will do otherwise, as in a `Deployment`.
    #[must_use]
    pub const fn stateful_set(mut self) -> Self {
        self.births.ordinals = true;
        self
    }

    /// How much load each worker takes compared with others, by its number; 1 otherwise.
    #[must_use]
    pub fn capacity(mut self, capacity: impl Fn(u32) -> u32 + 'static) -> Self {
        self.births.capacity = Rc::new(capacity);
        self
    }

    /// Starts the workers, within the first second.
    ///
    /// # Errors
    ///
    /// [`Failure`] if there are no workers or too many, no partitions, or a setting or a partition breaks a rule.
    pub fn start(self) -> Result<Cluster, Failure> {
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            return Err(Failure::Workers { workers: self.workers });
        }
        let list: Vec<_> = self.partitions.into_iter().collect::<Result<_, _>>()?;
        let spare: Vec<_> = self.spare.into_iter().collect::<Result<_, _>>()?;
        if list.is_empty() {
            return Err(Failure::NoPartitions);
        }
        let all = PartitionList::new(list.iter().cloned().chain(spare).collect())?;
        let list = PartitionList::new(list)?;
        for worker in 0..self.workers {
            self.births.config(worker, &self.config).validate()?;
        }
        let options = Options {
            seed: self.seed,
            workers: self.workers,
            partitions: u32::try_from(all.as_slice().len()).unwrap_or(u32::MAX),
            worker: WorkerOptions::from(&self.config),
            network: self.network,
            application: application(&self.config, self.work_every),
            clock_ppm: self.clock_ppm,
            ..Options::default()
        };
        let mut world = World::made_of(&options, self.config.clone(), &all, list);
        world.applications.handlers = Handlers::made_by(self.make);
        Cluster::begin(world, self.config, self.births)
    }
}

/// Drains end at the latest when they are cancelled.
fn application(config: &Config, work_every: Duration) -> ApplicationOptions {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    ApplicationOptions { drain_ms: (0, ms(config.release_timeout)), write_every_ms: ms(work_every) }
}

/// An application of which nothing is known.
struct Idle;

impl Handler for Idle {}

/// An application of which only the time is known that it takes to finish.
struct Drains<F>(Rc<F>);

impl<F: Fn(&PartitionId) -> Duration> Handler for Drains<F> {
    fn release(&mut self, partition: &PartitionId, _: Token, _: ReleaseReason) -> Duration {
        (self.0)(partition)
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("workers", &self.workers).field("seed", &self.seed).finish_non_exhaustive()
    }
}
