//! A fleet of worker processes in half a minute: it starts, grows, loses a worker, and is restarted worker by worker;
//! after each step it says what moved, and for how long anything had no owner.
//!
//! ```sh
//! cargo run -p parti-nats --example fleet -- --workers 5 --partitions 100
//! ```

mod common;
mod simulated;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::num::NonZeroUsize;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;
use simulated::{Options, Stop};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing must have changed before a step counts as done: longer than from one round of moves to the next.
const QUIET: Duration = Duration::from_millis(1_500);

#[derive(Debug, Parser)]
#[command(about = "Runs a fleet of worker processes and shows who owns what")]
struct Arguments {
    /// How many workers to begin with.
    #[arg(long, default_value = "5")]
    workers: NonZeroUsize,
    /// How many partitions to divide.
    #[arg(long, default_value = "100")]
    partitions: NonZeroUsize,
    /// A NATS server with JetStream; a private one is started if none is given.
    #[arg(long, env = "NATS_URL")]
    url: Option<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// One worker of the fleet; stops when its standard input ends, or says `restart`.
    #[command(hide = true)]
    Worker(Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Role::Worker(options)) = arguments.role {
        common::log();
        return simulated::run(options, told_to_stop()).await;
    }
    let mut stop = common::StopSignal::new();
    // Whatever the show has started ends with it.
    let shown = tokio::select! {
        shown = show(&arguments) => shown,
        () = stop.received() => Err("stopped before the end".into()),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn told_to_stop() -> Stop {
    let (tell, told) = oneshot::channel();
    // A thread of its own: the runtime would not end before the standard input does.
    std::thread::spawn(move || {
        let mut text = String::new();
        // An error means that the fleet is gone.
        let _ = std::io::stdin().read_to_string(&mut text);
        tell.send(text)
    });
    match told.await {
        Ok(text) if text.trim() == "restart" => Stop::Restart,
        Ok(_) | Err(_) => Stop::Leave,
    }
}

type Error = Box<dyn std::error::Error>;

/// The whole show.
async fn show(arguments: &Arguments) -> Result<(), Error> {
    let (workers, partitions) = (arguments.workers.get(), arguments.partitions.get());
    let private = if arguments.url.is_none() { Some(support::Server::start()) } else { None };
    let url = private.as_ref().map(support::Server::url).or(arguments.url.clone()).expect("one of both is there");
    say(&format!("{workers} workers share {partitions} partitions, over {url}\n"));

    let mut fleet = Fleet::new(url, workers, partitions);
    let step = fleet.begin();
    for _ in 0..workers {
        fleet.start()?;
    }
    fleet.end(step, &format!("{workers} workers start"), workers).await?;

    let more = workers.div_ceil(2);
    let step = fleet.begin();
    for _ in 0..more {
        fleet.start()?;
    }
    fleet.end(step, &format!("{more} more join"), workers + more).await?;

    let step = fleet.begin();
    fleet.kill().await?;
    fleet.end(step, "one is killed", workers + more - 1).await?;

    let step = fleet.begin();
    for _ in 0..workers + more - 1 {
        fleet.restart_oldest().await?;
    }
    fleet.end(step, "each is restarted in turn", workers + more - 1).await?;

    let step = fleet.begin();
    for _ in 1..more {
        fleet.stop_oldest().await?;
    }
    fleet.end(step, "the additional ones leave", workers).await?;
    fleet.close().await
}

/// The processes, in the order of their starts, and what they have said.
struct Fleet {
    url: String,
    expected: usize,
    partitions: usize,
    processes: Vec<Process>,
    started: usize,
    books: Arc<Mutex<Books>>,
}

struct Process {
    number: usize,
    child: Child,
    commands: ChildStdin,
}

/// Who works on what now, and what was so in the current step.
#[derive(Default)]
struct Books {
    owners: BTreeMap<String, Vec<usize>>,
    names: BTreeMap<usize, String>,
    changed: Option<Instant>,
    /// Since when a partition has had no owner.
    unowned: BTreeMap<String, Instant>,
    figures: Figures,
}

#[derive(Clone, Default)]
struct Figures {
    unowned: Duration,
    longest_unowned: Duration,
    owned_twice: usize,
}

/// How things stood when a step began.
struct Step {
    at: Instant,
    owners: BTreeMap<String, Vec<usize>>,
    names: BTreeMap<usize, String>,
}

impl Fleet {
    fn new(url: String, expected: usize, partitions: usize) -> Self {
        let (processes, books) = (Vec::new(), Arc::default());
        Self { url, expected, partitions, processes, started: 0, books }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("nobody panics with the books open")
    }

    fn start(&mut self) -> Result<(), Error> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["worker", "--url", &self.url, "--group", "fleet"])
            .args(["--partitions", &self.partitions.to_string(), "--expected-workers", &self.expected.to_string()])
            .args(["--settle-window", "500ms", "--rebalance-interval", "1s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let commands = child.stdin.take().ok_or("the worker has no standard input")?;
        let output = child.stdout.take().ok_or("the worker has no standard output")?;
        let number = self.started;
        self.started += 1;
        tokio::spawn(listen(number, output, Arc::clone(&self.books)));
        self.processes.push(Process { number, child, commands });
        Ok(())
    }

    /// Kills the newest one: it does not even say goodbye.
    async fn kill(&mut self) -> Result<(), Error> {
        let mut process = self.processes.pop().ok_or("nobody is left")?;
        process.child.kill().await?;
        self.books().bury(process.number);
        Ok(())
    }

    async fn stop_oldest(&mut self) -> Result<(), Error> {
        let mut process = self.processes.remove(0);
        drop(process.commands);
        process.child.wait().await?;
        Ok(())
    }

    async fn restart_oldest(&mut self) -> Result<(), Error> {
        let mut process = self.processes.remove(0);
        process.commands.write_all(b"restart").await?;
        drop(process.commands);
        process.child.wait().await?;
        self.start()?;
        self.settle(self.processes.len(), Duration::ZERO).await
    }

    async fn close(&mut self) -> Result<(), Error> {
        let mut processes = std::mem::take(&mut self.processes);
        for process in &mut processes {
            process.child.kill().await?;
        }
        Ok(())
    }

    fn begin(&self) -> Step {
        let mut books = self.books();
        books.figures = Figures::default();
        Step { at: Instant::now(), owners: books.owners.clone(), names: books.names.clone() }
    }

    /// Waits until the step is done, and tells what came of it.
    async fn end(&mut self, step: Step, what: &str, workers: usize) -> Result<(), Error> {
        self.settle(workers, QUIET).await?;
        let books = self.books();
        let took = books.changed.map_or(Duration::ZERO, |changed| changed.saturating_duration_since(step.at));
        let name =
            |names: &BTreeMap<usize, String>, owners: &[usize]| owners.first().and_then(|one| names.get(one).cloned());
        let moved = books.owners.iter().filter(|(partition, owners)| {
            let before = step.owners.get(*partition).and_then(|before| name(&step.names, before));
            before.is_some_and(|before| Some(before) != name(&books.names, owners))
        });
        let moved = moved.count();
        let mut loads = BTreeMap::<usize, usize>::new();
        books.owners.values().flatten().for_each(|owner| *loads.entry(*owner).or_default() += 1);
        let (least, most) = (loads.values().min().unwrap_or(&0), loads.values().max().unwrap_or(&0));
        say(&format!("{what}: settled after {:.2} s, {least} to {most} partitions each", took.as_secs_f64()));
        say(&format!("    {moved} partitions have another owner; {}\n", books.figures));
        Ok(())
    }

    /// Waits until every partition has one owner, `workers` share them, and nothing has changed for as long as `quiet`.
    /// Ends at once with a process that nobody has ended.
    async fn settle(&mut self, workers: usize, quiet: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for process in &mut self.processes {
                if let Some(status) = process.child.try_wait()? {
                    let number = process.number + 1;
                    return Err(
                        format!("worker process {number} has ended with {status}; what it said stands above").into()
                    );
                }
            }
            if self.books().is_settled(self.partitions, workers, quiet) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("the fleet has not settled within {PATIENCE:?}").into())
    }
}

/// Writes down what a worker says.
async fn listen(number: usize, output: ChildStdout, books: Arc<Mutex<Books>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        books.lock().expect("nobody panics with the books open").enter(number, &event);
    }
}

impl Books {
    fn enter(&mut self, number: usize, event: &Value) {
        if let Some(name) = event["w"].as_str() {
            self.names.insert(number, name.to_owned());
        }
        let partitions = event["p"].as_array().into_iter().flatten().filter_map(Value::as_str);
        match event["ev"].as_str() {
            Some("start") => partitions.for_each(|partition| self.take(number, partition)),
            Some("stop") => partitions.for_each(|partition| self.let_go(number, partition)),
            Some(_) | None => {}
        }
    }

    fn take(&mut self, number: usize, partition: &str) {
        let now = Instant::now();
        self.changed = Some(now);
        let owners = self.owners.entry(partition.to_owned()).or_default();
        owners.push(number);
        if owners.len() > 1 {
            self.figures.owned_twice += 1;
        }
        if let Some(since) = self.unowned.remove(partition) {
            self.figures.unowned += now - since;
            self.figures.longest_unowned = self.figures.longest_unowned.max(now - since);
        }
    }

    fn let_go(&mut self, number: usize, partition: &str) {
        self.changed = Some(Instant::now());
        let owners = self.owners.entry(partition.to_owned()).or_default();
        owners.retain(|owner| *owner != number);
        if owners.is_empty() {
            self.unowned.insert(partition.to_owned(), Instant::now());
        }
    }

    fn bury(&mut self, number: usize) {
        let owned = |(partition, owners): (&String, &Vec<usize>)| owners.contains(&number).then(|| partition.clone());
        let owned: Vec<String> = self.owners.iter().filter_map(owned).collect();
        for partition in owned {
            self.let_go(number, &partition);
        }
    }

    fn is_settled(&self, partitions: usize, workers: usize, quiet: Duration) -> bool {
        let mut owners: Vec<usize> = self.owners.values().flatten().copied().collect();
        owners.sort_unstable();
        owners.dedup();
        let owned = self.owners.values().filter(|owners| owners.len() == 1).count();
        owned == partitions
            && owners.len() == workers.min(partitions)
            && self.changed.is_some_and(|changed| changed.elapsed() >= quiet)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (longest, sum) = (self.longest_unowned.as_secs_f64(), self.unowned.as_secs_f64());
        write!(f, "without an owner: {:.0} ms at the longest, {sum:.2} s over all; ", longest * 1e3)?;
        write!(
            f,
            "with two owners: {}",
            if self.owned_twice == 0 { "never".to_owned() } else { self.owned_twice.to_string() }
        )
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // Whoever reads this may be gone.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
