//! Processes that consume, and what they say of each message.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parti_nats::{Builder, Config, Delivered, Delivery, Policy, Stopper};
use serde::{Deserialize, Serialize};

use crate::support::quick;

/// The variable that tells a process to consume, and how.
const VARIABLE: &str = "PARTI_TEST_CONSUMER";

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) url: String,
    pub(crate) replicas: usize,
    pub(crate) partitions: u32,
    pub(crate) lease: Duration,
    /// How long the work on a message takes.
    pub(crate) work: Duration,
    pub(crate) expected: u32,
}

/// What a process says of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Which process.
    pub(crate) process: u32,
    pub(crate) partition: String,
    pub(crate) sequence: u64,
    /// In nanoseconds since 1970.
    pub(crate) at: u64,
    /// Whether the work begins, or has ended.
    pub(crate) begins: bool,
}

/// All that was said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<Said>>>);

impl Journal {
    pub(crate) fn read(&self) -> Vec<Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn add(&self, said: Said) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }
}

/// A process that consumes. It is ended with this.
#[derive(Debug)]
pub(crate) struct Consumer {
    process: Child,
    input: ChildStdin,
}

impl Spec {
    /// What this process is to do, if it is to consume.
    pub(crate) fn from_environment() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        Some(serde_json::from_str(&text).expect("the parent writes what is read here"))
    }
}

impl Consumer {
    /// Starts this program again, as a consumer.
    pub(crate) fn start(spec: &Spec, journal: &Journal) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut process = Command::new(program)
            .args(["--exact", "consumers_run_in_processes_of_their_own", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(spec).expect("plain data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let journal = journal.clone();
        std::thread::spawn(move || {
            // What is not JSON comes from the test harness.
            for line in output.lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str(&line) {
                    journal.add(said);
                }
            }
        });
        Self { process, input }
    }

    /// Asks it to stop: to leave, or to come back soon.
    pub(crate) fn ask(&mut self, how: &str) {
        writeln!(self.input, "{how}").expect("it listens");
    }

    #[allow(dead_code)] // not everyone freezes processes
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).expect("a child can be signalled");
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) {
        let status = self.process.wait().expect("a child can be waited for");
        assert!(status.success(), "a consumer has ended with {status}");
    }

    fn end(&mut self) {
        // An error means that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Consumes until it is told to stop, or the parent is gone.
pub(crate) fn run(spec: &Spec) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = Config { lease: spec.lease, expected_workers: Some(spec.expected), ..quick() };
        let ids = (0..spec.partitions).map(|number| format!("p{number}"));
        let builder = Builder::new("orders").server(&spec.url).partition_ids(ids).config(config);
        let worker = builder.replicas(spec.replicas).retry_first_connection(true).start().expect("valid settings");
        let servers: Vec<_> = spec.url.split(',').map(str::to_owned).collect();
        let options = async_nats::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(50));
        let client = options.connect(servers).await.expect("a server");
        let delivery = Delivery::new("ORDERS", "orders.{partition}").replicas(spec.replicas).on_misfit(
            Policy::Stop,
            Policy::Stop,
            Policy::Stop,
        );
        let consumer = delivery.start(worker, client).await.expect("the stream fits");
        listen(consumer.stopper());
        let work = spec.work;
        consumer.run(move |message| handle(message, work)).await.expect("it was told to stop");
    });
}

async fn handle(message: Delivered, work: Duration) -> Result<(), std::convert::Infallible> {
    say(&message, true);
    tokio::time::sleep(work).await;
    say(&message, false);
    Ok(())
}

fn say(message: &Delivered, begins: bool) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let said = Said {
        process: std::process::id(),
        partition: message.partition().to_string(),
        sequence: message.sequence().value(),
        at: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        begins,
    };
    let line = serde_json::to_string(&said).expect("plain data");
    // An error means that the parent is gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Does what the parent says; when that is gone, the process goes as well.
fn listen(stopper: Stopper) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "leave" => stopper.stop(),
                "restart" => stopper.restart(),
                other => panic!("no such order: {other}"),
            }
        }
        std::process::exit(1);
    });
}
