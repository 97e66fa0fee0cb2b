//! A server with workers in this process, and the command beside them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parti_nats::async_nats::{self, Client, jetstream};
use parti_nats::{
    Builder, Config, GroupName, Guard, Observer, PartitionBucket, PartitionList, Picture, Revision, Slot, Stopper,
    create_buckets,
};
use snapbox::cmd::{Command, cargo_bin};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::support::{Server, quick};

/// Longer than anything here takes on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Which worker works on each partition at this moment, as the work itself says.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<BTreeMap<String, u32>>>);

impl Journal {
    pub(crate) fn now(&self) -> BTreeMap<String, u32> {
        self.0.lock().expect("nobody panics with it").clone()
    }

    /// The worker in this slot works on a partition until it is to be released, or its process ends.
    async fn work(self, slot: u32, guard: Guard) {
        let partition = guard.partition().to_string();
        let other = self.0.lock().expect("nobody panics with it").insert(partition.clone(), slot);
        let _entry = Entry { journal: self, partition: partition.clone() };
        assert_eq!(other, None, "{partition} is worked on by two, worker-{slot} is one of them");
        guard.released().await;
    }
}

/// What the journal says as long as the work goes on.
struct Entry {
    journal: Journal,
    partition: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Ok(mut journal) = self.journal.0.lock() {
            journal.remove(&self.partition);
        }
    }
}

pub(crate) struct Fleet {
    pub(crate) server: Server,
    pub(crate) journal: Journal,
    runtime: Runtime,
    /// Each in a runtime of its own, which can end in the middle of everything.
    workers: BTreeMap<u32, (Stopper, JoinHandle<()>, Runtime)>,
}

impl Fleet {
    /// A server with the buckets of the group `orders`, and nobody in it.
    pub(crate) fn new() -> Self {
        let (journal, workers) = (Journal::default(), BTreeMap::new());
        let fleet = Self { server: Server::start(), journal, runtime: runtime(), workers };
        fleet.run(async |client| create_buckets(&client, &group(), 1).await.expect("created"));
        fleet
    }

    /// The same with a list of partitions, and a worker of this capacity in each of these slots, settled.
    pub(crate) fn settled(partitions: &PartitionList, workers: &[(u32, u32)]) -> Self {
        let mut fleet = Self::new();
        fleet.run(async |client| {
            let bucket = PartitionBucket::open(client, &group(), 1).await.expect("opened");
            bucket.replace(partitions, Revision::new(0)).await.expect("written");
        });
        let expected = u32::try_from(workers.len()).ok();
        for (slot, capacity) in workers {
            fleet.start(*slot, *capacity, expected);
        }
        fleet.settle(workers.len());
        fleet
    }

    pub(crate) fn start(&mut self, slot: u32, capacity: u32, expected_workers: Option<u32>) {
        let preferred_slot = Some(Slot::new(slot));
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        let config = Config { preferred_slot, capacity, expected_workers, labels, ..quick() };
        let builder = Builder::new("orders").server(self.server.url()).config(config).partition_bucket();
        let own = runtime();
        let (stopper, task) = own.block_on(async {
            let mut handle = builder.start().expect("valid settings");
            let stopper = handle.stopper();
            let journal = self.journal.clone();
            let work = move |guard| journal.clone().work(slot, guard);
            (stopper, tokio::spawn(async move { handle.run(work).await.expect("it works") }))
        });
        self.workers.insert(slot, (stopper, task, own));
    }

    /// Ends a worker as for a restart: its record stays.
    pub(crate) fn restart(&mut self, slot: u32) {
        let (stopper, task, runtime) = self.workers.remove(&slot).expect("it runs");
        stopper.restart();
        runtime.block_on(task).expect("no panic");
    }

    /// Ends all workers as for a restart: their records stay.
    pub(crate) fn stop(&mut self) {
        let workers = std::mem::take(&mut self.workers);
        for (stopper, ..) in workers.values() {
            stopper.restart();
        }
        for (_, task, runtime) in workers.into_values() {
            runtime.block_on(task).expect("no panic");
        }
    }

    /// Ends a worker without a word.
    pub(crate) fn kill(&mut self, slot: u32) {
        let (_, _, runtime) = self.workers.remove(&slot).expect("it runs");
        runtime.shutdown_background();
    }

    /// Waits until so many workers share everything and nothing more is to move.
    pub(crate) fn settle(&self, workers: usize) -> Picture {
        self.wait_for(|picture| {
            let share = |worker: &Slot| picture.owned_by(*worker) > 0;
            let sharing = picture.workers.keys().filter(|slot| share(slot)).count();
            let is_over = || {
                let forecast = picture.forecast(&parti_nats::WhatIf::default());
                forecast.is_ok_and(|forecast| forecast.rounds.is_empty())
            };
            sharing == workers && picture.generation().value() > 0 && picture.waits_for().is_empty() && is_over()
        })
    }

    pub(crate) fn wait_for(&self, wanted: impl Fn(&Picture) -> bool) -> Picture {
        self.run(async |client| {
            let observer = Observer::open(client, &group()).await.expect("opened");
            let seen = observer.wait_for(DEADLINE, wanted).await;
            seen.unwrap_or_else(|error| panic!("{error}: {:?}", observer.snapshot().waits_for()))
        })
    }

    pub(crate) fn run<T>(&self, act: impl AsyncFnOnce(Client) -> T) -> T {
        let url = self.server.url();
        self.runtime.block_on(async { act(async_nats::connect(url).await.expect("a server")).await })
    }

    /// Stores a value under a key of a bucket, whatever it is.
    pub(crate) fn write(&self, bucket: &str, key: &str, value: &[u8]) {
        let (subject, value) = (format!("$KV.parti_orders_{bucket}.{key}"), value.to_vec());
        self.run(async |client| {
            let written = jetstream::new(client).publish(subject, value.into()).await.expect("sent").await;
            written.expect("stored");
        });
    }

    /// The last write of each of the group's buckets.
    pub(crate) fn last_writes(&self) -> Vec<u64> {
        self.run(async |client| {
            let jetstream = jetstream::new(client);
            let mut last = Vec::new();
            for bucket in ["members", "plan", "partitions"] {
                let stream = jetstream.get_stream(format!("KV_parti_orders_{bucket}")).await.expect("a bucket");
                last.push(stream.cached_info().state.last_sequence);
            }
            last
        })
    }

    /// The command, with these arguments, for this group.
    pub(crate) fn parti(&self, arguments: &[&str]) -> Command {
        parti(&self.server.url(), arguments)
    }

    /// What the command prints, and its exit code.
    pub(crate) fn answer(&self, arguments: &[&str]) -> (String, i32) {
        let output = self.parti(arguments).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (text, output.status.code().expect("it was not killed"))
    }

    /// The document that the command prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let (text, _) = self.answer(&[arguments, &["--json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((&document["v"], &document["group"]), (&1.into(), &"orders".into()), "{text}");
        document
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (_, _, runtime) in std::mem::take(&mut self.workers).into_values() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime")
}

/// The command for the group `orders`, which knows nothing of whoever runs the test.
pub(crate) fn parti(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("parti"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NATS_") || name == "NO_COLOR") {
        command = command.env_remove(name);
    }
    command
        .env("NATS_URL", url)
        .env("PARTI_GROUP", "orders")
        .env("USER", "ada")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .args(arguments)
}

pub(crate) fn group() -> GroupName {
    GroupName::new("orders").expect("a valid name")
}

/// Partitions `p-00` and so on, of weight 1.
pub(crate) fn list(partitions: u32) -> PartitionList {
    PartitionList::from_pairs((0..partitions).map(|number| (format!("p-{number:02}"), 1))).expect("a list")
}
