//! Where scenes are played: a server, the settings of a fleet, and an operator's hand.

use std::time::Duration;

use async_nats::jetstream::{self, kv};
use parti_nats::Config;
use tokio::runtime::{Builder, Runtime};

use crate::processes::agent::Spec;
use crate::processes::fleet::Fleet;
use crate::support::Server;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How often workers ask their guards.
const TICK: Duration = Duration::from_millis(2);
/// How many partitions there are for each worker.
const PARTITIONS_PER_WORKER: u32 = 20;

/// One fleet's settings, on a server of its own.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) config: Config,
    pub(crate) workers: u32,
    pub(crate) repetitions: u32,
}

/// Reads and writes what operators do.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) runtime: Runtime,
    pub(crate) jetstream: jetstream::Context,
}

impl Stage {
    pub(crate) fn new(config: Config, workers: u32, repetitions: u32) -> Self {
        Self { server: Server::start(), config, workers, repetitions }
    }

    /// What figures are labelled with.
    pub(crate) fn label(&self, what: &str) -> String {
        format!("{what} (lease {:?}, {} workers)", self.config.lease, self.workers)
    }

    /// One worker a process.
    pub(crate) fn spec(&self) -> Spec {
        Spec {
            url: self.server.url(),
            group: "live".into(),
            replicas: 1,
            partitions: self.workers * PARTITIONS_PER_WORKER,
            workers: 1,
            config: Config { expected_workers: Some(self.workers), ..self.config.clone() },
            tick: Some(TICK),
            record: None,
        }
    }

    /// A fleet that has started, and settled.
    pub(crate) fn fleet(&self) -> Fleet {
        let mut fleet = Fleet::new(self.spec(), &[]);
        fleet.start_many(self.workers);
        fleet.settle(PATIENCE);
        fleet
    }
}

impl Operator {
    pub(crate) fn new(url: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async_nats::connect(url)).expect("a server");
        let entered = runtime.enter();
        let jetstream = jetstream::new(client);
        drop(entered);
        Self { runtime, jetstream }
    }

    fn members(&self) -> kv::Store {
        self.runtime.block_on(self.jetstream.get_key_value("parti_live_members")).expect("the members' bucket")
    }

    /// Has a slot give up everything.
    pub(crate) fn drain(&self, slot: u32) {
        let put = self.runtime.block_on(self.members().put(drain_key(slot), "{\"v\":1}".into()));
        put.expect("the server stores it");
    }

    /// Lets a slot have partitions again.
    pub(crate) fn undrain(&self, slot: u32) {
        self.runtime.block_on(self.members().delete(drain_key(slot))).expect("the server deletes it");
    }
}

fn drain_key(slot: u32) -> String {
    format!("control.drain.{slot}")
}
