//! Each message is entered once: with processes that are killed between the transaction and its word to delivery, and with
//! one that is frozen until others have its partitions.

#[path = "../../../parti-nats/tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use parti_example_fenced_sql::{Ledger, TotalsError};
use parti_nats::async_nats::{self, jetstream};
use parti_nats::{Generation, KeptPosition, PartitionId, PositionStore, Sequence, Timestamp, Token};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use support::Server;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(90);
const PARTITIONS: usize = 4;
/// When the stream was made.
const CREATED: Timestamp = Timestamp::new(7);

fn token(epoch: u64) -> Token {
    Token { epoch: Generation::new(epoch), ..Token::default() }
}

fn at(sequence: u64) -> (Sequence, Timestamp) {
    (Sequence::new(sequence), Timestamp::new(sequence))
}

#[tokio::test]
async fn a_transaction_of_a_former_owner_or_for_a_former_stream_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(&folder.path().join("ledger.db")).expect("a folder of its own");
    let one = PartitionId::new("one").expect("a valid id");
    let row = |epoch, sequence| {
        let (sequence, timestamp) = at(sequence);
        KeptPosition { token: token(epoch), created: CREATED, sequence, timestamp, notes: String::new() }
    };
    assert_eq!(ledger.read(&one).await.expect("it can be read"), None);
    assert!(ledger.replace(&one, None, row(1, 0)).await.expect("it can be written"));
    ledger.enter_as(&one, (token(1), CREATED), at(3), "first").expect("it has claimed it");
    let moved = ledger.replace(&one, Some(row(1, 0)), row(2, 0)).await.expect("it can be asked");
    assert!(!moved, "the owner before has gone on since");
    assert!(ledger.replace(&one, Some(row(1, 3)), row(2, 3)).await.expect("it can be written"));
    let of_former_stream = (2, Timestamp::new(CREATED.value() - 1), 4);
    for (epoch, created, sequence) in [(1, CREATED, 4), (2, CREATED, 3), of_former_stream] {
        let refused = ledger.enter_as(&one, (token(epoch), created), at(sequence), "again").expect_err("refused");
        assert!(matches!(refused, TotalsError::NotEntered { .. }), "{refused}");
    }
    ledger.enter_as(&one, (token(2), CREATED), at(4), "second").expect("it has claimed it");
    let entries = ledger.entries().expect("it can be read");
    assert_eq!(entries, [("one".into(), 3, "first".into()), ("one".into(), 4, "second".into())]);
}

/// Ends with its test.
struct Worker(Child);

impl Worker {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A stream with a publisher, and workers that enter its messages.
struct World {
    server: Server,
    folder: tempfile::TempDir,
    ledger: Ledger,
}

impl World {
    fn new() -> Self {
        let (server, folder) = (Server::start(), tempfile::tempdir().expect("a folder"));
        let ledger = Ledger::open(&folder.path().join("ledger.db")).expect("a folder of its own");
        Self { server, folder, ledger }
    }

    /// A worker whose handlers go on for a while after their transaction: killed, it mostly is between the two.
    fn worker(&self) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parti-example-fenced-sql-messages"));
        command.args(["--url", &self.server.url(), "--lease", "2s", "--work", "20"]);
        command.args(["--partitions", &PARTITIONS.to_string()]);
        Worker(command.arg("--database").arg(self.folder.path().join("ledger.db")).spawn().expect("it starts"))
    }

    /// Freezes a worker between two transactions: in the middle of one it would keep the file locked, and nobody could go on.
    async fn freeze(&self, worker: &Worker) {
        let began = Instant::now();
        loop {
            worker.signal(Signal::STOP);
            if self.is_unlocked() {
                return;
            }
            worker.signal(Signal::CONT);
            assert!(began.elapsed() < DEADLINE, "it is always in the middle of a transaction");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Whether nobody keeps the file locked; who goes on does not do so for long.
    fn is_unlocked(&self) -> bool {
        let connection = Connection::open(self.folder.path().join("ledger.db")).expect("it is there");
        connection.busy_timeout(Duration::from_secs(1)).expect("a time");
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
    }

    fn count(&self) -> usize {
        self.ledger.entries().expect("it can be read").len()
    }

    fn partitions(&self, from: usize) -> usize {
        let entries = self.ledger.entries().expect("it can be read");
        entries[from..].iter().map(|(partition, ..)| partition).collect::<BTreeSet<_>>().len()
    }

    /// Waits until messages of every partition are entered.
    async fn goes_on(&self) {
        let (began, from) = (Instant::now(), self.count());
        while self.partitions(from) < PARTITIONS {
            assert!(began.elapsed() < DEADLINE, "only {} partitions go on", self.partitions(from));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Publishes to all partitions in turn until the sender is dropped. Returns the sequences of each partition, in order.
async fn publish(
    jetstream: jetstream::Context,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> BTreeMap<String, Vec<u64>> {
    let mut published: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for number in (0..PARTITIONS).cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stop => break,
        }
        let partition = format!("p{number:05}");
        let sent = jetstream.publish(format!("orders.{partition}"), "work".into()).await.expect("it is connected");
        published.entry(partition).or_default().push(sent.await.expect("it is stored").sequence);
    }
    published
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_killed_or_frozen_lose_nothing_and_enter_nothing_twice() {
    let world = World::new();
    let jetstream = jetstream::new(async_nats::connect(world.server.url()).await.expect("it listens"));
    let wanted = jetstream::stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.*".into()],
        allow_direct: true,
        ..Default::default()
    };
    jetstream.create_stream(wanted).await.expect("a new stream");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let publishing = tokio::spawn(publish(jetstream, stopped));
    let mut workers = vec![world.worker(), world.worker()];
    world.goes_on().await;
    for _ in 0..3 {
        drop(workers.remove(0));
        workers.push(world.worker());
        world.goes_on().await;
    }
    // Others have its partitions by the time that it goes on with a message.
    world.freeze(&workers[0]).await;
    world.goes_on().await;
    workers[0].signal(Signal::CONT);
    world.goes_on().await;
    // Who leaves is asked to, as a platform asks.
    workers[1].signal(Signal::TERM);
    let left = workers.remove(1).0.wait().expect("it ends");
    assert!(left.success(), "{left}");
    world.goes_on().await;
    drop(stop);
    let published = publishing.await.expect("the publisher does not panic");
    let began = Instant::now();
    let count: usize = published.values().map(Vec::len).sum();
    while world.count() < count {
        assert!(began.elapsed() < DEADLINE, "{} of {count} messages are entered", world.count());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut entered: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (partition, sequence, _) in world.ledger.entries().expect("it can be read") {
        entered.entry(partition).or_default().push(sequence);
    }
    assert_eq!(entered, published, "each once, and in order");
}
