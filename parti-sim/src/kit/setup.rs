//! What a cluster is made of, before it starts.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parti_core::assign::Strategy;
use parti_core::delivery::{DeliveryConfig, PartitionMessages};
use parti_core::{Config, HandlerResult, Partition, PartitionError, PartitionId, PartitionList, RetryPolicy, Source};

use super::births::Births;
use super::births::MAX_WORKERS;
use super::cluster::Cluster;
use super::failure::Failure;
use super::guard::Guard;
use super::handlers::{Application, Handler, Handlers};
use super::lists::Lists;
use super::mail::{Mail, Message, Messages};
use super::seen::Life;
use crate::setting::messages::MessageOptions;
use crate::setting::mix::Mix;
use crate::setting::options::{ApplicationOptions, NetworkOptions, Options, WorkerOptions};
use crate::world::World;

/// The name of the stream.
const STREAM: &str = "MESSAGES";
/// How many messages a handler asks for at once, as that of `parti_nats` does.
const AT_ONCE: u32 = 64;

/// How often the simulated application of each process writes under a token, for the guarantees to be checked on.
const WRITES_EVERY: Duration = Duration::from_secs(1);

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
    application: Application,
    /// What makes the application, where it works on messages.
    messages: Option<Rc<dyn Fn(Arc<Mail>) -> Application>>,
    delivery: DeliveryConfig,
    retry: Option<RetryPolicy>,
    strategy: Option<Arc<dyn Strategy>>,
    source: Option<Rc<dyn Fn() -> Lists>>,
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
            application: Application::Drains(Rc::new(|_| Duration::ZERO)),
            messages: None,
            delivery: DeliveryConfig::new(STREAM),
            retry: Some(RetryPolicy::default()),
            strategy: None,
            source: None,
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

    /// Your handler: it runs for each partition of each process, as `Handle::run` of `parti_nats` runs it. What it shares
    /// with others, such as a database that outlives every process, it is given by a closure:
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    /// use parti_core::{PartitionId, Token};
    /// use parti_sim::kit::{Cluster, Failure, PartitionGuard};
    ///
    /// /// A database that outlives every process, and refuses a token lower than one that it has seen.
    /// #[derive(Default)]
    /// struct Database(Mutex<BTreeMap<PartitionId, Token>>);
    ///
    /// impl Database {
    ///     fn write(&self, partition: &PartitionId, token: Token) -> Result<(), String> {
    ///         let mut highest = self.0.lock().unwrap();
    ///         let highest = highest.entry(partition.clone()).or_default();
    ///         if token < *highest {
    ///             return Err(format!("{partition} has another owner"));
    ///         }
    ///         *highest = token;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// async fn work(guard: impl PartitionGuard, database: Arc<Database>) -> Result<(), String> {
    ///     while guard.may_work().await {
    ///         guard.sleep(Duration::from_millis(100)).await; // one unit of work
    ///         database.write(guard.partition(), guard.token())?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> Result<(), Failure> {
    /// let database = Arc::new(Database::default());
    /// let shared = Arc::clone(&database);
    /// let handler = move |guard| work(guard, Arc::clone(&shared));
    /// let mut cluster = Cluster::of(2).partition_ids(["eu", "us"]).handler(handler).start()?;
    /// cluster.settle()?;
    /// cluster.finish()?;
    /// assert_eq!(database.0.lock().unwrap().len(), 2, "both were worked on");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A process that crashes takes its handlers with it: they are dropped where they wait. In a process that is frozen
    /// they do not go on, and a write that they were about to make is made when it wakes, under a token that may be
    /// overtaken by then. A handler that panics ends the test.
    #[must_use]
    pub fn handler<H, F>(self, handler: H) -> Self
    where
        H: Fn(Guard) -> F + 'static,
        F: Future<Output: HandlerResult> + 'static,
    {
        let handler = boxed(handler);
        Self { application: Application::Handles(Rc::new(move |_| handler.clone())), ..self }
    }

    /// Your handler, where those of one process share something that each process has of its own, such as a cache:
    /// `make` is called for each process that starts, those that replace others included, and makes its handler.
    #[must_use]
    pub fn handler_per_process<H, F>(self, make: impl Fn(Life) -> H + 'static) -> Self
    where
        H: Fn(Guard) -> F + 'static,
        F: Future<Output: HandlerResult> + 'static,
    {
        Self { application: Application::Handles(Rc::new(move |life| boxed(make(life)))), ..self }
    }

    /// Your handler of messages: it is called for each message that [`Cluster::publish`] publishes, one after another of each
    /// partition, as `Consumer::run` of `parti_nats` calls it. A message is finished when it returns `Ok`, and comes again
    /// after an error, a crash, or a suspension. A handler that holds does no harm when a message comes again:
    ///
    /// ```
    /// use std::collections::BTreeSet;
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    /// use parti_sim::kit::{Cluster, Failure, PartitionMessage};
    ///
    /// /// The handler under test: in the service, `consumer.run(...)` calls it.
    /// async fn bill(order: impl PartitionMessage, bills: Arc<Mutex<BTreeSet<Vec<u8>>>>) -> Result<(), String> {
    ///     order.sleep(Duration::from_millis(20)).await; // the work
    ///     bills.lock().unwrap().insert(order.payload().to_vec()); // to do it twice is to do it once
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> Result<(), Failure> {
    /// let bills = Arc::new(Mutex::new(BTreeSet::new()));
    /// let shared = Arc::clone(&bills);
    /// let handler = move |order| bill(order, Arc::clone(&shared));
    /// let mut cluster = Cluster::of(2).partition_ids(["eu", "us"]).on_message(handler).start()?;
    /// cluster.settle()?;
    /// for order in 0..100 {
    ///     cluster.publish(if order % 2 == 0 { "eu" } else { "us" }, format!("order {order}"))?;
    /// }
    /// cluster.run_for(Duration::from_millis(300))?;
    /// cluster.crash(cluster.owner("eu")?.expect("it has an owner"))?;
    /// cluster.finish()?;
    /// assert_eq!(bills.lock().unwrap().len(), 100, "each order has one bill");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_message<H, F, E>(self, handler: H) -> Self
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.on_messages(move |messages| {
            let handler = Arc::clone(&handler);
            messages.for_each(move |message| handler(message))
        })
    }

    /// Your handler of the messages of one partition, in place of one for each message: it runs for each partition of each
    /// process, as one that takes `Messages` from `Consumer::next_partition` of `parti_nats`. See [`PartitionMessages`].
    #[must_use]
    pub fn on_messages<H, F>(mut self, handler: H) -> Self
    where
        H: Fn(Messages) -> F + 'static,
        F: Future<Output: HandlerResult> + 'static,
    {
        let handler = Rc::new(handler);
        self.messages = Some(Rc::new(move |mail: Arc<Mail>| {
            let handler = Rc::clone(&handler);
            let handler = boxed(move |guard| handler(Messages::new(guard, Arc::clone(&mail))));
            Application::Handles(Rc::new(move |_| handler.clone()))
        }));
        self
    }

    /// The settings of the delivery of messages, as your service has them; the default ones otherwise. Its stream keeps what
    /// is published; with [`Engine::Queue`](parti_core::delivery::Engine::Queue) it removes what is finished.
    #[must_use]
    pub fn delivery(mut self, config: DeliveryConfig) -> Self {
        self.delivery = config;
        self
    }

    /// Where the time that a release takes is all that matters of your application: how long each partition takes. In
    /// place of a [`handler`](Self::handler).
    #[must_use]
    pub fn drain_time(self, time: impl Fn(&PartitionId) -> Duration + 'static) -> Self {
        Self { application: Application::Drains(Rc::new(time)), ..self }
    }

    /// What becomes of a partition whose handler has stopped though nobody has asked it to, as `Builder::retry` of
    /// `parti_nats` says it; [`RetryPolicy::default`] otherwise, and with `None` nothing.
    #[must_use]
    pub const fn retry(mut self, policy: Option<RetryPolicy>) -> Self {
        self.retry = policy;
        self
    }

    /// Your own way to divide partitions, in place of [`Config::strategy`]. Each answer is checked, but how even it is is
    /// its own affair: [`Cluster::finish`] does not ask.
    #[must_use]
    pub fn strategy(mut self, strategy: Arc<dyn Strategy>) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Your own source of the list, in place of [`partition_ids`](Self::partition_ids): made by `make`, read at the start
    /// and every 10 s by the cluster's time, and whenever [`Cluster::refresh_partitions`] says so, for all workers at
    /// once. When it fails, the list stays, and [`Cluster::source_error`] tells. It must answer at once, and what it lists
    /// later must be in its first list or among the [spare ones](Self::spare_partition_ids).
    #[must_use]
    pub fn source<S: Source>(mut self, make: impl Fn() -> S + 'static) -> Self {
        self.source = Some(Rc::new(move || Lists::of(make())));
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
    /// [`Failure`] if there are no workers or too many, no partitions, a source that cannot be read, or a setting or a
    /// partition breaks a rule.
    pub fn start(self) -> Result<Cluster, Failure> {
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            return Err(Failure::Workers { workers: self.workers });
        }
        let mut list: Vec<_> = self.partitions.into_iter().collect::<Result<_, _>>()?;
        let spare: Vec<_> = self.spare.into_iter().collect::<Result<_, _>>()?;
        let mut lists = self.source.map_or_else(Lists::default, |make| make());
        if let Some(first) = lists.begin() {
            list = first.map_err(|error| Failure::Source { error: error.to_string() })?.as_slice().to_vec();
        }
        if list.is_empty() {
            return Err(Failure::NoPartitions);
        }
        let all = PartitionList::new(list.iter().cloned().chain(spare).collect())?;
        let list = PartitionList::new(list)?;
        for worker in 0..self.workers {
            self.births.config(worker, &self.config).validate()?;
        }
        self.delivery.validate()?;
        let options = Options {
            seed: self.seed,
            workers: self.workers,
            partitions: u32::try_from(all.as_slice().len()).unwrap_or(u32::MAX),
            worker: WorkerOptions::from(&self.config),
            // How even the work is divided is promised by the default strategy alone.
            mix: Mix {
                strategies: vec![self.config.strategy],
                own_strategy: self.strategy.is_some(),
                max_load: self.config.max_load.map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX)),
                max_partitions: self.config.max_partitions.unwrap_or(0),
                ..Mix::default()
            },
            network: self.network,
            application: application(&self.config),
            messages: self.messages.as_ref().map(|_| MessageOptions {
                batch: AT_ONCE,
                delivery: self.delivery.clone(),
                ..MessageOptions::default()
            }),
            clock_ppm: self.clock_ppm,
            ..Options::default()
        };
        let mail = self.messages.as_ref().map(|_| Arc::new(Mail::default()));
        let mut world = World::made_of(&options, self.config.clone(), &all, list);
        let mut application = self.application;
        if let (Some(make), Some(mail), Some(messages)) = (&self.messages, &mail, world.messages.as_deref_mut()) {
            application = make(Arc::clone(mail));
            messages.serve(Arc::clone(mail));
        }
        world.applications.handlers = Handlers::of(application, self.retry);
        world.lists = lists;
        world.births.strategy = self.strategy;
        Cluster::begin(world, self.config, self.births)
    }
}

/// Boxes what a handler does, and what it comes to.
fn boxed<H, F>(handler: H) -> Handler
where
    H: Fn(Guard) -> F + 'static,
    F: Future<Output: HandlerResult> + 'static,
{
    Rc::new(move |guard| {
        let work = handler(guard);
        Box::pin(async { work.await.failure() })
    })
}

/// Drains end at the latest when they are cancelled.
fn application(config: &Config) -> ApplicationOptions {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    ApplicationOptions { drain_ms: (0, ms(config.release_timeout)), write_every_ms: ms(WRITES_EVERY) }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("workers", &self.workers).field("seed", &self.seed).finish_non_exhaustive()
    }
}
