//! Fleets of real workers on a real server: who works on what, told by the workers' own handlers.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use parti_nats::{
    Builder, Change, Config, Error, ErrorKind, Guard, Handle, PartitionId, Slot, Status, Token, WorkerState,
};
use support::{Port, Server, quick};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// What all handlers of a test say about their work; fails the test at the first thing that must not be.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    /// Who works on what, and by which right.
    working: BTreeMap<PartitionId, (Work, Arc<Guard>)>,
    /// The last work on each partition.
    last: BTreeMap<PartitionId, Work>,
    violations: Vec<String>,
    /// Whose processes are gone: what their handlers still say was said too late.
    buried: BTreeSet<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Work {
    worker: &'static str,
    token: Token,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().expect("no handler panics while it writes")
    }

    fn start(&self, worker: &'static str, guard: &Arc<Guard>) {
        let (partition, work) = (guard.partition().clone(), Work { worker, token: guard.token() });
        let mut books = self.books();
        if books.buried.contains(worker) {
            return;
        }
        // One whose right has ended need not have had the time to say that it has stopped.
        if let Some((other, _)) = books.working.get(&partition).filter(|(_, guard)| guard.is_valid()) {
            let violation = format!("{partition} has two workers: {other:?} and {work:?}");
            books.violations.push(violation);
        }
        if let Some(last) = books.last.get(&partition).filter(|last| last.token >= work.token && **last != work) {
            let violation = format!("{partition}: the token of {work:?} is not above that of {last:?}");
            books.violations.push(violation);
        }
        books.last.insert(partition.clone(), work.clone());
        books.working.insert(partition, (work, Arc::clone(guard)));
    }

    fn stop(&self, worker: &'static str, partition: &PartitionId) {
        let mut books = self.books();
        if books.working.get(partition).is_some_and(|(work, _)| work.worker == worker) {
            books.working.remove(partition);
        }
    }

    /// The process of `worker` is about to be gone, and its handlers with it.
    fn bury(&self, worker: &'static str) {
        let mut books = self.books();
        books.buried.insert(worker);
        books.working.retain(|_, (work, _)| work.worker != worker);
    }

    /// Who works on what, once `enough` says that this is what the test waits for.
    async fn when(
        &self,
        what: &str,
        enough: impl Fn(&BTreeMap<PartitionId, Work>) -> bool,
    ) -> BTreeMap<PartitionId, Work> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            {
                let books = self.books();
                assert!(books.violations.is_empty(), "{:?}", books.violations);
                let working =
                    books.working.iter().map(|(partition, (work, _))| (partition.clone(), work.clone())).collect();
                if enough(&working) {
                    return working;
                }
                assert!(Instant::now() < deadline, "not {what} within {DEADLINE:?}: {working:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all partitions are worked on, by all of `workers` and nobody else, and shared evenly: what moves from
    /// then on has a reason.
    async fn settled(&self, workers: &[&'static str]) -> BTreeMap<PartitionId, Work> {
        let (least, most) = (PARTITIONS / workers.len(), PARTITIONS.div_ceil(workers.len()));
        let evenly = |working: &BTreeMap<PartitionId, Work>| {
            let mut loads: BTreeMap<&str, usize> = workers.iter().map(|worker| (*worker, 0)).collect();
            for work in working.values() {
                *loads.entry(work.worker).or_default() += 1;
            }
            loads.len() == workers.len() && loads.values().all(|load| (least..=most).contains(load))
        };
        self.when(&format!("settled on {workers:?}"), evenly).await
    }
}

const PARTITIONS: usize = 24;

/// A worker in a runtime of its own, which can be taken away from it.
struct Process {
    name: &'static str,
    ledger: Ledger,
    runtime: Option<Runtime>,
    status: watch::Receiver<Status>,
    commands: mpsc::UnboundedSender<fn(&Handle)>,
    ended: watch::Receiver<Option<Result<(), Error>>>,
}

impl Process {
    fn start(name: &'static str, ledger: &Ledger, builder: Builder) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let entered = runtime.enter();
        let handle = builder.start().expect("valid settings");
        drop(entered);
        let status = handle.watch_status();
        let (commands, command_queue) = mpsc::unbounded_channel();
        let (ended_sender, ended) = watch::channel(None);
        let books = ledger.clone();
        runtime.spawn(async move {
            let result = serve(name, handle, books, command_queue).await;
            ended_sender.send_replace(Some(result));
        });
        Self { name, ledger: ledger.clone(), runtime: Some(runtime), status, commands, ended }
    }

    /// Takes everything away at once, as a kill would.
    fn kill(mut self) {
        self.ledger.bury(self.name);
        self.runtime.take().expect("a runtime until now").shutdown_background();
    }

    async fn ask(&self, command: fn(&Handle)) -> Result<(), Error> {
        self.commands.send(command).expect("the worker runs");
        self.ended().await
    }

    async fn ended(&self) -> Result<(), Error> {
        let mut ended = self.ended.clone();
        let result = tokio::time::timeout(DEADLINE, ended.wait_for(Option::is_some)).await;
        result
            .unwrap_or_else(|_| panic!("{} does not end", self.name))
            .expect("the worker says how")
            .clone()
            .expect("it ended")
    }

    async fn when(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        let result = tokio::time::timeout(DEADLINE, status.wait_for(|status| wanted(status))).await;
        let Ok(Ok(status)) = result else { panic!("{} is not {what}: {:?}", self.name, self.status.borrow()) };
        status.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a service does: a handler for each guard.
async fn serve(
    name: &'static str,
    mut handle: Handle,
    ledger: Ledger,
    mut commands: mpsc::UnboundedReceiver<fn(&Handle)>,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            change = handle.next_change() => match change {
                Some(Change::Acquired(guard)) => drop(tokio::spawn(work(name, Arc::new(guard), ledger.clone()))),
                Some(_) => {}
                None => return handle.finished().await,
            },
            Some(command) = commands.recv() => command(&handle),
        }
    }
}

async fn work(name: &'static str, guard: Arc<Guard>, ledger: Ledger) {
    while guard.may_work().await {
        ledger.start(name, &guard);
        tokio::select! {
            () = guard.interrupted() => {}
            _ = guard.released() => {}
        }
        ledger.stop(name, guard.partition());
    }
}

fn builder(server: &Server) -> Builder {
    let ids = (0..PARTITIONS).map(|number| format!("p{number:02}"));
    Builder::new("orders").server(server.url()).partition_ids(ids).config(quick()).retry_first_connection(true)
}

#[tokio::test]
async fn a_fleet_grows_shrinks_and_loses_a_worker_and_every_partition_has_one_owner() {
    let server = Server::start();
    let ledger = Ledger::default();
    let start = |name| Process::start(name, &ledger, builder(&server));
    let (a, b, c) = (start("a"), start("b"), start("c"));
    ledger.settled(&["a", "b", "c"]).await;

    let d = start("d");
    ledger.settled(&["a", "b", "c", "d"]).await;

    b.ask(Handle::stop).await.expect("it leaves");
    ledger.settled(&["a", "c", "d"]).await;

    c.kill();
    ledger.settled(&["a", "d"]).await;

    for last in [&a, &d] {
        last.ask(Handle::stop).await.expect("it leaves");
    }
    ledger.when("idle", BTreeMap::is_empty).await;
}

#[tokio::test]
async fn the_leader_can_be_killed_like_any_other() {
    let server = Server::start();
    let ledger = Ledger::default();
    let a = Process::start("a", &ledger, builder(&server));
    a.when("leading", |status| status.leader).await;
    let b = Process::start("b", &ledger, builder(&server));
    let _c = Process::start("c", &ledger, builder(&server));
    ledger.settled(&["a", "b", "c"]).await;
    a.kill();
    ledger.settled(&["b", "c"]).await;
    b.when("settled", |status| status.state == WorkerState::Stable).await;
}

#[tokio::test]
async fn a_restart_moves_nothing_and_raises_the_tokens() {
    let server = Server::start();
    let ledger = Ledger::default();
    let start = |name| Process::start(name, &ledger, builder(&server));
    let (a, _b) = (start("a"), start("b"));
    let before = ledger.settled(&["a", "b"]).await;

    a.ask(Handle::restart).await.expect("it restarts");
    let a2 = start("a2");
    let after = ledger.settled(&["a2", "b"]).await;
    for (partition, work) in &before {
        let now = &after[partition];
        if work.worker == "a" {
            assert!(now.worker == "a2" && now.token > work.token, "{partition}: {work:?} {now:?}");
        } else {
            assert_eq!(now, work, "{partition}");
        }
    }
    a2.ask(Handle::stop).await.expect("it leaves");
}

#[tokio::test]
async fn an_outage_longer_than_the_lease_suspends_all_work_and_moves_nothing() {
    let mut server = Server::start();
    let ledger = Ledger::default();
    let start = |name| Process::start(name, &ledger, builder(&server));
    let processes = [start("a"), start("b")];
    let before = ledger.settled(&["a", "b"]).await;

    server.kill();
    ledger.when("suspended", BTreeMap::is_empty).await;
    for process in &processes {
        process.when("degraded", |status| status.suspended && status.state == WorkerState::Degraded).await;
    }
    tokio::time::sleep(quick().lease * 2).await; // the outage itself
    server.resume();
    let after = ledger.settled(&["a", "b"]).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_worker_without_a_free_slot_stands_by_until_one_is_free() {
    let server = Server::start();
    let ledger = Ledger::default();
    let one_slot = || builder(&server).config(Config { slots: (Slot::new(7), Slot::new(7)), ..quick() });
    let a = Process::start("a", &ledger, one_slot());
    ledger.settled(&["a"]).await;
    let b = Process::start("b", &ledger, one_slot());
    b.when("looking for a slot", |status| status.state == WorkerState::ClaimingId).await;
    a.ask(Handle::stop).await.expect("it leaves");
    ledger.settled(&["b"]).await;
    assert_eq!(b.status.borrow().slot, Some(Slot::new(7)));
}

#[tokio::test]
async fn records_that_nobody_can_read_are_left_alone_and_stop_nobody() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.expect("a server");
    let jetstream = async_nats::jetstream::new(client);
    let ledger = Ledger::default();
    let a = Process::start("a", &ledger, builder(&server));
    ledger.settled(&["a"]).await;

    // An unreadable `assign.<n>` is another matter: what it grants is not known, so that nothing new is granted.
    let foreign = [("members", "slot.5"), ("members", "slot.x"), ("plan", "notes")];
    for (bucket, key) in foreign {
        let bucket = jetstream.get_key_value(format!("parti_orders_{bucket}")).await.expect("the group's bucket");
        bucket.put(key, "{\"v\":2}".into()).await.expect("stored");
    }
    let _b = Process::start("b", &ledger, builder(&server));
    ledger.settled(&["a", "b"]).await;
    a.kill();
    ledger.settled(&["b"]).await;
    for (bucket, key) in foreign {
        let bucket = jetstream.get_key_value(format!("parti_orders_{bucket}")).await.expect("the group's bucket");
        assert_eq!(bucket.get(key).await.expect("readable").as_deref(), Some(&b"{\"v\":2}"[..]), "{key}");
    }
}

#[tokio::test]
async fn a_dropped_handle_leaves() {
    let server = Server::start();
    let ledger = Ledger::default();
    let handle = builder(&server).start().expect("valid settings");
    handle.wait_for_state(WorkerState::Stable, DEADLINE).await.expect("it runs");
    assert_eq!(handle.assignment().len(), PARTITIONS);
    drop(handle);
    let _b = Process::start("b", &ledger, builder(&server));
    ledger.settled(&["b"]).await;
}

#[tokio::test]
async fn without_a_server_the_worker_says_what_it_tried_or_waits_for_one() {
    let port = Port::take();
    let url = port.url();
    let impatient = Builder::new("orders").server(&url).partition_ids(["p"]).start().expect("valid settings");
    let error = impatient.wait_for_state(WorkerState::Stable, DEADLINE).await.expect_err("no server");
    assert!(matches!(error.kind(), ErrorKind::Connect { .. }) && error.to_string().contains(&url), "{error}");
    assert_eq!(impatient.finished().await.expect_err("no server").kind(), error.kind());

    let patient = || {
        let builder = Builder::new("orders").server(&url).partition_ids(["p"]).config(quick());
        builder.retry_first_connection(true).start().expect("valid settings")
    };
    let gives_up = patient();
    gives_up.stop();
    gives_up.finished().await.expect("it stops while it waits");

    let worker = patient();
    let _server = Server::start_at(port);
    worker.wait_for_state(WorkerState::Stable, DEADLINE).await.expect("a server has come");
}

#[tokio::test]
async fn settings_that_break_a_rule_are_refused_at_once() {
    let refused = |builder: Builder| builder.start().expect_err("refused").to_string();
    let builder = || Builder::new("orders").partition_ids(["a"]);
    let errors = [
        refused(Builder::new("a b")),
        refused(builder().partition_ids(["a", "a"])),
        refused(builder().partition_ids([""])),
        refused(builder().config(Config { lease: Duration::ZERO, ..Config::default() })),
        refused(builder().server("nats://user:secret@:x")),
    ];
    let expected = ["a group name must", "comes twice", "must not be empty", "lease must be", "a server URL must"];
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_wait_that_takes_too_long_says_what_for_and_where_the_worker_is() {
    let server = Server::start();
    let handle = builder(&server).start().expect("valid settings");
    let error = handle.wait_for("100 partitions", Duration::from_millis(50), |status| status.owned == 100).await;
    let error = error.expect_err("there are fewer").to_string();
    assert!(error.contains("100 partitions was not reached within 50ms"), "{error}");
}
