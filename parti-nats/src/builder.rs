//! What a service starts its worker with.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_nats::{Client, ConnectOptions, ServerAddr};
use parti_core::assign::Strategy;
use parti_core::{
    Command, Config, Event, GroupName, Mode, Partition, PartitionId, PartitionList, RetryPolicy, Source, Worker,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use crate::abandoned::Abandoned;
use crate::application::Application;
use crate::bucket::Names;
use crate::connection::{self, Connection};
use crate::driver::{Driver, Parts};
use crate::error::{Error, ErrorKind};
use crate::guard::Lease;
use crate::handle::{Assignment, Handle};
use crate::health::{HealthCheck, Signs};
use crate::input::Input;
use crate::metrics::Metrics;
use crate::panics::{Caught, caught};
use crate::publisher::Publisher;
use crate::recorder::{Destination, RecordLimits, Recorded};
use crate::source::{AnySource, BucketSource, Reader};
use crate::{bucket, changes, clock, login, lookout, permissions, server, software};

/// The mean wait between two tries of a first connection.
const BETWEEN_FIRST_CONNECTIONS: Duration = Duration::from_millis(250);

/// The settings of a worker over NATS; see the crate's documentation for the shortest use.
#[derive(Debug)]
pub struct Builder {
    group: String,
    client: Option<Client>,
    servers: Vec<String>,
    options: ConnectOptions,
    config: Config,
    strategy: Option<Arc<dyn Strategy>>,
    partitions: Result<Partitions, Error>,
    replicas: usize,
    retry: Option<RetryPolicy>,
    retry_first_connection: bool,
    record: Option<Destination>,
}

/// How a worker begins.
struct Beginning {
    door: Door,
    /// Whether the partition list is kept in the store.
    has_bucket: bool,
    /// Whether to try again where the first connection fails.
    retry: bool,
}

/// The partitions of a worker, and what it takes to read them.
struct Lists {
    partitions: Partitions,
    refresh: Arc<Notify>,
    inputs: mpsc::UnboundedSender<Input>,
}

/// Where the partitions come from.
enum Partitions {
    List(PartitionList),
    Bucket,
    Source(Box<dyn AnySource>),
}

impl Partitions {
    /// How many are given once and for all; 0 where the list is read.
    fn listed(&self) -> usize {
        match self {
            Self::List(list) => list.as_slice().len(),
            Self::Bucket | Self::Source(_) => 0,
        }
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List(_) => "List",
            Self::Bucket => "Bucket",
            Self::Source(_) => "Source",
        })
    }
}

/// The way to the server.
enum Door {
    Servers(Vec<ServerAddr>, Box<ConnectOptions>),
    Client(Client),
}

impl Door {
    /// The way to another connection to the same servers.
    fn way(&self) -> lookout::Way {
        match self {
            Self::Servers(servers, options) => {
                Some((servers.clone(), connection::with_login(servers, (**options).clone())))
            }
            Self::Client(_) => None,
        }
    }
}

impl Builder {
    /// A worker of `group`; all workers of a group share one list of partitions. 1 to 64 letters, digits, `-` or `_`.
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            client: None,
            servers: Vec::new(),
            options: ConnectOptions::new(),
            config: Config::default(),
            strategy: None,
            partitions: Ok(Partitions::List(PartitionList::default())),
            replicas: 1,
            retry: Some(RetryPolicy::default()),
            retry_first_connection: false,
            record: None,
        }
    }

    /// Adds a NATS server, or several separated by commas; `nats://localhost:4222` if none is added. Name every server
    /// of a cluster: a worker whose server is gone then finds another within milliseconds.
    ///
    /// A user and a password in the first URL that has them (`nats://user:password@host:4222`) are used with all.
    #[must_use]
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.servers.push(url.into());
        self
    }

    /// How to connect: credentials, TLS, a name. What follows from the lease (pings, timeouts, reconnects) and the
    /// callback for the client's events are set by the worker itself.
    #[must_use]
    pub fn connect_options(mut self, options: ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// Logs in with the credentials in this file, which is read anew at every connect; see
    /// [`credentials_file`](crate::credentials_file). In place of [`connect_options`](Self::connect_options): to set
    /// more, give that function's result there.
    #[must_use]
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        self.connect_options(login::credentials_file(path))
    }

    /// Uses a client that is there already, instead of one of the worker's own: [`server`](Self::server) and
    /// [`connect_options`](Self::connect_options) then say nothing.
    ///
    /// Make it with [`connect_options`](crate::connect_options), or set these yourself, since they cannot be changed or
    /// even seen from outside: the ping interval at most a third of [`Config::probe_confirm`], or else this worker may
    /// be taken for dead before it knows that it is cut off, and a partition have two owners; reconnects without end,
    /// with at most 250 ms between them, or else a short outage outlasts the lease. What the server refuses to such a
    /// client is known by its silence only. A worker with a client of its own does not slow down others, or wait for
    /// them; one client for both is right where connections are scarce.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Leases, windows and modes; see [`Config`]. Where [`Config::software`] is empty, the environment variable
    /// `PARTI_SOFTWARE` counts, or else `POD_TEMPLATE_HASH`: so a rolling update with surge moves nothing.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What the worker does when its lease runs out: whether a partition never has two owners, or an outage of the store
    /// never stops the work. The same as [`Config::mode`]; to be called after [`config`](Self::config).
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.config.mode = mode;
        self
    }

    /// Divides partitions by a strategy of one's own while this worker leads, in place of what [`Config::strategy`]
    /// chooses. All workers of the group should be given the same. Each of its answers is checked; one that breaks a
    /// rule changes nothing, and is reported as a refused plan; so is a panic.
    #[must_use]
    pub fn strategy(mut self, strategy: Arc<dyn Strategy>) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// The partitions to divide. All workers of the group should be given the same list.
    #[must_use]
    pub fn partitions(mut self, partitions: PartitionList) -> Self {
        self.partitions = Ok(Partitions::List(partitions));
        self
    }

    /// Divides the list that is kept in the store, and follows it; see [`PartitionBucket`](crate::PartitionBucket) for
    /// how to write it. Its bucket is created like the others; there is nothing to divide until a list is written.
    #[must_use]
    pub fn partition_bucket(mut self) -> Self {
        self.partitions = Ok(Partitions::Bucket);
        self
    }

    /// Divides what `source` says; see [`Source`].
    #[must_use]
    pub fn source(mut self, source: impl Source) -> Self {
        self.partitions = Ok(Partitions::Source(Box::new(source)));
        self
    }

    /// The partitions to divide, all of weight 1. An invalid id is reported by [`start`](Self::start).
    #[must_use]
    pub fn partition_ids(mut self, ids: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let partitions = ids.into_iter().map(|id| PartitionId::new(id).map(Partition::new)).collect();
        let list = Result::and_then(partitions, PartitionList::new);
        self.partitions = list.map(Partitions::List).map_err(Error::from);
        self
    }

    /// The partitions to divide, each with its weight; see [`PartitionList::from_pairs`]. What is wrong with an id or a
    /// weight is reported by [`start`](Self::start).
    #[must_use]
    pub fn weighted_partitions(mut self, pairs: impl IntoIterator<Item = (impl AsRef<str>, u32)>) -> Self {
        self.partitions = PartitionList::from_pairs(pairs).map(Partitions::List).map_err(Error::from);
        self
    }

    /// The least number of copies of each bucket, 1 by default. In a cluster use 3: the loss of one server then stops
    /// nothing. Buckets are created with this number; one that is there with fewer is an error.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas.max(1);
        self
    }

    /// What becomes of a partition whose handler has stopped unasked, be it by a panic; [`RetryPolicy`]'s defaults if
    /// this is not called. `None` leaves it, with nobody working on it, until it moves or the worker stops.
    #[must_use]
    pub fn retry(mut self, policy: impl Into<Option<RetryPolicy>>) -> Self {
        self.retry = policy.into();
        self
    }

    /// Whether to keep trying where the first connection, or the creation of the buckets, fails for a reason that may
    /// pass. False by default: the worker then ends with the error.
    #[must_use]
    pub fn retry_first_connection(mut self, retry: bool) -> Self {
        self.retry_first_connection = retry;
        self
    }

    /// Records what the worker is told, so that `parti replay FILE` can show what it decided, when and why, also after the
    /// process has died. Cheap enough to leave on: about 25 µs of CPU a second, 1 to 3 % of what a worker at rest takes.
    ///
    /// The newest segment is at `path`, older ones have a number behind it (`.1`, `.2`, …), those of processes before this
    /// one included; what is older than `limits` allow is removed. Of two workers with the same path only the first
    /// records, and the other one says so. What is in the files, and what is not,
    /// [`operations`](crate::operations#the-flight-recorder) tells.
    ///
    /// Nothing that is wrong with the files stops the worker, or holds it up: it goes on unrecorded, which its
    /// [health](crate::Health::warnings) and its log say (`recording_failed`), and tries again.
    #[must_use]
    pub fn record(mut self, path: impl Into<PathBuf>, limits: RecordLimits) -> Self {
        self.record = Some(Destination { path: path.into(), limits });
        self
    }

    /// Starts the worker in the background, and returns at once. What goes wrong from then on,
    /// [`Handle::finished`] and [`Handle::wait_for_state`] report.
    ///
    /// # Errors
    ///
    /// A [`Config`], a group name, a URL or a partition that breaks a rule.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> Result<Handle, Error> {
        let config = software::with_software(self.config.clone(), |name| std::env::var(name).ok());
        Self { config, ..self }.start_as_configured()
    }

    fn start_as_configured(self) -> Result<Handle, Error> {
        let group = GroupName::new(self.group)?;
        let mut servers = self.servers;
        if servers.is_empty() {
            servers.push("nats://localhost:4222".into());
        }
        let door = match self.client {
            Some(client) => Door::Client(client),
            None => Door::Servers(connection::parse_servers(&servers)?, Box::new(self.options)),
        };
        let partitions = self.partitions?;
        let now = clock::now();
        let worker = Worker::new(self.config.clone(), clock::random_seed(), now)?;
        let mut worker = worker.with_calendar(now, clock::since_1970());
        if let Some(strategy) = self.strategy {
            worker = worker.with_strategy(Arc::new(Caught(strategy)));
        }

        let (lease, metrics) = (Arc::<Lease>::default(), Arc::new(Metrics::new(group.as_str())));
        let signs = Arc::new(Signs::new(group.as_str()).measured(Arc::clone(&metrics)));
        let (status_sender, status) = watch::channel(worker.status());
        let assignment = Arc::<ArcSwap<Assignment>>::default();
        let (input_sender, inputs) = mpsc::unbounded_channel();
        let (change_sender, changes) = changes::queue();
        let (end_sender, end) = watch::channel(None);
        let refresh = Arc::<Notify>::default();
        let health = HealthCheck {
            status: status.clone(),
            end: end.clone(),
            signs: Arc::clone(&signs),
            lease: self.config.lease,
        };
        let has_bucket = matches!(partitions, Partitions::Bucket);
        let beginning = Beginning { door, has_bucket, retry: self.retry_first_connection };
        let lists = Lists { partitions, refresh: Arc::clone(&refresh), inputs: input_sender.clone() };
        let application = Application::new(
            Arc::clone(&lease),
            input_sender.clone(),
            change_sender,
            Arc::clone(&assignment),
            Abandoned::new(self.retry, Arc::clone(&signs), Arc::clone(&metrics)),
            Arc::clone(&metrics),
        );
        let publisher = Publisher {
            mode: self.config.mode,
            lease: Arc::clone(&lease),
            status: status_sender,
            signs,
            metrics,
            last: clock::now(),
        };
        let worker = Recorded::new(worker);
        let worker = match self.record {
            Some(to) => worker.recorded(to, &group, &publisher.signs),
            None => worker,
        };
        let Self { config, replicas, .. } = self;
        let parts = Parts { worker, config, group: group.clone(), replicas, application, publisher };
        let listed = lists.partitions.listed();
        let life = Life { lease, end: end_sender };
        spawn(parts, beginning, lists, inputs, life);
        let waiting = VecDeque::new();
        let inputs = input_sender;
        Ok(Handle { group, inputs, changes, waiting, status, assignment, health, refresh, end, listed })
    }
}

/// Runs the worker in the background, and says how it ended.
fn spawn(parts: Parts, beginning: Beginning, lists: Lists, inputs: mpsc::UnboundedReceiver<Input>, life: Life) {
    let span = tracing::info_span!("parti_worker", group = %parts.group, instance = %parts.worker.status().instance);
    let task = async move {
        // It holds the worker: large for a future, of which there would be several copies.
        let ended = caught(Box::pin(run(parts, beginning, lists, inputs))).await;
        let ended = ended.unwrap_or_else(|message| Err(Error::new(ErrorKind::Panicked { message })));
        if let Err(error) = &ended {
            tracing::error!(event = "worker_failed", %error, "the worker has ended");
        }
        life.end(ended);
    };
    tokio::spawn(task.instrument(span));
}

/// The life of a worker's task. It ends with that, however that comes about: also if the task is aborted, or dropped
/// with its runtime.
struct Life {
    lease: Arc<Lease>,
    end: watch::Sender<Option<Result<(), Error>>>,
}

impl Life {
    fn end(&self, ended: Result<(), Error>) {
        // Nobody who hears of the end has a right any more.
        self.lease.set(None);
        self.end.send_if_modified(|end| end.is_none() && end.replace(ended).is_none());
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end(Err(Error::new(ErrorKind::Stopped)));
    }
}

/// Connects, then runs the worker to its end.
async fn run(
    mut parts: Parts,
    beginning: Beginning,
    lists: Lists,
    mut inputs: mpsc::UnboundedReceiver<Input>,
) -> Result<(), Error> {
    let connection = tokio::select! {
        connected = connect(&parts, &beginning) => connected?,
        // Nothing is held yet that would have to be given up.
        () = asked_to_stop(&mut inputs) => return Ok(()),
    };
    // Ends with the worker.
    let mut beside = JoinSet::new();
    let (way, status) = (beginning.door.way(), parts.publisher.status.subscribe());
    beside.spawn(lookout::look_out(connection.clone(), way, status).in_current_span());
    let Lists { partitions, refresh, inputs: listed } = lists;
    let source: Box<dyn AnySource> = match partitions {
        Partitions::List(list) => {
            parts.worker.handle(clock::now(), Event::Partitions(list));
            return Box::pin(drive(Driver::new(parts, connection, inputs), beside)).await;
        }
        Partitions::Bucket => Box::new(BucketSource::new(connection.clone(), &parts.group)),
        Partitions::Source(source) => source,
    };
    let Publisher { signs, metrics, .. } = &parts.publisher;
    let (signs, metrics) = (Arc::clone(signs), Arc::clone(metrics));
    let reader = Reader { source, inputs: listed, refresh, signs, metrics };
    beside.spawn(reader.run().in_current_span());
    Box::pin(drive(Driver::new(parts, connection, inputs), beside)).await
}

/// Runs the worker to its end, and what is `beside` it as long. One of those that panics by a bug of this library ends
/// the worker: without its list, say, it would do harm by doing nothing.
async fn drive(driver: Driver, mut beside: JoinSet<()>) -> Result<(), Error> {
    let broken = async {
        while let Some(ended) = beside.join_next().await {
            if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                return panic;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = driver.run() => ended,
        panic = broken => std::panic::resume_unwind(panic),
    }
}

async fn connect(parts: &Parts, beginning: &Beginning) -> Result<Connection, Error> {
    loop {
        match connect_once(parts, beginning).await {
            Err(error) if beginning.retry && error.is_transient() => {
                tracing::warn!(%error, "cannot begin yet, trying again");
                tokio::time::sleep(clock::jittered(BETWEEN_FIRST_CONNECTIONS)).await;
            }
            connected => return connected,
        }
    }
}

async fn connect_once(parts: &Parts, beginning: &Beginning) -> Result<Connection, Error> {
    let signs = Arc::clone(&parts.publisher.signs);
    let connection = match &beginning.door {
        Door::Servers(servers, options) => Connection::open(servers, (**options).clone(), &parts.config, signs).await?,
        Door::Client(client) => Connection::adopt(client.clone(), &parts.config, signs).await?,
    };
    server::check(&connection.client.server_info())?;
    let asking = if beginning.retry { connection.clone() } else { connection.patient() };
    let ready = async {
        bucket::ensure(&asking.jetstream, &parts.group, parts.replicas).await?;
        if beginning.has_bucket {
            bucket::ensure_one(&asking.jetstream, &Names::partitions(&parts.group), parts.replicas).await?;
        }
        permissions::check(&asking, &parts.group, parts.config.slots.0).await
    };
    match ready.await {
        Ok(()) => Ok(connection),
        Err(error) => Err(connection.refusals.error(Some(error.clone())).unwrap_or(error)),
    }
}

async fn asked_to_stop(inputs: &mut mpsc::UnboundedReceiver<Input>) {
    while let Some(input) = inputs.recv().await {
        if matches!(input, Input::Event(Event::Command(Command::Leave | Command::Restart))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type End = watch::Receiver<Option<Result<(), Error>>>;

    /// A lease without end, as in `Available` mode, and the life of the task that it is of.
    fn life() -> (Life, Arc<Lease>, End) {
        let (sender, end) = watch::channel(None);
        let lease = Arc::<Lease>::default();
        lease.set(Some(parti_core::Instant::from_nanos(u64::MAX)));
        (Life { lease: Arc::clone(&lease), end: sender }, lease, end)
    }

    #[test]
    fn a_task_that_ends_takes_the_right_to_act_with_it_and_says_how() {
        let (life, lease, end) = life();
        assert!(lease.is_valid());
        life.end(Ok(()));
        drop(life);
        assert!(!lease.is_valid());
        assert!(matches!(*end.borrow(), Some(Ok(()))));
    }

    #[tokio::test]
    async fn so_does_one_that_is_aborted() {
        let (life, lease, mut end) = life();
        let task = tokio::spawn(async move {
            std::future::pending::<()>().await;
            life.end(Ok(()));
        });
        task.abort();
        let ended = end.wait_for(Option::is_some).await.expect("told").clone();
        assert!(matches!(ended.expect("told").map_err(|error| error.kind().clone()), Err(ErrorKind::Stopped)));
        assert!(!lease.is_valid());
    }
}
