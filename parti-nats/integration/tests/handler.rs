//! One handler, run by workers over a real server and in a simulated cluster.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parti_nats::{Builder, Guard, Handle, PartitionGuard, PartitionId, RetryPolicy, Token};
use parti_sim::kit;
use support::{Server, quick};

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);
const PARTITIONS: [&str; 4] = ["a", "b", "c", "broken"];

/// What the handler writes to: it refuses a token lower than one that it has seen.
#[derive(Default)]
struct Store {
    highest: BTreeMap<PartitionId, Token>,
    written: BTreeMap<PartitionId, u32>,
    failures: u32,
}

type Shared = Arc<Mutex<Store>>;

impl Store {
    fn write(&mut self, partition: &PartitionId, token: Token) -> Result<(), String> {
        let highest = self.highest.entry(partition.clone()).or_default();
        if token < *highest {
            return Err(format!("{partition} has another owner than {token}"));
        }
        *highest = token;
        *self.written.entry(partition.clone()).or_default() += 1;
        Ok(())
    }

    fn has_all(&self) -> bool {
        PARTITIONS.iter().all(|id| self.written.get(*id).is_some_and(|written| *written >= 5))
    }
}

/// The handler under test: one partition is broken, twice.
async fn work(guard: impl PartitionGuard, store: Shared) -> Result<(), String> {
    if guard.partition().as_str() == "broken" {
        let mut store = store.lock().expect("nobody panics");
        if store.failures < 2 {
            store.failures += 1;
            return Err("this one is broken".into());
        }
    }
    while guard.may_work().await {
        let begun = guard.now();
        if guard.unless_interrupted(guard.sleep(Duration::from_millis(50))).await.is_none() {
            continue; // suspended, or over
        }
        assert!(guard.now().since(begun) >= Duration::from_millis(50));
        store.lock().expect("nobody panics").write(guard.partition(), guard.token())?;
    }
    Ok(())
}

fn retry() -> RetryPolicy {
    RetryPolicy { first: Duration::from_millis(50), ..RetryPolicy::default() }
}

fn builder(server: &Server) -> Builder {
    Builder::new("orders").server(server.url()).config(quick()).partition_ids(PARTITIONS).retry(retry())
}

/// Runs a worker whose handler works on `store`, until somebody stops it.
fn run(mut worker: Handle, store: &Shared) -> tokio::task::JoinHandle<Result<(), parti_nats::Error>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { worker.run(move |guard| work(guard, Arc::clone(&store))).await })
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !reached() {
        assert!(Instant::now() < deadline, "not {what} within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn it_runs_over_nats_from_the_start_to_a_stop() {
    let server = Server::start();
    let store = Shared::default();
    let workers = [(); 2].map(|()| builder(&server).start().expect("valid settings"));
    let stoppers = workers.each_ref().map(Handle::stopper);
    let assigned = workers.each_ref().map(Handle::assignment_reader);
    let [first, second] = workers.map(|worker| run(worker, &store));
    until("everything is worked on", || store.lock().expect("nobody panics").has_all()).await;
    assert_eq!(store.lock().expect("nobody panics").failures, 2, "what fails is offered again");

    stoppers[0].stop();
    first.await.expect("no panic").expect("it has left");
    until("the other has all", || assigned[1].read().len() == PARTITIONS.len()).await;
    store.lock().expect("nobody panics").written.clear();
    until("it works on all", || store.lock().expect("nobody panics").has_all()).await;
    stoppers[1].stop();
    second.await.expect("no panic").expect("it has left");
}

#[tokio::test]
async fn a_handler_that_panics_is_run_again_and_one_that_is_aborted_lets_go() {
    let server = Server::start();
    let tries = Arc::new(Mutex::new(0_u32));
    let counted = Arc::clone(&tries);
    let handler = move |guard: Guard| {
        let first = {
            let mut tries = counted.lock().expect("nobody panics with it");
            *tries += 1;
            *tries == 1
        };
        async move {
            assert!(!first, "the handler has a bug");
            guard.released().await;
        }
    };
    let mut worker = builder(&server).partition_ids(["a"]).start().expect("valid settings");
    let health = worker.health_check();
    tokio::select! {
        _ = worker.run(handler) => panic!("nobody has stopped it"),
        () = until("it runs again", || *tries.lock().expect("nobody panics with it") > 1) => {}
    }
    // Nobody runs handlers any more: that is said.
    let warned = || health.check().warnings.iter().any(|warning| warning.name == "guard_dropped");
    until("it is said that nobody works", warned).await;
}

#[test]
fn it_runs_in_a_simulated_cluster_through_random_faults() -> Result<(), kit::Failure> {
    for seed in 0..10 {
        let store = Shared::default();
        let shared = Arc::clone(&store);
        let handler = move |guard| work(guard, Arc::clone(&shared));
        let setup = kit::Cluster::of(2).partition_ids(PARTITIONS).handler(handler).retry(Some(retry()));
        let mut cluster = setup.seed(seed).start()?;
        cluster.settle()?;
        assert!(store.lock().expect("nobody panics").has_all());
        cluster.random_faults(Duration::from_secs(60))?;
        cluster.finish()?;
        assert_eq!(store.lock().expect("nobody panics").failures, 2, "what fails is offered again");
    }
    Ok(())
}
