//! What a service starts its worker with.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerAddr};
use parti_core::{Command, Config, Event, GroupName, Partition, PartitionId, PartitionList, Worker};
use tokio::sync::{mpsc, watch};

use crate::application::Application;
use crate::connection::{self, Connection};
use crate::driver::{Driver, Input, Parts};
use crate::error::Error;
use crate::guard::Lease;
use crate::handle::{Assignment, Handle};
use crate::publisher::Publisher;
use crate::{bucket, clock, permissions};

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
    partitions: Result<PartitionList, Error>,
    replicas: usize,
    retry_first_connection: bool,
}

/// Everything that is known before there is a connection.
struct Plan {
    door: Door,
    partitions: PartitionList,
    replicas: usize,
    retry: bool,
}

/// The way to the server.
enum Door {
    Servers(Vec<ServerAddr>, Box<ConnectOptions>),
    Client(Client),
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
            partitions: Ok(PartitionList::default()),
            replicas: 1,
            retry_first_connection: false,
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

    /// Leases, windows and modes; see [`Config`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The partitions to divide. All workers of the group should be given the same list.
    #[must_use]
    pub fn partitions(mut self, partitions: PartitionList) -> Self {
        self.partitions = Ok(partitions);
        self
    }

    /// The partitions to divide, all of weight 1. An invalid id is reported by [`start`](Self::start).
    #[must_use]
    pub fn partition_ids(mut self, ids: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let partitions = ids.into_iter().map(|id| PartitionId::new(id).map(Partition::new)).collect();
        self.partitions = Result::and_then(partitions, PartitionList::new).map_err(Error::from);
        self
    }

    /// The least number of copies of each bucket, 1 by default. In a cluster use 3: the loss of one server then stops
    /// nothing. Buckets are created with this number; one that is there with fewer is an error.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas.max(1);
        self
    }

    /// Whether to keep trying where the first connection, or the creation of the buckets, fails for a reason that may
    /// pass. False by default: the worker then ends with the error.
    #[must_use]
    pub fn retry_first_connection(mut self, retry: bool) -> Self {
        self.retry_first_connection = retry;
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
        let group = GroupName::new(self.group)?;
        let mut servers = self.servers;
        if servers.is_empty() {
            servers.push("nats://localhost:4222".into());
        }
        let plan = Plan {
            door: match self.client {
                Some(client) => Door::Client(client),
                None => Door::Servers(connection::parse_servers(&servers)?, Box::new(self.options)),
            },
            partitions: self.partitions?,
            replicas: self.replicas,
            retry: self.retry_first_connection,
        };
        let worker = Worker::new(self.config.clone(), clock::random_seed(), clock::now())?;

        let lease = Arc::new(Lease::default());
        let (status_sender, status) = watch::channel(worker.status());
        let (assignment_sender, assignment) = watch::channel(Arc::<Assignment>::default());
        let (input_sender, inputs) = mpsc::unbounded_channel();
        let (change_sender, changes) = mpsc::unbounded_channel();
        let (end_sender, end) = watch::channel(None);
        let application = Application::new(Arc::clone(&lease), input_sender.clone(), change_sender, assignment_sender);
        let publisher = Publisher { mode: self.config.mode, lease: Arc::clone(&lease), status: status_sender };
        let parts = Parts { worker, config: self.config, group, application, publisher };
        tokio::spawn(async move {
            let ended = run(parts, plan, inputs).await;
            if let Err(error) = &ended {
                tracing::error!(%error, "the worker has ended");
            }
            lease.set(None);
            end_sender.send_replace(Some(ended));
        });
        Ok(Handle { inputs: input_sender, changes, waiting: VecDeque::new(), status, assignment, end })
    }
}

/// Connects, then runs the worker to its end.
async fn run(mut parts: Parts, plan: Plan, mut inputs: mpsc::UnboundedReceiver<Input>) -> Result<(), Error> {
    let connection = tokio::select! {
        connected = connect(&parts, &plan) => connected?,
        // Nothing is held yet that would have to be given up.
        () = asked_to_stop(&mut inputs) => return Ok(()),
    };
    parts.worker.handle(clock::now(), Event::Partitions(plan.partitions));
    Driver::new(parts, connection, inputs).run().await
}

async fn connect(parts: &Parts, plan: &Plan) -> Result<Connection, Error> {
    loop {
        match connect_once(parts, plan).await {
            Err(error) if plan.retry && error.is_transient() => {
                tracing::warn!(%error, "cannot begin yet, trying again");
                tokio::time::sleep(clock::jittered(BETWEEN_FIRST_CONNECTIONS)).await;
            }
            connected => return connected,
        }
    }
}

async fn connect_once(parts: &Parts, plan: &Plan) -> Result<Connection, Error> {
    let connection = match &plan.door {
        Door::Servers(servers, options) => Connection::open(servers, (**options).clone(), &parts.config).await?,
        Door::Client(client) => Connection::adopt(client.clone(), &parts.config).await?,
    };
    let server = connection.client.server_info();
    bucket::check_server(&format!("{}:{}", server.host, server.port), &server.version)?;
    let ready = async {
        bucket::ensure(&connection.jetstream, &parts.group, plan.replicas).await?;
        permissions::check(&connection, &parts.group, parts.config.slots.0).await
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
