//! What happens to servers, connections and workers in production, done to real ones: fleets of worker processes, and a
//! journal of who worked on what, when. In each test nobody works on a partition that another works on, tokens grow,
//! and in the end everything has its owner again.
//!
//! How quickly is not asked here, but where it tells one way from another, such as a crash that is found out before the
//! lease is over: tests run beside each other, on machines that do other things as well. The bounds are those of
//! `cargo run --release -p parti-benches --bin live -- --check`. With `PARTI_LONG_TESTS` set, outages last a minute.

mod cluster;
mod lease;
mod permissions;
#[path = "../processes/mod.rs"]
mod processes;
mod recorder;
mod restart;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod worker;

use std::time::Duration;

use async_nats::{ConnectOptions, jetstream};
use parti_nats::Config;
use processes::agent::{self, Spec};
use processes::fleet::Fleet;
use processes::journal::Who;
use support::quick;

/// Short, so that tests are.
const LEASE: Duration = Duration::from_secs(2);
/// Longer than any test waits for anything but a crash that is found out by probes.
const LONG_LEASE: Duration = Duration::from_secs(60);
/// Longer than anything takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long outages last that are longer than a lease.
fn outage() -> Duration {
    Duration::from_secs(if std::env::var_os("PARTI_LONG_TESTS").is_some() { 60 } else { 5 })
}

/// One worker a process, 8 partitions each if there are so many workers.
fn spec(url: String, workers: u32) -> Spec {
    Spec {
        url,
        group: "orders".into(),
        replicas: 1,
        partitions: workers * 8,
        workers: 1,
        config: Config { lease: LEASE, expected_workers: Some(workers), ..quick() },
        tick: Some(Duration::from_millis(2)),
        record: None,
    }
}

/// Workers with a lease that outlasts each test.
fn lasting(url: String, workers: u32) -> Spec {
    let mut spec = spec(url, workers);
    spec.config.lease = LONG_LEASE;
    spec
}

/// A fleet without workers, of processes that run this program again.
fn fleet(spec: Spec) -> Fleet {
    Fleet::new(spec, &["--exact", "workers_run_in_processes_of_their_own", "--nocapture"])
}

/// A fleet of so many workers that share the work evenly.
fn settled(spec: Spec, workers: u32) -> Fleet {
    let mut fleet = fleet(spec);
    fleet.start_many(workers);
    fleet.level(PATIENCE);
    fleet
}

/// What is done to the store from outside. The servers are separated by commas.
fn operate<T>(urls: &str, options: ConnectOptions, act: impl AsyncFnOnce(jetstream::Context) -> T) -> T {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = options.connect(urls.split(',').collect::<Vec<_>>()).await.expect("a server");
        act(jetstream::new(client)).await
    })
}

/// The record of a worker that has a slot.
fn member(fleet: &Fleet, who: Who) -> serde_json::Value {
    let slot = fleet.journal().slot(who).expect("it has one");
    operate(&fleet.spec.url, ConnectOptions::new(), async |jetstream| {
        let members = jetstream.get_key_value("parti_orders_members").await.expect("the bucket");
        let record = members.get(format!("slot.{slot}")).await.expect("readable").expect("it is there");
        serde_json::from_slice(&record).expect("JSON")
    })
}

/// The process of a worker is this program, with this as its only test; on its own it checks that what such a process
/// is told arrives.
#[test]
fn workers_run_in_processes_of_their_own() {
    if let Some(spec) = Spec::from_environment() {
        return agent::run(&spec);
    }
    let told = spec("nats://localhost".into(), 3);
    let (_, text) = told.to_environment();
    let heard: Spec = serde_json::from_str(&text).expect("readable");
    assert_eq!(format!("{heard:?}"), format!("{told:?}"));
}
