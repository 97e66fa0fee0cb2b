//! A worker as a service would run it, except that its work is simulated and its life is printed.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use parti_nats::{
    Builder, Change, Config, Guard, HumanDuration, Partition, PartitionId, PartitionList, ReleaseReason, Slot, Status,
    Token, Weight, WorkerState,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::common::Server;

/// The settings of a simulated worker.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The group of workers that share the partitions.
    #[arg(long, default_value = "demo")]
    pub(crate) group: String,
    /// How many partitions there are, named p00000 and so on.
    #[arg(long, default_value_t = 12)]
    pub(crate) partitions: u32,
    /// A file with one partition a line, an id and perhaps a weight, instead of --partitions.
    #[arg(long)]
    pub(crate) partition_file: Option<PathBuf>,
    /// How many seconds the work on a partition takes to finish when it is released.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) drain: f64,
    /// The slot to hold; any if not given.
    #[arg(long)]
    pub(crate) slot: Option<u32>,
    /// How many workers a cold start waits for.
    #[arg(long)]
    pub(crate) expected_workers: Option<u32>,
    /// How many copies of each bucket to keep.
    #[arg(long, default_value_t = 1)]
    pub(crate) replicas: usize,
    /// The version of the simulated software.
    #[arg(long, default_value = "")]
    pub(crate) software: String,
    /// How long this worker may act after its last renewal, such as 4s or 750ms.
    #[arg(long)]
    pub(crate) lease: Option<HumanDuration>,
    #[arg(long)]
    pub(crate) settle_window: Option<HumanDuration>,
    #[arg(long)]
    pub(crate) cold_start_window: Option<HumanDuration>,
    #[arg(long)]
    pub(crate) planned_scale_window: Option<HumanDuration>,
    #[arg(long)]
    pub(crate) rebalance_interval: Option<HumanDuration>,
    #[arg(long)]
    pub(crate) restart_hold: Option<HumanDuration>,
    #[arg(long)]
    pub(crate) release_timeout: Option<HumanDuration>,
}

/// The two ways to stop.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Stop {
    /// Hand everything over to others.
    Leave,
    /// Keep everything for the successor.
    Restart,
}

/// Runs a worker until it has stopped, which it begins to do when `asked_to_stop` is ready.
pub(crate) async fn run(options: Options, asked_to_stop: impl Future<Output = Stop>) -> ExitCode {
    match try_run(options, asked_to_stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn try_run(options: Options, asked_to_stop: impl Future<Output = Stop>) -> Result<(), Error> {
    let mut worker = Builder::new(&options.group)
        .server(&options.server.url)
        .partitions(options.partition_list()?)
        .replicas(options.replicas)
        .config(options.config())
        .start()?;
    let mut status = worker.watch_status();
    let mut life = Life::new(&options, &status.borrow_and_update());
    let mut asked_to_stop = pin!(asked_to_stop);
    let mut stopping = false;
    loop {
        tokio::select! {
            changes = worker.next_changes() => match changes {
                Some(changes) => life.change(changes),
                None => break,
            },
            Ok(()) = status.changed() => life.observe(&status.borrow_and_update()),
            () = life.next_drained() => life.finish_drained(),
            stop = &mut asked_to_stop, if !stopping => {
                stopping = true;
                match stop {
                    Stop::Leave => worker.stop(),
                    Stop::Restart => worker.restart(),
                }
            }
        }
    }
    life.end();
    Ok(worker.finished().await?)
}

type Error = Box<dyn std::error::Error>;

/// What this worker works on, and what has been printed of it.
struct Life {
    name: String,
    drain: Duration,
    state: WorkerState,
    leader: bool,
    ready: bool,
    working: BTreeMap<PartitionId, Guard>,
    /// What is being finished, and when that is done; in this order.
    draining: VecDeque<(Instant, Vec<(PartitionId, Token)>)>,
    suspended: bool,
}

impl Life {
    fn new(options: &Options, status: &Status) -> Self {
        Self {
            name: name(status),
            drain: Duration::from_secs_f64(options.drain),
            state: status.state,
            leader: false,
            ready: false,
            working: BTreeMap::new(),
            draining: VecDeque::new(),
            suspended: false,
        }
    }

    fn change(&mut self, changes: Vec<Change>) {
        let (mut acquired, mut finished, mut to_drain) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Acquired(guard) => acquired.push(guard),
                Change::Releasing { partition, token, reason } => match reason {
                    ReleaseReason::Evicted => finished.push((partition, token)),
                    _ if self.drain.is_zero() => finished.push((partition, token)),
                    _ => to_drain.push((partition, token)),
                },
                Change::Cancelled { partition, token } => finished.push((partition, token)),
                Change::Suspended { .. } => self.suspend(),
                Change::Resumed => self.resume(),
                _ => {}
            }
        }
        if !to_drain.is_empty() {
            self.draining.push_back((Instant::now() + self.drain, to_drain));
        }
        self.finish(finished);
        self.start(acquired);
    }

    fn start(&mut self, guards: Vec<Guard>) {
        if guards.is_empty() {
            return;
        }
        let partitions: Vec<_> = guards.iter().map(|guard| guard.partition().clone()).collect();
        self.working.extend(guards.into_iter().map(|guard| (guard.partition().clone(), guard)));
        if !self.suspended {
            self.print_start(&partitions);
            self.print_ready(&partitions);
        }
    }

    /// The work on these has stopped: say so, and only then let them go.
    fn finish(&mut self, partitions: Vec<(PartitionId, Token)>) {
        let holds = |(partition, token): &(PartitionId, Token)| {
            self.working.get(partition).is_some_and(|guard| guard.token() == *token)
        };
        let partitions: Vec<_> = partitions.into_iter().filter(holds).map(|(partition, _)| partition).collect();
        if partitions.is_empty() {
            return;
        }
        if !self.suspended {
            self.print("stop", json!({ "p": partitions }));
        }
        for partition in partitions {
            self.working.remove(&partition);
        }
    }

    fn suspend(&mut self) {
        if !self.suspended && !self.working.is_empty() {
            self.print("stop", json!({ "p": self.working.keys().collect::<Vec<_>>() }));
        }
        self.suspended = true;
    }

    fn resume(&mut self) {
        self.suspended = false;
        if !self.working.is_empty() {
            self.print_start(&self.working.keys().cloned().collect::<Vec<_>>());
        }
    }

    async fn next_drained(&self) {
        match self.draining.front() {
            Some((at, _)) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }

    fn finish_drained(&mut self) {
        if let Some((_, partitions)) = self.draining.pop_front() {
            self.finish(partitions);
        }
    }

    fn observe(&mut self, status: &Status) {
        self.name = name(status);
        if status.leader != self.leader {
            self.leader = status.leader;
            self.print("leader", json!({ "leader": status.leader }));
        }
        if status.state != self.state {
            self.state = status.state;
            self.print("state", json!({ "s": status.state.to_string() }));
        }
        if status.state == WorkerState::Stable {
            self.print_ready(&[]);
        }
    }

    fn end(&mut self) {
        let left = self.working.iter().map(|(partition, guard)| (partition.clone(), guard.token())).collect();
        self.finish(left);
        self.print("stopped", json!({ "p": [] }));
    }

    fn print_start(&self, partitions: &[PartitionId]) {
        let token =
            |partition: &PartitionId| (partition.to_string(), json!(self.working[partition].token().to_string()));
        let tokens: serde_json::Map<String, Value> = partitions.iter().map(token).collect();
        self.print("start", json!({ "p": partitions, "token": tokens }));
    }

    fn print_ready(&mut self, partitions: &[PartitionId]) {
        if !self.ready {
            self.ready = true;
            self.print("ready", json!({ "p": partitions }));
        }
    }

    fn print(&self, event: &str, mut fields: Value) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        fields["ev"] = json!(event);
        fields["w"] = json!(self.name);
        fields["t"] = json!(unix.as_secs_f64());
        let mut stdout = std::io::stdout().lock();
        // Whoever reads this may be gone; the work goes on.
        let _ = writeln!(stdout, "{fields}").and_then(|()| stdout.flush());
    }
}

impl Options {
    fn config(&self) -> Config {
        let or = |given: Option<HumanDuration>, default| given.map_or(default, |given| given.0);
        let default = Config::default();
        Config {
            lease: or(self.lease, default.lease),
            settle_window: or(self.settle_window, default.settle_window),
            cold_start_window: or(self.cold_start_window, default.cold_start_window),
            planned_scale_window: or(self.planned_scale_window, default.planned_scale_window),
            rebalance_interval: or(self.rebalance_interval, default.rebalance_interval),
            restart_hold: or(self.restart_hold, default.restart_hold),
            release_timeout: or(self.release_timeout, default.release_timeout),
            preferred_slot: self.slot.map(Slot::new),
            expected_workers: self.expected_workers,
            software: self.software.clone(),
            ..default
        }
    }

    fn partition_list(&self) -> Result<PartitionList, Error> {
        let partitions = match &self.partition_file {
            Some(path) => read_partitions(path)?,
            None => (0..self.partitions)
                .map(|number| PartitionId::new(format!("p{number:05}")).map(Partition::new))
                .collect::<Result<_, _>>()?,
        };
        Ok(PartitionList::new(partitions)?)
    }
}

/// Reads one partition a line: an id, and perhaps a weight.
fn read_partitions(path: &Path) -> Result<Vec<Partition>, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut partitions = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let partition = Partition::new(PartitionId::new(words.next().unwrap_or_default())?);
        let weight = words.next().map_or(Ok(Weight::MIN), |weight| {
            weight.parse().map_err(|error| format!("the weight of {} must be 1 to 4294967295: {error}", partition.id))
        })?;
        partitions.push(partition.with_weight(weight));
    }
    Ok(partitions)
}

/// The name by its slot, or by the process where it has none yet.
fn name(status: &Status) -> String {
    status.slot.map_or_else(|| format!("instance-{}", status.instance), Slot::worker_name)
}
