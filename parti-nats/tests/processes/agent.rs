//! The worker's side: a process that runs workers and prints what their guards allow.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use parti_nats::{Builder, Change, Config, Guard, Handle, PartitionId, RecordLimits, Status};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::journal::{At, Event, Line};

/// The variable that tells a process to be an agent, and of what kind.
const VARIABLE: &str = "PARTI_TEST_AGENT";

/// What one agent runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Servers, separated by commas.
    pub(crate) url: String,
    pub(crate) group: String,
    pub(crate) replicas: usize,
    /// Partitions `p00000` and so on.
    pub(crate) partitions: u32,
    /// How many workers; with none it only holds a connection.
    pub(crate) workers: u32,
    pub(crate) config: Config,
    /// How often a worker asks its guards whether it may go on; only at what it is told of if not given.
    pub(crate) tick: Option<Duration>,
    /// The folder in which each worker is recorded, if any is, under the number of its process and its own.
    pub(crate) record: Option<PathBuf>,
}

/// What an agent is told on its standard input, one a line: a worker, and what it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    Leave,
    Restart,
}

impl Spec {
    /// What this process is to run as an agent, if it is one.
    pub(crate) fn from_environment() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        Some(serde_json::from_str(&text).expect("the parent writes what is read here"))
    }

    /// The variable by which a child process becomes this agent.
    pub(crate) fn to_environment(&self) -> (&'static str, String) {
        (VARIABLE, serde_json::to_string(self).expect("a spec is plain data"))
    }

    fn builder(&self, worker: u32) -> Builder {
        let ids = (0..self.partitions).map(|number| format!("p{number:05}"));
        let builder = Builder::new(&self.group).server(&self.url).partition_ids(ids).config(self.config.clone());
        // A cluster takes a moment until it can place a bucket.
        let builder = builder.replicas(self.replicas).retry_first_connection(true);
        match &self.record {
            Some(folder) => {
                let name = format!("{}-{worker}.rec", std::process::id());
                builder.record(folder.join(name), RecordLimits::default())
            }
            None => builder,
        }
    }
}

/// Runs what `spec` says until all workers have ended, or the parent has.
pub(crate) fn run(spec: &Spec) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..spec.workers).map(|_| mpsc::unbounded_channel()).unzip();
        read_orders(senders);
        if spec.workers == 0 {
            let servers: Vec<_> = spec.url.split(',').map(str::to_owned).collect();
            let _connection = async_nats::connect(servers).await.expect("a server");
            return std::future::pending().await;
        }
        let start = |(worker, orders): (usize, _)| {
            let worker = u32::try_from(worker).expect("few workers");
            let handle = spec.builder(worker).start().expect("valid settings");
            tokio::spawn(serve(Desk::new(worker, spec.tick.is_some()), handle, orders, spec.tick))
        };
        let workers: Vec<_> = receivers.into_iter().enumerate().map(start).collect();
        for worker in workers {
            worker.await.expect("no worker panics");
        }
    });
}

/// Passes on what the parent says, and ends the process when the parent does.
fn read_orders(workers: Vec<mpsc::UnboundedSender<Order>>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let (worker, order): (usize, Order) = serde_json::from_str(&line).expect("the parent writes orders");
            // An error means that this worker has ended already.
            let _ = workers[worker].send(order);
        }
        std::process::exit(0);
    });
}

async fn serve(mut desk: Desk, mut handle: Handle, mut orders: mpsc::UnboundedReceiver<Order>, tick: Option<Duration>) {
    let mut status = handle.watch_status();
    let mut ticker = tokio::time::interval(tick.unwrap_or(Duration::from_secs(3600)));
    loop {
        tokio::select! {
            changes = handle.next_changes() => match changes {
                Some(changes) => desk.change(changes),
                None => break,
            },
            Ok(()) = status.changed() => desk.observe(&status.borrow_and_update()),
            _ = ticker.tick() => desk.look(),
            Some(order) = orders.recv() => match order {
                Order::Leave => handle.stop(),
                Order::Restart => handle.restart(),
            },
        }
    }
    desk.look();
    let left = desk.working.keys().copied().collect();
    desk.stop(left);
    let error = handle.finished().await.err().map(|error| error.to_string());
    desk.print(At::now(), Event::Ended { error });
}

/// One worker's guards, and what has been printed of them.
struct Desk {
    worker: u32,
    /// Whether looks come often enough to tell when the work had to stop.
    ticks: bool,
    guards: BTreeMap<u32, Guard>,
    /// What is printed as worked on.
    working: BTreeMap<u32, String>,
    /// When a guard last said yes.
    valid_at: At,
    leader: bool,
    state: String,
}

impl Desk {
    fn new(worker: u32, ticks: bool) -> Self {
        let (guards, working, state) = (BTreeMap::new(), BTreeMap::new(), String::new());
        Self { worker, ticks, guards, working, valid_at: At::now(), leader: false, state }
    }

    fn change(&mut self, changes: Vec<Change>) {
        self.look();
        let mut finished = Vec::new();
        for change in changes {
            match change {
                Change::Acquired(guard) => drop(self.guards.insert(number(guard.partition()), guard)),
                Change::Releasing { partition, token, .. } | Change::Cancelled { partition, token } => {
                    let number = number(&partition);
                    finished.extend(self.guards.get(&number).filter(|guard| guard.token() == token).map(|_| number));
                }
                _ => {}
            }
        }
        self.stop(finished);
        self.look();
    }

    /// Asks the guards whether work may go on, as a handler does before each unit of it.
    fn look(&mut self) {
        // Before the answer: whatever happens to this process after it, the work began no earlier than this.
        let now = At::now();
        let valid = self.guards.values().any(Guard::is_valid);
        if valid {
            self.valid_at = now;
            let idle = self.guards.iter().filter(|(number, _)| !self.working.contains_key(number));
            let begun: Vec<_> = idle.map(|(number, guard)| (*number, guard.token().to_string())).collect();
            if !begun.is_empty() {
                self.working.extend(begun.iter().cloned());
                self.print(now, Event::Started { partitions: begun });
            }
        } else if !self.working.is_empty() {
            let partitions = std::mem::take(&mut self.working).into_keys().collect();
            let stopped_at = if self.ticks { self.valid_at } else { now };
            self.print(stopped_at, Event::Stopped { partitions });
        }
    }

    /// The work on these is finished: says so, and only then lets them go.
    fn stop(&mut self, partitions: Vec<u32>) {
        let worked_on = partitions.iter().copied().filter(|number| self.working.remove(number).is_some());
        let worked_on: Vec<_> = worked_on.collect();
        if !worked_on.is_empty() {
            self.print(if self.ticks { self.valid_at } else { At::now() }, Event::Stopped { partitions: worked_on });
        }
        for partition in partitions {
            self.guards.remove(&partition);
        }
    }

    fn observe(&mut self, status: &Status) {
        let now = At::now();
        if status.leader != self.leader {
            self.leader = status.leader;
            self.print(now, Event::Leads { leads: status.leader });
        }
        let state = status.state.to_string();
        if state != self.state {
            self.state.clone_from(&state);
            let slot = status.slot.map(parti_nats::Slot::value);
            self.print(now, Event::State { state, slot, instance: status.instance.to_string() });
        }
    }

    fn print(&self, at: At, event: Event) {
        let line = Line { at, worker: self.worker, event };
        let line = serde_json::to_string(&line).expect("a line is plain data");
        let mut stdout = std::io::stdout().lock();
        // Without a parent there is nobody to tell, and the end of this process is near.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

/// The number in a partition's id.
fn number(partition: &PartitionId) -> u32 {
    partition.as_str().trim_start_matches('p').parse().expect("ids are numbers")
}
