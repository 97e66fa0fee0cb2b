//! Messages of a real stream follow the assignment of real processes, whatever happens to them and to the server.

mod allowed;
mod consumers;
mod odd;
mod queue;
#[path = "../support/mod.rs"]
mod support;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::stream::{self, RetentionPolicy};
use consumers::{Consumer, Journal, Spec};
use rustix::process::Signal;
use support::{Cluster, Server};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use verdict::{Verdict, judge};

/// Longer than anything takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: u32 = 40;

/// The numbers of the messages of each partition.
type Published = BTreeMap<String, Vec<u64>>;

/// Not a test of its own: what the processes of the others run.
#[test]
fn consumers_run_in_processes_of_their_own() {
    if let Some(spec) = Spec::from_environment() {
        consumers::run(&spec);
    }
}

/// A stream, someone who publishes to it, and what its consumers say.
struct World {
    runtime: Runtime,
    spec: Spec,
    journal: Journal,
    /// Publishing ends when the sender is dropped, and tells what was published.
    publishing: (oneshot::Sender<()>, JoinHandle<Published>),
    consumers: Vec<Consumer>,
}

impl World {
    /// So many consumers, which share the partitions of a new stream.
    fn new(url: String, replicas: usize, count: u32) -> Self {
        Self::of(RetentionPolicy::Limits, url, replicas, count)
    }

    /// The same, where the stream has this retention.
    fn of(retention: RetentionPolicy, url: String, replicas: usize, count: u32) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let spec = Spec {
            url,
            replicas,
            partitions: PARTITIONS,
            lease: Duration::from_secs(2),
            work: Duration::from_millis(2),
            expected: count,
        };
        let (stop, stopped) = oneshot::channel();
        let jetstream = runtime.block_on(stream_of(retention, &spec));
        let task = runtime.spawn(publish(jetstream, spec.partitions, stopped));
        let publishing = (stop, task);
        let mut world = Self { runtime, spec, journal: Journal::default(), publishing, consumers: Vec::new() };
        for _ in 0..count {
            world.join();
        }
        world.goes_on();
        world
    }

    fn join(&mut self) {
        self.consumers.push(Consumer::start(&self.spec, &self.journal));
    }

    /// Waits until messages of every partition are worked on.
    fn goes_on(&self) {
        let (deadline, from) = (Instant::now() + PATIENCE, self.journal.len());
        let is_served = |partition: u32| {
            let name = format!("p{partition}");
            self.journal.read()[from..].iter().any(|said| said.partition == name && !said.begins)
        };
        while !(0..self.spec.partitions).all(is_served) {
            assert!(Instant::now() < deadline, "some partition is not served");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the publishing, waits until everything is finished, and judges.
    fn judge(self) -> Verdict {
        let (stop, task) = self.publishing;
        drop(stop);
        let published = self.runtime.block_on(task).expect("the publisher does not panic");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let verdict = judge(&self.journal.read(), &published);
            if verdict.unfinished.is_empty() || Instant::now() > deadline {
                return verdict;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A new stream.
async fn stream_of(retention: RetentionPolicy, spec: &Spec) -> jetstream::Context {
    let servers: Vec<_> = spec.url.split(',').map(str::to_owned).collect();
    let options = async_nats::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(50));
    let jetstream = jetstream::new(options.connect(servers).await.expect("a server"));
    let wanted = stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.*".into()],
        allow_direct: retention == RetentionPolicy::Limits,
        retention,
        num_replicas: spec.replicas,
        ..stream::Config::default()
    };
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = jetstream.get_or_create_stream(wanted.clone()).await {
        assert!(Instant::now() < deadline, "the stream cannot be created: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await; // a cluster takes a moment until it can place one
    }
    jetstream
}

/// Publishes to all partitions in turn until it is told to stop. Returns the numbers of each.
async fn publish(jetstream: jetstream::Context, partitions: u32, mut stopped: oneshot::Receiver<()>) -> Published {
    let mut published = Published::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    for number in (0..partitions).cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => break,
        }
        let partition = format!("p{number}");
        let payload = format!("for {partition}").into();
        let sent = jetstream.publish(format!("orders.{partition}"), payload).await;
        // What got no answer may be stored as well: it is not asked for.
        if let Ok(sent) = sent
            && let Ok(Ok(stored)) = tokio::time::timeout(Duration::from_secs(2), sent).await
        {
            published.entry(partition).or_default().push(stored.sequence);
        }
    }
    published
}

#[test]
fn planned_changes_repeat_nothing() {
    let server = Server::start();
    change_as_planned(World::new(server.url(), 1, 3));
}

#[test]
fn planned_changes_repeat_nothing_of_a_work_queue() {
    let server = Server::start();
    change_as_planned(World::of(RetentionPolicy::WorkQueue, server.url(), 1, 3));
}

fn change_as_planned(mut world: World) {
    world.join();
    world.goes_on();
    let mut leaving = world.consumers.remove(0);
    leaving.ask("leave");
    leaving.wait();
    world.goes_on();
    let mut restarting = world.consumers.remove(0);
    restarting.ask("restart");
    restarting.wait();
    world.join();
    world.goes_on();
    assert_eq!(world.judge(), Verdict::default());
}

#[test]
fn crashes_freezes_and_outages_lose_nothing() {
    let mut server = Server::start();
    let world = World::new(server.url(), 1, 3);
    go_through_trouble(world, &mut server);
}

#[test]
fn crashes_freezes_and_outages_lose_nothing_of_a_work_queue() {
    let mut server = Server::start();
    let world = World::of(RetentionPolicy::WorkQueue, server.url(), 1, 3);
    go_through_trouble(world, &mut server);
}

fn go_through_trouble(mut world: World, server: &mut Server) {
    world.consumers.remove(0).kill();
    world.goes_on();
    world.join();
    world.consumers[0].signal(Signal::STOP);
    world.goes_on();
    world.consumers[0].signal(Signal::CONT);
    world.goes_on();
    server.kill();
    std::thread::sleep(Duration::from_secs(3));
    server.resume();
    world.goes_on();
    let verdict = world.judge();
    assert_eq!((verdict.violations, verdict.unfinished), (Vec::new(), Vec::new()));
}

#[test]
fn a_cluster_whose_stream_loses_its_leader_loses_nothing() {
    let mut cluster = Cluster::start();
    let world = World::new(cluster.urls(), 3, 3);
    let leader = world.runtime.block_on(async {
        let servers: Vec<_> = world.spec.url.split(',').map(str::to_owned).collect();
        let jetstream = jetstream::new(async_nats::connect(servers).await.expect("a server"));
        let stream = jetstream.get_stream("ORDERS").await.expect("it is there");
        stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone()).expect("it has a leader")
    });
    cluster.server(&leader).kill();
    world.goes_on();
    let verdict = world.judge();
    assert_eq!((verdict.violations, verdict.unfinished), (Vec::new(), Vec::new()));
}
